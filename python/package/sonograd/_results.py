"""What a listener gives."""

from __future__ import annotations

import html
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Optional, Union

import numpy as np

from . import _native
from ._errors import InputError, MissingMapError, MissingPackageError
from ._heatmap import picture
from ._sound import Floats, Sound

if TYPE_CHECKING:
    import pandas
    import xarray

_PAGE_HEIGHT = 900


class HeardToken(NamedTuple):
    """A token as it was heard."""

    id: int
    text: str


class HeardWord(NamedTuple):
    """A word and its tokens, as a range of `Heard.tokens`."""

    text: str
    tokens: range


class Segment(NamedTuple):
    """A part of a recording; times are in seconds."""

    text: str
    start: float
    end: float


class Token(NamedTuple):
    """A token that was explained.

    ``row`` is its row in the maps, ``position`` its place in the text,
    ``log_probability`` a natural logarithm, ``special`` whether it is no text,
    ``peak_seconds`` where the averaged cross-attention peaks.
    """

    row: int
    position: int
    id: int
    text: str
    log_probability: float
    special: bool
    peak_seconds: float


class Word(NamedTuple):
    """A word with its times in seconds.

    ``confidence`` is from 0 to 1; ``reliable`` says whether the times are to be
    trusted; ``tokens`` is the range of its tokens.
    """

    text: str
    start: float
    end: float
    confidence: float
    reliable: bool
    tokens: range


class Axis(NamedTuple):
    """One axis of a map.

    ``unit`` is ``s`` for time and ``None`` for what is counted; ``step`` is the
    distance from one element to the next, in that unit.
    """

    name: str
    unit: Optional[str]
    length: int
    step: float


class Heard:
    """A text with its tokens and words, as one model wrote it or would write it."""

    def __init__(self, native: _native.Heard, sound: Sound) -> None:
        self._native = native
        self._sound = sound

    @property
    def sound(self) -> Sound:
        """What was heard."""
        return self._sound

    @property
    def text(self) -> str:
        """The text, without special tokens."""
        return self._native.text

    @property
    def tokens(self) -> tuple[HeardToken, ...]:
        """The tokens that count, in order, without the end of sentence."""
        return tuple(HeardToken(*token) for token in self._native.tokens)

    @property
    def words(self) -> tuple[HeardWord, ...]:
        """The tokens grouped into words; when they were said `align` tells."""
        words = self._native.words
        return tuple(HeardWord(text, range(first, end)) for text, first, end in words)

    @property
    def segments(self) -> tuple[Segment, ...]:
        """Parts with times, where the model was asked for them."""
        return tuple(Segment(*segment) for segment in self._native.segments)

    @property
    def score(self) -> Optional[float]:
        """Mean log-probability by length; ``None`` for a text that was given."""
        return self._native.score

    @property
    def warnings(self) -> list[str]:
        """What is not as it should be."""
        return self._native.warnings

    def to_pandas(self) -> pandas.DataFrame:
        """The tokens as rows of a DataFrame: ``id``, ``text``."""
        return _pandas().DataFrame(self.tokens, columns=HeardToken._fields)

    def __repr__(self) -> str:
        return f"<sonograd.Heard {self.text!r}>"


