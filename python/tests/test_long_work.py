"""Progress, Ctrl-C, threads: what happens while work goes on."""

import os
import signal
import subprocess
import sys
import threading
import time
import warnings

import numpy as np
import pytest

import sonograd

MASKS = 100_000


def interrupt_at(stage, count):
    """Presses Ctrl-C once `stage` has been told of so often; keeps what it was told."""
    told = []

    def tell(own, done, most):
        told.append((own, done, most))
        if [entry[0] for entry in told].count(stage) == count:
            os.kill(os.getpid(), signal.SIGINT)

    tell.told = told
    return tell


def test_ctrl_c_ends_masks_and_gives_the_map_so_far(listener, path):
    tell = interrupt_at("masks", 3)
    begin = time.monotonic()
    with pytest.warns(sonograd.SonogradWarning, match="stopped by Ctrl-C"):
        maps = listener.explain(
            path, methods=["attention", "spes"], at="input", masks=MASKS, progress=tell
        )
    assert time.monotonic() - begin < 60
    own = maps["spes", "input"]
    assert maps.interrupted and 0 < own.options["masks"] < MASKS
    assert own.options["masks"] == max(done for stage, done, _ in tell.told if stage == "masks")
    assert np.isfinite(own.data).all() and np.any(own.data != 0)
    assert "attention" in maps and maps.words
    # The same masks, if so many were asked for.
    again = listener.explain(path, methods="spes", at="input", masks=own.options["masks"])
    assert not again.interrupted
    assert np.array_equal(again["spes", "input"].data, own.data)


def test_ctrl_c_from_outside_ends_masks():
    text = (
        "import sys, sonograd, warnings; warnings.simplefilter('ignore')\n"
        "listener = sonograd.Listener(device='cpu')\n"
        "tell = lambda stage, *own: print(stage, flush=True)\n"
        f"maps = listener.explain(sys.argv[1], methods='spes', at='input', masks={MASKS}, progress=tell)\n"
        "print('masks', maps['spes', 'input'].options['masks'], maps.interrupted)\n"
    )
    from conftest import SAMPLES

    line = [sys.executable, "-c", text, str(SAMPLES / "train_to_barcelona.wav")]
    with subprocess.Popen(line, stdout=subprocess.PIPE, text=True) as child:
        for told in child.stdout:
            if told == "masks\n":
                break
        child.send_signal(signal.SIGINT)
        rest = child.stdout.read().splitlines()
        assert child.wait(timeout=60) == 0
    words = rest[-1].split()
    assert words[0] == "masks" and 0 < int(words[1]) < MASKS and words[2] == "True"


def test_ctrl_c_is_an_interrupt_where_there_is_no_half_result(listener, path):
    with pytest.raises(KeyboardInterrupt):
        tell = interrupt_at("gradients", 3)
        listener.explain(path, methods="smoothgrad", samples=5_000, memory=32, progress=tell)
    with pytest.raises(KeyboardInterrupt):
        listener.transcribe(path, progress=interrupt_at("transcribing", 2))
    # It works on as before.
    assert listener.transcribe(path).text.startswith("the train")


def test_what_the_callable_raises_ends_the_work(listener, path):
    class Enough(Exception):
        pass

    def tell(stage, done, most):
        if stage == "masks":
            raise Enough

    with pytest.raises(Enough):
        listener.explain(path, methods="spes", masks=MASKS, progress=tell)


def test_progress_counts_to_its_end(listener, path):
    told = []
    tell = lambda *own: told.append(own)  # noqa: E731
    listener.explain(path, methods=["gradient", "spes"], at="input", masks=64, progress=tell)
    stages = {stage: (done, most) for stage, done, most in told}
    assert stages["masks"] == (64, 64)
    assert stages["gradients"][1] > 0 and stages["transcribing"][0] > 0
    assert all(0 <= done <= most for _, done, most in told)


def test_bars_are_tqdms(listener, path, capsys, monkeypatch):
    tqdm = pytest.importorskip("tqdm")
    monkeypatch.setattr("sonograd._progress._SECONDS_BEFORE_A_BAR", 0)
    # Neither a terminal nor a notebook: nobody looks.
    listener.explain(path, methods="spes", at="encoder", masks=64)
    assert capsys.readouterr().err == ""
    listener.explain(path, methods="spes", at="encoder", masks=64, progress=True)
    shown = capsys.readouterr().err
    assert "masks" in shown and "64" in shown and tqdm
    monkeypatch.setitem(sys.modules, "tqdm.auto", None)
    with pytest.raises(sonograd.MissingPackageError, match="pip install tqdm"):
        listener.transcribe(path, progress=True)


def test_other_threads_go_on_meanwhile(listener, path):
    counted, longest = [0], [0.0]
    over = threading.Event()

    def count():
        last = time.monotonic()
        while not over.is_set():
            time.sleep(0.001)
            now = time.monotonic()
            longest[0] = max(longest[0], now - last)
            counted[0] += 1
            last = now

    thread = threading.Thread(target=count)
    thread.start()
    begin = time.monotonic()
    listener.explain(path, methods="spes", at="input", masks=400)
    seconds = time.monotonic() - begin
    over.set()
    thread.join()
    # If the lock were held, the thread would stand still till the end.
    assert seconds > 0.5 and longest[0] < seconds / 2
    assert counted[0] > 50 * seconds


def test_two_listeners_in_two_threads_give_what_one_gives(path):
    expected = sonograd.Listener(device="cpu").explain(path, methods="spes", at="encoder", masks=256)
    found, spans = {}, {}

    def work(number):
        listener = sonograd.Listener(device="cpu")
        begin = time.monotonic()
        found[number] = listener.explain(path, methods="spes", at="encoder", masks=256)
        spans[number] = (begin, time.monotonic())

    threads = [threading.Thread(target=work, args=(number,)) for number in range(2)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    for maps in found.values():
        assert np.array_equal(maps["spes", "encoder"].data, expected["spes", "encoder"].data)
    # At the same time, not one after the other.
    assert max(begin for begin, _ in spans.values()) < min(end for _, end in spans.values())


def test_one_listener_serves_threads_one_after_the_other(listener, path):
    texts = []
    threads = [
        threading.Thread(target=lambda: texts.append(listener.transcribe(path).text))
        for _ in range(4)
    ]
    [thread.start() for thread in threads]
    [thread.join(timeout=60) for thread in threads]
    assert len(texts) == 4 and len(set(texts)) == 1


def test_who_is_told_cannot_ask_for_more(listener, path):
    def tell(*own):
        listener.transcribe(path)

    with pytest.raises(sonograd.InputError, match="at work"):
        listener.transcribe(path, progress=tell)
    assert listener.transcribe(path).text


def test_listeners_warn_in_pythons_way():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sonograd.Listener(device="cpu")
