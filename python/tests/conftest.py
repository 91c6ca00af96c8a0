"""The embedded model on the processor, and sounds of the project."""

from __future__ import annotations

import signal
import sys
import wave
from pathlib import Path

import numpy as np
import pytest

import sonograd

ROOT = Path(__file__).resolve().parents[2]
SAMPLES = ROOT / "samples"


@pytest.fixture(scope="session", autouse=True)
def ctrl_c():
    """Ctrl-C interrupts, here and in children, also where it was ignored before."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="session")
def listener() -> sonograd.Listener:
    return sonograd.Listener(device="cpu")


@pytest.fixture(scope="session")
def path() -> Path:
    return SAMPLES / "train_to_barcelona.wav"


@pytest.fixture(scope="session")
def samples(path):
    """(S,) at 16 kHz, read by the standard library."""
    with wave.open(str(path)) as file:
        assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (16_000, 1, 2)
        numbers = np.frombuffer(file.readframes(file.getnframes()), dtype="<i2")
    return (numbers / 32_768).astype(np.float32)


@pytest.fixture(scope="session")
def maps(listener, path) -> sonograd.Maps:
    """Attention, gradients, and SPES by a few masks, at all sites."""
    return listener.explain(
        path,
        methods=["attention", "gradient", "spes"],
        at=["input", "encoder", "tokens"],
        masks=48,
    )


@pytest.fixture(scope="session")
def program() -> list[str]:
    """The installed program's command line."""
    command = Path(sys.executable).with_name("sonograd")
    assert command.is_file(), "the package installs the command"
    return [str(command)]