class Alignment:
    """When the words of a sound were said."""

    def __init__(self, native: _native.Alignment, sound: Sound) -> None:
        self._native = native
        self._sound = sound

    @property
    def sound(self) -> Sound:
        """What was heard."""
        return self._sound

    @property
    def text(self) -> str:
        """The text, without special tokens."""
        return self._native.text

    @property
    def words(self) -> tuple[Word, ...]:
        """The words in order; none overlaps another. Times are in seconds."""
        return tuple(
            Word(text, start, end, confidence, reliable, range(first, behind))
            for text, start, end, confidence, reliable, first, behind in self._native.words
        )

    @property
    def warnings(self) -> list[str]:
        """What is not as it should be."""
        return self._native.warnings

    def to_string(self, format: str = "json") -> str:
        """The words as a file has them: ``json``, ``ctm``, ``srt``, ``vtt``,
        ``vtt-lines`` (without times of words) or ``textgrid``."""
        return self._native.written(format)

    def to_pandas(self) -> pandas.DataFrame:
        """The words as rows of a DataFrame; times in seconds."""
        rows = [word[:-1] for word in self.words]
        return _pandas().DataFrame(rows, columns=Word._fields[:-1])

    def __repr__(self) -> str:
        return f"<sonograd.Alignment {self.text!r}>"

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><td>{word.start:.2f}</td><td>{word.end:.2f}</td>"
            f"<td>{html.escape(word.text)}</td><td>{'' if word.reliable else '?'}</td></tr>"
            for word in self.words
        )
        head = "<tr><th>start (s)</th><th>end (s)</th><th>word</th><th></th></tr>"
        return f"<table>{head}{rows}</table>"


class Map:
    """One map: what each token owes to each part of the sound.

    The shape is (L, H, K, T') at the decoder, (K, T, F) at the input, (K, T')
    at the encoder's output, (K, I) at the tokens: layers, heads, tokens, frames
    of the input (T) or the encoder (T'), mel bins, the decoder's inputs.
    """

    def __init__(self, maps: Maps, place: int) -> None:
        self._maps = maps
        self._place = place
        self._info: dict[str, Any] = maps.explanation["maps"][place]
        self._data = maps._native.data(place)

    @property
    def name(self) -> str:
        """As in ``maps.safetensors``: ``spes.input``, ``attention``."""
        return str(self._info["name"])

    @property
    def method(self) -> str:
        """The method that made it."""
        return str(self._info["method"])

    @property
    def site(self) -> str:
        """``input``, ``encoder``, ``tokens`` or ``decoder``."""
        return str(self._info["site"])

    @property
    def options(self) -> dict[str, Any]:
        """How it was made: masks, reliability, steps, gaps."""
        return dict(self._info["options"])

    @property
    def data(self) -> Floats:
        """The values; read-only, not copied. They live as long as this array."""
        return self._data

    @property
    def shape(self) -> tuple[int, ...]:
        """Of `data`."""
        return self.data.shape

    @property
    def axes(self) -> tuple[Axis, ...]:
        """Name, unit, length and step of each axis."""
        return tuple(Axis(*axis) for axis in self._maps._native.axes(self._place))

    @property
    def tokens(self) -> tuple[Token, ...]:
        """The tokens that its rows belong to."""
        return self._maps.tokens

    def row(self, token: int) -> Floats:
        """What one token has: (T, F), (T',) or (I,); (L, H, T') at the decoder."""
        count = len(self.tokens)
        if not -count <= token < count:
            raise InputError(f"there is no token {token}: the {count} tokens count from 0")
        return self.data[..., token, :] if self.site == "decoder" else self.data[token]

    def heatmap(self, token: int = 0) -> Heatmap:
        """One token's row as a picture that a notebook shows."""
        return Heatmap(self, token)

    def to_xarray(self) -> xarray.DataArray:
        """A DataArray with time in seconds and tokens by their texts."""
        dims = [axis.name.replace(" ", "_") for axis in self.axes]
        coords: dict[str, Any] = {}
        for dim, axis in zip(dims, self.axes):
            if axis.unit is not None:
                coords[dim] = (dim, np.arange(axis.length) * axis.step, {"units": axis.unit})
        if "token" in dims:
            coords["token_text"] = ("token", [token.text for token in self.tokens])
        attrs = {"method": self.method, "site": self.site}
        array: xarray.DataArray = _xarray().DataArray(
            self.data, coords=coords, dims=dims, name=self.name, attrs=attrs
        )
        return array

    def to_pandas(self) -> pandas.DataFrame:
        """A row for each value: an index level for each axis, one column.

        Times are in seconds; all else is counted from 0.
        """
        pandas = _pandas()
        levels = [np.arange(axis.length) * axis.step for axis in self.axes]
        levels = [
            level if axis.unit else level.astype(int)
            for level, axis in zip(levels, self.axes)
        ]
        names = [axis.name for axis in self.axes]
        index = pandas.MultiIndex.from_product(levels, names=names)
        return pandas.DataFrame({self.name: self.data.reshape(-1)}, index=index)

    def __array__(self, dtype: Any = None, copy: Optional[bool] = None) -> Any:
        values = self.data if dtype is None else self.data.astype(dtype, copy=False)
        return values.copy() if copy else values

    def __repr__(self) -> str:
        axes = " x ".join(f"{axis.length} {axis.name}" for axis in self.axes)
        return f"<sonograd.Map {self.name}: {axes}>"

    def _repr_html_(self) -> str:
        return f"<div>{html.escape(repr(self))}</div>{self.heatmap()._repr_html_()}"


