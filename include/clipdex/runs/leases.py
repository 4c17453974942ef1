"""Leases: one run at a time works on a day.

leases/day=DAY/EPOCH.json holds the owner and the expiry; the highest epoch counts. A run takes a free, released or
expired day by creating the next epoch, which only one run can. Only the owner rewrites an epoch.
"""

import json
import logging
from datetime import UTC, datetime, timedelta
from typing import Any

from clipdex.errors import LeaseHeld
from clipdex.storage.artifacts import Store

log = logging.getLogger(__name__)


def acquire(store: Store, day: str, owner: str, seconds: float) -> None:
    """Take or extend the lease on a day, for `seconds` [s] from now. Raises LeaseHeld, naming the current owner."""
    epoch, holder = _current(store, day)
    if holder is not None and holder["owner"] == owner and _alive(holder):
        _write(store, day, epoch, owner, seconds)
        return
    if holder is not None and _alive(holder):
        raise _held(day, holder)
    first = store.create(_key(day, epoch + 1), json.dumps(_record(owner, seconds)).encode())
    now_epoch, now_holder = _current(store, day)
    if not first or now_epoch != epoch + 1:
        raise _held(day, now_holder or {"owner": "another run", "heartbeat": "?", "expires": "?"})
    store.delete(key for key in store.list(_folder(day)) if key < _key(day, epoch + 1))


def renew(store: Store, day: str, owner: str, seconds: float) -> bool:
    """Extend the lease. Return False if it was lost; the work may continue, because every write is idempotent."""
    epoch, holder = _current(store, day)
    if holder is None or holder["owner"] != owner:
        return False
    _write(store, day, epoch, owner, seconds)
    return True


def release(store: Store, day: str, owner: str) -> None:
    """Release the lease if this owner holds it."""
    epoch, holder = _current(store, day)
    if holder is not None and holder["owner"] == owner:
        _write(store, day, epoch, owner, 0.0)


def forget(store: Store, day: str, owner: str) -> None:
    """Delete all lease files of the day if this owner holds the lease."""
    _, holder = _current(store, day)
    if holder is not None and holder["owner"] == owner:
        store.delete(store.list(_folder(day)))


def _current(store: Store, day: str) -> tuple[int, dict[str, Any] | None]:
    keys = store.list(_folder(day))
    if not keys:
        return 0, None
    epoch = int(keys[-1].rpartition("/")[2].removesuffix(".json"))
    try:
        holder: dict[str, Any] = store.read_json(keys[-1])
    except FileNotFoundError:  # deleted by the next owner since the listing
        return _current(store, day)
    except ValueError:
        log.warning("%s: truncated lease file, treated as expired", keys[-1])
        return epoch, None
    return epoch, holder


def _alive(holder: dict[str, Any]) -> bool:
    return datetime.fromisoformat(holder["expires"]) > datetime.now(UTC)


def _held(day: str, holder: dict[str, Any]) -> LeaseHeld:
    return LeaseHeld(
        f"{day} is worked on by {holder['owner']} (last heartbeat {holder['heartbeat']}, expires {holder['expires']}); "
        "this run retries later"
    )


def _write(store: Store, day: str, epoch: int, owner: str, seconds: float) -> None:
    store.write_json(_key(day, epoch), _record(owner, seconds))


def _record(owner: str, seconds: float) -> dict[str, str]:
    now = datetime.now(UTC)
    return {
        "owner": owner,
        "heartbeat": now.isoformat(timespec="seconds"),
        "expires": (now + timedelta(seconds=seconds)).isoformat(timespec="seconds"),
    }


def _folder(day: str) -> str:
    return f"leases/day={day}"


def _key(day: str, epoch: int) -> str:
    return f"{_folder(day)}/{epoch:08d}.json"
