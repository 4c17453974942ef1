"""Filters as a user writes them: where={"camera": "cam-7", "duration": "..30"}, or camera=cam-7 on a command line.

A value is exact; a list accepts several; LOW..HIGH is a range of days, numbers, times or times of day, and either end
may be left out. A range includes both ends; LOW..<HIGH leaves out the upper one. docs/search.md lists the fields.
"""

import difflib
import logging
import math
import posixpath
import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from clipdex.config import MetadataType, Settings
from clipdex.days import moment_of, parse_day, start_of
from clipdex.errors import InvalidFilter
from clipdex.index.derived import DEEPEST, FOLDERS, LOCAL_MINUTE
from clipdex.index.points import Filters, Missing, Moments, Range, Scalar, Wanted
from clipdex.sanitize import percent_encode
from clipdex.storage.metadata import LONGEST, NUMBER, as_string, stamp, types_in_path

if TYPE_CHECKING:
    from clipdex.index import Index

Value = Scalar | date | Range
Where = Mapping[str, Value | Iterable[Value]]
"""By field: a value, or several of which one must match. All fields must match."""

log = logging.getLogger(__name__)

_MOST_VALUES = 1000
_MOST_DAYS = 100_000
_RANGE = re.compile(r"(.*?)\.\.(<?)(.*)", re.DOTALL)
_CLOCK = re.compile(r"(\d{1,2}):(\d{2})", re.ASCII)
_LAST_MINUTE = 24 * 60 - 1
_VALUE = re.compile(r'\s*"((?:[^"]|"")*)"\s*(?=,|\Z)|([^,]*)')
_PLAIN = re.compile(r'(?!["\s])[^,]*(?<!\s)')


class Kind(StrEnum):
    """Name how the values of a field are written."""

    TEXT = "text"
    NUMBER = "number"
    TIME = "time"
    DAY = "day"
    TIME_OF_DAY = "time of day"
    FOLDER = "folder"


@dataclass(frozen=True, slots=True)
class Field:
    """Name a field of a filter, and the field of a payload that it reads."""

    payload: str
    kind: Kind


@dataclass(frozen=True, slots=True)
class Days:
    """Filter days between first and last, inclusive. None means no bound. in_index() replaces it by days."""

    first: str | None = None
    last: str | None = None


_OWN = {
    "day": Field("day", Kind.DAY),
    "source": Field(FOLDERS, Kind.FOLDER),
    "engine": Field("engine", Kind.TEXT),
    "model": Field("model", Kind.TEXT),
    "duration": Field("duration_s", Kind.NUMBER),
    "time": Field(LOCAL_MINUTE, Kind.TIME_OF_DAY),
    "recorded_at": Field("recorded_at", Kind.TIME),
    "width": Field("width", Kind.NUMBER),  # and height: without a payload index, nobody searches by them often
    "height": Field("height", Kind.NUMBER),
    "clip_id": Field("clip_id", Kind.TEXT),
    "part_of": Field("part_of", Kind.TEXT),
}
# For archives that declare metadata under a name above.
_OTHER_NAMES = {"source_folder": "source", "duration_s": "duration", "time_of_day": "time"}
_DECLARED = {MetadataType.STRING: Kind.TEXT, MetadataType.NUMBER: Kind.NUMBER, MetadataType.TIME: Kind.TIME}


def fields_of(settings: Settings) -> dict[str, Field]:
    """Return the fields of filters by name: clipdex's own, then the metadata of the archive, which goes first."""
    source = settings.source
    declared = {**types_in_path(source), **source.metadata}
    return {**_OWN, **{name: Field(name, _DECLARED[kind]) for name, kind in declared.items()}}


def parse(where: Where | None, settings: Settings) -> Filters:
    """Return the conditions on the payloads. Raises InvalidFilter."""
    known, filters = fields_of(settings), dict[str, Any]()
    for name, given in (where or {}).items():
        field = known.get(name) or _OWN.get(_OTHER_NAMES.get(name, ""))
        if field is None:
            raise _unknown(name, known)
        values = _several(name, given)
        read = _READ[field.kind]
        found = [one for value in values for one in read(_Reading(name, value, settings))]
        former = filters.get(field.payload)
        if former is not None and former != found:
            raise InvalidFilter(f"{_shown(name)}: given twice, under two names; give one of them")
        filters[field.payload] = found
    return filters


