"""Facets: the values of a field with the number of clips that have each, under filters.

A clip is counted once, by its first chunk: all chunks of a clip have the same values.
"""

import logging
import math
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from clipdex.config import Settings
from clipdex.errors import ConfigurationError, InvalidFilter
from clipdex.index import Index, open_index
from clipdex.index.points import Filters, Missing, Range
from clipdex.index.where import Field, Kind, Where, fields_of, in_index, parse

log = logging.getLogger(__name__)

_MOST, _SPARE = 100_000, 100
_FIRST_CHUNK: Filters = {"chunk_no": Range(0, 0)}
_SECONDS = (0.0, 5.0, 10.0, 15.0, 20.0, 30.0, 60.0, 120.0, 600.0)
_PARTS = 8
_HIDDEN = ("clip_id", "part_of")
"""Fields that are counted if they are named, but not by default: nearly each clip has its own value."""
_NOT_COUNTED = ("width", "height")


@dataclass(frozen=True, slots=True)
class FacetValue:
    """Hold a value, as a filter accepts it, and the number of clips that have it."""

    value: str
    clips: int


@dataclass(frozen=True, slots=True)
class Facet:
    """Hold the values of a field: the most frequent first, days the last first, ranges and folders in their order.

    clips: that match the filters; without: of these, those that have no value
    more: whether there are further values
    """

    field: str
    values: tuple[FacetValue, ...]
    clips: int
    without: int
    more: bool


def default_fields(settings: Settings) -> list[str]:
    """Return the fields to count if none is named: all but times, and those of little use."""
    return [name for name in _countable(fields_of(settings)) if name not in _HIDDEN]


def facets(
    index: Index, settings: Settings, fields: Sequence[str] = (), where: Where | None = None, limit: int = 10
) -> list[Facet]:
    """Return the values of each field. fields: empty for the default ones. Raises InvalidFilter, IndexUnavailable."""
    return _facets(index, settings, fields, _filters(settings, fields, where), limit)


def facets_once(
    settings: Settings, fields: Sequence[str] = (), where: Where | None = None, limit: int = 10
) -> list[Facet]:
    """Open the index and count the values of each field. Raises NothingIndexed if the alias is unset."""
    filters = _filters(settings, fields, where)
    with open_index(settings) as index:
        return _facets(index, settings, fields, filters, limit)


def _filters(settings: Settings, fields: Sequence[str], where: Where | None) -> Filters:
    """Return the filters. Raises InvalidFilter, also if a field cannot be counted."""
    known = fields_of(settings)
    for name in fields:
        if name not in (countable := _countable(known)):
            what = "only for filters" if name in known else "not a field"
            raise InvalidFilter(f"{name[:64]!r} is {what}; values are counted of {', '.join(countable)}")
    return parse(where, settings)


def _facets(index: Index, settings: Settings, fields: Sequence[str], filters: Filters, limit: int) -> list[Facet]:
    known = fields_of(settings)
    kept = {**in_index(index, filters), **_FIRST_CHUNK}
    clips = index.count(kept)
    if fields:
        return [_facet(index, name, known[name], kept, clips, limit) for name in fields]
    found = []
    for name in default_fields(settings):
        try:
            found.append(_facet(index, name, known[name], kept, clips, limit))
        except ConfigurationError as error:  # declared after the last ingestion, which created the indexes
            log.warning("%s", error)
    return found


def _countable(known: Mapping[str, Field]) -> list[str]:
    return [name for name, field in known.items() if field.kind is not Kind.TIME and name not in _NOT_COUNTED]


def _facet(index: Index, name: str, field: Field, kept: Filters, clips: int, limit: int) -> Facet:
    if not clips:
        return Facet(name, (), 0, 0, False)
    without = index.count({**kept, field.payload: Missing()}) if field.payload not in kept else 0
    counted, more = _COUNT[field.kind](index, field, kept, limit, clips - without)
    return Facet(name, tuple(FacetValue(value, count) for value, count in counted if count), clips, without, more)


Counted = tuple[list[tuple[str, int]], bool]
"""Values with their counts, and whether there are more."""

# In each function below, clips is the number of clips that match the filters and have a value.


def _values(index: Index, field: Field, kept: Filters, limit: int, clips: int) -> Counted:
    found = index.facet(field.payload, kept, limit=max(2 * limit, _SPARE) + 1)
    ordered = sorted(_merged(found).items(), key=lambda one: (-one[1], one[0]))
    return ordered[:limit], len(ordered) > limit


