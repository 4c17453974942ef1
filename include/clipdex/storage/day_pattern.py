"""DayPattern: the day, the time and named fields in the path of a clip.

    {year}/{month}/{day}                    2026/11/03/a.mp4
    */dt={year}-{month}-{day}               cam-1/dt=2026-11-03/a.mp4
    {camera}/{year}/{month}/{day}/{hour}    cam-1/2026/11/03/07/a.mp4
    **/*_{year}{month}{day}_{hour}{minute}{second}   DCIM/Camera/VID_20261103_101500.mp4

A pattern is a path below the root. * is any text in a name, ? one character, [12] one of the characters or the brackets
themselves, **/ any number of folders. The last name is that of a folder, or of a file without its extension. What
follows the date may be missing in a path.
"""

import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import date, datetime, time

from clipdex.config import RESERVED_FIELDS
from clipdex.days import moment_of
from clipdex.errors import ConfigurationError
from clipdex.storage.globs import name_expression

_DATE = {"year": r"\d{4}", "month": r"0[1-9]|1[0-2]", "day": r"0[1-9]|[12]\d|3[01]"}
_TIME = {"hour": r"\d{2}", "minute": r"\d{2}", "second": r"\d{2}"}  # an impossible time does not cost the day
_ONE_DIGIT = {"month": "[1-9]", "day": "[1-9]", "hour": r"\d", "minute": r"\d", "second": r"\d"}
_NEEDS = {"minute": "hour", "second": "minute"}
_TOKEN = re.compile(r"\{([^{}]*)\}")
_EXTENSION = r"(?:\.[^./]*)?"
_DEEP = "**"


@dataclass(frozen=True, slots=True)
class Reading:
    """What a path holds. day: YYYY-MM-DD; moment: with {hour}, else None; fields: the others, by name."""

    day: str
    moment: datetime | None = None
    fields: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Step:
    """One level of folders on the way to a day.

    names: the names it may have; () if it must be listed, then matches() selects the entries
    """

    names: tuple[str, ...]
    expression: re.Pattern[str]
    last: bool

    def matches(self, name: str, is_file: bool) -> bool:
        """Return whether a folder, or on the last level a file, may hold clips of the day."""
        if self.expression.fullmatch(name):
            return True
        stem, dot, _ = name.rpartition(".")
        return is_file and self.last and bool(dot) and self.expression.fullmatch(stem) is not None


