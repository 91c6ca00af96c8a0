"""Sounds in the forms in which Python's programs have them."""

from __future__ import annotations

import operator
import os
from collections.abc import Mapping
from typing import Any, Optional

import numpy as np
import numpy.typing as npt

from . import _native
from ._errors import InputError

SAMPLING_RATE = 16_000
"""Of what a model hears, in Hz."""

Floats = npt.NDArray[np.float32]


class Sound:
    """A sound that a model can hear.

    ``x`` is a path, the bytes of a file (WAV, FLAC, MP3, OGG, Opus, M4A and
    more), samples, or a dictionary with ``array`` and ``sampling_rate`` as
    the datasets library has it.

    Samples are (S,), (1, S) or (S, 1) floating-point numbers, full scale -1 to
    1: a NumPy array, a tensor of torch or another library (``__array__`` or
    DLPack, on any device that its own ``cpu()`` brings it from), or a list.
    They need ``sampling_rate``, in Hz, between 1,000 and 1,000,000.

    Raises InputError if it cannot be read, has no samples, more than one
    channel, integers, or numbers that are not finite.
    """

    _inner: _native.Sound

    def __init__(
        self,
        x: Any,
        sampling_rate: Optional[int] = None,
        *,
        name: Optional[str] = None,
    ) -> None:
        made = _made(x, sampling_rate)
        self._inner = made if name is None else made.named(name)

    @classmethod
    def _of(cls, made: _native.Sound) -> Sound:
        sound = cls.__new__(cls)
        sound._inner = made
        return sound

    @property
    def name(self) -> str:
        """A file's name without its folder, or what was given."""
        return self._inner.name

    @property
    def seconds(self) -> float:
        """Length in seconds."""
        return self._inner.seconds

    @property
    def sampling_rate(self) -> int:
        """Of `samples`, in Hz: always 16,000."""
        return SAMPLING_RATE

    @property
    def samples(self) -> Optional[Floats]:
        """(S,): mono, at 16 kHz, as a model hears it; read-only, not copied.

        ``None`` where only features are known.
        """
        return self._inner.samples

    @property
    def warnings(self) -> list[str]:
        """What is not as whoever gave the sound may think."""
        return self._inner.warnings

    def __repr__(self) -> str:
        return f"<sonograd.Sound {self.name!r}, {self.seconds:.2f} s>"


def sound_for(
    listener: _native.Listener, x: Any, sampling_rate: Optional[int]
) -> Sound:
    """The sound, or what transformers' processor made for the listener's model."""
    if isinstance(x, Sound):
        if sampling_rate is not None:
            raise InputError("a Sound knows its rate; leave sampling_rate out")
        return x
    if isinstance(x, Mapping) and not _FEATURES.isdisjoint(x):
        if sampling_rate is not None:
            raise InputError("features have no rate; leave sampling_rate out")
        return Sound._of(_of_features(listener, x))
    return Sound(x, sampling_rate)


_FEATURES = {"input_features", "input_values"}
"""What feature extractors of transformers call what they make."""


def _made(x: Any, sampling_rate: Optional[int]) -> _native.Sound:
    if isinstance(x, Mapping) and "array" in x and "sampling_rate" in x:
        if sampling_rate is not None:
            raise InputError("the dictionary has a sampling_rate; give no other")
        return _made(x["array"], x["sampling_rate"])
    is_path = isinstance(x, (str, os.PathLike))
    is_file = is_path or isinstance(x, (bytes, bytearray, memoryview))
    if is_file and sampling_rate is not None:
        raise InputError("a file says its own rate; leave sampling_rate out")
    if is_path:
        return _native.Sound.read(x)
    if is_file:
        return _native.Sound.decode(bytes(x))
    if isinstance(x, Mapping):
        raise InputError(
            "a dictionary has input_features or input_values, or array and sampling_rate; "
            f"this one has {', '.join(map(str, x)) or 'nothing'}"
        )
    samples = _floats(x, "samples")
    if samples.ndim == 2 and 1 in samples.shape:
        samples = samples.reshape(-1)
    if samples.ndim != 1:
        hint = "; average channels first" if samples.ndim == 2 else ""
        raise InputError(
            f"samples have the shape (S,), not {samples.shape}: one channel{hint}"
        )
    if sampling_rate is None:
        raise InputError("samples need their sampling_rate=, in Hz")
    return _native.Sound.of_samples(samples, _rate(sampling_rate))


