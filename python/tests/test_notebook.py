"""What notebooks show, and a notebook that runs."""

import base64
import html
import re
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest

NOTEBOOK = Path(__file__).resolve().parents[1] / "examples" / "which_sound.ipynb"


def pixels(shown):
    """(height, width, 3) of the picture in some HTML."""
    data = base64.b64decode(re.search(r"base64,([^']+)'", shown)[1])
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    place, body = 8, b""
    while place < len(data):
        length, kind = struct.unpack(">I4s", data[place : place + 8])
        own = data[place + 8 : place + 8 + length]
        check = struct.unpack(">I", data[place + 8 + length :][:4])[0]
        assert check == zlib.crc32(kind + own)
        if kind == b"IHDR":
            width, height = struct.unpack(">II", own[:8])
        if kind == b"IDAT":
            body += own
        place += 12 + length
    lines = np.frombuffer(zlib.decompress(body), dtype=np.uint8).reshape(height, 1 + 3 * width)
    assert not lines[:, 0].any()
    return lines[:, 1:].reshape(height, width, 3)


def test_an_explanation_shows_its_page_in_a_frame(maps):
    shown = maps._repr_html_()
    frame = re.fullmatch(r'<iframe .* sandbox="allow-scripts" .*srcdoc="([^"]*)"></iframe>', shown, re.S)
    assert html.unescape(frame[1]) == maps.page()
    assert maps.page().startswith("<!") and maps.text in maps.page()


def test_a_map_shows_one_tokens_picture(maps):
    for name in maps:
        shown = maps[name]._repr_html_()
        assert name in shown and pixels(shown).shape[2] == 3


def test_pictures_have_low_bins_below_and_time_to_the_right(maps):
    heatmap = maps["spes", "input"].heatmap(3)
    shown = pixels(heatmap._repr_html_()).astype(int)
    frames, bins = heatmap.values.shape
    assert shown.shape == (bins, frames, 3)
    frame, bin_ = np.unravel_index(np.argmax(np.abs(heatmap.values)), (frames, bins))
    # The darkest is where the map is largest.
    dark = shown.sum(axis=2)
    assert dark[bins - 1 - bin_, frame] == dark.min() < dark.max()
    assert html.escape(repr(heatmap.token.text)) in heatmap._repr_html_()


def test_wide_pictures_keep_their_peaks():
    from sonograd._heatmap import _WIDTH, picture

    values = np.zeros((48_001, 1))
    values[30_000], values[48_000] = -1.0, 0.5
    shown = pixels(picture(values, "t", "x", "y")).astype(int)
    assert _WIDTH <= shown.shape[1] <= 2 * _WIDTH
    peaks = np.flatnonzero((shown[0] != 255).any(axis=1))
    assert len(peaks) == 2 and peaks[1] == shown.shape[1] - 1
    assert abs(peaks[0] / shown.shape[1] - 30_000 / 48_001) < 0.01


def test_signs_have_colours_and_nothing_is_white(maps):
    heatmap = maps["gradient", "input"].heatmap(0)
    shown = pixels(heatmap._repr_html_()).astype(int)[::-1].swapaxes(0, 1)
    values = heatmap.values
    most = np.abs(values).max()
    assert (shown[values > most / 2][:, 0] > shown[values > most / 2][:, 2]).all()
    assert (shown[values < -most / 2][:, 0] < shown[values < -most / 2][:, 2]).all()
    assert (values > most / 2).any() or (values < -most / 2).any()
    assert (shown[np.abs(values) < most / 1e4] == 255).all()


def test_alignments_show_a_table(listener, path):
    shown = listener.align(path)._repr_html_()
    assert shown.count("<tr>") == 11 and "barcelona" in shown


def test_the_notebook_runs():
    nbformat = pytest.importorskip("nbformat")
    nbclient = pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    book = nbformat.read(NOTEBOOK, as_version=4)
    assert not any(cell.get("outputs") for cell in book.cells)
    client = nbclient.NotebookClient(
        book, timeout=120, kernel_name="python3", resources={"metadata": {"path": NOTEBOOK.parent}}
    )
    client.execute()
    outputs = [output for cell in book.cells for output in cell.get("outputs", [])]
    pages = [output["data"]["text/html"] for output in outputs if "text/html" in output.get("data", {})]
    assert any("<iframe" in page for page in pages)
    assert any("data:image/png" in page for page in pages)
