"""The command that the package installs, and studies that it and Python share."""

import json
import signal
import subprocess
import sys
import time

import pytest

import sonograd
from conftest import SAMPLES


def run(program, *words):
    return subprocess.run([*program, *map(str, words)], capture_output=True, text=True)


def test_the_command_is_the_program(program, path):
    done = run(program, "--version")
    assert (done.returncode, done.stdout) == (0, f"sonograd {sonograd.__version__}\n")
    done = run([sys.executable, "-m", "sonograd"], "transcribe", path, "--device", "cpu")
    assert done.returncode == 0 and done.stdout.startswith("the train from boston")


def test_exit_codes_are_the_programs(program, path):
    done = run(program, "transcribe", path, "absent.wav", "--device", "cpu")
    assert done.returncode == 1 and "absent.wav" in done.stderr
    done = run(program, "no-such")
    assert done.returncode == 2 and done.stderr.startswith("error: ")
    assert "Traceback" not in done.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="sends a signal")
@pytest.mark.parametrize("method", ["spes", "gradient"])
def test_ctrl_c_reaches_the_command(program, path, tmp_path, method):
    # Gradients of one sound are done before anybody could stop them.
    sounds = [path] if method == "spes" else sorted(SAMPLES.glob("*.[fw]*"))
    line = ["explain", *sounds, "--method", method, "--at", "input", "--device", "cpu"]
    line += ["--masks", "100000"] if method == "spes" else []
    line += ["--out", tmp_path / "out"]
    command = [*program, *map(str, line)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert "device" in child.stderr.readline()
        time.sleep(0.5)
        child.send_signal(signal.SIGINT)
        out, err = child.communicate(timeout=60)
    if method == "spes":
        assert child.returncode == 0 and "stopped after" in err
    else:
        assert child.returncode == -signal.SIGINT


def study(listener, out, **how):
    return listener.study(
        SAMPLES / "manifest.tsv", out, methods=["spes", "gradient"], masks=48, limit=2, **how
    )


def test_a_study_is_the_commands(listener, program, tmp_path):
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    told = []
    found = study(listener, ours, progress=lambda *own: told.append(own))
    line = ["study", SAMPLES / "manifest.tsv", "--method", "spes,gradient", "--masks", 48]
    line += ["--limit", 2, "--out", theirs, "--device", "cpu"]
    assert run(program, *line).returncode == 0
    assert found.finished and found.tables["rows"] and not found.tables["failures"]
    for name in ["tables.json", "tables.csv", "summary.txt", "report.html"]:
        assert (ours / name).read_bytes() == (theirs / name).read_bytes(), name
    assert found.tables == json.loads((theirs / "tables.json").read_text())
    assert ("utterances", 2.0, 2.0) in told
    assert "<iframe" in found._repr_html_() and found.conclusion in repr(found)
    pandas = pytest.importorskip("pandas")
    assert isinstance(found.to_pandas(), pandas.DataFrame)
    # What is done is not done again; what is something else is refused.
    told.clear()
    assert study(listener, theirs, progress=lambda *own: told.append(own)).tables == found.tables
    assert told == []
    with pytest.raises(sonograd.InputError) as raised:
        study(listener, ours, seed=1)
    assert "--seed" in str(raised.value)


def test_ctrl_c_leaves_a_study_that_goes_on(listener, tmp_path):
    def tell(stage, done, most):
        if stage == "utterances":
            raise KeyboardInterrupt

    with pytest.warns(sonograd.SonogradWarning, match="the same call goes on"):
        stopped = study(listener, tmp_path / "out", progress=tell)
    assert not stopped.finished
    log = tmp_path / "out" / "base-en.jsonl"
    assert len(log.read_text().splitlines()) == 2
    assert study(listener, tmp_path / "out").finished
    assert len(log.read_text().splitlines()) == 3


def test_a_study_of_nothing_is_refused(listener, tmp_path):
    with pytest.raises(sonograd.InputError, match="absent.tsv"):
        listener.study("absent.tsv", tmp_path / "out")
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "report.html").write_text("mine")
    with pytest.raises(sonograd.InputError, match="report.html"):
        study(listener, tmp_path / "thesis")
    with pytest.raises(sonograd.InputError, match="only the method spes"):
        listener.study(SAMPLES / "manifest.tsv", tmp_path / "out", methods="gradient", masks=9)
