"""What training copies of the recordings go through: other speed, room, noise and loudness."""

from typing import NamedTuple

import numpy as np

from .front_end import FRAME_LENGTH, FRAME_SHIFT, SAMPLE_RATE, frame_count
from .synthesisers import resample

# Training lengths are multiples of this many frames, so that batches need no padding masks.
LENGTH_STEP = 8


class Distorted(NamedTuple):
    """What was said at `time` seconds is now at `stretch * time + lead`."""

    waveform: np.ndarray
    stretch: float
    lead: float


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
    """A training copy, `Distorted`, with a length on the grid."""
    stretch = 1.0
    if noise.random() < 0.5:
        stretch = noise.uniform(0.9, 1.1)
        waveform = resample(waveform, stretch)
    lead = int(noise.uniform(0.0, 0.15) * SAMPLE_RATE)
    frames = -(-frame_count(len(waveform) + lead + FRAME_SHIFT) // LENGTH_STEP) * LENGTH_STEP
    trail = FRAME_LENGTH + (frames - 1) * FRAME_SHIFT - len(waveform) - lead
    waveform = np.pad(waveform, (lead, trail))
    if noise.random() < 0.3:
        waveform = reverberated(waveform, noise)
    if noise.random() < 0.6:
        decibels = noise.uniform(10.0, 40.0)
        waveform = waveform + coloured_noise(noise, len(waveform)) * waveform.std() * 10 ** (-decibels / 20)
    waveform = waveform * (noise.uniform(0.2, 0.95) / np.abs(waveform).max())
    return Distorted(waveform, stretch, lead / SAMPLE_RATE)
