"""Progress: the runs that work now, how many of their clips are done, and when they will be through.

The plan of a run names its clips, its lease shows that it works, and its outcomes how far it is. Parts of outcomes
never change, so a part is read once per process.
"""

import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from clipdex.index.points import in_batches
from clipdex.runs.leases import Holder, current_holder
from clipdex.runs.outcomes import ALL, ClipOutcome, Outcome, outcomes_path
from clipdex.runs.planning import Plan, load_plan
from clipdex.storage.artifacts import Store
from clipdex.storage.filesystem import UNKNOWN

_AT_ONCE = 16
_RECENT_S = 600.0  # whose pace the estimate follows
_FRESH = timedelta(days=2)  # of a lease; a run that works renews its own every few minutes
_MOST_DAYS = 200


@dataclass(frozen=True, slots=True)
class Running:
    """Hold a run that works, or waits for a slot, now.

    days: that it works on; planned: files in its batches; settled: of these, captioned or refused
    indexed: of these, done; quarantined: of these
    clips_per_s: captioned or refused in the last ten minutes of its work [1/s]; None before the first one
    left_s: estimate of the time until all are captioned [s]; None if unknown
    alive: whether its lease is current: if not, its tasks wait for a slot, or were killed
    began, last: time of its first and its latest outcome, "" for none
    partial: whether there are outcomes that were not read, because the time was up
    """

    run: str
    days: tuple[str, ...]
    planned: int
    settled: int
    indexed: int
    quarantined: int
    clips_per_s: float | None
    left_s: float | None
    alive: bool
    began: str = ""
    last: str = ""
    partial: bool = False

    @property
    def backlog(self) -> int:
        return max(0, self.planned - self.settled)


@dataclass(slots=True)
class Seen:
    """Keep what was read: the plan of a run, its parts, and the latest outcome of each file, with its time."""

    plan: Plan
    parts: set[str] = field(default_factory=set)
    outcomes: dict[str, ClipOutcome] = field(default_factory=dict)
    settled_at: dict[str, str] = field(default_factory=dict)


class ProgressReader:
    """Read the progress of runs again and again. Use it from one thread at a time."""

    def __init__(self) -> None:
        self._seen: dict[str, Seen] = {}

    def read(self, store: Store, seconds: float, now: datetime | None = None) -> list[Running]:
        """Return the runs that hold a lease, the busiest first. seconds: after which no further part is read"""
        now, until = now or datetime.now(UTC), time.monotonic() + seconds
        with ThreadPoolExecutor(_AT_ONCE) as readers:
            days = _leased(store, now)
            holders = dict(zip(days, readers.map(lambda day: _holder(store, day), days), strict=True))
            by_run: dict[str, list[str]] = {}
            for day, holder in holders.items():
                if holder is not None:
                    by_run.setdefault(holder.owner, []).append(day)
            self._seen = {run: seen for run, seen in self._seen.items() if run in by_run}
            found = []
            for run, held in by_run.items():
                seen = self._seen.get(run) or _planned(store, run)
                if seen is None:  # discovery lists the days, or it is a rebuild of the index
                    found.append(Running(run, tuple(held), 0, 0, 0, 0, None, None, _alive(holders, held)))
                    continue
                self._seen[run] = seen
                partial = _read_parts(store, run, held, seen, readers, until)
                found.append(_running(run, held, seen, _alive(holders, held), partial))
        return sorted(found, key=lambda one: (-one.backlog, one.run))


def _leased(store: Store, now: datetime) -> list[str]:
    """Return the days whose lease was written lately, the latest first."""
    written: dict[str, datetime] = {}
    for key, moment in store.written("leases").items():
        day = key.split("/")[1].removeprefix("day=")
        written[day] = max(written.get(day, UNKNOWN), moment)
    recent = [day for day, moment in written.items() if moment == UNKNOWN or moment > now - _FRESH]
    return sorted(recent, reverse=True)[:_MOST_DAYS]


def _holder(store: Store, day: str) -> Holder | None:
    holder = current_holder(store, day)
    if holder is None or holder.released:
        return None
    return holder if holder.left_s > 0 or holder.job else None


def _alive(holders: dict[str, Holder | None], held: Iterable[str]) -> bool:
    return any(holder is not None and holder.left_s > 0 for holder in map(holders.get, held))


def _planned(store: Store, run: str) -> Seen | None:
    try:
        return Seen(load_plan(store, run))
    except FileNotFoundError:
        return None


def _read_parts(
    store: Store, run: str, days: Iterable[str], seen: Seen, readers: ThreadPoolExecutor, until: float
) -> bool:
    """Read the parts that are new. Return whether some are left."""
    for day in days:
        keys = [key for key in store.list(outcomes_path(day, run)) if key not in seen.parts]
        keys.sort(key=lambda key: (key.endswith(f"/{ALL}"), key))
        for some in in_batches(keys, 4 * _AT_ONCE):
            if time.monotonic() >= until:
                return True
            for key, outcomes in zip(some, readers.map(lambda key: _part(store, key), some), strict=True):
                if not key.endswith(f"/{ALL}"):  # which is replaced by each try of the report
                    seen.parts.add(key)
                for one in outcomes:
                    _note(seen, one)
    return False


def _part(store: Store, key: str) -> list[ClipOutcome]:
    try:
        return [ClipOutcome.from_json(record) for record in store.read_lines(key)]
    except FileNotFoundError:  # compacted since it was listed
        return []


def _note(seen: Seen, one: ClipOutcome) -> None:
    known = seen.outcomes.get(one.clip_id)
    if one.part_of or (known is not None and known.at > one.at):
        return
    seen.outcomes[one.clip_id] = one
    if one.outcome is not Outcome.FAILED:
        seen.settled_at.setdefault(one.clip_id, one.at)


def _running(run: str, days: list[str], seen: Seen, alive: bool, partial: bool) -> Running:
    outcomes = seen.outcomes.values()
    settled = [one for one in outcomes if one.outcome is not Outcome.FAILED]
    planned = sum(batch.clips for batch in seen.plan.batches if batch.day in days)
    rate = _rate(sorted(seen.settled_at.values()))
    left = max(0, planned - len(settled))
    return Running(
        run=run,
        days=tuple(sorted(days)),
        planned=planned,
        settled=len(settled),
        indexed=sum(one.outcome is Outcome.INDEXED for one in settled),
        quarantined=sum(one.outcome is Outcome.QUARANTINED for one in settled),
        clips_per_s=rate,
        left_s=round(left / rate, 1) if rate else (0.0 if planned and not left else None),
        alive=alive,
        began=min((one.at for one in outcomes), default=""),
        last=max((one.at for one in outcomes), default=""),
        partial=partial,
    )


def _rate(stamps: list[str]) -> float | None:
    """Return the clips per second over the last ten minutes of work; None for fewer than two moments."""
    moments = [datetime.fromisoformat(stamp).timestamp() for stamp in stamps if stamp]
    recent = [moment for moment in moments if moment >= moments[-1] - _RECENT_S]
    if len(recent) < 2 or recent[-1] <= recent[0]:
        return None
    return round((len(recent) - 1) / (recent[-1] - recent[0]), 4)
