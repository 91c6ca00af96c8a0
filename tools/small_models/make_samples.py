"""Writes the sample recordings: held-out utterances with the true onset of every word.

    python -m small_models.make_samples CORPUS_FOLDER SAMPLES_FOLDER

The recordings are not distorted in any way, so the synthesisers' onsets hold.
"""

import argparse
import json
import wave
from pathlib import Path

from .corpus import read_manifest
from .front_end import SAMPLE_RATE
from .make_test_sets import write_flac
from .synthesise import to_pcm
from .synthesisers import Setting, speak

# File name and held-out utterance: both synthesisers, men's and women's voices.
SAMPLES = {
    "train_to_barcelona": "held_out-00024",
    "zebra_behind_the_garden": "held_out-00010",
    "spider_behind_the_kitchen": "held_out-00020",
    "taxi_to_edinburgh": "held_out-00002",
    "umbrellas_and_turtles": "held_out-00004",
    "bus_to_tokyo": "held_out-00013",
    "cakes_near_the_station": "held_out-00037",
    "dog_behind_the_hotel": "held_out-00033",
}
# The one that documentation and examples name; the others are FLAC, which is smaller.
WAVES = {"train_to_barcelona"}


def write_wave(path, samples):
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE)
        file.writeframes(samples.tobytes())


def describe(entry, onsets, seed):
    words = entry["text"].split()
    if None in onsets:
        raise ValueError(f"{entry['name']}: the synthesiser gives no onset for {words[onsets.index(None)]!r}")
    return {
        "text": entry["text"],
        "words": [
            {"word": word, "onset_seconds": round(onset, 4)} for word, onset in zip(words, onsets, strict=True)
        ],
        **{key: entry[key] for key in Setting._fields},
        "utterance": entry["name"],
        "seed": seed,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("samples", type=Path)
    parser.add_argument("--seed", type=int, default=1, help="the seed that the corpus was made with")
    arguments = parser.parse_args()
    arguments.samples.mkdir(parents=True, exist_ok=True)
    entries = {entry["name"]: entry for entry in read_manifest(arguments.corpus, "held_out")}
    for name, utterance in SAMPLES.items():
        entry = entries[utterance]
        setting = Setting(**{key: entry[key] for key in Setting._fields})
        spoken = speak(entry["text"], setting)
        samples = to_pcm(spoken.waveform)
        if name in WAVES:
            write_wave(arguments.samples / f"{name}.wav", samples)
        else:
            write_flac(arguments.samples / f"{name}.flac", samples)
        description = describe(entry, spoken.onsets, arguments.seed)
        (arguments.samples / f"{name}.json").write_text(json.dumps(description, indent=1) + "\n")


if __name__ == "__main__":
    main()
