"""Test how many outcome files a task and a report read."""

import threading
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from fsspec.implementations.local import LocalFileSystem

from clipdex.runs.outcomes import ClipOutcome, Journal, Outcome, batch_outcomes, compact, ledger, run_outcomes
from clipdex.runs.planning import BatchRef, Plan
from clipdex.runs.report import report_run
from clipdex.runs.retention import prune
from clipdex.storage.artifacts import Store
from clipdex.web.ingestion.batches import look_up

DAY = "2026-11-03"
RUN = "r.1"
DEADLINE_S = 30.0


class Counted(LocalFileSystem):
    """A disk that counts how often each folder is listed and each file is read."""

    cachable = False

    def __init__(self) -> None:
        super().__init__()
        self.listed: Counter[str] = Counter()
        self.read: Counter[str] = Counter()

    def ls(self, path: str, *args: Any, **options: Any) -> Any:
        self.listed[path] += 1
        return super().ls(path, *args, **options)

    def cat_file(self, path: str, *args: Any, **options: Any) -> Any:
        self.read[path] += 1
        return super().cat_file(path, *args, **options)


class InPairs(LocalFileSystem):
    """A disk that blocks each read until a second one has started."""

    cachable = False

    def __init__(self) -> None:
        super().__init__()
        self._both = threading.Barrier(2)

    def cat_file(self, path: str, *args: Any, **options: Any) -> Any:
        self._both.wait(DEADLINE_S)
        return super().cat_file(path, *args, **options)


class Meanwhile(LocalFileSystem):
    """A disk on which something happens once: after a number of listings, checks and reads."""

    cachable = False

    def __init__(self, after: int, happen: Callable[[], Any]) -> None:
        super().__init__()
        self._left, self._happen = after, happen
        self._lock = threading.Lock()

    def _count(self) -> None:
        with self._lock:
            self._left -= 1
            if self._left == 0:
                self._happen()

    def ls(self, path: str, *args: Any, **options: Any) -> Any:
        found = super().ls(path, *args, **options)
        self._count()
        return found

    def exists(self, path: str, *args: Any, **options: Any) -> bool:
        found: bool = super().exists(path, *args, **options)
        self._count()
        return found

    def cat_file(self, path: str, *args: Any, **options: Any) -> Any:
        found = super().cat_file(path, *args, **options)
        self._count()
        return found


class KeepsCaptionParts(LocalFileSystem):
    """A disk that refuses to delete the parts of the caption phase."""

    cachable = False

    def rm_file(self, path: str) -> None:
        if "/caption-" in path:
            raise PermissionError(path)
        super().rm_file(path)


READERS = {
    "batch": lambda store: batch_outcomes(store, DAY, RUN, "one"),
    "run": lambda store: run_outcomes(store, DAY, RUN),
    "ledger": lambda store: ledger(store, DAY),
}


def record_batch(store: Store, batch: str, clips: int = 20) -> BatchRef:
    """Write the outcomes and the manifest of a successful batch."""
    ids = [f"{batch}-{number}" for number in range(clips)]
    for phase, outcome in (("caption", Outcome.CAPTIONED), ("index", Outcome.INDEXED)):
        journal = Journal(store, DAY, RUN, batch, phase, 1)
        for clip in ids:
            journal.add(ClipOutcome(clip, f"/{clip}.mp4", DAY, "v1", outcome, batch))
        journal.flush()
    lines = [{"clip_id": i, "uri": f"/{i}.mp4", "path": i, "version": "v1", "bytes": 1, "day": DAY} for i in ids]
    store.write_lines(f"manifests/run={RUN}/{batch}.jsonl", lines)
    return BatchRef(RUN, DAY, batch, f"manifests/run={RUN}/{batch}.jsonl", clips, ids[0])


def plan(store: Store, batches: list[BatchRef]) -> None:
    found = {DAY: sum(batch.clips for batch in batches)}
    store.write_json(f"runs/{RUN}.json", Plan(RUN, (DAY,), found, 0, 0, tuple(batches)).to_json())


@pytest.mark.parametrize("others", [0, 30])
def test_a_task_reads_only_the_files_of_its_own_batch(tmp_path, others):
    store = Store(disk := Counted(), str(tmp_path))
    for number in range(others):
        record_batch(store, f"other{number}")
    record_batch(store, "own")
    assert {one.outcome for one in batch_outcomes(store, DAY, RUN, "own").values()} == {Outcome.INDEXED}
    assert sum(disk.listed.values()) == 1
    assert sum(disk.read.values()) == 4  # two parts of each phase


