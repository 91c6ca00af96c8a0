"""A model that hears the waveform: Moonshine, with random weights."""

from __future__ import annotations

import numpy as np
import pytest

import sonograd
from conftest import ROOT
from sonograd import InputError


@pytest.fixture(scope="module")
def hears_samples() -> sonograd.Listener:
    return sonograd.Listener(ROOT / "tests/fixtures/moonshine_streaming", device="cpu")


@pytest.fixture(scope="module")
def short(samples):
    """A third of a second."""
    return samples[8_000:13_300]


def test_maps_are_over_samples(hears_samples, short):
    maps = hears_samples.explain(
        short, sampling_rate=16_000, methods=["gradient", "spes"], at="input", masks=48, segment_ms=5
    )
    tokens = len(maps.tokens)
    gradient, spes = maps["gradient", "input"], maps["spes", "input"]
    assert gradient.data.shape == spes.data.shape == (tokens, len(short), 1)
    assert [axis.name for axis in gradient.axes] == ["token", "time", "channel"]
    assert gradient.axes[1].step == 1 / 16_000
    # Stretches of 80 samples are hidden as a whole.
    stretches = spes.data[:, :5_280, 0].reshape(tokens, -1, 80)
    assert (stretches == stretches[..., :1]).all() and np.ptp(stretches) > 0


def test_what_transformers_hears_is_heard(hears_samples, short):
    padded = np.pad(short, (0, 60))[None]
    mask = (np.arange(padded.size) < len(short))[None]
    given = {"input_values": padded, "attention_mask": mask}
    whole = hears_samples.explain(given, methods="gradient", at="input")
    expected = hears_samples.explain(short, sampling_rate=16_000, methods="gradient", at="input")
    assert np.array_equal(whole["gradient", "input"].data, expected["gradient", "input"].data)
    heard = hears_samples.transcribe(given)
    assert heard.sound.seconds == pytest.approx(len(short) / 16_000)


def test_what_it_does_not_hear_is_refused(hears_samples, listener, short):
    with pytest.raises(InputError, match="hears input_values, not input_features"):
        hears_samples.transcribe({"input_features": short[None]})
    with pytest.raises(InputError, match="hears input_features, not input_values"):
        listener.transcribe({"input_values": short[None]})
    with pytest.raises(InputError, match=r"\(1, S\), not \(2, 3\)"):
        hears_samples.transcribe({"input_values": np.zeros((2, 3), dtype=np.float32)})
    for own, option in [(hears_samples, "sigma"), (listener, "segment_ms")]:
        with pytest.raises(InputError, match=f"{option} means nothing"):
            own.explain(short, sampling_rate=16_000, methods="spes", **{option: 1.0})
    for given, words in [
        (-1.0, "stretches of -1 ms"),
        (0.01, "shorter than a sample"),
        (1e6, "nothing to tell apart"),
        ("x", "segment_ms is 'x', not a number"),
    ]:
        with pytest.raises(InputError, match=words):
            hears_samples.explain(short, sampling_rate=16_000, methods="spes", segment_ms=given)
