"""Reads what `synthesise.py` wrote: texts with their features, and batches of one length."""

import json
import random
from collections import defaultdict
from multiprocessing import Pool
from typing import NamedTuple

import numpy as np

from .front_end import features

# Batches smaller than this would make the batch norm's statistics poor.
SMALLEST_BATCH = 8


class Example(NamedTuple):
    entry: dict  # the manifest line
    features: np.ndarray


def read_manifest(folder, split):
    return [json.loads(line) for line in (folder / f"{split}.jsonl").read_text().splitlines()]


def read_samples(folder, split, entry):
    """The utterance's samples as they are in the file, 16 bit."""
    sound = np.memmap(folder / f"{split}.pcm", "<i2", "r")
    return sound[entry["first_sample"] :][: entry["samples"]]


def read_waveform(folder, split, entry):
    return read_samples(folder, split, entry) / 2**15


def read_example(job):
    folder, split, entry = job
    return Example(entry, features(read_waveform(folder, split, entry)))


def read_split(folder, split):
    jobs = [(folder, split, entry) for entry in read_manifest(folder, split)]
    with Pool() as pool:
        return pool.map(read_example, jobs, chunksize=64)


def epoch_batches(examples, size, seed):
    """All examples in random order, in batches whose utterances have equally many frames."""
    draw, by_length = random.Random(seed), defaultdict(list)
    for example in examples:
        by_length[len(example.features)].append(example)
    batches = []
    for alike in by_length.values():
        draw.shuffle(alike)
        batches += [alike[start : start + size] for start in range(0, len(alike), size)]
    batches = [batch for batch in batches if len(batch) >= SMALLEST_BATCH]
    draw.shuffle(batches)
    return batches
