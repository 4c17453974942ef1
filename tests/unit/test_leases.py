"""Test leases: one run works on a day at a time."""

import os
import threading
import time
from collections.abc import Callable

import pytest
from fsspec.implementations.local import LocalFileSystem

from clipdex.config import Settings
from clipdex.errors import LeaseHeld, LeaseLost
from clipdex.runs import leases
from clipdex.runs.leases import Lease
from clipdex.storage.artifacts import Store

DAY = "2026-11-03"


def wait_until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def is_free(store: Store, owner: str, seconds: float = 60) -> bool:
    """Return whether this owner gets the day, which it keeps then."""
    try:
        leases.acquire(store, DAY, owner, seconds)
    except LeaseHeld:
        return False
    return True


@pytest.fixture
def store(root) -> Store:
    return Store.open(Settings.load(store=root))


def test_the_error_of_the_second_run_names_the_holder_of_the_day(store):
    leases.acquire(store, DAY, "run-a", 60)
    with pytest.raises(LeaseHeld, match="2026-11-03 is worked on by run-a"):
        leases.acquire(store, DAY, "run-b", 60)


def test_a_released_day_is_free_at_once(store):
    leases.acquire(store, DAY, "run-a", 60)
    leases.release(store, DAY, "run-a")
    leases.acquire(store, DAY, "run-b", 60)


def test_a_holder_that_died_loses_the_day_when_its_lease_expires(store):
    leases.acquire(store, DAY, "run-a", 0)
    leases.acquire(store, DAY, "run-b", 60)


def test_the_owner_may_acquire_again(store):
    leases.acquire(store, DAY, "run-a", 60)
    leases.acquire(store, DAY, "run-a", 60)


def test_only_the_owner_can_release(store):
    leases.acquire(store, DAY, "run-a", 60)
    leases.release(store, DAY, "run-b")
    with pytest.raises(LeaseHeld):
        leases.acquire(store, DAY, "run-b", 60)


def test_other_days_are_free(store):
    leases.acquire(store, DAY, "run-a", 60)
    leases.acquire(store, "2026-11-04", "run-b", 60)


def test_one_of_many_concurrent_runs_gets_the_day(store):
    got = []

    def take(owner: str) -> None:
        try:
            leases.acquire(store, DAY, owner, 60)
        except LeaseHeld:
            return
        got.append(owner)

    threads = [threading.Thread(target=take, args=(f"run-{n}",)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(got) == 1


@pytest.mark.parametrize("root", ["folder"], indirect=True)
def test_a_lease_is_renewed_by_time_while_its_run_works(store):
    with Lease(store, "run-a", 5.0) as lease:
        lease.take(DAY)
        epochs = set()

        def renewed_thrice() -> bool:
            assert not is_free(store, "run-b")
            epochs.update(store.list("leases"))
            return len(epochs) >= 4

        wait_until(renewed_thrice)
        lease.check()
        assert len(store.list("leases")) <= 3  # earlier epochs are deleted


@pytest.mark.parametrize("root", ["folder"], indirect=True)
def test_a_day_that_is_renewed_while_it_is_listed_is_still_held(store, tmp_path):
    class RenewedBeforeItsFilesAreExamined(LocalFileSystem):
        """Renew the lease between the two steps of the first listing, as another task of the run may."""

        renewals = 1

        def info(self, path, **options):
            if isinstance(path, os.DirEntry) and self.renewals:
                self.renewals -= 1
                assert leases._create(store, DAY, 3, "run-a", 60, "")
            return super().info(path, **options)

    assert leases._create(store, DAY, 1, "run-a", 60, "")
    assert leases._create(store, DAY, 2, "run-a", 60, "")
    listed = Store(RenewedBeforeItsFilesAreExamined(skip_instance_cache=True), store._root)
    epoch, holder = leases._current(listed, DAY)
    assert epoch == 2 and holder.owner == "run-a"


def test_a_delayed_run_stops_where_another_took_the_day(store):
    late = Lease(store, "run-a", 0.1)  # its thread does not run
    late.take(DAY)
    wait_until(lambda: is_free(store, "run-b"))
    for stopped in (late.check, lambda: late.confirm(DAY)):
        with pytest.raises(LeaseLost, match="run-a was delayed for longer than its lease, and run-b took the day over"):
            stopped()
    late.release()
    assert not is_free(store, "run-c")


def test_a_delayed_run_stops_even_if_the_other_has_ended(store):
    late = Lease(store, "run-a", 0.1)
    late.take(DAY)
    wait_until(lambda: is_free(store, "run-b"))
    leases.release(store, DAY, "run-b")
    with pytest.raises(LeaseLost):
        late.check()


def test_a_delayed_run_goes_on_if_nobody_took_the_day(store):
    late = Lease(store, "run-a", 60)
    leases.acquire(store, DAY, "run-a", 0)
    late.confirm(DAY)
    assert not is_free(store, "run-b")


def test_the_next_task_of_a_run_takes_the_day_again_if_it_is_free(store):
    leases.acquire(store, DAY, "run-a", 0)
    leases.acquire(store, DAY, "run-b", 60)
    task = Lease(store, "run-a", 60)
    with pytest.raises(LeaseHeld, match="worked on by run-b"):
        task.take(DAY)
    leases.release(store, DAY, "run-b")
    task.take(DAY)
    assert not is_free(store, "run-b")


def test_tasks_of_one_run_share_its_lease(store):
    one, other = Lease(store, "run-a", 60), Lease(store, "run-a", 60)
    one.take(DAY)
    other.take(DAY)
    for lease in (one, other, one):
        lease.confirm(DAY)
    one.close()
    other.confirm(DAY)


@pytest.mark.parametrize("is_active", [True, False])
def test_the_day_of_a_run_whose_tasks_are_all_queued_is_not_taken(store, is_active):
    queued = Lease(store, "run-a", 60, job="a job")
    leases.acquire(store, DAY, "run-a", 0, "a job")
    other = Lease(store, "run-b", 60, is_active=lambda job: is_active and job == "a job")
    if is_active:
        with pytest.raises(LeaseHeld, match="worked on by run-a"):
            other.take(DAY)
        queued.take(DAY)
        leases.release(store, DAY, "run-a")
    other.take(DAY)


def test_a_renewal_and_a_takeover_at_once_do_not_both_succeed(store):
    for _ in range(10):
        leases.acquire(store, DAY, "run-a", 0)
        late = Lease(store, "run-a", 60)
        both = threading.Barrier(2)
        got = []

        def renew(late: Lease = late, both: threading.Barrier = both, got: list[str] = got) -> None:
            both.wait()
            try:
                late.confirm(DAY)
            except LeaseLost:
                return
            got.append("run-a")

        def take(both: threading.Barrier = both, got: list[str] = got) -> None:
            both.wait()
            if is_free(store, "run-b"):
                got.append("run-b")

        threads = [threading.Thread(target=renew), threading.Thread(target=take)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(got) == 1
        leases.release(store, DAY, got[0])


@pytest.mark.parametrize("record", ["", "{", "[]", '{"owner": "run-a"}'])
def test_a_truncated_lease_has_no_owner(store, record):
    leases.acquire(store, DAY, "run-a", 60)
    (key,) = store.list("leases")
    store.write(key, record.encode())
    assert is_free(store, "run-b")
