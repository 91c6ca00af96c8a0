"""What goes wrong."""

from __future__ import annotations

import builtins
from typing import Optional


class SonogradError(Exception):
    """Anything that keeps sonograd from doing what it was asked.

    The message is one line: what, where, what is wrong with it, and where it
    helps what would be right.
    """

    kind: str = "other"
    """``file``, ``model``, ``input``, ``device``, ``memory``, ``network``,
    ``shape`` or ``other``."""

    path: Optional[str] = None
    """The file that it is about, if it is about one."""


class ModelError(SonogradError):
    """A model that is not found, not whole, or cannot be downloaded."""


class InputError(SonogradError, ValueError):
    """An argument, a sound or a folder that cannot be worked with."""

    kind = "input"


class MissingMapError(InputError, KeyError):
    """A map that was not made; the message names those that were."""

    # A KeyError shows its message in quotes.
    __str__ = Exception.__str__


class DeviceError(SonogradError, RuntimeError):
    """A device that does not exist, lacks something or failed."""


class MemoryError(SonogradError, builtins.MemoryError):
    """Memory that a device does not have; less work at once may fit."""


class MissingPackageError(SonogradError, ImportError):
    """A package that is needed for this, and not installed."""