def in_index(index: "Index", filters: Filters | None) -> Filters:
    """Return these conditions with ranges of days replaced by the days that the index has.

    Log a warning if points that an earlier release wrote lack what a condition reads.
    """
    if not filters:
        return {}
    if any(field in filters for field in (FOLDERS, LOCAL_MINUTE)) and (older := index.count({FOLDERS: Missing()})):
        log.warning(
            "%d chunks of an earlier release cannot be filtered by source or time of day, and are left out; run "
            "clipdex reindex once", older,
        )  # fmt: skip
    ranges = _listed(filters.get("day"))
    if not any(isinstance(one, Days) for one in ranges):
        return filters
    ranges = [one if isinstance(one, Days) else Days(one, one) for one in ranges]
    if all(one.first and one.first == one.last for one in ranges):
        return {**filters, "day": [str(one.first) for one in ranges]}
    days = sorted(index.facet("day", limit=_MOST_DAYS, exact=False))
    kept = [day for day in days if any((one.first or day) <= day <= (one.last or day) for one in ranges)]
    return {**filters, "day": kept}


def from_words(words: Iterable[str]) -> dict[str, list[str]]:
    """Return the filters of FIELD=VALUE,VALUE texts; a field may come again. Raises InvalidFilter.

    A value that has a comma is written in double quotes, as in CSV: place="Berlin, Mitte".
    """
    where: dict[str, list[str]] = {}
    for word in words:
        name, equals, text = word.partition("=")
        name = name.strip()
        if not equals or not name:
            raise InvalidFilter(f"{_shown(word)} is not FIELD=VALUE, such as camera=cam-7 or duration=..30")
        where.setdefault(name, []).extend(_split(name, text))
    return where


def to_word(name: str, *values: str) -> str:
    """Return the FIELD=VALUE,VALUE text that from_words() reads as these values."""
    return f"{name}=" + ",".join(value if _PLAIN.fullmatch(value) else _quoted(value) for value in values)


def _quoted(value: str) -> str:
    doubled = value.replace('"', '""')
    return f'"{doubled}"'


def _split(name: str, text: str) -> list[str]:
    values, start = [], 0
    while start <= len(text):
        found = _VALUE.match(text, start)
        assert found is not None  # the second alternative matches anything
        quoted, plain = found[1], (found[2] or "").strip()
        if quoted is None and plain.startswith('"'):
            raise InvalidFilter(
                f"{_shown(name)}: the quotes of {_shown(plain)} do not match; write a value with a comma as "
                '"Berlin, Mitte", and a quote in it twice'
            )
        values.append(plain if quoted is None else quoted.replace('""', '"'))
        start = found.end() + 1
    return values


def with_days(where: Where | None, day: str | None = None, first: str | None = None, last: str | None = None) -> Where:
    """Return where with a day, or a range of days, added. Raises InvalidFilter if it has days already."""
    if not (day or first or last):
        return where or {}
    if (where and "day" in where) or (day and (first or last)):
        raise InvalidFilter("day: given twice; give one day, a range of days (from, to), or day in where")
    return {**(where or {}), "day": day or f"{first or ''}..{last or ''}"}


def _unknown(name: object, known: Mapping[str, Field]) -> InvalidFilter:
    near = difflib.get_close_matches(str(name)[:64], known, 1)
    meant = f"did you mean {near[0]}? T" if near else "t"
    return InvalidFilter(
        f"there is no field {_shown(name)}; {meant}he fields are {', '.join(known)}; declare others in "
        "CLIPDEX_SOURCE__METADATA"
    )


def _shown(value: object) -> str:
    try:
        shown = value if isinstance(value, str) and value.isidentifier() else repr(value)
    except ValueError:  # an integer of more digits than Python prints
        shown = f"a very long {type(value).__name__}"
    return shown if len(shown) <= 60 else f"{shown[:60]}…"


def _listed(given: Any) -> list[Any]:
    return list(given) if isinstance(given, Sequence) and not isinstance(given, str) else [given]


