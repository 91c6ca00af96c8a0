"""The front door: a model that listens."""

from __future__ import annotations

import operator
import os
import warnings
from pathlib import Path
from typing import Any, Iterable, Optional, Sequence, Union

from . import _native
from ._errors import InputError
from ._progress import Progress, Telling
from ._results import Alignment, Heard, Maps, Study
from ._sound import Sound, sound_for

Path_ = Union[str, "os.PathLike[str]"]
Names = Union[str, Sequence[str]]


class SonogradWarning(UserWarning):
    """Something is not as whoever asked may think."""


class Listener:
    """A model with its way of hearing, its vocabulary and the device that runs it.

    ``model`` is a folder as Hugging Face saves it (or CTranslate2, OpenAI, a
    LoRA adapter's), or a name on the hub, ``OWNER/NAME`` or
    ``OWNER/NAME@REVISION``, which is looked for in Hugging Face's cache and
    downloaded into it. Without one it is the small English model that is part
    of the package: a demonstration that knows a few hundred words.

    ``device`` is ``auto`` (a real GPU or else the processor), ``cpu``, ``gpu``
    or part of an adapter's name; ``precision`` is ``f32``, ``f64`` (processor),
    ``f16-weights`` or ``mixed`` (GPUs).

    How sounds are transcribed, unless a call says otherwise: ``language`` (a
    code or a name), ``task`` (``transcribe``, ``translate``,
    ``translate:LANGUAGE``), ``beams`` (1 is greedy), ``timestamps``,
    ``fallback`` (draw again what is improbable); the model's own choice where
    nothing is said.

    ``progress`` is ``None`` (a bar by tqdm where somebody looks), ``True``,
    ``False``, or a callable that is told ``(stage, done, most)``; what it
    raises ends the work.

    Work releases Python's lock. A listener serves one thread at a time, and
    others wait; for work side by side open one in each thread.

    Raises ModelError, DeviceError, MemoryError, InputError.
    """

    def __init__(
        self,
        model: Optional[Path_] = None,
        device: str = "auto",
        *,
        precision: str = "f32",
        language: Optional[str] = None,
        task: Optional[str] = None,
        beams: Optional[int] = None,
        timestamps: bool = False,
        fallback: bool = False,
        progress: Progress = None,
    ) -> None:
        self._transcribing: dict[str, Any] = {
            "language": language,
            "task": task,
            "beams": _count("beams", beams),
            "timestamps": timestamps,
            "fallback": fallback,
        }
        self._progress = progress
        with Telling(progress) as tell:
            self._native = _native.Listener(
                model, device, precision, self._transcribing, tell
            )
        _warn(self._native.warnings)

    @property
    def model(self) -> str:
        """The model's name."""
        return self._native.name

    @property
    def revision(self) -> Optional[str]:
        """The commit, where the model is the hub's."""
        return self._native.revision

    @property
    def architecture(self) -> str:
        """As ``config.json`` names it."""
        return self._native.architecture

    @property
    def device(self) -> str:
        """The device's name."""
        return self._native.device

    @property
    def precision(self) -> str:
        """In which numbers it computes."""
        return self._native.precision

    def __repr__(self) -> str:
        return f"<sonograd.Listener {self.model!r} on {self.device!r}, {self.precision}>"

    def transcribe(
        self,
        x: Any,
        sampling_rate: Optional[int] = None,
        *,
        text: Optional[str] = None,
        language: Optional[str] = None,
        task: Optional[str] = None,
        beams: Optional[int] = None,
        timestamps: Optional[bool] = None,
        fallback: Optional[bool] = None,
        progress: Progress = None,
    ) -> Heard:
        """Writes down what is said in a sound of any length.

        ``x`` is all that `Sound` takes, a `Sound`, or what transformers'
        processor made for this model: a dictionary with ``input_features``,
        (1, F, T) for Whisper and (1, T, F) for others, and if need be
        ``attention_mask`` (1, T), which says how many frames are sound.

        With ``text`` the result is what would have been heard if the model had
        written that, letter for letter.

        Raises InputError, DeviceError, MemoryError; Ctrl-C is KeyboardInterrupt.
        """
        sound = sound_for(self._native, x, sampling_rate)
        how = self._how(language, task, beams, timestamps, fallback)
        if text is not None:
            return Heard(self._native.given(sound._inner, text, how), sound)
        with self._telling(progress) as tell:
            return Heard(self._native.transcribe(sound._inner, how, tell), sound)

    def explain(
        self,
        x: Any,
        heard: Optional[Heard] = None,
        *,
        sampling_rate: Optional[int] = None,
        text: Optional[str] = None,
        methods: Names = ("attention", "gradient"),
        at: Names = ("input", "encoder"),
        tokens: Iterable[int] = (),
        masks: Optional[int] = None,
        reliability: Optional[float] = None,
        seed: int = 0,
        memory: int = 1024,
        steps: Optional[int] = None,
        samples: Optional[int] = None,
        noise: Optional[float] = None,
        baseline: Optional[str] = None,
        mask_probability: Optional[float] = None,
        segments: Optional[Sequence[int]] = None,
        sigma: Optional[float] = None,
        segment_ms: Optional[float] = None,
        language: Optional[str] = None,
        task: Optional[str] = None,
        beams: Optional[int] = None,
        progress: Progress = None,
    ) -> Maps:
        """Asks which sound each token came from.

        ``x`` is what `transcribe` takes, or the `Heard` that it gave. The text
        is that of ``heard`` or ``text``, or what the model hears in ``x``.

        ``methods`` are ``attention``, ``attention-norm``,
        ``attention-x-gradient``, ``gradient``, ``input-x-gradient``,
        ``integrated-gradients`` (``steps``, ``baseline``), ``smoothgrad``
        (``samples``, ``noise``) and ``spes`` (``masks`` or ``reliability``,
        ``mask_probability``, ``segments``, ``sigma``, ``baseline``; for models
        that hear the waveform ``segment_ms``, 10, instead of the two). ``at``
        says where: ``input``, ``encoder``, for ``spes`` also ``tokens``; the
        attention has a place of its own. ``baseline`` is ``zero``, ``mean`` or
        ``min``. ``tokens`` are some of them, counted from 0; all if there are
        none. ``memory`` in MiB is what a pass may take beside the weights.

        Ctrl-C (a notebook's stop) ends SPES' masks: the maps are of those that
        were scored, with a warning and ``maps.interrupted``. Elsewhere it is
        KeyboardInterrupt.

        Raises InputError, DeviceError, MemoryError.
        """
        if isinstance(x, Heard):
            if heard is not None:
                raise InputError("x was heard already; give no other heard")
            x, heard = x.sound, x
        if heard is not None and text is not None:
            raise InputError("heard and text both say what is explained; give one")
        sound = sound_for(self._native, x, sampling_rate)
        how = self._how(language, task, beams, None, None)
        explaining = {
            "methods": _names(methods, "methods"),
            "sites": _names(at, "at"),
            "tokens": _counts("tokens", tokens),
            "steps": _count("steps", steps),
            "samples": _count("samples", samples),
            "noise": _real("noise", noise),
            "baseline": baseline,
            "mask_probability": _real("mask_probability", mask_probability),
            "segments": None if segments is None else _counts("segments", segments),
            "sigma": _real("sigma", sigma),
            "segment_ms": _real("segment_ms", segment_ms),
        }
        masking = _masking(masks, reliability, seed, memory)
        _check_effect(explaining["methods"], {**explaining, **masking})
        self._check_pieces(explaining)
        own = None if heard is None else heard._native
        if text is not None:
            own = self._native.given(sound._inner, text, how)
        with self._telling(progress) as tell:
            native = self._native.explain(
                sound._inner, own, explaining, masking, how, tell
            )
        if native.interrupted:
            _warn(["stopped by Ctrl-C: maps by spes are of the masks till then"])
        return Maps(native)

    def _check_pieces(self, explaining: dict[str, Any]) -> None:
        """Refuses what is not of the model's features."""
        of_samples = self._native.hears_samples
        for name in ("segments", "sigma") if of_samples else ("segment_ms",):
            if explaining[name] is not None:
                hears = "the waveform" if of_samples else "mel bins"
                raise InputError(f"the model hears {hears}, to which {name} means nothing")

    def align(
        self,
        x: Any,
        sampling_rate: Optional[int] = None,
        *,
        text: Optional[str] = None,
        by: Optional[str] = None,
        at: str = "input",
        masks: Optional[int] = None,
        reliability: Optional[float] = None,
        seed: int = 0,
        memory: int = 1024,
        language: Optional[str] = None,
        task: Optional[str] = None,
        beams: Optional[int] = None,
        timestamps: Optional[bool] = None,
        fallback: Optional[bool] = None,
        progress: Progress = None,
    ) -> Alignment:
        """Finds when each word was said, in a sound of any length.

        ``x`` is what `transcribe` takes. The words are those of ``text``, or
        what the model hears. ``by`` is ``attention``, ``heads`` (Whisper's
        ``alignment_heads``), ``gradient`` or ``spes``, these two ``at`` the
        input or the encoder; without it, what is best for the model's family.

        Raises InputError, ModelError, DeviceError, MemoryError; Ctrl-C is
        KeyboardInterrupt.
        """
        sound = sound_for(self._native, x, sampling_rate)
        how = self._how(language, task, beams, timestamps, fallback)
        # Whoever says nothing of times is given them where the model knows them.
        said = None if how == self._transcribing and timestamps is None else how
        masking = _masking(masks, reliability, seed, memory)
        _check_effect([by or ""], {**dict.fromkeys(_TAKERS), **masking})
        with self._telling(progress) as tell:
            native = self._native.align(
                sound._inner, text, by, at, masking, said, tell
            )
        return Alignment(native, sound)

    def study(
        self,
        manifests: Union[Path_, Sequence[Path_]],
        out: Path_,
        *,
        methods: Optional[Names] = None,
        onsets: Union[Path_, Sequence[Path_]] = (),
        masks: Optional[int] = None,
        reliability: Optional[float] = None,
        faithfulness: bool = False,
        special: bool = False,
        checks: int = 0,
        beams: Optional[int] = None,
        limit: Optional[int] = None,
        shard: Optional[str] = None,
        seed: int = 0,
        memory: int = 1024,
        progress: Progress = None,
    ) -> Study:
        """Compares cross-attention with saliency over many utterances.

        ``manifests`` are fairseq's TSV or NeMo's JSON lines; ``out`` is a
        folder for the log, tables and a page. Options are those of the command
        ``sonograd study``, which goes on with the same folder, as this does
        with the command's. Ctrl-C ends it behind the last whole utterance, and
        the tables are of those that are done.

        Raises InputError, ModelError, DeviceError, MemoryError.
        """
        asked = {
            "manifests": _paths(manifests),
            "out": out,
            "methods": None if methods is None else _names(methods, "methods"),
            "onsets": _paths(onsets),
            "faithfulness": faithfulness,
            "special": special,
            "checks": _count("checks", checks),
            "beams": _count("beams", beams),
            "limit": _count("limit", limit),
            "shard": shard,
        }
        masking = _masking(masks, reliability, seed, memory)
        with self._telling(progress) as tell:
            tables, conclusion, finished, found = self._native.study(
                asked, masking, tell
            )
        _warn(found)
        if not finished:
            _warn(["stopped by Ctrl-C; the same call goes on"])
        return Study(Path(out), tables, conclusion, finished, found)

    def _telling(self, progress: Progress) -> Telling:
        return Telling(self._progress if progress is None else progress)

    def _how(
        self,
        language: Optional[str],
        task: Optional[str],
        beams: Optional[int],
        timestamps: Optional[bool],
        fallback: Optional[bool],
    ) -> dict[str, Any]:
        said = {
            "language": language,
            "task": task,
            "beams": _count("beams", beams),
            "timestamps": timestamps,
            "fallback": fallback,
        }
        said = {name: value for name, value in said.items() if value is not None}
        return {**self._transcribing, **said}


