"""Metadata: named values of a clip, from its path and its sidecars, of declared types.

A string has at most 1,000 characters. A number is a float. A time is ISO 8601 in UTC: 2026-11-03T10:15:00+00:00.
"""

import logging
import math
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from clipdex.config import MetadataType, Source
from clipdex.days import moment_of
from clipdex.sanitize import escape_line
from clipdex.storage.day_pattern import DayPattern

log = logging.getLogger(__name__)

Metadata = dict[str, str | float]

LONGEST = 1000
"""Characters of a string."""
NUMBER = re.compile(r"\s*[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?\s*", re.ASCII)
_MOST_WARNINGS = 100
_SURROGATES = re.compile("[\ud800-\udfff]")


class Warnings:
    """Log each warning once, and at most 100 of them."""

    def __init__(self) -> None:
        self._seen: set[str] = set()

    def add(self, message: str) -> None:
        if message in self._seen or len(self._seen) > _MOST_WARNINGS:
            return
        self._seen.add(message)
        end = " (further warnings about metadata are left out)" if len(self._seen) > _MOST_WARNINGS else ""
        log.warning("%s%s", escape_line(message), end)


def typed(
    values: Mapping[str, Any],
    types: Mapping[str, MetadataType],
    file: str,
    warnings: Warnings,
    timezone: str = "UTC",
) -> Metadata:
    """Return the declared ones of these values with their types. A value of another type is left out, with a warning.

    file: that has the values, or the path that they are from
    timezone: of a time that names none
    """
    kept: Metadata = {}
    for name, kind in types.items():
        value = values.get(name)
        if value is None or value == "":
            continue
        try:
            kept[name] = _READ[kind](value, timezone)
        except (TypeError, ValueError, OverflowError):
            shown = repr(value) if len(repr(value)) <= 60 else f"{repr(value)[:60]}…"
            warnings.add(f"{file}: {name} is {shown}: expected {_EXPECTED[kind]}; left out")
    return kept


def types_in_path(source: Source) -> dict[str, MetadataType]:
    """Return the type of each named field of the pattern. One that is not declared is a string."""
    fields = DayPattern(source.day_pattern).fields if source.day_pattern else ()
    return {name: source.metadata.get(name, MetadataType.STRING) for name in fields}


def stamp(when: datetime) -> str:
    """Return a moment as payloads and outcomes have it: ISO 8601 in UTC."""
    return when.astimezone(UTC).isoformat()


def as_string(text: str) -> str:
    """Return a string as it is kept: a lone surrogate, which cannot be encoded, becomes U+FFFD."""
    return _SURROGATES.sub("\ufffd", text)


def _string(value: Any, _: str) -> str:
    if not isinstance(value, str):
        raise TypeError
    if len(value) > LONGEST:
        raise ValueError
    return as_string(value)


def _number(value: Any, _: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise TypeError
    if isinstance(value, str) and not NUMBER.fullmatch(value):
        raise ValueError
    number = float(value)
    if not math.isfinite(number):
        raise ValueError
    return number


def _time(value: Any, timezone: str) -> str:
    if not isinstance(value, str) or len(value) > LONGEST:
        raise TypeError
    when = datetime.fromisoformat(value.strip())
    return stamp(when if when.tzinfo else moment_of(when, timezone))


_READ: dict[MetadataType, Callable[[Any, str], str | float]] = {
    MetadataType.STRING: _string,
    MetadataType.NUMBER: _number,
    MetadataType.TIME: _time,
}
_EXPECTED = {
    MetadataType.STRING: f"text of at most {LONGEST} characters",
    MetadataType.NUMBER: "a number",
    MetadataType.TIME: "a time such as 2026-11-03T10:15:00Z",
}