def _merged(found: Mapping[str, int]) -> dict[str, int]:
    """Return the counts with the Unicode forms of one text under the most frequent of them, as filters match all."""
    forms: dict[str, list[str]] = {}
    for value in sorted(found, key=lambda one: (-found[one], one)):
        forms.setdefault(unicodedata.normalize("NFC", value), []).append(value)
    return {values[0]: sum(found[value] for value in values) for values in forms.values()}


def _days(index: Index, field: Field, kept: Filters, limit: int, clips: int) -> Counted:
    """Count the clips of the last days."""
    found = sorted(index.facet(field.payload, kept, limit=_MOST).items(), reverse=True)
    return found[:limit], len(found) > limit


def _folders(index: Index, field: Field, kept: Filters, limit: int, clips: int) -> Counted:
    """Count the outermost folders that not all clips share, or else the innermost folder."""
    found = _merged(index.facet(field.payload, kept, limit=_MOST))
    partial = {folder: count for folder, count in found.items() if count < clips}
    if found and not partial:
        innermost = max(found, key=len)
        return [(innermost, found[innermost])], len(found) == _MOST
    names = {unicodedata.normalize("NFC", folder) for folder in partial}
    outermost = {
        folder: count
        for folder, count in partial.items()
        if unicodedata.normalize("NFC", folder.rpartition("/")[0]) not in names
    }
    ordered = sorted(outermost.items())
    return ordered[:limit], len(ordered) > limit or len(found) == _MOST


def _ranges(index: Index, field: Field, kept: Filters, limit: int, clips: int) -> Counted:
    """Count the numbers in ranges that share no value. limit: not used, because there are few."""
    ends = index.extremes(field.payload, kept)
    if ends is None:
        return [], False
    if ends[0] == ends[1] and field.payload != "duration_s":
        return [(_digits(ends[0]), clips)], False
    bounds = [*_SECONDS, math.inf] if field.payload == "duration_s" else _bounds(*ends)
    parts = [Range(low, below=high) for low, high in pairwise(bounds) if high > ends[0] and low <= ends[1]]
    return [(_written(part), _count_within(index, field, kept, part)) for part in parts], False


def _bounds(low: float, high: float) -> list[float]:
    """Return some round numbers from below low to beyond high, with one more at each end in case of rounding."""
    width = (high - low) / _PARTS
    if not math.isfinite(width) or width <= _PARTS * math.ulp(max(abs(low), abs(high))):
        return [low, math.inf]
    exponent = math.floor(math.log10(width))
    unit = 10.0**exponent
    step = next(unit * factor for factor in (1, 2, 5, 10, 20) if unit * factor >= width)
    return [round(step * n, max(0, -exponent)) for n in range(math.floor(low / step) - 1, math.floor(high / step) + 3)]


def _written(part: Range) -> str:
    assert part.low is not None and part.below is not None  # of _ranges()
    return f"{_digits(part.low)}.." + ("" if part.below == math.inf else f"<{_digits(part.below)}")


def _digits(number: float) -> str:
    return repr(float(number)).removesuffix(".0")


def _hours(index: Index, field: Field, kept: Filters, limit: int, clips: int) -> Counted:
    """Count the clips of each hour of the day. limit: not used, because there are 24."""
    hours = [
        (f"{hour:02d}:00..{hour:02d}:59", _count_within(index, field, kept, Range(60 * hour, 60 * hour + 59)))
        for hour in range(24)
    ]
    return hours, False


def _count_within(index: Index, field: Field, kept: Filters, part: Range) -> int:
    """Count the clips in a range, and in one of the ranges of a filter of the same field."""
    former = kept.get(field.payload)
    both = [part] if former is None else [_overlap(part, one) for one in former if isinstance(one, Range)]  # type: ignore[union-attr]  # parse() gives lists
    return index.count({**kept, field.payload: [one for one in both if one is not None]})


def _overlap(first: Range, second: Range) -> Range | None:
    def highest(*bounds: float | None) -> float | None:
        return max((one for one in bounds if one is not None), default=None)

    def lowest(*bounds: float | None) -> float | None:
        return min((one for one in bounds if one is not None), default=None)

    return Range(highest(first.low, second.low), lowest(first.high, second.high), lowest(first.below, second.below))


_COUNT: Mapping[Kind, Callable[[Index, Field, Filters, int, int], Counted]] = {
    Kind.TEXT: _values,
    Kind.DAY: _days,
    Kind.FOLDER: _folders,
    Kind.NUMBER: _ranges,
    Kind.TIME_OF_DAY: _hours,
}