def _several(name: str, given: Any) -> list[Any]:
    values = list(given) if isinstance(given, Iterable) and not isinstance(given, str | Mapping | bytes) else [given]
    if not values:
        raise InvalidFilter(f"{_shown(name)}: an empty list; give a value, or leave the filter out")
    if any(isinstance(value, str) and not value for value in values):
        raise InvalidFilter(f"{_shown(name)}: a value is empty; give one, or leave the filter out")
    if len(values) > _MOST_VALUES:
        raise InvalidFilter(f"{_shown(name)}: {len(values)} values; give at most {_MOST_VALUES:,}, or a range")
    return values


@dataclass(frozen=True, slots=True)
class _Reading:
    """Read one value of a field."""

    name: str
    value: Any
    settings: Settings

    @property
    def timezone(self) -> str:
        return self.settings.source.timezone

    def wrong(self, expected: str) -> InvalidFilter:
        return InvalidFilter(f"{_shown(self.name)}: {_shown(self.value)} is not {expected}")

    def bounds(self, expected: str) -> tuple[str, str, bool] | None:
        """Return the ends of a range as they are written, and whether the upper one is left out; None for a value."""
        if not isinstance(self.value, str):
            raise self.wrong(expected)
        found = _RANGE.fullmatch(self.value)
        if found is None:
            return None
        low, exclusive, high = found[1].strip(), bool(found[2]), found[3].strip()
        if not (low or high) or (exclusive and not high):
            raise self.wrong(expected)
        return low, high, exclusive

    def reversed(self, low: str, high: str) -> InvalidFilter:
        return InvalidFilter(f"{_shown(self.name)}: {_shown(low)} is after {_shown(high)}; give the lower end first")


def _text(given: _Reading) -> list[Wanted]:
    if not isinstance(given.value, str):
        raise given.wrong("text, such as 'cam-7'")
    if len(given.value) > LONGEST:
        raise InvalidFilter(f"{_shown(given.name)}: {len(given.value)} characters; a value has at most {LONGEST:,}")
    return list(_spellings(as_string(given.value)))


def _spellings(text: str) -> dict[str, None]:
    """Return the text and its other Unicode forms: file names of macOS are decomposed, what a user types is not."""
    return dict.fromkeys([text, *(unicodedata.normalize(form, text) for form in ("NFC", "NFD"))])


def _number(given: _Reading) -> list[Wanted]:
    if isinstance(given.value, Range):
        return [_range(given, given.value.low, given.value.high, given.value.below)]
    bounds = given.bounds(_A_NUMBER) if isinstance(given.value, str) else None
    if bounds is None:
        return [_range(given, given.value, given.value, None)]
    low, high, exclusive = bounds
    return [_range(given, low or None, None if exclusive else high or None, high if exclusive else None)]


_A_NUMBER = "a number or a range, such as 30, 10..20 or ..30"


def _range(given: _Reading, low: object, high: object, below: object) -> Range:
    """Return a range of these ends, numbers or texts. Raises InvalidFilter."""
    found = Range(*(None if one is None else _finite(given, one) for one in (low, high, below)))
    if found == Range():
        raise given.wrong(_A_NUMBER)
    if found.low is not None and (
        (found.high is not None and found.low > found.high) or (found.below is not None and found.low >= found.below)
    ):
        raise given.reversed(str(low), str(high if below is None else below))
    return found


def _finite(given: _Reading, value: object) -> float:
    number = math.inf
    if isinstance(value, str) and NUMBER.fullmatch(value):
        number = float(value)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        with suppress(OverflowError):
            number = float(value)
    if not math.isfinite(number):
        raise given.wrong(_A_NUMBER)
    return number


def _day(given: _Reading) -> list[Any]:
    expected = "a day or a range of days, such as 2026-11-03, yesterday or 2026-11-01..2026-11-03"
    if isinstance(given.value, date) and not isinstance(given.value, datetime):
        return [Days(given.value.isoformat(), given.value.isoformat())]
    bounds = given.bounds(expected)
    low, high, exclusive = bounds if bounds is not None else (given.value, given.value, False)
    try:
        first, last = (parse_day(one, given.timezone) if one else None for one in (low, high))
        if exclusive and last is not None:
            last -= timedelta(days=1)
    except (ValueError, OverflowError):
        raise given.wrong(expected) from None
    if first is not None and last is not None and first > last:
        raise given.reversed(low, high)
    return [Days(*(None if one is None else one.isoformat() for one in (first, last)))]


