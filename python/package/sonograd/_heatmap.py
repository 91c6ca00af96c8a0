"""One token's map as a picture, with NumPy and the standard library alone."""

from __future__ import annotations

import base64
import html
import struct
import zlib
from typing import Any

import numpy as np
import numpy.typing as npt

# From nothing to much, and from against to for: red, green, blue.
_ONE_SIDED = [(255, 255, 255), (253, 204, 138), (227, 74, 51), (103, 0, 13)]
_TWO_SIDED = [(5, 48, 97), (67, 147, 195), (255, 255, 255), (214, 96, 77), (103, 0, 31)]
_WIDTH, _HEIGHT = 720, 200


def picture(values: npt.NDArray[Any], title: str, across: str, up: str) -> str:
    """HTML with a picture of (columns, rows): columns go to the right, rows up.

    Colours are white at 0. The scale ends at the largest absolute value.
    """
    values = _narrowed(values)
    most = float(np.max(np.abs(values), initial=0.0))
    scaled = values / most if most > 0.0 else values
    if scaled.size and float(scaled.min()) < 0.0:
        colours = _coloured((scaled + 1.0) / 2.0, _TWO_SIDED)
        scale = f"-{most:.3g} (blue) to {most:.3g} (red)"
    else:
        colours = _coloured(scaled, _ONE_SIDED)
        scale = f"0 to {most:.3g}"
    image = _png(np.swapaxes(colours, 0, 1)[::-1])
    source = base64.b64encode(image).decode("ascii")
    height = _HEIGHT if values.shape[1] > 1 else _HEIGHT // 5
    return (
        f"<figure style='margin:0.5em 0'><figcaption>{html.escape(title)}</figcaption>"
        f"<img alt='{html.escape(title, quote=True)}' width='{_WIDTH}' height='{height}' "
        "style='image-rendering:pixelated;border:1px solid #999' "
        f"src='data:image/png;base64,{source}'>"
        f"<div><small>{html.escape(across)} to the right, {html.escape(up)} up; "
        f"{html.escape(scale)}</small></div></figure>"
    )


def _narrowed(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """No more columns than can be seen: of several in one place the largest, by size."""
    each = -(-len(values) // (2 * _WIDTH))
    if each < 2:
        return values
    filler = np.zeros((-len(values) % each, values.shape[1]), dtype=values.dtype)
    blocks = np.concatenate([values, filler]).reshape(-1, each, values.shape[1])
    place = np.argmax(np.abs(blocks), axis=1, keepdims=True)
    return np.take_along_axis(blocks, place, axis=1)[:, 0]


def _coloured(
    shares: npt.NDArray[Any], stops: list[tuple[int, int, int]]
) -> npt.NDArray[np.uint8]:
    """Shares from 0 to 1 between the colours of some stops: (..., 3)."""
    places = np.linspace(0.0, 1.0, len(stops))
    parts = [
        np.interp(shares, places, [stop[part] for stop in stops]) for part in range(3)
    ]
    return np.stack(parts, axis=-1).round().astype(np.uint8)


def _png(pixels: npt.NDArray[np.uint8]) -> bytes:
    """(height, width, 3) as a PNG file."""
    height, width, _ = pixels.shape
    # Each line begins with its filter, none.
    lines = np.zeros((height, 1 + 3 * width), dtype=np.uint8)
    lines[:, 1:] = pixels.reshape(height, 3 * width)

    def chunk(kind: bytes, data: bytes) -> bytes:
        checked = kind + data
        return struct.pack(">I", len(data)) + checked + struct.pack(">I", zlib.crc32(checked))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = zlib.compress(lines.tobytes())
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", body) + chunk(b"IEND", b"")
