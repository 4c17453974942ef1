"""Test leases: one run works on a day at a time."""

import threading

import pytest

from clipdex.config import Settings
from clipdex.errors import LeaseHeld
from clipdex.runs import leases
from clipdex.storage.artifacts import Store

DAY = "2026-11-03"


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
    assert not leases.renew(store, DAY, "run-a", 60)
    assert leases.renew(store, DAY, "run-b", 60)


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
