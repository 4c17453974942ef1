"""Test the summaries of days: what they count, and when they are made again."""

import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from clipdex.config import Settings
from clipdex.runs.catalog import compute_outdated, read_catalog, refresh
from clipdex.runs.latencies import Latencies
from clipdex.runs.outcomes import ClipOutcome, Journal, Origin, Outcome, add_to_ledger, ledger_path
from clipdex.runs.planning import Plan
from clipdex.runs.progress import ProgressReader
from clipdex.runs.report import report_run
from clipdex.runs.retention import prune
from clipdex.runs.summary import Pace, compute, read_summary, summarize, summary_path
from clipdex.storage.artifacts import Store
from clipdex.storage.usage import measure_usage, read_usage
from tests.support.engine import StandIn
from tests.support.pipeline import DAY, Pipeline

MOMENT = datetime(2026, 11, 4, 1, tzinfo=UTC)


@pytest.fixture
def store(root) -> Store:
    return Store.open(Settings.load(store=root))


def outcome(number: int, kind: Outcome = Outcome.INDEXED, **fields) -> ClipOutcome:
    """Return the outcome of a clip that the engine captioned, answered a second after the one before it."""
    at = (MOMENT + timedelta(seconds=number)).isoformat(timespec="milliseconds")
    made = ClipOutcome(
        f"c{number}", f"/c{number}.mp4", DAY, "v", kind, "b1", origin=Origin.NEW, chunks=2, seconds=2.0, attempts=1,
        prompt_tokens=100, completion_tokens=10, gpu_s=0.5, answered_at=at, at=at, node="gpu-1:30000",
    )  # fmt: skip
    return replace(made, **fields)


def a_run(store: Store, run: str, outcomes: list[ClipOutcome], day: str = DAY) -> None:
    """Write what a run leaves, up to its report."""
    store.write_json(f"runs/{run}.json", Plan(run, (day,), {day: len(outcomes)}, 0, 0, ()).to_json())
    journal = Journal(store, day, run, "b1", "index", 1)
    for one in outcomes:
        journal.add(one)
    journal.flush()


def test_a_report_leaves_the_figures_of_its_days(store):
    quarantined = outcome(3, Outcome.QUARANTINED, reason="too_long", origin="", seconds=0.0, answered_at="", chunks=0)
    a_run(store, "r.1", [*map(outcome, range(3)), quarantined])
    report_run(store, "r.1")
    one = read_summary(store, DAY)
    assert one == compute(store, DAY, 4)
    assert (one.clips, one.quarantine, one.chunks) == ({"indexed": 3, "quarantined": 1}, {"too_long": 1}, 6)
    (pace,) = one.paces
    assert (pace.run, pace.clips, pace.engine_s, pace.gpu_s, pace.wall_s) == ("r.1", 3, 6.0, 1.5, 4.0)
    assert (pace.prompt_tokens, pace.completion_tokens) == (300, 30)
    assert pace.nodes["gpu-1:30000"].latencies.quantile(0.5) == pytest.approx(2.0, rel=0.1)


def test_a_repeated_report_counts_no_clip_and_no_second_twice(store):
    a_run(store, "r.1", [outcome(0), outcome(1)])
    report_run(store, "r.1")
    first = read_summary(store, DAY)
    report_run(store, "r.1")
    again = read_summary(store, DAY)
    assert (again.clips, again.paces) == (first.clips, first.paces)
    assert not read_catalog(store).outdated


def test_two_runs_of_a_day_keep_a_pace_each_and_share_the_clips(store):
    a_run(store, "r.1", [outcome(0), outcome(1)])
    report_run(store, "r.1")
    later = [outcome(1, prompt_tokens=900), outcome(2)]
    a_run(store, "r.2", [replace(one, answered_at="2026-11-05T00:00:00.000+00:00") for one in later])
    report_run(store, "r.2")
    one = read_summary(store, DAY)
    assert one.clips == {"indexed": 3}
    assert [(pace.run, pace.clips, pace.prompt_tokens) for pace in one.paces] == [("r.1", 2, 200), ("r.2", 2, 1000)]


