"""Makes the corpus: sentences of the grammar, spoken, and for training distorted.

    python -m small_models.synthesise CORPUS_FOLDER

Writes, for each split, `<split>.jsonl` (a line an utterance) and `<split>.pcm` (16 kHz, 16 bit,
all utterances after one another). No sentence and no voice setting is in two splits, but
validation and held_out share the pool of settings that training never uses.
"""

import argparse
import json
import random
from multiprocessing import Pool
from pathlib import Path

import numpy as np

from .front_end import FRAME_LENGTH, FRAME_SHIFT, SAMPLE_RATE, frame_count
from .grammar import distinct_sentences
from .synthesisers import FLITE_PITCH, Setting, resample, speak

SPLITS = {"train": 9000, "validation": 200, "held_out": 400}
FLITE_SHARE = 0.45
LONGEST_SECONDS = 6.0

# Training lengths are multiples of this many frames, so that batches need no padding masks.
LENGTH_STEP = 8

ACCENTS = ["en-us", "en-gb", "en-gb-scotland"]
VARIANTS = ["f1", "f2", "f3", "f4", "f5", "m1", "m2", "m3", "m4", "m5", "m6", "m7"]
# Of the espeak-ng voices, these are never trained on.
HELD_OUT_VOICES = [
    "en-us+f3", "en-us+m2", "en-us+m5",
    "en-gb+f2", "en-gb+m4", "en-gb+m7",
    "en-gb-scotland+f5", "en-gb-scotland+m1", "en-gb-scotland+m3",
]
TRAINING_VOICES = [
    f"{accent}+{variant}"
    for accent in ACCENTS for variant in VARIANTS
    if f"{accent}+{variant}" not in HELD_OUT_VOICES
]


def training_setting(draw):
    if draw.random() < FLITE_SHARE:
        speed, pitch = draw.choice([0.85, 0.95, 1.05, 1.15]), draw.choice([0.9, 1.0, 1.1])
        return Setting("flite", draw.choice(list(FLITE_PITCH)), speed, pitch)
    return Setting("espeak-ng", draw.choice(TRAINING_VOICES), draw.randrange(140, 211, 10), draw.randrange(25, 76, 5))


def unseen_setting(draw):
    """A setting off the training grid: in speed and pitch, and for espeak-ng in voice."""
    if draw.random() < FLITE_SHARE:
        speed, pitch = draw.choice([0.9, 1.0, 1.1]), draw.choice([0.95, 1.05])
        return Setting("flite", draw.choice(list(FLITE_PITCH)), speed, pitch)
    return Setting("espeak-ng", draw.choice(HELD_OUT_VOICES), draw.randrange(145, 210, 10), draw.randrange(28, 75, 5))


def coloured_noise(noise, length):
    """Unit-power noise whose spectrum falls with a random slope, from white to about brown."""
    spectrum = np.fft.rfft(noise.standard_normal(length))
    spectrum /= np.maximum(np.arange(len(spectrum)), 1.0) ** noise.uniform(0.0, 1.0)
    coloured = np.fft.irfft(spectrum, length)
    return coloured / coloured.std()


def reverberated(waveform, noise):
    """Adds an exponentially decaying diffuse tail, as a small room does."""
    decay_seconds = noise.uniform(0.1, 0.4)
    time = np.arange(int(decay_seconds * SAMPLE_RATE)) / SAMPLE_RATE
    tail = noise.standard_normal(len(time)) * 10 ** (-3 * time / decay_seconds)
    tail *= noise.uniform(0.1, 0.5) / np.sqrt((tail**2).sum())
    tail[0] += 1.0
    length = len(waveform) + len(tail)
    return np.fft.irfft(np.fft.rfft(waveform, length) * np.fft.rfft(tail, length), length)[: len(waveform)]


def distorted(waveform, noise):
    """A training copy: other speed, room, noise and loudness, and a length on the grid."""
    if noise.random() < 0.5:
        waveform = resample(waveform, noise.uniform(0.9, 1.1))
    lead = int(noise.uniform(0.0, 0.15) * SAMPLE_RATE)
    frames = -(-frame_count(len(waveform) + lead + FRAME_SHIFT) // LENGTH_STEP) * LENGTH_STEP
    trail = FRAME_LENGTH + (frames - 1) * FRAME_SHIFT - len(waveform) - lead
    waveform = np.pad(waveform, (lead, trail))
    if noise.random() < 0.3:
        waveform = reverberated(waveform, noise)
    if noise.random() < 0.6:
        decibels = noise.uniform(10.0, 40.0)
        waveform = waveform + coloured_noise(noise, len(waveform)) * waveform.std() * 10 ** (-decibels / 20)
    return waveform * (noise.uniform(0.2, 0.95) / np.abs(waveform).max())


def to_pcm(waveform):
    return np.clip(np.round(waveform * 2**15), -(2**15), 2**15 - 1).astype("<i2")


def make_utterance(job):
    """The manifest entry and the samples of one utterance; its randomness depends on its name alone."""
    split, index, english, italian, seed = job
    name = f"{split}-{index:05}"
    draw = random.Random(f"{seed}/{name}")
    setting = training_setting(draw) if split == "train" else unseen_setting(draw)
    waveform = speak(english, setting).waveform
    if split == "train":
        waveform = distorted(waveform, np.random.default_rng(draw.getrandbits(64)))
    entry = {"name": name, "text": english, "italian": italian, **setting._asdict()}
    return entry, to_pcm(waveform)


def write_split(folder, split, jobs, pool):
    offset = 0
    with open(folder / f"{split}.jsonl", "w") as manifest, open(folder / f"{split}.pcm", "wb") as sound:
        for entry, samples in pool.imap(make_utterance, jobs, chunksize=16):
            if len(samples) > LONGEST_SECONDS * SAMPLE_RATE:
                continue
            entry |= {"first_sample": offset, "samples": len(samples)}
            manifest.write(json.dumps(entry, ensure_ascii=False) + "\n")
            sound.write(samples.tobytes())
            offset += len(samples)
    print(f"{split}: {offset / SAMPLE_RATE / 60:.0f} minutes")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    arguments.corpus.mkdir(parents=True, exist_ok=True)
    sentences = iter(distinct_sentences(sum(SPLITS.values()), arguments.seed))
    with Pool() as pool:
        for split, count in SPLITS.items():
            jobs = [(split, index, *next(sentences), arguments.seed) for index in range(count)]
            write_split(arguments.corpus, split, jobs, pool)


if __name__ == "__main__":
    main()
