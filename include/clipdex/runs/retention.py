"""Retention: delete the records of old runs; keep captions, posters, playbacks, cuts, the ledger, summaries and the
records for rebuilds.

A run is deleted as a whole when none of its objects was written for retention_days: plan, manifests, outcomes, tries
and report. Its latest outcomes are first merged into the day's ledger, even if the run wrote no report. Leases that
were not renewed for as long are deleted, too, and requeues of that age. Half-written files of killed writers are
deleted after one day. At the end, outdated summaries are written (catalog.py), and the size of the store is measured
(usage.py).
"""

import logging
import re
from collections.abc import Collection, Iterable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from clipdex.errors import LeaseHeld
from clipdex.runs.catalog import refresh
from clipdex.runs.leases import Lease
from clipdex.runs.outcomes import ALL, compact, outcomes_path
from clipdex.runs.quarantine import requeues
from clipdex.runs.quarantine.catalog import write_missing
from clipdex.storage.artifacts import Store
from clipdex.storage.filesystem import UNKNOWN
from clipdex.storage.usage import measure_usage

log = logging.getLogger(__name__)

OWNER = "prune_clips"
"""Lease owner while outcomes are merged into the ledger."""

_LEASE_S = 900.0
_WRITING = timedelta(days=1)
"""Upper bound for one write: older half-written files are abandoned."""

_KINDS = ("runs", "manifests", "outcomes", "reports", "tries")
_RUN = re.compile(r"^(?:runs|reports)/(?P<alone>[^/]+)\.json$|/run=(?P<folder>[^/]+)/")
_FOLDER = re.compile(r"^.*/run=[^/]+(?=/)")
_DAY = re.compile(r"/day=([^/]+)/")


@dataclass(frozen=True, slots=True)
class Pruned:
    """Count what was deleted.

    half_written: files of killed writers
    busy: days with an active lease; their old objects are deleted by a later call
    """

    runs: int
    objects: int
    leases: int
    half_written: int
    busy: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def prune(store: Store, retention_days: int, now: datetime | None = None) -> Pruned:
    """Delete records older than retention_days before now (default: the current time). Safe to kill and repeat."""
    now = now or datetime.now(UTC)
    before = now - timedelta(days=retention_days)
    write_missing(store)
    store.delete(key for key, moment in store.written(requeues.FOLDER).items() if _old([moment], before))
    half_written = store.sweep(now - _WRITING)  # first, so that folders can become empty
    old = _old_runs(store, before)
    pending = {run: _not_in_the_ledger(keys) for run, keys in old.items()}
    leased = _old_leases(store, before)
    with Lease(store, OWNER, _LEASE_S) as lease:
        busy = {day for day in sorted(leased.union(*pending.values())) if not _is_free(lease, day)}
        gone = {run: keys for run, keys in old.items() if not pending[run] & busy}
        for run in gone:
            for day in pending[run]:
                lease.check()
                compact(store, day, run)
        lease.forget(lease.days)
    store.delete(
        key for keys in gone.values() for key in keys if key.startswith("runs/")
    )  # first: no page reads it now
    for run, keys in gone.items():
        store.delete([*keys, *(f"{outcomes_path(day, run)}/{ALL}" for day in pending[run])])
        for folder in {found[0] for key in keys if (found := _FOLDER.match(key))}:
            store.delete_folder(folder)
    pruned = Pruned(len(gone), sum(map(len, gone.values())), len(leased - busy), half_written, tuple(sorted(busy)))
    refresh(store)
    measure_usage(store)
    log.info(
        "deleted records older than %d days: %d runs (%d objects), %d leases; %d half-written files; "
        "skipped %d days with an active lease",
        retention_days, pruned.runs, pruned.objects, pruned.leases, half_written, len(busy),
    )  # fmt: skip
    return pruned


def _old_runs(store: Store, before: datetime) -> dict[str, list[str]]:
    """Return the keys of each run without a write since `before`."""
    runs: dict[str, dict[str, datetime]] = {}
    for kind in _KINDS:
        for key, moment in store.written(kind).items():
            if found := _RUN.search(key):
                runs.setdefault(found["alone"] or found["folder"], {})[key] = moment
    return {run: sorted(keys) for run, keys in runs.items() if _old(keys.values(), before)}


def _old_leases(store: Store, before: datetime) -> set[str]:
    """Return the days whose leases were not written since `before`."""
    days: dict[str, list[datetime]] = {}
    for key, moment in store.written("leases").items():
        days.setdefault(_day(key), []).append(moment)
    return {day for day, written in days.items() if _old(written, before)}


def _old(written: Collection[datetime], before: datetime) -> bool:
    """Return whether all writes are older. Objects without a modification time never expire."""
    return UNKNOWN not in written and max(written) < before


def _is_free(lease: Lease, day: str) -> bool:
    """Take the lease on a day. Return False and log the owner if another run holds it."""
    try:
        lease.take(day)
    except LeaseHeld as error:
        log.info("%s: old records of this day are kept for now: %s", day, error)
        return False
    return True


def _not_in_the_ledger(keys: Iterable[str]) -> set[str]:
    """Return the days whose outcomes in these keys are not yet in the ledger."""
    return {_day(key) for key in keys if key.startswith("outcomes/") and not key.endswith(f"/{ALL}")}


def _day(key: str) -> str:
    (day,) = _DAY.findall(key)
    return str(day)
