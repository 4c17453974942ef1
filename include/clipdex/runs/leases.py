"""Leases: one run at a time works on a day.

leases/day=DAY/EPOCH.json holds the owner and the expiry; the highest epoch counts. Only one run can create an epoch: a
run takes a free, released or expired day by creating the next one, and renews its lease in the same way. So a renewal
and a takeover at the same moment cannot both succeed. The epoch before the current one stays: a folder is listed and
then its files are examined, so a listing during a renewal may find neither the new epoch nor one that is deleted.

    with Lease(store, "ingest-1", seconds=900) as lease:  # renews every 300 s until the end of the block
        lease.take("2026-11-03")
        lease.check()  # before each clip
        lease.confirm("2026-11-03")  # before each write to the index
        lease.release()
"""

import json
import logging
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import Any, Self

from clipdex.errors import LeaseHeld, LeaseLost
from clipdex.storage.artifacts import Store

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Holder:
    """Hold one epoch of a lease.

    released: whether the owner gave the day back
    job: a name of the owner's run for whoever finds the lease expired, "" for none (Lease, is_active)
    """

    owner: str
    heartbeat: str
    expires: str
    released: bool = False
    job: str = ""

    @property
    def left_s(self) -> float:
        """Return the time until the lease expires [s], 0 or less if it has expired or was released."""
        return (datetime.fromisoformat(self.expires) - datetime.now(UTC)).total_seconds()

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> Self:
        return cls(**record)


