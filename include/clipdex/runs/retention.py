"""Retention: what runs leave behind goes when it is old enough; what was paid for stays.

A run goes as a whole, once nothing of it was written for so many days: its plan, manifests, outcomes and report. What
it said last of each clip is carried into the day's ledger before, also for a run that never came to its report. Leases
that nobody renewed for so long go, too, and after a day what writers that were killed left half-written. Captions,
posters, the ledger and what an index is rebuilt from stay.
"""

import logging
import re
from collections.abc import Collection, Iterable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from clipdex.errors import LeaseHeld
from clipdex.runs import leases
from clipdex.runs.outcomes import ALL, compact, outcomes_path
from clipdex.storage.artifacts import Store
from clipdex.storage.filesystem import UNKNOWN

log = logging.getLogger(__name__)

OWNER = "prune_clips"
"""Who holds a day while its outcomes are carried into its ledger."""

_LEASE_S = 900.0
_WRITING = timedelta(days=1)
"""No write takes so long: what is still half-written then, nobody writes."""

_KINDS = ("runs", "manifests", "outcomes", "reports")
_RUN = re.compile(r"^(?:runs|reports)/(?P<alone>[^/]+)\.json$|/run=(?P<folder>[^/]+)/")
_FOLDER = re.compile(r"^.*/run=[^/]+(?=/)")
_DAY = re.compile(r"/day=([^/]+)/")


@dataclass(frozen=True, slots=True)
class Pruned:
    """What went. half_written: files of writers that were killed. busy: days that somebody works on; what is old of
    them goes the next time."""

    runs: int
    objects: int
    leases: int
    half_written: int
    busy: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def prune(store: Store, retention_days: int, now: datetime | None = None) -> Pruned:
    """Delete what is older than so many days (now: instead of this moment). Killed anywhere, the next time goes on."""
    now = now or datetime.now(UTC)
    before = now - timedelta(days=retention_days)
    half_written = store.sweep(now - _WRITING)  # first, so that folders are empty without them
    old = _old_runs(store, before)
    unheard = {run: _not_in_the_ledger(keys) for run, keys in old.items()}
    leased = {_day(key) for key, moment in store.written("leases").items() if _old([moment], before)}
    busy = {day for day in sorted(leased.union(*unheard.values())) if not _held(store, day)}
    gone = {run: keys for run, keys in old.items() if not unheard[run] & busy}
    for run in gone:
        for day in unheard[run]:
            compact(store, day, run)
    for day in leased.union(*unheard.values()) - busy:
        leases.forget(store, day, OWNER)
    for run, keys in gone.items():
        store.delete([*keys, *(f"{outcomes_path(day, run)}/{ALL}" for day in unheard[run])])
        for folder in {found[0] for key in keys if (found := _FOLDER.match(key))}:
            store.delete_folder(folder)
    pruned = Pruned(len(gone), sum(map(len, gone.values())), len(leased - busy), half_written, tuple(sorted(busy)))
    log.info(
        "deleted what is older than %d days: %d runs (%d objects), %d leases; %d half-written files; "
        "%d days are worked on, and wait",
        retention_days, pruned.runs, pruned.objects, pruned.leases, half_written, len(busy),
    )  # fmt: skip
    return pruned


def _old_runs(store: Store, before: datetime) -> dict[str, list[str]]:
    """The keys of each run of which nothing was written since."""
    runs: dict[str, dict[str, datetime]] = {}
    for kind in _KINDS:
        for key, moment in store.written(kind).items():
            if found := _RUN.search(key):
                runs.setdefault(found["alone"] or found["folder"], {})[key] = moment
    return {run: sorted(keys) for run, keys in runs.items() if _old(keys.values(), before)}


def _old(written: Collection[datetime], before: datetime) -> bool:
    """Nothing is old of which nobody can tell."""
    return UNKNOWN not in written and max(written) < before


def _held(store: Store, day: str) -> bool:
    """Whether we hold the day now; if not, who does is told."""
    try:
        leases.acquire(store, day, OWNER, _LEASE_S)
    except LeaseHeld as error:
        log.info("%s: what is old of this day stays for now: %s", day, error)
        return False
    return True


def _not_in_the_ledger(keys: Iterable[str]) -> set[str]:
    """The days of which a run has outcomes that no report has carried into the ledger."""
    return {_day(key) for key in keys if key.startswith("outcomes/") and not key.endswith(f"/{ALL}")}


def _day(key: str) -> str:
    (day,) = _DAY.findall(key)
    return str(day)