def _masking(
    masks: Optional[int], reliability: Optional[float], seed: int, memory: int
) -> dict[str, Any]:
    return {
        "masks": _count("masks", masks),
        "reliability": reliability,
        "seed": _count("seed", seed),
        "memory": _count("memory", memory),
    }


_TAKERS = {
    "masks": ["spes"],
    "reliability": ["spes"],
    "mask_probability": ["spes"],
    "segments": ["spes"],
    "sigma": ["spes"],
    "segment_ms": ["spes"],
    "steps": ["integrated-gradients"],
    "samples": ["smoothgrad"],
    "noise": ["smoothgrad"],
    "baseline": ["spes", "integrated-gradients"],
}
"""Options of explanations, and the methods that heed them."""


def _check_effect(methods: Sequence[str], options: dict[str, Any]) -> None:
    """Refuses an option that none of the methods heeds."""
    for name, takers in _TAKERS.items():
        if options[name] is not None and not set(takers) & set(methods):
            raise InputError(f"{name} is for the method {' or '.join(takers)} alone")


def _real(name: str, value: Any) -> Optional[float]:
    """A number, or nothing where nothing is said."""
    if value is None:
        return None
    try:
        return float(value)
    except (TypeError, ValueError):
        raise InputError(f"{name} is {value!r}, not a number") from None


def _count(name: str, value: Any) -> Any:
    """A whole number from 0, or nothing where nothing is said."""
    if value is None:
        return None
    try:
        count = operator.index(value)
    except TypeError:
        raise InputError(f"{name} is {value!r}, not a whole number") from None
    if isinstance(value, bool) or not 0 <= count < 1 << 63:
        raise InputError(f"{name} is {value!r}, not a number from 0")
    return count


def _counts(name: str, values: Iterable[Any]) -> list[int]:
    return [_count(f"one of {name}", value) for value in values]


def _names(names: Names, what: str) -> list[str]:
    several = [names] if isinstance(names, str) else list(names)
    for name in several:
        if not isinstance(name, str):
            raise InputError(f"{what} are names, not {name!r}")
    return several


def _paths(paths: Union[Path_, Sequence[Path_]]) -> list[Path_]:
    return [paths] if isinstance(paths, (str, os.PathLike)) else list(paths)


def _warn(texts: Iterable[str]) -> None:
    for text in texts:
        # At the line that called the listener.
        warnings.warn(text, SonogradWarning, stacklevel=3)