class Lease:
    """Hold days for one owner, and renew them in the background until close().

    The tasks of one run have the same owner and share its leases. close() does not release a day, because others of
    them may work on it.

    seconds: until a lease expires that is not renewed [s]
    job, is_active: a name of this run, and whether the run of such a name is still active. The day of an active run is
    not taken, even if its lease has expired: its tasks may all be queued.
    """

    def __init__(
        self,
        store: Store,
        owner: str,
        seconds: float,
        job: str = "",
        is_active: Callable[[str], bool] = lambda job: False,
    ) -> None:
        self._store, self._owner, self._seconds = store, owner, seconds
        self._job, self._is_active = job, is_active
        self._valid_until: dict[str, float] = {}
        self._lost: LeaseLost | None = None
        self._lock, self._closed = threading.RLock(), threading.Event()
        self._thread = threading.Thread(target=self._keep_renewing, name=f"lease of {owner}", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def days(self) -> list[str]:
        """Return the days that were taken, in that order."""
        return list(self._valid_until)

    def take(self, day: str) -> None:
        """Take a day, or continue a lease of the same owner. Raises LeaseHeld, naming the current owner."""
        with self._lock:
            began = _now()
            _, holder = _current(self._store, day)
            if holder is not None and self._is_queued(holder):
                raise _held(day, holder)
            left_s = acquire(self._store, day, self._owner, self._seconds, self._job)
            self._valid_until[day] = began + left_s

    def check(self) -> None:
        """Raise LeaseLost if another run has taken a day. Reads the store only if a lease may have expired."""
        if self._lost:
            raise self._lost
        now = _now()
        if late := [day for day, until in list(self._valid_until.items()) if now >= until]:
            self.confirm(*late)

    def confirm(self, *days: str) -> None:
        """Read the leases of these days, and renew them if a third of their time is over. Raises LeaseLost."""
        with self._lock:
            if self._lost:
                raise self._lost
            for day in days:
                began = _now()
                try:
                    self._valid_until[day] = began + _renewed(self._store, day, self._owner, self._seconds)
                except LeaseLost as error:
                    self._lost = error
                    raise

    def release(self) -> None:
        """Give all days back that this owner still holds."""
        with self._lock:
            for day in self._valid_until:
                release(self._store, day, self._owner)
            self._valid_until.clear()

    def forget(self, days: Iterable[str]) -> None:
        """Give days back and delete their lease files."""
        with self._lock:
            for day in days:
                del self._valid_until[day]
                epoch, holder = _current(self._store, day)
                if holder is not None and holder.owner == self._owner:
                    self._store.delete(key for key in self._store.list(_folder(day)) if key <= _key(day, epoch))

    def close(self) -> None:
        """Stop renewing. The days stay held until they expire or are released."""
        self._closed.set()
        if self._thread.ident is not None:
            self._thread.join()

    def _is_queued(self, holder: Holder) -> bool:
        """Return whether another run let its lease expire, but is still active."""
        expired = holder.owner != self._owner and not holder.released and holder.left_s <= 0
        return expired and bool(holder.job) and self._is_active(holder.job)

    def _keep_renewing(self) -> None:
        while not self._closed.wait(self._seconds / 3):
            try:
                for day in self.days:
                    with self._lock:
                        if day in self._valid_until:
                            self.confirm(day)
            except LeaseLost as error:  # check() and confirm() raise it where the work can stop
                log.error("%s", error)
                return
            except Exception as error:  # object store clients have their own exception types
                log.warning("the lease of %s is not renewed yet: %s", self._owner, error)


def acquire(store: Store, day: str, owner: str, seconds: float, job: str = "") -> float:
    """Take a day for `seconds` [s], or extend the owner's lease; return how long it is valid [s].

    Raises LeaseHeld, naming the current owner.
    """
    epoch, holder = _current(store, day)
    if holder is not None and holder.left_s > 0:
        if holder.owner != owner:
            raise _held(day, holder)
        if holder.left_s > seconds * 2 / 3:
            return min(holder.left_s, seconds)
        job = job or holder.job
    if not _create(store, day, epoch + 1, owner, seconds, job):
        return _after_a_conflict(store, day, owner, seconds, LeaseHeld)
    return seconds


def release(store: Store, day: str, owner: str) -> None:
    """Release the lease if this owner holds it."""
    epoch, holder = _current(store, day)
    if holder is not None and holder.owner == owner:
        store.write_json(_key(day, epoch), _record(owner, 0.0, holder.job, released=True).to_json())


def current_holder(store: Store, day: str) -> Holder | None:
    """Return the present or last owner of a day, None if there was none."""
    return _current(store, day)[1]


def _renewed(store: Store, day: str, owner: str, seconds: float) -> float:
    """Renew a lease, also an expired one if nobody took the day. Return how long it is valid [s]; raise LeaseLost."""
    epoch, holder = _current(store, day)
    if epoch == 0 or (holder is not None and (holder.owner != owner or holder.released)):
        raise _lost(day, owner, holder)
    if holder is not None and holder.left_s > seconds * 2 / 3:
        return min(holder.left_s, seconds)
    if not _create(store, day, epoch + 1, owner, seconds, holder.job if holder else ""):
        return _after_a_conflict(store, day, owner, seconds, LeaseLost)
    return seconds


def _after_a_conflict(store: Store, day: str, owner: str, seconds: float, error: type[LeaseHeld]) -> float:
    """Return how long the lease is valid that a task of the same owner created first. Raises `error` if another did."""
    _, holder = _current(store, day)
    if holder is not None and holder.owner == owner and holder.left_s > 0:
        return min(holder.left_s, seconds)
    if error is LeaseLost:
        raise _lost(day, owner, holder)
    raise _held(day, holder or Holder("another run", "?", "?"))


def _create(store: Store, day: str, epoch: int, owner: str, seconds: float, job: str) -> bool:
    """Create an epoch and delete those before the last one; return False if it, or a later one, exists."""
    if not store.create(_key(day, epoch), json.dumps(_record(owner, seconds, job).to_json()).encode()):
        return False
    if _current(store, day)[0] != epoch:  # deleted after it was followed by others
        return False
    store.delete(key for key in store.list(_folder(day)) if key < _key(day, epoch - 1))
    return True


def _current(store: Store, day: str) -> tuple[int, Holder | None]:
    """Return the current epoch, 0 for none, and its holder. A truncated file has no holder."""
    while keys := store.list(_folder(day)):
        epoch = int(keys[-1].rpartition("/")[2].removesuffix(".json"))
        try:
            return epoch, Holder.from_json(store.read_json(keys[-1]))
        except FileNotFoundError:  # deleted by the next owner since the listing
            continue
        except (ValueError, TypeError):
            log.warning("%s: truncated lease file, treated as expired", keys[-1])
            return epoch, None
    return 0, None


def _held(day: str, holder: Holder) -> LeaseHeld:
    return LeaseHeld(
        f"{day} is worked on by {holder.owner} (last heartbeat {holder.heartbeat}, expires {holder.expires}); "
        "this run retries later"
    )


def _lost(day: str, owner: str, holder: Holder | None) -> LeaseLost:
    if holder is None or holder.owner == owner:
        return LeaseLost(f"{day}: the lease of {owner} was given back while it worked; it stops here")
    return LeaseLost(
        f"{day}: {owner} was delayed for longer than its lease, and {holder.owner} took the day over (heartbeat "
        f"{holder.heartbeat}); it stops here, and stored captions are kept"
    )


def _record(owner: str, seconds: float, job: str, released: bool = False) -> Holder:
    now = datetime.now(UTC)
    expires = now + timedelta(seconds=seconds)
    return Holder(owner, _stamp(now), _stamp(expires), released, job)


def _stamp(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds")


def _now() -> float:
    """Return a clock that also runs while the machine is suspended [s]."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def _folder(day: str) -> str:
    return f"leases/day={day}"


def _key(day: str, epoch: int) -> str:
    return f"{_folder(day)}/{epoch:08d}.json"
