"""Makes the corpus: sentences of the grammar, spoken, and for training distorted.

    python -m small_models.synthesise CORPUS_FOLDER [--languages en it]

Writes, for each split, `<split>.jsonl` (a line an utterance: text, translations, word onsets in
seconds, voice) and `<split>.pcm` (16 kHz, 16 bit, all utterances after one another). No sentence,
in whichever language, and no voice setting is in two splits, but validation and held_out share
the pool of settings that training never uses. In those two, every sentence is spoken in every
language; in training in one, so that there are more sentences.
"""

import argparse
import json
import random
from multiprocessing import Pool
from pathlib import Path

import numpy as np

from .distortions import distorted
from .front_end import SAMPLE_RATE
from .grammar import Pair, distinct_sentences
from .synthesisers import speak
from .voices import LANGUAGES, training_setting, unseen_setting

# Sentences of one language, and of each of several.
SPLITS = {"train": 9000, "validation": 200, "held_out": 400}
SPLITS_OF_SEVERAL = {"train": 7000, "validation": 60, "held_out": 250}
LONGEST_SECONDS = 6.0


def to_pcm(waveform):
    return np.clip(np.round(waveform * 2**15), -(2**15), 2**15 - 1).astype("<i2")


def in_languages(sentence):
    """{"en": text, "it": text} of the grammar's pair."""
    return dict(zip(("en", "it"), Pair(*sentence)))


def make_utterance(job):
    """The manifest entry and the samples of one utterance; its randomness depends on its name alone."""
    split, name, language, texts, seed = job
    draw = random.Random(f"{seed}/{name}")
    setting = (training_setting if split == "train" else unseen_setting)(language, draw)
    text = texts[language]
    waveform, onsets = speak(text, setting)
    if split == "train":
        waveform, stretch, lead = distorted(waveform, np.random.default_rng(draw.getrandbits(64)))
        onsets = [None if onset is None else onset * stretch + lead for onset in onsets]
    entry = {
        "name": name,
        "language": language,
        "text": text,
        "translations": {other: texts[other] for other in texts if other != language},
        "onsets": [None if onset is None else round(onset, 4) for onset in onsets],
        **setting._asdict(),
    }
    return entry, to_pcm(waveform)


def jobs_of(split, sentences, languages, seed):
    """One job an utterance; English keeps the names that it has in a corpus of its own."""
    for index, sentence in enumerate(sentences):
        # In training the languages take turns.
        spoken = [languages[index % len(languages)]] if split == "train" else languages
        for language in spoken:
            name = f"{split}-{index:05}" if language == "en" else f"{split}-{language}-{index:05}"
            yield split, name, language, in_languages(sentence), seed


def write_split(folder, split, jobs, pool):
    offset, count = 0, 0
    with open(folder / f"{split}.jsonl", "w") as manifest, open(folder / f"{split}.pcm", "wb") as sound:
        for entry, samples in pool.imap(make_utterance, jobs, chunksize=16):
            if len(samples) > LONGEST_SECONDS * SAMPLE_RATE:
                continue
            entry |= {"first_sample": offset, "samples": len(samples)}
            manifest.write(json.dumps(entry, ensure_ascii=False) + "\n")
            sound.write(samples.tobytes())
            offset, count = offset + len(samples), count + 1
    print(f"{split}: {count} utterances, {offset / SAMPLE_RATE / 60:.0f} minutes", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--languages", nargs="+", choices=LANGUAGES, default=["en"])
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    arguments.corpus.mkdir(parents=True, exist_ok=True)
    languages = arguments.languages
    splits = SPLITS
    if len(languages) > 1:
        splits = SPLITS_OF_SEVERAL | {"train": SPLITS_OF_SEVERAL["train"] * len(languages)}
    sentences = distinct_sentences(sum(splits.values()), arguments.seed)
    with Pool() as pool:
        for split, count in splits.items():
            chosen, sentences = sentences[:count], sentences[count:]
            write_split(arguments.corpus, split, jobs_of(split, chosen, languages, arguments.seed), pool)


if __name__ == "__main__":
    main()