class Heatmap:
    """One token's row of a map as a picture that a notebook shows."""

    def __init__(self, map: Map, token: int) -> None:
        self.map = map
        self.values: Floats = map.row(token)
        """As `Map.row` gives it."""
        self.token = map.tokens[token]

    def __repr__(self) -> str:
        return f"<sonograd.Heatmap of {self.map.name}, token {self.token.text!r}>"

    def _repr_html_(self) -> str:
        axes = self.map.axes
        # Everything but time and its bins, one above the other.
        if self.map.site == "input":
            across, up, values = axes[1], axes[2].name, self.values
        else:
            across = axes[-1]
            up = "layers and heads" if self.map.site == "decoder" else "one row"
            values = self.values.reshape(-1, across.length).T
        unit = f" ({across.length * across.step:.2f} {across.unit})" if across.unit else ""
        title = f"{self.map.name}, token {self.token.row}: {self.token.text!r}"
        return picture(values, title, across.name + unit, up)


_Key = Union[str, "tuple[str, str]"]


class Maps(Mapping[str, Map]):
    """An explanation: maps by method and site, and the features that they speak of.

    ``maps["spes", "input"]`` and ``maps["spes.input"]`` are one map; those of
    the attention have the method's name alone, ``maps["attention"]``.
    """

    def __init__(self, native: _native.Maps) -> None:
        self._native = native
        self._explanation: dict[str, Any] = json.loads(native.explanation())
        self._names = native.names

    def __getitem__(self, key: _Key) -> Map:
        name = key
        if isinstance(key, tuple):
            name = key[0] if key[1:] == ("decoder",) else ".".join(map(str, key))
        if name not in self._names:
            known = ", ".join(self._names)
            raise MissingMapError(f"there is no map {name}; there is {known}")
        return Map(self, self._names.index(str(name)))

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Maps) and self._native.is_equal(other._native)

    __hash__ = None  # type: ignore[assignment]

    @property
    def explanation(self) -> dict[str, Any]:
        """``explanation.json``: the text, its tokens and words, how maps were made."""
        return self._explanation

    @property
    def text(self) -> str:
        """The text that was explained."""
        return str(self._explanation["text"])

    @property
    def tokens(self) -> tuple[Token, ...]:
        """The explained tokens, in order: the rows of the maps."""
        return tuple(
            Token(token["index"], *(token[field] for field in Token._fields[1:]))
            for token in self._explanation["tokens"]
        )

    @property
    def words(self) -> tuple[Word, ...]:
        """The words with their times in seconds, and ranges of `tokens`."""
        return tuple(
            Word(
                word["text"],
                word["start_seconds"],
                word["end_seconds"],
                word["confidence"],
                word["reliable"],
                range(word["tokens"][0], word["tokens"][-1] + 1),
            )
            for word in self._explanation["words"]
        )

    @property
    def features(self) -> Floats:
        """(T, F): what the model heard; read-only, not copied."""
        return self._native.features

    @property
    def samples(self) -> Optional[Floats]:
        """(S,) at 16 kHz, read-only, not copied; ``None`` if they do not go along."""
        return self._native.samples

    @property
    def interrupted(self) -> bool:
        """Whether Ctrl-C ended the masks: maps by SPES are of those till then."""
        return self._native.interrupted

    def save(self, folder: Union[str, os.PathLike[str]], *, sound: bool = True) -> None:
        """Writes the folder that the program writes, page included.

        It appears whole or not at all; only a folder that sonograd wrote is
        replaced. ``sound=False`` keeps the recording out of it. Raises
        InputError.
        """
        native = self._native if sound else self._native.without_sound()
        native.save(folder)

    def page(self) -> str:
        """``report.html``: one page that loads nothing, of at most 6 MB."""
        return self._native.page()

    def to_xarray(self) -> xarray.Dataset:
        """A Dataset with all maps and the features.

        Time is in seconds: ``time`` of the features, ``encoder_time`` of the
        encoder's output and the attention.
        """
        model = self._explanation["model"]
        time = np.arange(model["frames"]) * model["frame_seconds"]
        features = _xarray().DataArray(
            self.features,
            coords={"time": ("time", time, {"units": "s"})},
            dims=["time", "channel" if model["mel_bins"] == 1 else "mel_bin"],
        )
        arrays = {"features": features}
        for name in self:
            own = self[name]
            array = own.to_xarray()
            if own.site in ("decoder", "encoder"):
                array = array.rename(time="encoder_time")
            arrays[name] = array
        attrs = {"text": self.text, "model": model["name"]}
        data: xarray.Dataset = _xarray().Dataset(arrays, attrs=attrs)
        return data

    def to_pandas(self) -> pandas.DataFrame:
        """The tokens as rows of a DataFrame; times in seconds."""
        return _pandas().DataFrame(self.tokens, columns=Token._fields)

    def __repr__(self) -> str:
        return f"<sonograd.Maps of {self.text!r}: {', '.join(self._names)}>"

    def _repr_html_(self) -> str:
        return _framed(self.page(), f"Explanation of {self.text}")


