"""Bad input is refused in one line by an error of the right class."""

import builtins
import subprocess
import sys

import numpy as np
import pytest

import sonograd
from sonograd import InputError

ONE = np.ones(16_000, dtype=np.float32)


def with_a(value, place):
    samples = ONE.copy()
    samples[place] = value
    return samples


@pytest.mark.parametrize(
    "x, rate, words",
    [
        (ONE, None, "sampling_rate"),
        (ONE, 0, "0 Hz"),
        (ONE, -1, "-1 Hz"),
        (ONE, 10, "10 Hz"),
        (ONE, 2**40, "Hz"),
        (ONE, 16_000.5, "not a whole number"),
        (ONE, "16000", "not a whole number"),
        (ONE, True, "True Hz"),
        (ONE[:0], 16_000, "no samples"),
        ([], 16_000, "no samples"),
        (with_a(np.nan, 3), 16_000, "sample 3, which is NaN"),
        (with_a(np.inf, 4), 16_000, "sample 4, which is inf"),
        (ONE.astype(float) * 1e300, 16_000, "sample 0, which is inf"),
        ((ONE * 3e4).astype(np.int16), 16_000, "int16.*divide by 32768"),
        (np.ones(9, dtype=np.uint8), 16_000, "uint8, not floating-point"),
        (np.ones(9, dtype=bool), 16_000, "bool, not floating-point"),
        (np.ones(9, dtype=complex), 16_000, "complex128, not floating-point"),
        (np.array(["a"]), 16_000, "not floating-point"),
        (["a"], 16_000, "samples cannot be read from list"),
        (np.stack([ONE, ONE]), 16_000, r"\(2, 16000\).*average channels"),
        (np.stack([ONE, ONE], axis=1), 16_000, r"\(16000, 2\).*average channels"),
        (ONE.reshape(2, 2, -1), 16_000, "one channel"),
        (np.float32(1.0), 16_000, r"not \(\)"),
        (None, 16_000, "not NoneType"),
        (7, 16_000, "not int"),
        ({}, None, "this one has nothing"),
        ({"array": ONE}, None, "this one has array"),
        ({"array": ONE, "sampling_rate": 16_000}, 8_000, "give no other"),
        ("absent.wav", None, "absent.wav"),
        ("absent.wav", 16_000, "says its own rate"),
        (b"RIFF", 16_000, "says its own rate"),
        (b"", None, "empty"),
        (b"hello", None, "unknown format"),
        (".", None, "is a folder"),
    ],
)
def test_sounds_that_are_none(listener, x, rate, words):
    with pytest.raises(InputError, match=words) as raised:
        listener.transcribe(x, rate)
    assert "\n" not in str(raised.value)
    assert isinstance(raised.value, ValueError)


@pytest.mark.parametrize(
    "given, words",
    [
        (np.zeros((1, 20, 7), dtype=np.float32), r"\(1, T, 80\), not \(1, 20, 7\)"),
        (np.zeros((2, 20, 80), dtype=np.float32), r"not \(2, 20, 80\)"),
        (np.zeros((1, 80), dtype=np.int32), "int32"),
        (np.zeros((1, 0, 80), dtype=np.float32), "none of the features' frames"),
        (np.full((1, 200, 80), np.nan, dtype=np.float32), "NaN at frame 0, bin 0"),
    ],
)
def test_features_that_are_none(listener, given, words):
    with pytest.raises(InputError, match=words):
        listener.transcribe({"input_features": given})


def test_masks_of_features_that_are_none(listener, maps):
    features = maps.features[None]
    frames = features.shape[1]
    for mask in [np.ones((1, 3)), np.arange(frames)[::-1] < 5, np.ones((1, frames + 1))]:
        with pytest.raises(InputError, match="ones before zeros"):
            listener.transcribe({"input_features": features, "attention_mask": mask})
    with pytest.raises(InputError, match="none of the features' frames"):
        listener.transcribe({"input_features": features, "attention_mask": np.zeros(frames)})
    with pytest.raises(InputError, match="no rate"):
        listener.transcribe({"input_features": features}, 16_000)


