"""Days: the calendar day of a moment in a time zone.

A day begins at local midnight and has 24 hours; 23 or 25, or half an hour more or less, where the clocks change.
Moments are kept in UTC everywhere in clipdex; a day is always a day of the source's time zone.
"""

import difflib
from datetime import UTC, date, datetime, timedelta
from functools import cache
from importlib.resources import files
from zoneinfo import ZoneInfo

_AN_INSTANT = timedelta(microseconds=1)
_FURTHEST = 2
"""Days by which another time zone moves a moment at most: UTC-12 and UTC+14 are 26 hours apart."""


def checked_timezone(name: str) -> str:
    """Return an IANA name such as Europe/Berlin as it is. Raises ValueError for any other name."""
    if name == "UTC" or name in _names():  # the default needs no list
        return name
    folded = {known.casefold(): known for known in _names()}
    near = difflib.get_close_matches(name.casefold(), folded, 1)
    meant = f"; did you mean {folded[near[0]]}?" if near else ""
    raise ValueError(f"{name!r} is not a time zone: expected an IANA name such as Europe/Berlin{meant}")


def day_of(moment: datetime, timezone: str) -> str:
    """Return the day of a moment, YYYY-MM-DD. moment: with a time zone of its own."""
    return moment.astimezone(ZoneInfo(timezone)).date().isoformat()


def moment_of(local: datetime, timezone: str) -> datetime:
    """Return the moment of a local time. local: without a zone; of a time that comes twice, the first one counts."""
    return local.replace(tzinfo=ZoneInfo(timezone))


def start_of(day: date, timezone: str) -> datetime | None:
    """Return the moment (UTC) from which on it is this day or a later one; None for a day that the zone skipped.

    Where the clocks skip midnight, the day begins at its first moment. Where midnight comes twice, it begins at the
    first one, or at the second if the day before continues between them.
    """
    first, second = (
        datetime(day.year, day.month, day.day, tzinfo=ZoneInfo(timezone), fold=fold).astimezone(UTC) for fold in (0, 1)
    )
    start = second if first < second and day_of(second - _AN_INSTANT, timezone) < day.isoformat() else first
    return start if day_of(start, timezone) == day.isoformat() else None


def start_after(moment: datetime, timezone: str) -> datetime:
    """Return the first moment (UTC) after this one at which a day begins."""
    day = moment.astimezone(ZoneInfo(timezone)).date()
    while (start := start_of(day, timezone)) is None or start <= moment:
        day += timedelta(days=1)
    return start


def start_before(moment: datetime, timezone: str) -> datetime:
    """Return the last moment (UTC) before this one at which a day began."""
    day = moment.astimezone(ZoneInfo(timezone)).date() + timedelta(days=1)
    while (start := start_of(day, timezone)) is None or start >= moment:
        day -= timedelta(days=1)
    return start


def parse_day(text: str, timezone: str) -> date:
    """Return the day that YYYY-MM-DD, "today" or "yesterday" names. Raises ValueError."""
    if text not in ("today", "yesterday"):
        return date.fromisoformat(text)
    today = datetime.now(ZoneInfo(timezone)).date()
    return today if text == "today" else today - timedelta(days=1)


def days_nearby(day: str) -> list[str]:
    """Return the other days that a moment of this day may have in other time zones, the nearest first."""
    near = sorted(range(-_FURTHEST, _FURTHEST + 1), key=abs)[1:]
    return [(date.fromisoformat(day) + timedelta(days=n)).isoformat() for n in near]


@cache
def _names() -> frozenset[str]:
    """Return the names of the package tzdata, the same on every machine. It excludes the machine's own "localtime"."""
    return frozenset((files("tzdata") / "zones").read_text().split())
