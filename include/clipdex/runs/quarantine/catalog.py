"""Catalog: the clips of all days in quarantine, under filters, with counts.

A Catalog reads an object per day (by_day.py) and keeps what it read, so that a page reads a day again only if its
object has changed.
"""

import re
import threading
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from clipdex.runs.outcomes import ledger, ledger_path
from clipdex.runs.quarantine import by_day
from clipdex.runs.quarantine.by_day import QuarantinedClip
from clipdex.runs.quarantine.marks import Mark, is_never, marks
from clipdex.storage.artifacts import Store
from clipdex.storage.filesystem import UNKNOWN

_MOST_KEPT = 200_000  # clips in the memory of a server
_MOST_LEDGERS = 31  # days of an earlier release that one call reads from their ledgers
_MOST_VALUES, _MOST_FIELDS = 40, 6
_SETTLED = timedelta(seconds=3)  # modification times of object storage are in seconds
_DAY = re.compile(r"day=([0-9]{4}-[0-9]{2}-[0-9]{2})")


@dataclass(frozen=True, slots=True)
class QuarantineFilter:
    """Hold filters. first, last: days, inclusive, "" for no bound; folder: URI of a folder, or of one above it

    reasons: any of these, none for all; where: value by field of the metadata; words: in path or detail; clips: by
    clip_id, none for all; never: only clips that are never tried again, or only others; None for both
    """

    reasons: tuple[str, ...] = ()
    first: str = ""
    last: str = ""
    where: tuple[tuple[str, str], ...] = ()
    folder: str = ""
    words: str = ""
    never: bool | None = None
    clips: frozenset[str] = frozenset()

    def includes(self, day: str) -> bool:
        return (not self.first or day >= self.first) and (not self.last or day <= self.last)

    def matches(self, one: QuarantinedClip) -> bool:
        """Return whether a clip has what is wanted, but for day, reason and mark."""
        if self.clips and one.clip_id not in self.clips:
            return False
        if self.folder and not f"{one.folder}/".startswith(f"{self.folder.rstrip('/')}/"):
            return False
        if any(_text(one.metadata.get(name)) != value for name, value in self.where):
            return False
        return not self.words or self.words.lower() in f"{one.uri}\n{one.detail}".lower()


@dataclass(frozen=True, slots=True)
class Quarantine:
    """Hold the clips that a filter leaves, the latest day first.

    reasons: number of clips by reason, as if the filter had none; fields: by field of the metadata, number of clips by
    value; folders: the same by folder; days: number of clips by day
    marks: of the clips that are never tried again, by clip_id
    unread: number of days, written by an earlier release, that this call left out
    """

    clips: tuple[QuarantinedClip, ...]
    reasons: dict[str, int]
    fields: dict[str, dict[str, int]]
    folders: dict[str, int]
    days: dict[str, int]
    marks: dict[str, Mark]
    unread: int = 0

    def mark_of(self, one: QuarantinedClip) -> Mark | None:
        return self.marks[one.clip_id] if is_never(self.marks, one.clip_id, one.version) else None