def _rate(given: Any) -> int:
    whole = given
    if isinstance(given, float) and given.is_integer():
        whole = int(given)
    try:
        rate = operator.index(whole)
    except TypeError:
        raise InputError(f"sampling_rate is {given!r}, not a whole number") from None
    if isinstance(given, bool) or not 0 <= rate < 1 << 32:
        raise InputError(f"sampling_rate is {given!r} Hz")
    return rate


def _floats(x: Any, what: str) -> Floats:
    """The numbers as contiguous 32-bit floats, copied only where they are not."""
    array = _array(x, what)
    if not np.issubdtype(array.dtype, np.floating):
        hint = ""
        if np.issubdtype(array.dtype, np.signedinteger):
            full = 1 << (8 * array.dtype.itemsize - 1)
            hint = f": divide by {full}, so that full scale is -1 to 1"
        raise InputError(f"{what} are {array.dtype}, not floating-point numbers{hint}")
    # What does not fit becomes infinite, and is refused by its place.
    with np.errstate(over="ignore"):
        return np.asarray(array, dtype=np.float32, order="C")


def _array(x: Any, what: str) -> npt.NDArray[Any]:
    if isinstance(x, np.ndarray):
        return x
    given = type(x).__name__
    try:
        # Tensors that have a gradient, or are on another device.
        for step in ("detach", "cpu"):
            x = getattr(x, step)() if hasattr(x, step) else x
        if hasattr(x, "__array__"):
            return np.asarray(x)
        if hasattr(x, "__dlpack__"):
            return np.from_dlpack(x)
        if isinstance(x, (list, tuple)):
            return np.asarray(x, dtype=np.float32)
    except Exception as problem:
        raise InputError(f"{what} cannot be read from {given}: {problem}") from problem
    raise InputError(
        f"a sound is a path, bytes, samples or a dictionary, not {given}"
    )


def _of_features(
    listener: _native.Listener, given: Mapping[str, Any]
) -> _native.Sound:
    of_samples = listener.hears_samples
    name = "input_values" if of_samples else "input_features"
    if name not in given:
        raise InputError(f"the model hears {name}, not {', '.join(_FEATURES & set(given))}")
    features = _floats(given[name], "features")
    if of_samples:
        samples = features[0] if features.ndim == 2 and len(features) == 1 else features
        if samples.ndim != 1:
            raise InputError(f"input_values have the shape (1, S), not {features.shape}")
        count = _sound_frames(given.get("attention_mask"), samples.size)
        # What only fills up, to a whole frame, is made anew.
        samples = samples if count is None else samples[:count]
        return _native.Sound.of_features(samples[:, None], None, listener.frame_seconds)
    if features.ndim == 3 and features.shape[0] == 1:
        features = features[0]
    bins_first = listener.front_end == "WhisperFeatureExtractor"
    order = f"(1, {listener.bins}, T)" if bins_first else f"(1, T, {listener.bins})"
    bins = features.shape[0 if bins_first else -1] if features.ndim == 2 else None
    if bins != listener.bins:
        shape = np.shape(given["input_features"])
        raise InputError(f"input_features have the shape {order}, not {shape}")
    if bins_first:
        features = np.ascontiguousarray(features.T)
    frames = _sound_frames(given.get("attention_mask"), features.shape[0])
    return _native.Sound.of_features(features, frames, listener.frame_seconds)


def _sound_frames(mask: Any, frames: int) -> Optional[int]:
    """How many frames are sound: those that a mask begins with."""
    if mask is None:
        return None
    ones = _array(mask, "attention_mask").reshape(-1) != 0
    count = int(ones.sum())
    if ones.size != frames or not ones[:count].all():
        raise InputError(
            f"attention_mask has the shape (1, {frames}) here, with ones before zeros"
        )
    return count