def test_a_report_reads_no_file_twice(tmp_path):
    store = Store(disk := Counted(), str(tmp_path))
    plan(store, [record_batch(store, f"batch{number}") for number in range(5)])
    report = report_run(store, RUN)
    assert report.total("indexed") == 100
    assert {path: times for path, times in disk.read.items() if times > 1 and "/leases/" not in path} == {}


def test_outcome_files_are_read_concurrently(tmp_path):
    written = Store(LocalFileSystem(), str(tmp_path))
    record_batch(written, "own")
    store = Store(InPairs(), str(tmp_path))
    assert len(batch_outcomes(store, DAY, RUN, "own")) == 20


def test_outcomes_of_a_batch_can_be_read_after_the_report_compacted_them(tmp_path):
    store = Store(LocalFileSystem(), str(tmp_path))
    plan(store, [record_batch(store, "one"), record_batch(store, "two")])
    before = batch_outcomes(store, DAY, RUN, "one")
    report_run(store, RUN)
    assert len(store.list(f"outcomes/day={DAY}")) == 1
    assert batch_outcomes(store, DAY, RUN, "one") == before


def recorded(folder: Any) -> Store:
    """A store with two batches of a run, and a ledger of an earlier one."""
    store = Store(LocalFileSystem(), str(folder))
    journal = Journal(store, DAY, "before.1", "before", "index", 1)
    journal.add(ClipOutcome("before-0", "/before-0.mp4", DAY, "v1", Outcome.INDEXED, "before"))
    journal.flush()
    compact(store, DAY, "before.1")
    plan(store, [record_batch(store, "one"), record_batch(store, "two")])
    return store


@pytest.mark.parametrize("after", range(1, 13))
@pytest.mark.parametrize("reader", READERS)
def test_what_is_read_while_a_report_compacts_is_complete(tmp_path, reader, after):
    store = recorded(tmp_path)
    before = READERS[reader](store)
    read = READERS[reader](Store(Meanwhile(after, lambda: report_run(store, RUN)), str(tmp_path)))
    assert read == before
    assert READERS[reader](store) == before


@pytest.mark.parametrize("after", range(1, 13))
def test_two_compactions_at_once_lose_nothing(tmp_path, after):
    store = recorded(tmp_path)
    before = ledger(store, DAY), run_outcomes(store, DAY, RUN)
    compact(Store(Meanwhile(after, lambda: compact(store, DAY, RUN)), str(tmp_path)), DAY, RUN)
    assert (ledger(store, DAY), run_outcomes(store, DAY, RUN)) == before


def test_reading_beside_many_compactions_fails_never_and_loses_nothing(tmp_path):
    store = recorded(tmp_path)
    report_run(store, RUN)
    read: list[int] = []
    ended = threading.Event()

    def read_on() -> None:
        reading = Store(LocalFileSystem(), str(tmp_path))
        while not ended.is_set():
            read.append(min(len(reader(reading)) for reader in READERS.values()))

    readers = [threading.Thread(target=read_on) for _ in range(2)]
    for one in readers:
        one.start()
    try:
        for _ in range(15):
            record_batch(store, "one")
            record_batch(store, "two")
            compact(store, DAY, RUN)
    finally:
        ended.set()
        for one in readers:
            one.join(DEADLINE_S)
    assert read and min(read) == 20


@pytest.mark.parametrize("reader", READERS)
def test_a_compaction_that_stops_as_it_deletes_turns_no_outcome_back(tmp_path, reader):
    store = recorded(tmp_path)
    before = READERS[reader](store)
    with pytest.raises(PermissionError):
        compact(Store(KeepsCaptionParts(), str(tmp_path)), DAY, RUN)
    assert READERS[reader](store) == before
    compact(store, DAY, RUN)
    assert READERS[reader](store) == before


@pytest.mark.parametrize("after", range(1, 9))
def test_a_page_shows_a_batch_whole_or_as_pruned(tmp_path, after):
    store = recorded(tmp_path)
    report_run(store, RUN)
    whole = look_up(store, RUN, DAY, "one")
    assert whole is not None and whole.counts == {"indexed": 20}
    old = datetime.now(UTC) + timedelta(days=100)
    assert look_up(Store(Meanwhile(after, lambda: prune(store, 90, old)), str(tmp_path)), RUN, DAY, "one") in (
        whole,
        None,
    )
