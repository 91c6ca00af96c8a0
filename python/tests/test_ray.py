"""Studies over a real Ray cluster of this machine."""

import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import sonograd
from conftest import SAMPLES

TABLES = ["tables.json", "tables.csv", "summary.txt", "report.html"]
SETTINGS = ["--masks", "150", "--method", "spes", "--device", "cpu"]
PROGRAM = [sys.executable, "-m", "sonograd.ray"]


@pytest.fixture(scope="module")
def cluster():
    pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    yield cluster
    cluster.shutdown()


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    """Each sample thrice."""
    head, *lines = (SAMPLES / "manifest.tsv").read_text().splitlines()
    name = lambda line, n: re.sub(r"^(\S+)\t", rf"\1-{n}\t{SAMPLES}/", line)
    path = tmp_path_factory.mktemp("list") / "list.tsv"
    path.write_text("\n".join([head, *(name(line, n) for n in "123" for line in lines)]))
    return path


class Driver:
    """A study that goes on; its lines are waited for."""

    def __init__(self, cluster, *words):
        line = [*PROGRAM, "study", *map(str, words), "--address", cluster.address]
        self.child = subprocess.Popen(line, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.timer = threading.Timer(300, self.child.kill)
        self.timer.daemon = True
        self.timer.start()
        self.said = ""

    def until(self, pattern):
        for line in self.child.stderr:
            self.said += line
            found = re.search(pattern, line)
            if found:
                return found
        pytest.fail(f"{pattern}: {self.said}")

    def end(self):
        self.said += self.child.stderr.read()
        self.timer.cancel()
        return self.child.wait()


def log(out, number):
    path = out / f"base-en.worker-{number}.jsonl"
    return path.read_text().splitlines() if path.exists() else []


def test_a_node_comes_late_workers_die_and_nothing_is_lost(cluster, manifest, program, tmp_path):
    one, out = tmp_path / "one", tmp_path / "out"
    words = [manifest, *SETTINGS, "--out", out, "--actors", "2"]
    driver = Driver(cluster, *words)
    first = int(driver.until(r"pid=(\d+).* device: native, 1 threads")[1])
    driver.until("base-en: .* of 24, en-en .*, .* s left")
    assert log(out, 1) and not log(out, 2)
    node = cluster.add_node(num_cpus=1)
    while not log(out, 2):
        driver.until(" of 24, ")
    # In the middle of an utterance; Ray makes the worker anew, which goes on.
    os.kill(first, signal.SIGKILL)
    before = len(log(out, 1))
    while len(log(out, 1)) == before:
        driver.until(" of 24, ")
    driver.child.send_signal(signal.SIGINT)
    assert driver.end() == 1 and "\nstopped; the same command goes on\n" in driver.said
    assert "Traceback" not in driver.said
    # What is left, while a node goes with its worker.
    driver = Driver(cluster, *words)
    driver.until(" 1 of ")
    cluster.remove_node(node)
    assert driver.end() == 0, driver.said
    done = [line for k in (1, 2) for line in log(out, k)[1:]]
    assert len(done) == len(set(done)) == 24
    subprocess.run([*program, "study", manifest, *SETTINGS, "--out", one], check=True)
    for name in TABLES:
        assert (out / name).read_bytes() == (one / name).read_bytes(), name
    # Done is done; nothing is mixed.
    for more, code, said in [
        ([], 0, ""),
        (["--seed", "1"], 2, "other settings: seed 0, here 1 (--seed)"),
    ]:
        driver = Driver(cluster, *words, *more)
        assert driver.end() == code and said in driver.said and " of 24" not in driver.said
    line = [*program, "study", manifest, *SETTINGS, "--out", out]
    alone = subprocess.run(line, capture_output=True, text=True)
    assert alone.returncode == 2 and "go on with sonograd.ray" in alone.stderr
    changed = tmp_path / "changed.tsv"
    changed.write_text(manifest.read_text().replace("florence", "rome"))
    with pytest.raises(sonograd.InputError, match="is of another text"):
        sonograd.ray.study(changed, out, masks=150, method="spes", device="cpu")


def test_the_call_is_the_command(cluster, program, tmp_path):
    lines = ["id\taudio\ttgt_text\tsrc_lang\ttgt_lang", "gone\tgone.wav\tx\ten\ten"]
    lines.append(f"there\t{SAMPLES}/train_to_barcelona.wav\tx\ten\ten")
    (tmp_path / "list.tsv").write_text("\n".join(lines))
    told = []
    how = dict(masks=48, method=["spes", "gradient"], device="cpu", address=cluster.address)
    found = sonograd.ray.study(
        tmp_path / "list.tsv", tmp_path / "out", progress=lambda *own: told.append(own), **how
    )
    assert found.finished and "gone.wav" in found.warnings[0]
    assert [own["id"] for own in found.tables["failures"]] == ["gone"]
    assert told == [("utterances", 1, 2), ("utterances", 2, 2)]
    import ray

    assert not ray.is_initialized()
    driver = Driver(cluster, tmp_path / "list.tsv", "--out", tmp_path / "out", "--masks", "48",
                    "--method", "spes,gradient", "--device", "cpu")
    assert driver.end() == 1
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{")
    driver = Driver(cluster, tmp_path / "list.tsv", "--out", tmp_path / "x", "--model", tmp_path / "model")
    assert driver.end() == 2
    assert driver.said.splitlines()[-1].startswith("error: ") and "config.json" in driver.said


@pytest.mark.parametrize(
    "words, said",
    [
        (["study", "absent.tsv", "--out", "x"], "absent.tsv"),
        (["study", "list.tsv", "--out", "x", "--maskss", "3"], "'--masks'"),
        (["study", "list.tsv", "--out", "x", "--actors", "two"], "--actors"),
        (["study", "list.tsv", "--out", "x", "--actors", "0"], "0 actors"),
        (["study", "--tables", "x"], "without a cluster: sonograd study --tables"),
        (["transcribe", "a.wav"], "study is the one command"),
    ],
)
def test_what_cannot_work_is_one_line(tmp_path, words, said):
    pytest.importorskip("ray")
    done = subprocess.run([*PROGRAM, *words], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 2 and said in done.stderr, done
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1


def test_without_ray_it_is_said_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(sonograd.MissingPackageError, match=r"pip install 'sonograd\[ray\]'"):
        sonograd.ray.study("absent.tsv", "x")
