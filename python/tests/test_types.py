"""Types: the package keeps them, its stubs are true, and users are told of mistakes."""

import subprocess
import sys
from pathlib import Path

import pytest

import sonograd

PACKAGE = Path(sonograd.__file__).parent

RIGHT = """
import numpy as np
import numpy.typing as npt
import sonograd

listener = sonograd.Listener("openai/whisper-tiny.en", device="auto")
heard: sonograd.Heard = listener.transcribe("a.wav")
maps = listener.explain(heard, methods=["attention", "spes"], at="input", masks=8)
data: npt.NDArray[np.float32] = maps["spes", "input"].data
times: list[float] = [word.start for word in listener.align("a.wav").words]
shape: tuple[int, ...] = sonograd.open("folder")["attention"].shape
"""
WRONG = [
    ('listener.explain(heard, mask=8)', "mask"),
    ('listener.explain(heard, masks="8")', "masks"),
    ('maps["spes", "input", 3]', "index"),
    ('heard.txt', "txt"),
    ('listener.study("a.tsv")', "out"),
]


def mypy(*words):
    pytest.importorskip("mypy")
    line = [sys.executable, "-m", *map(str, words)]
    return subprocess.run(line, capture_output=True, text=True)


def test_the_package_keeps_its_types(tmp_path):
    config = Path(__file__).resolve().parents[1] / "pyproject.toml"
    done = mypy("mypy", "--config-file", config, "--cache-dir", tmp_path, "-p", "sonograd")
    assert done.returncode == 0, done.stdout


def test_stubs_are_true_of_what_they_stand_for(tmp_path):
    done = mypy("mypy.stubtest", "sonograd._native")
    assert done.returncode == 0, done.stdout


def test_users_are_told_of_mistakes(tmp_path):
    program = tmp_path / "program.py"
    for mistake, words in [(None, ""), *WRONG]:
        program.write_text(RIGHT + (f"{mistake}\n" if mistake else ""))
        done = mypy("mypy", "--strict", "--cache-dir", tmp_path / "cache", program)
        if mistake is None:
            assert done.returncode == 0, done.stdout
        else:
            assert done.returncode == 1 and words in done.stdout, (mistake, done.stdout)


def test_everything_public_says_what_it_is():
    for name in sonograd.__all__:
        thing = getattr(sonograd, name)
        if isinstance(thing, type):
            assert thing.__doc__, name
            for attribute, value in vars(thing).items():
                if not attribute.startswith("_") and (callable(value) or isinstance(value, property)):
                    assert value.__doc__, f"{name}.{attribute}"