class DayPattern:
    """Read paths, and find the folders of a day. Raises ConfigurationError for a pattern that cannot be read."""

    def __init__(self, pattern: str, timezone: str = "UTC") -> None:
        """timezone: IANA name, of the time in a path."""
        self._text, self._timezone = pattern, timezone
        self._names = pattern.strip("/").split("/")
        while self._names and self._names[-1] == _DEEP:
            self._names.pop()
        found = self._checked()
        self.fields = tuple(name for name in found if name not in {**_DATE, **_TIME})
        # The date is complete with this name; what follows it may be missing in a path.
        self._dated = max(n for n, name in enumerate(self._names) if any(f"{{{part}}}" in name for part in _DATE)) + 1
        self._expressions = [
            re.compile(self._expression(count), re.DOTALL) for count in range(len(self._names), self._dated - 1, -1)
        ]

    def read(self, path: str) -> Reading | None:
        """Return the day in a path below the root, with its time and fields; None if it has no day of the calendar."""
        for expression in self._expressions:
            if match := expression.match(path):
                return _reading(match.groupdict(), self._timezone)
        return None

    def steps(self, day: str) -> list[Step]:
        """Return the levels above the clips of a day. Everything below the last one must be listed.

        They end with the date, or before the first **/.
        """
        values = dict(zip(_DATE, day.split("-"), strict=True))
        names = self._names[: self._dated]
        if _DEEP in names:
            names = names[: names.index(_DEEP)]
        steps = []
        for number, name in enumerate(names, 1):
            known = {part: _alternatives(self._forms(name, part), value) for part, value in values.items()}
            expression = re.compile(self._name(name, known), re.DOTALL)
            last = number == self._dated
            # The last name may be a file's; its folder is listed, so that what lies beside it is seen.
            spelled = () if last and "." in name else tuple(self._spelled(name, known))
            steps.append(Step(spelled, expression, last))
        return steps

    def _checked(self) -> list[str]:
        """Return the names of all fields. Raises ConfigurationError."""
        found = _TOKEN.findall(self._text)
        if stray := re.search(r"[{}]", _TOKEN.sub("", self._text)):
            raise self._malformed(f"has a {stray[0]} without its other brace; a field is {{camera}}")
        for name in found:
            if not name.isidentifier():
                raise self._malformed(f"has the field {{{name}}}: expected a name such as {{camera}}")
            if found.count(name) > 1:
                raise self._malformed(f"has the field {{{name}}} {found.count(name)} times: expected once")
            if name in RESERVED_FIELDS and name not in {**_DATE, **_TIME}:
                raise self._malformed(f"has the field {{{name}}}, a name that clipdex uses itself: choose another")
            if _NEEDS.get(name, name) not in found:
                raise self._malformed(f"has the field {{{name}}} without {{{_NEEDS[name]}}}")
        missing = [name for name in _DATE if name not in found]
        if missing:
            raise self._malformed(f'lacks {", ".join(missing)}; "" uses the file\'s time')
        return found

    def _malformed(self, why: str) -> ConfigurationError:
        return ConfigurationError(f"source.day_pattern {self._text!r} {why} (CLIPDEX_SOURCE__DAY_PATTERN)")

    def _expression(self, count: int) -> str:
        """Return the expression of a path that begins with the first names of the pattern."""
        *folders, last = self._names[:count]
        above = "".join("(?:.*/)?" if name == _DEEP else f"{self._name(name)}/" for name in folders)
        if last == _DEEP:
            return above
        return f"{above}{self._name(last)}{_end(last)}"

    def _name(self, name: str, known: dict[str, tuple[str, ...]] | None = None) -> str:
        """Return the expression of one name. known: values of date fields, instead of any."""
        if name in ("*", _DEEP):
            return "[^/]+"
        parts = []
        for literal, one in _tokens(name):
            parts.append(name_expression(literal))
            if one is None:
                continue
            values = (known or {}).get(one)
            if values:
                parts.append(_spellings(values))
            elif one in _DATE or one in _TIME:
                parts.append(f"(?P<{one}>{'|'.join(self._forms(name, one))})")
            else:
                parts.append(f"(?P<{one}>[^/]+?)")
        return "".join(parts)

    def _forms(self, name: str, part: str) -> tuple[str, ...]:
        """Return the ways to write a number in a name: one digit, too, where no other number touches it."""
        two = {**_DATE, **_TIME}[part]
        if part == "year" or _touches(name, part):
            return (two,)
        return two, rf"(?<!\d){_ONE_DIGIT[part]}(?!\d)"

    def _spelled(self, name: str, known: dict[str, tuple[str, ...]]) -> Iterator[str]:
        """Yield the names that a level may have, where it has only text and the date."""
        tokens = list(_tokens(name))
        if any(one not in (None, *_DATE) for _, one in tokens) or any(re.search(r"[*?\[]", text) for text, _ in tokens):
            return
        spelled = [""]
        for text, one in tokens:
            spelled = [f"{begun}{text}{value}" for begun in spelled for value in (known[one] if one else ("",))]
        yield from spelled


def _reading(found: dict[str, str | None], timezone: str) -> Reading | None:
    numbers = {name: int(found.pop(name) or 0) for name in [*_DATE, *_TIME] if name in found}
    try:
        day = date(*(numbers[name] for name in _DATE))
    except ValueError:
        return None
    when = None
    if "hour" in numbers:
        with suppress(ValueError):
            clock = time(numbers["hour"], numbers.get("minute", 0), numbers.get("second", 0))
            when = moment_of(datetime.combine(day, clock), timezone)
    return Reading(day.isoformat(), when, {name: text for name, text in found.items() if text is not None})


def _tokens(name: str) -> Iterator[tuple[str, str | None]]:
    """Yield the parts of a name: text, and the field that follows it."""
    position = 0
    for match in _TOKEN.finditer(name):
        yield name[position : match.start()], match[1]
        position = match.end()
    yield name[position:], None


def _touches(name: str, part: str) -> bool:
    """Return whether another number follows or precedes a field directly."""
    number = "|".join([*_DATE, *_TIME])
    return bool(re.search(rf"\{{(?:{number})\}}\{{{part}\}}|\{{{part}\}}\{{(?:{number})\}}", name))


def _alternatives(forms: tuple[str, ...], value: str) -> tuple[str, ...]:
    short = value.lstrip("0")
    return (value, short) if len(forms) > 1 and short != value else (value,)


def _spellings(values: tuple[str, ...]) -> str:
    forms = (value if len(value) > 1 else rf"(?<!\d){value}(?!\d)" for value in values)
    return f"(?:{'|'.join(forms)})"


def _end(last: str) -> str:
    """Return what may follow the last name of a pattern: a file's extension, unless only a folder is meant."""
    if re.fullmatch(r"\{\w+\}", last) and last[1:-1] not in (*_DATE, *_TIME):
        return "(?=/)"
    others = [one for _, one in _tokens(last) if one is not None and one not in _DATE]
    if others or re.search(r"[*?\[]", _TOKEN.sub("", last)):
        return rf"(?:/|{_EXTENSION}$)"
    return "(?:/|$)"
