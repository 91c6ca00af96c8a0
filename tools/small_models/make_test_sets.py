"""Writes the test sets: held-out utterances with true word onsets, and manifests by direction.

    python -m small_models.make_test_sets CORPUS_FOLDER TEST_SETS_FOLDER [--sentences 101]

For each language a folder with the recordings (FLAC, 16 kHz, mono), `words.jsonl` (the onset in
seconds of every word) and for each direction a manifest as fairseq's speech-to-text tools write
them, `<spoken>-<written>.tsv`; there `audio` is relative to the manifest and `n_frames` counts
samples. The sentences are the held-out ones that take the least time in all languages together, of
those whose recordings are long enough and have all their onsets, so the folders are parallel. What a
model makes of them plays no part. The recordings are not distorted, so the onsets hold; they are
rounded to 12 bits, which takes two thirds of the room.
"""

import argparse
import csv
import json
import subprocess
from pathlib import Path

import numpy as np

from .corpus import read_manifest, read_samples
from .front_end import SAMPLE_RATE
from .synthesisers import Setting

SPLIT = "held_out"
SHORTEST_SECONDS = 1.5
# Bits of a sample that are kept, of 16.
BITS = 12
COLUMNS = ["id", "audio", "n_frames", "tgt_text", "speaker", "src_lang", "tgt_lang"]


def suitable(entry):
    return entry["samples"] >= SHORTEST_SECONDS * SAMPLE_RATE and None not in entry["onsets"]


def parallel_entries(entries, count):
    """{language: manifest lines} of the `count` shortest sentences that are suitable in all languages."""
    sentences = {}
    for entry in entries:
        key = entry["name"].rsplit("-", 1)[-1]
        sentences.setdefault(key, {})[entry["language"]] = entry
    languages = sorted({entry["language"] for entry in entries})
    suited = {
        key: spoken for key, spoken in sentences.items()
        if len(spoken) == len(languages) and all(map(suitable, spoken.values()))
    }
    if len(suited) < count:
        raise ValueError(f"only {len(suited)} sentences are suitable")

    def samples(key):
        return sum(entry["samples"] for entry in suited[key].values())

    shortest = sorted(suited, key=samples)[:count]
    return {language: [suited[key][language] for key in sorted(shortest)] for language in languages}


def rounded(samples):
    """16-bit samples whose last bits are 0, which FLAC leaves out."""
    step = 1 << (16 - BITS)
    largest = np.iinfo(np.int16).max // step * step
    return np.minimum(np.round(samples / step) * step, largest).astype("<i2")


def write_flac(path, samples):
    """`samples`: 16 bit, little endian."""
    command = (
        "flac --silent --force --best --no-padding --no-seektable --force-raw-format --endian=little "
        f"--sign=signed --channels=1 --bps=16 --sample-rate={SAMPLE_RATE} -o {path} -"
    )
    subprocess.run(command.split(), input=samples.tobytes(), check=True)


def described(entry):
    """A line of words.jsonl."""
    words = [
        {"word": word, "onset_seconds": onset}
        for word, onset in zip(entry["text"].split(), entry["onsets"], strict=True)
    ]
    voice = {key: entry[key] for key in Setting._fields}
    return {"id": entry["name"], "text": entry["text"], "words": words, **voice}


def write_manifest(path, entries, language):
    """The manifest of one direction; `language` is the written one."""
    with open(path, "w", newline="") as file:
        table = csv.DictWriter(file, COLUMNS, delimiter="\t", lineterminator="\n", quoting=csv.QUOTE_NONE)
        table.writeheader()
        for entry in entries:
            table.writerow({
                "id": entry["name"],
                "audio": f"{entry['name']}.flac",
                "n_frames": entry["samples"],
                "tgt_text": ({entry["language"]: entry["text"]} | entry["translations"])[language],
                "speaker": f"{entry['synthesizer']}-{entry['voice']}",
                "src_lang": entry["language"],
                "tgt_lang": language,
            })


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("test_sets", type=Path)
    parser.add_argument("--sentences", type=int, default=101)
    arguments = parser.parse_args()
    chosen = parallel_entries(read_manifest(arguments.corpus, SPLIT), arguments.sentences)
    for language, entries in chosen.items():
        folder = arguments.test_sets / language
        folder.mkdir(parents=True, exist_ok=True)
        for entry in entries:
            samples = rounded(read_samples(arguments.corpus, SPLIT, entry))
            write_flac(folder / f"{entry['name']}.flac", samples)
        lines = (json.dumps(described(entry), ensure_ascii=False) + "\n" for entry in entries)
        (folder / "words.jsonl").write_text("".join(lines))
        for written in chosen:
            write_manifest(folder / f"{language}-{written}.tsv", entries, written)


if __name__ == "__main__":
    main()
