"""Catalog: the summaries of all days, read with few requests, and made again where they are outdated.

Two listings show which days there are and which summaries are current (summary.py). The days of a month are then read
from one object, and those that changed since from an object each. refresh() writes both; a reader writes nothing.
"""

import json
import logging
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from typing import Any

from clipdex.index.points import in_batches
from clipdex.runs.summary import DaySummary, compute, ledger_names, parsed, read_summary, summarize, summary_path
from clipdex.storage.artifacts import Store

log = logging.getLogger(__name__)

_AT_ONCE = 16


@dataclass(frozen=True, slots=True)
class Catalog:
    """Hold the summaries by day, in order.

    outdated: days whose summary is missing, or older than their ledger; the latest first
    unread: of these, days whose summary was not read, because the time was up
    """

    days: dict[str, DaySummary] = field(default_factory=dict)
    outdated: tuple[str, ...] = ()
    unread: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Refreshed:
    """Count what refresh() wrote. days: summaries; months: objects of a month; left: days that were left out"""

    days: int
    months: int
    left: int

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def read_catalog(store: Store, known: Mapping[str, DaySummary] | None = None, seconds: float | None = None) -> Catalog:
    """Return the summaries of the store.

    known: summaries that were read or computed before, which are not read again while they are current
    seconds: the time after which no further object is read; None for no limit
    """
    until = None if seconds is None else time.monotonic() + seconds
    with ThreadPoolExecutor(_AT_ONCE) as readers:
        listing = readers.submit(store.list, "ledger")
        stored = set(readers.submit(store.list, "summaries").result())
        names = ledger_names(listing.result())
        days = {day: (known or {}).get(day) for day in names.keys() | set(_days(stored))}

        def missing() -> list[str]:
            return [day for day, one in days.items() if one is None or one.ledger != names.get(day, ())]

        months = sorted({month for day in missing() if (month := _month_path(day)) in stored}, reverse=True)
        for some in in_batches(months, _AT_ONCE):
            if _is_over(until):
                break
            for record in readers.map(lambda key: _read(store, key), some):
                for one in filter(None, map(parsed, record.get("days", ()))):
                    if one.day in days and (days[one.day] is None or one.ledger == names.get(one.day, ())):
                        days[one.day] = one
        left = sorted((day for day in missing() if summary_path(day) in stored), reverse=True)
        unread = set(left)
        for some in in_batches(left, 4 * _AT_ONCE):
            if _is_over(until):
                break
            for day, own in zip(some, readers.map(lambda day: read_summary(store, day), some), strict=True):
                days[day] = own or days[day]
            unread -= set(some)
    outdated = sorted(missing(), reverse=True)
    found = {day: one for day, one in sorted(days.items()) if one is not None}
    return Catalog(found, tuple(outdated), tuple(sorted(unread, reverse=True)))


def compute_outdated(store: Store, catalog: Catalog, seconds: float) -> Iterator[DaySummary]:
    """Yield summaries of outdated days, the latest first, until the time is up. Writes nothing."""
    until = time.monotonic() + seconds
    unread = set(catalog.unread)
    for day in catalog.outdated:
        if day in unread:
            continue
        if _is_over(until):
            return
        earlier = catalog.days.get(day)
        yield compute(store, day, earlier.discovered if earlier else None)


def refresh(store: Store, most: int | None = None, on_day: Callable[[str], None] = lambda day: None) -> Refreshed:
    """Write the summaries of outdated days, the latest first, and the objects of their months.

    most: days; the others are left to a later call. Safe to kill, to repeat and to run twice at once.
    """
    catalog = read_catalog(store)
    days = dict(catalog.days)
    for day in catalog.outdated[:most]:
        days[day] = summarize(store, day)
        on_day(day)
    by_month: dict[str, list[DaySummary]] = defaultdict(list)
    for day in sorted(days):
        by_month[_month_path(day)].append(days[day])
    months = 0
    for key, of_month in by_month.items():
        record = json.loads(
            json.dumps({"days": [one.to_json() for one in of_month]})
        )  # lists for tuples, as it is read
        if _read(store, key) != record:
            store.write_json(key, record)
            months += 1
    done = min(len(catalog.outdated), len(catalog.outdated[:most]))
    if done or months:
        log.info("wrote the summaries of %d days and %d months", done, months)
    return Refreshed(done, months, len(catalog.outdated) - done)


def _days(keys: Iterable[str]) -> Iterator[str]:
    """Yield the days that have a summary, also those without a ledger: a run found no clip."""
    for key in keys:
        name = key.rpartition("/")[2].removesuffix(".json")
        if key.count("/") == 2 and "+" not in name:
            yield name


def _month_path(day: str) -> str:
    return f"summaries/{day[:7]}.json"


def _read(store: Store, key: str) -> dict[str, Any]:
    try:
        record = store.read_json(key)
    except (FileNotFoundError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}


def _is_over(until: float | None) -> bool:
    return until is not None and time.monotonic() >= until
