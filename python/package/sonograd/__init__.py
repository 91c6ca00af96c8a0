"""Which sound made a speech-to-text model write each word.

    import sonograd

    listener = sonograd.Listener("openai/whisper-tiny.en", device="auto")
    heard = listener.transcribe("hello.flac")
    maps = listener.explain(heard, methods=["attention", "spes"], at="input")
    maps["spes", "input"].data   # (tokens, frames, mel bins)
"""

from __future__ import annotations

import os
from typing import Union

from . import _native, ray
from ._errors import (
    DeviceError,
    InputError,
    MemoryError,
    MissingMapError,
    MissingPackageError,
    ModelError,
    SonogradError,
)
from ._listener import Listener, SonogradWarning
from ._results import (
    Alignment,
    Axis,
    Heard,
    HeardToken,
    HeardWord,
    Heatmap,
    Map,
    Maps,
    Segment,
    Study,
    Token,
    Word,
)
from ._sound import Sound

__version__ = _native.__version__

METHODS: tuple[str, ...] = tuple(_native.names()[0])
"""Names of the methods."""

SITES: tuple[str, ...] = tuple(_native.names()[1])
"""Names of the places where they look."""


def open(folder: Union[str, os.PathLike[str]]) -> Maps:
    """Opens the folder of an explanation, by `Maps.save` or the program.

    Raises InputError if it is none, or its files do not belong together.
    """
    return Maps(_native.open(folder))


__all__ = [
    "METHODS",
    "SITES",
    "Alignment",
    "Axis",
    "DeviceError",
    "Heard",
    "HeardToken",
    "HeardWord",
    "Heatmap",
    "InputError",
    "Listener",
    "Map",
    "Maps",
    "MemoryError",
    "MissingMapError",
    "MissingPackageError",
    "ModelError",
    "Segment",
    "SonogradError",
    "SonogradWarning",
    "Sound",
    "Study",
    "Token",
    "Word",
    "open",
    "ray",
]