@pytest.mark.parametrize(
    "how, words",
    [
        (dict(methods="lime"), "no method \"lime\"; there are attention"),
        (dict(methods=[]), "no method to explain by"),
        (dict(methods=[3]), "methods are names, not 3"),
        (dict(at="middle"), "no site \"middle\""),
        (dict(methods="gradient", at="tokens"), "gradient has no map at tokens"),
        (dict(methods="spes", masks=0), "at least one mask"),
        (dict(methods="spes", masks=-1), "masks is -1"),
        (dict(methods="spes", masks=2.5), "masks is 2.5"),
        (dict(methods="spes", masks=5, reliability=0.5), "give one"),
        (dict(methods="spes", reliability=1.5), "not between 0 and 1"),
        (dict(methods="spes", mask_probability=2.0), "."),
        (dict(methods="integrated-gradients", steps=0), "steps is 0"),
        (dict(methods="smoothgrad", noise=float("nan")), "noise is NaN"),
        (dict(methods="spes", baseline="max"), "no baseline \"max\""),
        (dict(masks=9), "masks is for the method spes alone"),
        (dict(methods="spes", steps=9), "for the method integrated-gradients alone"),
        (dict(tokens=[99]), "no token 99"),
        (dict(tokens=[-1]), "-1"),
        (dict(memory=0), "memory is 0"),
        (dict(text=""), "no tokens"),
        (dict(language="xx"), "."),
    ],
)
def test_options_that_are_none(listener, path, how, words):
    with pytest.raises(InputError, match=words) as raised:
        listener.explain(path, **how)
    assert "\n" not in str(raised.value)


def test_options_without_effect_on_times(listener, path):
    with pytest.raises(InputError, match="spes alone"):
        listener.align(path, by="gradient", masks=9)
    assert listener.align(path, by="spes", masks=48).words
    with pytest.raises(InputError, match="no method"):
        listener.align(path, by="lime")


def test_what_is_said_twice_is_refused(listener, path):
    heard = listener.transcribe(path)
    with pytest.raises(InputError, match="give one"):
        listener.explain(path, heard, text="the train")
    with pytest.raises(InputError, match="no other heard"):
        listener.explain(heard, heard)
    with pytest.raises(InputError, match="leave sampling_rate out"):
        listener.transcribe(heard.sound, 16_000)


def test_another_models_text_is_refused(listener, path):
    from conftest import ROOT

    other = sonograd.Listener(ROOT / "weights" / "multi-task-small", device="cpu")
    with pytest.raises(InputError, match="another model"):
        listener.explain(path, other.transcribe(path))


def test_models_and_devices_that_are_not_there(tmp_path):
    with pytest.raises(sonograd.ModelError):
        sonograd.Listener(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(sonograd.ModelError) as raised:
        sonograd.Listener(tmp_path)
    assert raised.value.kind in ("file", "model")
    with pytest.raises(sonograd.DeviceError, match="no-such-device"):
        sonograd.Listener(device="no-such-device")
    with pytest.raises(InputError, match="no precision"):
        sonograd.Listener(precision="f8")
    with pytest.raises(InputError, match="empty"):
        sonograd.Listener(device="")


def test_errors_are_a_small_hierarchy():
    for error in [sonograd.ModelError, InputError, sonograd.DeviceError, sonograd.MemoryError]:
        assert issubclass(error, sonograd.SonogradError)
    assert issubclass(sonograd.MemoryError, builtins.MemoryError)
    assert issubclass(sonograd.DeviceError, RuntimeError)


SHORT_OF_MEMORY = """
import resource
import numpy as np
import sonograd

listener = sonograd.Listener(device="cpu")
sound = np.random.default_rng(0).normal(size=25 * 16_000) / 10
how = dict(sampling_rate=16_000, text="the train", methods="gradient")
listener.explain(sound[:16_000], **how)
with open("/proc/self/statm") as file:
    taken = int(file.read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (taken + (16 << 20),) * 2)
try:
    listener.explain(sound, **how)
except sonograd.MemoryError as error:
    assert error.kind == "memory"
    print("refused")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux how much is taken")
def test_too_little_memory_is_a_memory_error():
    line = [sys.executable, "-c", SHORT_OF_MEMORY]
    done = subprocess.run(line, capture_output=True, text=True)
    assert done.stdout == "refused\n", done.stderr
