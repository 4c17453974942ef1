"""Test how many outcome files a task and a report read."""

import threading
from collections import Counter
from typing import Any

import pytest
from fsspec.implementations.local import LocalFileSystem

from clipdex.runs.outcomes import ClipOutcome, Journal, Outcome, batch_outcomes
from clipdex.runs.planning import BatchRef, Plan
from clipdex.runs.report import report_run
from clipdex.storage.artifacts import Store

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
