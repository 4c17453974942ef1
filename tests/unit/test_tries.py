"""What a batch shows of each try: before and after the report merges its outcomes, and of a run its report."""

import pytest
from fastapi.testclient import TestClient

from clipdex.errors import ClipdexError
from clipdex.runs import tries
from clipdex.runs.outcomes import ClipOutcome, Journal, Outcome, compact
from clipdex.runs.retention import prune
from clipdex.web.app import create_app
from tests.support.pipeline import DAY, Pipeline
from tests.unit.test_quarantine import HOSTILE, Operations


@pytest.fixture
def pipeline(tmp_path, engine) -> Pipeline:
    return Pipeline(tmp_path, [engine.url])


def pages(pipeline: Pipeline) -> TestClient:
    operations = Operations()
    return TestClient(create_app(lambda: pipeline.settings, lambda: None, lambda request: "/login", operations))  # type: ignore[arg-type]


def planned(pipeline: Pipeline, run: str = "r.1"):
    from clipdex.runs.planning import plan_run

    found = pipeline.survey([DAY], pipeline.criteria())
    plan = plan_run(pipeline.settings, pipeline.store, pipeline.source, run, found, '["ingest_clips", "manual__x"]')
    [batch] = plan.batches
    return batch


def test_each_try_is_shown_before_and_after_the_report(pipeline, engine):
    pipeline.put(3)
    batch = planned(pipeline)
    engine.plan.set("503:1.0:at=chat")
    with pytest.raises(ClipdexError):
        pipeline.caption(batch, 1)
    engine.plan.set("")
    pipeline.caption(batch, 2)
    pipeline.index(batch, 1)
    client = pages(pipeline)
    address = f"/api/batches/r.1/{DAY}/{batch.batch}"
    before = client.get(address).json()
    assert [(one["phase"], one["number"]) for one in before["tries"]] == [("caption", 1), ("caption", 2), ("index", 1)]
    first, second, _ = before["tries"]
    assert first["error"] == "EngineUnavailable" and "503" in first["why"]
    assert second["counts"] == {"captioned": 3} and second["error"] == ""
    assert first["log_url"] == "/dags/ingest_clips/caption/0?try_number=1"
    pipeline.report("r.1")
    assert client.get(address).json() == before
    page = client.get(address.removeprefix("/api")).text
    assert "caption, try 2" in page and "Ended by EngineUnavailable" in page and "Log of this try" in page


def test_a_batch_that_came_through_at_once_keeps_no_tries(pipeline):
    pipeline.put(2)
    pipeline.run("r.1")
    assert pipeline.store.list("tries") == []


def record(pipeline: Pipeline, number: int, outcome: Outcome, **fields) -> None:
    journal = Journal(pipeline.store, DAY, "r.1", "b", "caption", number)
    journal.add(ClipOutcome("c", "/c.mp4", DAY, "v", outcome, "b", **fields))
    journal.flush()


def test_tries_of_two_compactions_are_merged_and_bounded(pipeline):
    for number in range(1, 30):
        record(pipeline, number, Outcome.FAILED, reason="engine_failed", detail=HOSTILE * 100)
        if number in (3, 9):
            compact(pipeline.store, DAY, "r.1")
    compact(pipeline.store, DAY, "r.1")
    [kept] = tries.of_batch(pipeline.store, DAY, "r.1", "b", tries.History()).values()
    assert [one.number for one in kept] == list(range(10, 30))
    assert max(len(one.detail) for one in kept) <= 240


def test_tries_go_with_their_run(pipeline):
    from datetime import UTC, datetime, timedelta

    record(pipeline, 2, Outcome.FAILED)
    compact(pipeline.store, DAY, "r.1")
    assert len(pipeline.store.list("tries")) == 1
    prune(pipeline.store, 90, datetime.now(UTC) + timedelta(days=100))
    assert pipeline.store.list("tries") == []


def test_a_run_shows_its_report_and_a_task_its_batch(pipeline):
    pipeline.put(2)
    run = "manual__2026-11-22T01-02-03-00-00.2"
    batch = planned(pipeline, run)
    client = pages(pipeline)
    of_run = "/dag-runs/ingest_clips/manual__2026-11-22T01:02:03+00:00"
    assert "no report yet" in client.get(of_run).text
    pipeline.caption(batch)
    pipeline.index(batch)
    pipeline.report(run)
    assert client.get(f"/api/runs/{run}").json()["days"][0]["indexed"] == 2
    for address in (of_run, f"/runs/{run}"):
        assert f"/batches/{run}/{DAY}/{batch.batch}" in client.get(address).text
    of_task = of_run.replace("dag-runs", "tasks")
    assert f"Batch {batch.batch}" in client.get(f"{of_task}/process.caption/0").text
    for other in ("discover/-1", "report/{MAP_INDEX}", "process.caption/7"):
        assert "Batches" in client.get(f"{of_task}/{other}").text
    assert "processes no clips" in client.get("/tasks/other/r/t/0").text
    assert "not planned yet" in client.get("/dag-runs/ingest_clips/never").text
    assert client.get("/runs/none.1").status_code == 404
