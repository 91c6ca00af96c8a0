"""Who is told of long work."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import Any, Callable, Optional, Type, Union

from ._errors import MissingPackageError

Tell = Callable[[str, float, float], object]
"""Is told of the stage, and how much of at most how much of it is done.

Stages are ``downloading`` (bytes), ``transcribing`` (tokens), ``listening`` and
``aligning`` (seconds of a long sound), ``gradients``, ``masks``, ``utterances``.
"""

Progress = Union[None, bool, Tell]
"""``None`` shows a bar where somebody looks at one and tqdm is installed;
``True`` and ``False`` always and never; a callable is told instead."""

_SECONDS_BEFORE_A_BAR = 1.0
_UNITS = {
    "downloading": "B",
    "listening": "s",
    "aligning": "s",
    "transcribing": "token",
    "masks": "mask",
    "gradients": "gradient",
    "utterances": "utterance",
}


class Telling:
    """What is told of one piece of work, for as long as it lasts."""

    def __init__(self, progress: Progress) -> None:
        self.tell: Optional[Tell] = None
        self._bars: Optional[_Bars] = None
        if callable(progress):
            self.tell = progress
        elif progress or (progress is None and _is_looked_at()):
            bar = _tqdm()
            if bar is not None:
                self._bars = _Bars(bar)
                self.tell = self._bars
            elif progress:
                raise MissingPackageError("progress=True needs tqdm: pip install tqdm")

    def __enter__(self) -> Optional[Tell]:
        return self.tell

    def __exit__(
        self,
        kind: Optional[Type[BaseException]],
        raised: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        if self._bars is not None:
            self._bars.close()


class _Bars:
    """One bar at a time, for the stage at work."""

    def __init__(self, bar: Any) -> None:
        self._new = bar
        self._bar: Any = None
        self._stage = ""

    def __call__(self, stage: str, done: float, most: float) -> None:
        if stage != self._stage or self._bar is None or done < self._bar.n:
            self.close()
            unit = _UNITS.get(stage, "it")
            scaled = stage == "downloading"
            self._bar = self._new(
                desc=stage,
                total=most,
                unit=unit,
                unit_scale=scaled,
                delay=_SECONDS_BEFORE_A_BAR,
                leave=False,
            )
            self._stage = stage
        self._bar.total = most
        self._bar.update(done - self._bar.n)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None


def _tqdm() -> Any:
    try:
        from tqdm.auto import tqdm
    except ImportError:
        return None
    return tqdm


def _is_looked_at() -> bool:
    """A terminal, or a notebook."""
    notebook = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    if type(notebook).__name__ == "ZMQInteractiveShell":
        return True
    stderr = sys.stderr
    return stderr is not None and stderr.isatty()