class Study:
    """What came of a study: tables over the logs of its folder."""

    def __init__(
        self, folder: Path, tables: str, conclusion: str, finished: bool, warnings: list[str]
    ) -> None:
        self.folder = folder
        self.conclusion = conclusion
        """At most ten lines."""
        self.finished = finished
        """False if Ctrl-C ended it: the same call goes on."""
        self.warnings = warnings
        """What was left out, and why utterances failed."""
        self.tables: dict[str, Any] = json.loads(tables)
        """``tables.json``."""

    def to_pandas(self) -> pandas.DataFrame:
        """All rows as a DataFrame: means over utterances, with intervals."""
        return _pandas().DataFrame(self.tables["rows"])

    def __repr__(self) -> str:
        return f"<sonograd.Study in {str(self.folder)!r}>\n{self.conclusion}"

    def _repr_html_(self) -> str:
        page = (self.folder / "report.html").read_text(encoding="utf-8")
        return _framed(page, "Study")


def _framed(page: str, title: str) -> str:
    """A page that stands by itself, in a frame that can do nothing outside."""
    return (
        f"<iframe title=\"{html.escape(title)}\" sandbox=\"allow-scripts\" width=\"100%\" "
        f"height=\"{_PAGE_HEIGHT}\" style=\"border:1px solid #999\" "
        f"srcdoc=\"{html.escape(page)}\"></iframe>"
    )


def _pandas() -> Any:
    try:
        import pandas
    except ImportError as problem:
        raise MissingPackageError("to_pandas needs pandas: pip install pandas") from problem
    return pandas


def _xarray() -> Any:
    try:
        import xarray
    except ImportError as problem:
        raise MissingPackageError("to_xarray needs xarray: pip install xarray") from problem
    return xarray
