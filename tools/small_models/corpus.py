"""Reads what `synthesise.py` wrote: texts with their features, and batches of one length."""

import functools
import json
import random
from collections import defaultdict

import numpy as np

from .front_end import features, frame_count

# Batches smaller than this would make the batch norm's statistics poor.
SMALLEST_BATCH = 8


def read_manifest(folder, split):
    return [json.loads(line) for line in (folder / f"{split}.jsonl").read_text().splitlines()]


def read_samples(folder, split, entry):
    """The utterance's samples as they are in the file, 16 bit."""
    sound = np.memmap(folder / f"{split}.pcm", "<i2", "r")
    return sound[entry["first_sample"] :][: entry["samples"]]


def read_waveform(folder, split, entry):
    return read_samples(folder, split, entry) / 2**15


class Example:
    """An utterance; its features are computed at first use, so that a training run starts at once."""

    def __init__(self, folder, split, entry):
        self.folder, self.split = folder, split
        self.entry = entry  # the manifest line

    @property
    def frames(self):
        return frame_count(self.entry["samples"])

    @functools.cached_property
    def features(self):
        """(frames, 80), float32"""
        return features(read_waveform(self.folder, self.split, self.entry))


def read_split(folder, split):
    return [Example(folder, split, entry) for entry in read_manifest(folder, split)]


def epoch_batches(examples, size, seed):
    """All examples in random order, in batches whose utterances have equally many frames."""
    draw, by_length = random.Random(seed), defaultdict(list)
    for example in examples:
        by_length[example.frames].append(example)
    batches = []
    for alike in by_length.values():
        draw.shuffle(alike)
        batches += [alike[start : start + size] for start in range(0, len(alike), size)]
    batches = [batch for batch in batches if len(batch) >= SMALLEST_BATCH]
    draw.shuffle(batches)
    return batches
