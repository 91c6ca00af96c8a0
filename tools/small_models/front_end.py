"""The speech features: Kaldi's log-mel filter bank, then utterance mean and variance normalisation."""

import functools

import numpy as np

SAMPLE_RATE = 16000
FRAME_LENGTH = 400
FRAME_SHIFT = 160
FFT_LENGTH = 512
MEL_BINS = 80
LOWEST_FREQUENCY = 20.0
PRE_EMPHASIS = 0.97
# Kaldi floors the mel energies at float32's epsilon before the logarithm.
ENERGY_FLOOR = 1.1920928955078125e-07


def frame_count(samples):
    """Frames of a waveform: only those that lie wholly inside it (Kaldi's `snip_edges`)."""
    return 0 if samples < FRAME_LENGTH else 1 + (samples - FRAME_LENGTH) // FRAME_SHIFT


@functools.cache
def povey_window():
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(FRAME_LENGTH) / (FRAME_LENGTH - 1))
    return hann**0.85


@functools.cache
def mel_filters():
    """Triangles that are equal-sided on the mel axis, (FFT bins, mel bins)."""

    def mel(frequency):
        return 1127.0 * np.log1p(frequency / 700.0)

    edges = np.linspace(mel(LOWEST_FREQUENCY), mel(SAMPLE_RATE / 2), MEL_BINS + 2)
    left, centre, right = edges[:-2], edges[1:-1], edges[2:]
    bins = mel(np.arange(FFT_LENGTH // 2 + 1) * SAMPLE_RATE / FFT_LENGTH)[:, None]
    rising, falling = (bins - left) / (centre - left), (right - bins) / (right - centre)
    return np.maximum(0.0, np.minimum(rising, falling))


def filter_bank(waveform):
    """Log-mel energies (frames, 80) of a waveform in [-1, 1]."""
    samples = np.asarray(waveform, np.float64) * 2**15
    frames = np.lib.stride_tricks.sliding_window_view(samples, FRAME_LENGTH)[::FRAME_SHIFT]
    frames = frames - frames.mean(axis=1, keepdims=True)
    previous = np.concatenate([frames[:, :1], frames[:, :-1]], axis=1)
    frames = (frames - PRE_EMPHASIS * previous) * povey_window()
    power = np.abs(np.fft.rfft(frames, FFT_LENGTH)) ** 2
    return np.log(np.maximum(power @ mel_filters(), ENERGY_FLOOR))


def normalise(features):
    """Zero mean and unit variance in every bin; a constant bin becomes 0."""
    centred = features - features.mean(axis=0)
    deviation = features.std(axis=0)
    return centred / np.where(deviation > 0, deviation, 1.0)


def features(waveform):
    """What the model hears: normalised filter bank, (frames, 80), float32."""
    return normalise(filter_bank(waveform)).astype(np.float32)