def test_reports_that_end_at_once_lose_nothing(store):
    for number in range(4):
        a_run(store, f"r.{number}", [outcome(number)])
    threads = [threading.Thread(target=report_run, args=(store, f"r.{number}")) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    catalog = read_catalog(store)
    one = catalog.days[DAY] if DAY not in catalog.outdated else next(iter(compute_outdated(store, catalog, 60)))
    assert one.clips == {"indexed": 4}
    assert sorted(pace.run for pace in one.paces) == ["r.0", "r.1", "r.2", "r.3"]


def test_a_ledger_that_something_else_changed_outdates_the_summary(store):
    a_run(store, "r.1", [outcome(0)])
    report_run(store, "r.1")
    add_to_ledger(store, DAY, [outcome(1)])
    catalog = read_catalog(store)
    assert catalog.outdated == (DAY,) and catalog.days[DAY].clips == {"indexed": 1}
    assert [one.clips for one in compute_outdated(store, catalog, 60)] == [{"indexed": 2}]
    assert refresh(store).days == 1
    assert read_catalog(store).days[DAY].clips == {"indexed": 2} and not read_catalog(store).outdated


def test_a_store_of_an_earlier_release_gets_its_summaries(store):
    pause = timedelta(hours=5)
    second = [replace(one, answered_at=(MOMENT + pause).isoformat(), node="") for one in map(outcome, (2, 3))]
    add_to_ledger(store, DAY, [outcome(0, node=""), outcome(1, node=""), *second])
    catalog = read_catalog(store)
    assert (catalog.days, catalog.outdated) == ({}, (DAY,))
    assert refresh(store).to_json() == {"days": 1, "months": 1, "left": 0}
    paces = read_catalog(store).days[DAY].paces
    assert [(pace.run, pace.clips, set(pace.nodes)) for pace in paces] == [("", 2, {""}), ("", 2, {""})]
    assert max(pace.wall_s for pace in paces) < 10
    assert refresh(store).to_json() == {"days": 0, "months": 0, "left": 0}


def test_only_some_days_are_made_per_call_the_latest_first(store):
    for day in ("2026-11-01", "2026-11-02", "2026-11-03"):
        add_to_ledger(store, day, [outcome(0, day=day)])
    assert refresh(store, most=2).left == 1
    assert read_catalog(store).outdated == ("2026-11-01",)


def test_a_month_is_one_object_and_days_that_changed_since_are_read_too(store):
    for day in ("2026-11-01", "2026-11-02"):
        add_to_ledger(store, day, [outcome(0, day=day)])
    refresh(store)
    add_to_ledger(store, "2026-11-02", [outcome(1, day="2026-11-02")])
    summarize(store, "2026-11-02")
    store.delete([summary_path("2026-11-01")])  # its month has it
    found = read_catalog(store)
    assert {day: one.clips["indexed"] for day, one in found.days.items()} == {"2026-11-01": 1, "2026-11-02": 2}
    assert not found.outdated


@pytest.mark.parametrize("broken", [b"{", b"[]", b'{"day": "2026-11-03"}', b'{"paces": 1}'])
def test_a_summary_that_cannot_be_read_is_made_again(store, broken):
    add_to_ledger(store, DAY, [outcome(0)])
    store.write(summary_path(DAY), broken)
    store.write("summaries/2026-11.json", broken)
    assert read_catalog(store).outdated == (DAY,)
    refresh(store)
    assert read_catalog(store).days[DAY].clips == {"indexed": 1}


def test_a_day_without_clips_is_no_gap_once_a_run_found_it_empty(store):
    a_run(store, "r.1", [])
    report_run(store, "r.1")
    assert read_catalog(store).days[DAY].discovered == 0
    refresh(store)
    assert read_catalog(store).days[DAY].total == 0 and not read_catalog(store).outdated


def test_retention_keeps_the_figures_and_repairs_those_of_killed_runs(store):
    a_run(store, "r.1", [outcome(0)])
    report_run(store, "r.1")
    before = read_summary(store, DAY)
    a_run(store, "r.2", [outcome(1, day="2026-11-02")], day="2026-11-02")
    prune(store, 90, datetime.now(UTC) + timedelta(days=91))
    assert not store.list("runs") and not store.list("reports")
    catalog = read_catalog(store)
    assert catalog.days[DAY].paces == before.paces and not catalog.outdated
    assert catalog.days["2026-11-02"].clips == {"indexed": 1}
    assert store.exists("summaries/2026-11.json") and read_usage(store).total > 0


def test_clips_that_move_to_another_day_leave_the_figures_of_the_former_one(tmp_path, engine):
    pipeline = Pipeline(tmp_path, [engine.url])
    pipeline.put(2)
    pipeline.run()
    from clipdex.runs.moves import Move, mark_moved
    from clipdex.runs.outcomes import ledger

    known = next(iter(ledger(pipeline.store, DAY).values()))
    clip = next(one for one in pipeline.source.prefix("") if one.clip_id == known.clip_id)
    mark_moved(pipeline.store, "2026-11-04", [Move(replace(clip, day="2026-11-04"), known, Outcome.INDEXED)], known.at)
    catalog = read_catalog(pipeline.store)
    assert catalog.days[DAY].clips == {"indexed": 1} and DAY not in catalog.outdated


def test_each_caption_names_the_node_that_wrote_it(tmp_path):
    with StandIn(words=80) as one, StandIn(words=80) as other:
        pipeline = Pipeline(tmp_path, [one.url, other.url])
        pipeline.put(6)
        pipeline.run()
        names = {url.removeprefix("http://") for url in (one.url, other.url)}
    outcomes = pipeline.outcomes().values()
    assert {outcome.node for outcome in outcomes} <= names and all(outcome.node for outcome in outcomes)
    (pace,) = read_summary(pipeline.store, DAY).paces
    assert sum(node.clips for node in pace.nodes.values()) == 6
    assert pipeline.store.caption(next(iter(outcomes)).caption_key).node in names


def test_many_nodes_are_bounded():
    pace = Pace.of("r", [outcome(number, node=f"node-{number}") for number in range(200)])
    assert len(pace.nodes) == 65 and sum(node.clips for node in pace.nodes.values()) == 200


def test_quantiles_of_several_runs_are_those_of_all_their_clips():
    slow, fast = Latencies.of([10.0] * 10), Latencies.of([1.0] * 90)
    fast.add(Latencies.from_json(slow.to_json()))
    assert fast.quantile(0.5) == pytest.approx(1.0, rel=0.1)
    assert fast.quantile(0.95) == pytest.approx(10.0, rel=0.1)
    assert Latencies().quantile(0.5) == 0.0
    assert Latencies.of([0.0, 10**9]).quantile(1) > 3600


def test_a_running_run_shows_its_backlog_and_when_it_will_be_through(store):
    from clipdex.runs import leases
    from clipdex.runs.planning import BatchRef

    batch = BatchRef("r.1", DAY, "b1", "manifests/run=r.1/b1.jsonl", 10, "c0.mp4")
    store.write_json("runs/r.1.json", Plan("r.1", (DAY,), {DAY: 10}, 0, 0, (batch,)).to_json())
    reader = ProgressReader()
    assert reader.read(store, 10) == []
    leases.acquire(store, DAY, "r.1", 900)
    (waiting,) = reader.read(store, 10)
    assert (waiting.backlog, waiting.left_s, waiting.alive) == (10, None, True)
    lines = [outcome(number, Outcome.CAPTIONED).to_json() for number in range(4)]
    store.write_lines(f"outcomes/day={DAY}/run=r.1/b1/caption-001-0000.jsonl", lines)
    (running,) = reader.read(store, 10)
    assert (running.settled, running.backlog, running.clips_per_s, running.left_s) == (4, 6, 1.0, 6.0)
    failed = outcome(9, Outcome.FAILED).to_json()
    store.write_lines(f"outcomes/day={DAY}/run=r.1/b1/caption-001-0001.jsonl", [failed])
    assert reader.read(store, 10)[0].backlog == 6
    assert reader.read(store, 0)[0].settled == 4
    leases.release(store, DAY, "r.1")
    assert reader.read(store, 10) == []


def test_the_size_of_a_large_store_is_estimated_from_some_of_its_folders(tmp_path):
    store = Store.open(Settings.load(store={"url": str(tmp_path)}))
    for number in range(256):
        store.write(f"captions/{number:02x}/{number}.json", b"x" * 100)
    store.write("runs/r.json", b"y" * 7)
    usage = measure_usage(store)
    assert (usage.objects["captions"], usage.bytes["captions"]) == (256, 25_600)
    assert usage.estimated == ("captions",) and usage.bytes["runs"] == 7
    assert read_usage(store) == usage


def test_the_ledger_is_all_that_a_summary_needs(store):
    a_run(store, "r.1", [outcome(0)])
    report_run(store, "r.1")
    store.delete(store.list("summaries"))
    assert refresh(store).days == 1
    assert len(store.list(ledger_path(DAY))) == 1