def _time(given: _Reading) -> list[Wanted]:
    expected = "a day, a time or a range, such as 2026-11-03, 2026-11-03T10:15 or 2026-11-03T10:15..2026-11-03T11:00"
    value = given.value.isoformat() if isinstance(given.value, date) else given.value
    bounds = _Reading(given.name, value, given.settings).bounds(expected)
    low, high, exclusive = bounds if bounds is not None else (value, value, False)
    try:
        first = _moment_at(low, given.timezone) if low else None
        last = _moment_at(high, given.timezone) if high else None
        below = last if exclusive else _end_of(high, given.timezone) if high else None
    except (ValueError, OverflowError):
        raise given.wrong(expected) from None
    end = below or last
    if first is not None and end is not None and (first > end or (first == below)):
        raise given.reversed(low, high)
    return [Moments(first, below=below) if below else Moments(first, last)]


def _moment(when: datetime, timezone: str) -> str:
    return stamp(when if when.tzinfo else moment_of(when, timezone))


def _moment_at(text: str, timezone: str) -> str:
    day = _as_day(text)
    if day is not None and (start := start_of(day, timezone)) is not None:
        return stamp(start)
    return _moment(datetime.fromisoformat(text), timezone)


def _end_of(text: str, timezone: str) -> str | None:
    """Return the first moment after a day; None if the text is a time, which is its own end."""
    day = _as_day(text)
    return None if day is None else _moment_at((day + timedelta(days=1)).isoformat(), timezone)


def _as_day(text: str) -> date | None:
    try:
        return date.fromisoformat(text)
    except ValueError:
        return None


def _time_of_day(given: _Reading) -> list[Wanted]:
    expected = "a range of the day, such as 08:00..17:30 or, over midnight, 22:00..04:00"
    bounds = given.bounds(expected)
    if bounds is None:
        return [Range(*2 * [float(_minute(given, given.value, expected))])]
    first = _minute(given, bounds[0], expected) if bounds[0] else 0
    last = min(_minute(given, bounds[1], expected, 24) - bounds[2], _LAST_MINUTE) if bounds[1] else _LAST_MINUTE
    if first <= last:
        return [Range(first, last)]
    return [Range(first, _LAST_MINUTE), *([Range(0, last)] if last >= 0 else [])]


def _minute(given: _Reading, text: str, expected: str, last_hour: int = 23) -> int:
    found = _CLOCK.fullmatch(text.strip())
    hours, minutes = (int(found[1]), int(found[2])) if found else (99, 99)
    if hours > last_hour or minutes > 59 or (hours == 24 and minutes):
        raise given.wrong(expected)
    return 60 * hours + minutes


def _folder(given: _Reading) -> list[Wanted]:
    expected = "a folder, such as s3://bucket/clips, /mnt/clips or, below the archive, 2026/11"
    if not isinstance(given.value, str) or "\0" in given.value:
        raise given.wrong(expected)
    if not (text := given.value.strip()):
        raise given.wrong(expected)
    if "://" not in text and not text.startswith("/"):
        text = f"{given.settings.source_url.rstrip('/')}/{text}"
    if "://" not in text:
        text = f"file://{posixpath.abspath(text)}"
    scheme, _, path = text.rpartition("://")
    names = [name for name in path.split("/") if name]
    if not names:
        raise given.wrong(expected)
    if len(names) > DEEPEST:
        raise InvalidFilter(f"{_shown(given.name)}: more than {DEEPEST} folders deep; give one further up")
    root = "/" if path.startswith("/") else ""
    try:
        folder = percent_encode(f"{_SCHEMES.get(scheme, scheme)}://{root}{'/'.join(names)}")
    except UnicodeEncodeError:
        raise given.wrong(expected) from None
    return list(_spellings(folder))


_SCHEMES = {"s3a": "s3", "gcs": "gs", "az": "abfs", "abfss": "abfs", "local": "file"}
"""Names of one file system in URLs, and the one that a clip's URI has."""

_READ: dict[Kind, Callable[[_Reading], list[Any]]] = {
    Kind.TEXT: _text,
    Kind.NUMBER: _number,
    Kind.TIME: _time,
    Kind.DAY: _day,
    Kind.TIME_OF_DAY: _time_of_day,
    Kind.FOLDER: _folder,
}