class Catalog:
    """Read the quarantine of a store. Thread-safe; keeps what it read between calls, up to 200,000 clips."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._kept: dict[str, tuple[datetime, tuple[QuarantinedClip, ...]]] = {}
        self._ledgers: dict[str, tuple[QuarantinedClip, ...]] = {}

    def find(self, wanted: QuarantineFilter) -> Quarantine:
        """Return the clips that a filter leaves."""
        of_days, unread = self._days(wanted)
        marked = marks(self._store)
        reasons: Counter[str] = Counter()
        found: list[QuarantinedClip] = []
        for day in sorted(of_days, reverse=True):
            for one in of_days[day]:
                if not wanted.matches(one):
                    continue
                if wanted.never is not None and is_never(marked, one.clip_id, one.version) != wanted.never:
                    continue
                reasons[one.reason] += 1
                if not wanted.reasons or one.reason in wanted.reasons:
                    found.append(one)
        return Quarantine(
            tuple(found), dict(reasons.most_common()), _fields(found), _counts(one.folder for one in found),
            dict(Counter(one.day for one in found)), marked, unread,
        )  # fmt: skip

    def _days(self, wanted: QuarantineFilter) -> tuple[Mapping[str, Sequence[QuarantinedClip]], int]:
        """Return the clips by day, and the number of days left out."""
        written = self._store.written(by_day.FOLDER)
        found: dict[str, Sequence[QuarantinedClip]] = {}
        stale = []
        with self._lock:
            known = dict(self._kept)
        for key, moment in written.items():
            day = by_day.day_of(key)
            if not wanted.includes(day):
                continue
            if day in known and known[day][0] == moment:
                found[day] = known[day][1]
            else:
                stale.append(day)
        read = self._read(stale)
        found.update(read)
        self._keep({day: (written[by_day.key_of(day)], clips) for day, clips in read.items()})
        older = [
            day
            for day in days_without_index(self._store, {by_day.day_of(key) for key in written})
            if wanted.includes(day)
        ]
        missing = [day for day in reversed(older) if day not in self._ledgers]
        for day in missing[:_MOST_LEDGERS]:
            self._ledgers[day] = by_day.of_ledger(ledger(self._store, day))
        found.update({day: self._ledgers[day] for day in older if day in self._ledgers})
        return found, len(missing[_MOST_LEDGERS:])

    def _read(self, days: Sequence[str]) -> dict[str, tuple[QuarantinedClip, ...]]:
        """Return the clips of days, read concurrently."""
        found: dict[str, list[QuarantinedClip]] = {day: [] for day in days}
        keys = [by_day.key_of(day) for day in days]
        with suppress(FileNotFoundError):  # deleted meanwhile: such a day is read next time
            for key, record in self._store.read_lines_of(keys):
                found[by_day.day_of(key)].append(QuarantinedClip(**record))
        return {day: tuple(clips) for day, clips in found.items()}

    def _keep(self, read: Mapping[str, tuple[datetime, tuple[QuarantinedClip, ...]]]) -> None:
        """Keep what was read, unless it may still change within the resolution of its modification time."""
        before = datetime.now(UTC) - _SETTLED
        with self._lock:
            self._kept |= {day: one for day, one in read.items() if UNKNOWN < one[0] < before}
            total = sum(len(clips) for _, clips in self._kept.values())
            for day in sorted(self._kept):
                if total <= _MOST_KEPT:
                    return
                total -= len(self._kept.pop(day)[1])


def days_without_index(store: Store, indexed: Iterable[str] | None = None) -> list[str]:
    """Return the days whose ledger was written by an earlier release, in order. indexed: days to leave out, if known"""
    if indexed is None:
        indexed = map(by_day.day_of, store.list(by_day.FOLDER))
    root = ledger_path("").partition("/")[0]
    days = {found[1] for path in store.folders(root) if (found := _DAY.fullmatch(path.rpartition("/")[2]))}
    return sorted(days - set(indexed))


def write_missing(store: Store) -> int:
    """Write the index of the days that have none; return their number."""
    days = days_without_index(store)
    for day in days:
        by_day.write(store, day, ledger(store, day))
    return len(days)


def _fields(clips: Sequence[QuarantinedClip]) -> dict[str, dict[str, int]]:
    """Return the values of the metadata by field, of fields with few values."""
    values: dict[str, Counter[str]] = {}
    for one in clips:
        for name, value in one.metadata.items():
            values.setdefault(name, Counter())[_text(value)] += 1
    few = {name: dict(sorted(counts.items())) for name, counts in values.items() if len(counts) <= _MOST_VALUES}
    return dict(sorted(few.items())[:_MOST_FIELDS])


def _counts(values: Iterable[str]) -> dict[str, int]:
    return dict(sorted(Counter(values).most_common(_MOST_VALUES)))


def _text(value: str | float | None) -> str:
    return "" if value is None else value if isinstance(value, str) else f"{value:g}"
