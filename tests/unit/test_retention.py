"""Test which objects pruning deletes by age, and which it keeps."""

from datetime import UTC, datetime, timedelta

import pytest

from clipdex.config import Settings
from clipdex.runs import leases
from clipdex.runs.outcomes import ClipOutcome, Journal, Outcome, ledger
from clipdex.runs.planning import Plan
from clipdex.runs.report import report_run
from clipdex.runs.retention import prune
from clipdex.storage.artifacts import Store

DAY = "2026-11-03"
DAYS = 90


@pytest.fixture
def store(root) -> Store:
    return Store.open(Settings.load(store=root))


def later(days: float = DAYS + 1) -> datetime:
    return datetime.now(UTC) + timedelta(days=days)


def a_run(store: Store, run: str = "r.1", day: str = DAY, clip: str = "c1") -> None:
    """Write the objects of a run without a report."""
    store.write_json(f"runs/{run}.json", Plan(run, (day,), {day: 1}, 0, 0, ()).to_json())
    store.write_lines(f"manifests/run={run}/b1.jsonl", [{"clip_id": clip}])
    journal = Journal(store, day, run, "b1", "index", 1)
    journal.add(ClipOutcome(clip, f"/{clip}.mp4", day, "v1", Outcome.INDEXED, "b1", fingerprint="f", content="x"))
    journal.flush()


def test_an_old_run_is_deleted_completely(store):
    a_run(store)
    report_run(store, "r.1")
    pruned = prune(store, DAYS, later())
    assert [key for kind in ("runs", "manifests", "outcomes", "reports") for key in store.list(kind)] == []
    assert (pruned.runs, pruned.objects) == (1, 4)


def test_an_old_run_leaves_no_folder_behind(tmp_path):
    store = Store.open(Settings.load(store={"url": str(tmp_path)}))
    a_run(store)
    report_run(store, "r.1")
    (tmp_path / f"outcomes/day={DAY}/run=r.1/b1/.tmp-0123").write_bytes(b"of a task that was killed as it wrote")
    prune(store, DAYS, later())
    assert list(tmp_path.glob("**/*run=r.1*")) == []


@pytest.mark.parametrize("folder", ["captions/ab", "posters/ab", "playbacks/ab", "ledger/day=2026-11-03", "reports"])
def test_half_written_files_are_deleted_after_a_day_in_every_folder(tmp_path, folder):
    store = Store.open(Settings.load(store={"url": str(tmp_path)}))
    store.write(f"{folder}/whole", b"stays")
    left = tmp_path / folder / ".tmp-0123"
    left.write_bytes(b"of a task that was killed as it wrote")
    assert prune(store, DAYS, later(0.9)).half_written == 0
    assert left.exists()
    assert prune(store, DAYS, later(1.1)).half_written == 1
    assert [path.name for path in (tmp_path / folder).iterdir()] == ["whole"]


def test_a_run_with_a_recent_write_stays_whole(store):
    a_run(store)
    before = store.list("")
    prune(store, DAYS, later(DAYS - 1))
    assert [key for key in store.list("") if not key.startswith("summaries/")] == before


def test_outcomes_of_a_run_without_a_report_stay_in_the_ledger(store):
    a_run(store)
    recorded = ledger(store, DAY)
    prune(store, DAYS, later())
    assert store.list("outcomes") == []
    assert ledger(store, DAY) == recorded and recorded["c1"].outcome is Outcome.INDEXED


def test_captions_posters_ledger_summaries_and_rebuild_data_stay(store):
    a_run(store)
    report_run(store, "r.1")
    kept = [
        "captions/ab/abcd.json",
        "playbacks/ab/abcd.mp4",
        "posters/ab/abcd.jpg",
        f"rebuild/day={DAY}/run=r.1/b1-001-00000.jsonl",
    ]
    for key in kept:
        store.write(key, b"{}")
    kept += [*store.list("ledger"), f"summaries/{DAY[:7]}/{DAY}.json", f"quarantine/clips/{DAY}.jsonl"]
    made = [f"summaries/{DAY[:7]}.json", "summaries/usage.json"]
    prune(store, DAYS, later())
    assert store.list("") == sorted([*kept, *made])


def test_old_leases_are_deleted_and_their_days_are_free(store):
    leases.acquire(store, DAY, "r.1", 60)
    leases.release(store, DAY, "r.1")
    assert prune(store, DAYS, later()).leases == 1
    assert store.list("leases") == []
    leases.acquire(store, DAY, "r.2", 60)


def test_a_leased_day_keeps_its_files_until_the_next_pruning(store):
    a_run(store)
    a_run(store, "r.2", "2026-11-04", "c2")
    leases.acquire(store, DAY, "r.3", 3600)
    pruned = prune(store, DAYS, later())
    assert pruned.busy == (DAY,)
    assert store.list("runs") == ["runs/r.1.json"] and store.list("outcomes") != []
    leases.release(store, DAY, "r.3")
    assert prune(store, DAYS, later()).runs == 1
    assert store.list("runs") == []


def test_pruning_twice_deletes_nothing_more(store):
    a_run(store)
    prune(store, DAYS, later())
    assert prune(store, DAYS, later()).objects == 0
