"""Runs of ingest_clips, each task as Airflow runs it, against the stand-in engine: what a person finds afterwards."""

import json
import logging
import os
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from clipdex.runs import leases
from clipdex.runs.outcomes import Outcome
from clipdex.runs.planning import load_plan, run_label
from clipdex.runs.report import load_report
from tests.dags.conftest import loaded_dag
from tests.support.embedding import EmbeddingServer
from tests.support.engine import MODEL, StandIn
from tests.support.pipeline import DAY, Pipeline

NEXT_DAY = "2026-11-04"


@pytest.fixture(scope="module")
def database():
    from airflow.utils.db import initdb

    initdb()


@pytest.fixture
def engine() -> Iterator[StandIn]:
    with StandIn(words=80) as engine:
        yield engine


@pytest.fixture
def pipeline(tmp_path, engine, monkeypatch) -> Pipeline:
    """What the runs leave, seen from outside; they read the same settings from their environment."""
    pipeline = Pipeline(tmp_path, [engine.url])
    for name, value in pipeline.environment().items():
        monkeypatch.setenv(name, value)
    return pipeline


@pytest.fixture
def run(database):
    return lambda **params: loaded_dag("ingest_clips").test(run_conf=params)


@pytest.fixture
def run_nightly(database, monkeypatch):
    """Run what the scheduler makes at some moment, in this process: dag.test() makes manual runs alone."""
    import pendulum
    from airflow.serialization.definitions.dag import SerializedDAG
    from airflow.serialization.encoders import coerce_to_core_timetable
    from airflow.timetables.base import TimeRestriction
    from airflow.utils.types import DagRunType

    create = SerializedDAG.create_dagrun

    def run_nightly(after: datetime, **params):
        dag = loaded_dag("ingest_clips")
        timetable = coerce_to_core_timetable(dag.timetable)
        info = timetable.next_dagrun_info_v2(
            last_dagrun_info=None, restriction=TimeRestriction(pendulum.instance(after), None, True)
        )
        run_id = timetable.generate_run_id(
            run_type=DagRunType.SCHEDULED,
            run_after=info.run_after,
            data_interval=None,
            partition_key=info.partition_key,
        )

        def scheduled(self, **given):
            partition = {"partition_key": info.partition_key, "partition_date": info.partition_date}
            return create(self, **{**given, "run_id": run_id, "run_type": DagRunType.SCHEDULED, **partition})

        monkeypatch.setattr(SerializedDAG, "create_dagrun", scheduled)
        done = dag.test(logical_date=None, run_after=info.run_after, run_conf=params)
        monkeypatch.setattr(SerializedDAG, "create_dagrun", create)
        return info.partition_key, done

    return run_nightly


@pytest.fixture
def logged(capsys, caplog):
    """Return what clipdex logged, and what the task runner printed, since the test began."""
    caplog.set_level(logging.INFO, "clipdex")

    def logged():
        lines = [one.getMessage() for one in caplog.records if one.name.startswith("clipdex")]
        return lines, capsys.readouterr().out

    return logged


def test_good_clips_are_found_and_a_bad_one_is_quarantined_with_its_reason(pipeline, run):
    clips = pipeline.put(5)
    clips[0].with_name("empty.mp4").touch()
    done = run(day=DAY)
    report = load_report(pipeline.store, label(done))
    assert done.state == "success"
    assert {point["uri"].rpartition("/")[2] for point in pipeline.points().values()} == {clip.name for clip in clips}
    assert [(line["uri"].rpartition("/")[2], line["reason"]) for line in report.quarantine] == [
        ("empty.mp4", "empty_file")
    ]
    assert [
        (day.day, day.planned, day.captioned, day.indexed, day.quarantined, day.unfinished) for day in report.days
    ] == [(DAY, 6, 5, 5, 1, 0)]


def test_a_batch_is_shown_by_its_first_clip_and_its_size(pipeline, run):
    pipeline.put(5)
    done = run(day=DAY, batch_size=2)
    shown = {
        task.map_index: task.rendered_map_index
        for task in done.get_task_instances()
        if task.task_id == "process.caption"
    }
    assert shown == {
        0: "2026/11/03/tiny-000000.mp4 +1",
        1: "2026/11/03/tiny-000002.mp4 +1",
        2: "2026/11/03/tiny-000004.mp4",
    }


def test_a_trigger_without_day_or_prefix_names_what_to_give(pipeline, run, engine, logged):
    pipeline.put(1)
    done = run()
    assert done.state == "failed"
    line = next(line for line in logged()[0] if line.startswith("discover failed: "))
    assert "nothing to ingest: trigger with a day (2026-11-03) or a prefix, or make a backfill" in line
    assert engine.requests == []


@pytest.mark.parametrize("param", ["source", "engine"])
def test_a_run_cannot_be_pointed_at_what_somebody_else_keeps_in_airflow(pipeline, run, engine, param):
    from airflow.sdk.exceptions import ParamValidationError

    pipeline.put(1)
    with pytest.raises(ParamValidationError, match="does not match"):
        run(day=DAY, **{param: "warehouse"})
    assert engine.requests == []


def test_a_prefix_is_ingested_whatever_the_days_below_it(pipeline, run):
    pipeline.put(2)
    pipeline.put(2, NEXT_DAY, first=2)
    pipeline.put(1, "2026-12-01", first=4)
    done = run(prefix="2026/11")
    assert done.state == "success"
    assert sorted(point["day"] for point in pipeline.points().values()) == [DAY, DAY, NEXT_DAY, NEXT_DAY]


def test_a_run_over_a_prefix_holds_the_days_that_it_works_on_and_gives_them_back(pipeline, run):
    pipeline.put(1)
    pipeline.put(1, NEXT_DAY, first=1)
    done = run(prefix="2026/11")
    held = [pipeline.store.read_json(key) for key in pipeline.store.list("leases")]
    assert [lease["owner"] for lease in held] == [label(done)] * 2
    assert all(lease["expires"] <= lease["heartbeat"] for lease in held)


@pytest.mark.parametrize("state", ["success", None])
def test_the_day_of_a_run_that_ended_is_taken_when_its_lease_has_expired(pipeline, run, state):
    pipeline.put(1)
    other = run(day=NEXT_DAY).run_id if state else "deleted"
    leases.acquire(pipeline.store, DAY, "other.1", 0, json.dumps(["ingest_clips", other]))
    assert run(day=DAY).state == "success"


@pytest.mark.slow
def test_the_day_of_a_run_whose_tasks_all_wait_is_not_taken_until_it_ends(pipeline, run):
    from airflow.models import DagRun, TaskInstance
    from airflow.utils.session import create_session
    from sqlalchemy import select, update

    pipeline.put(1)
    other = run(day=NEXT_DAY).run_id

    def set_state(state: str) -> None:
        with create_session(scoped=False) as session:
            session.execute(update(DagRun).where(DagRun.run_id == other).values(state=state))

    def end_when_discover_was_refused() -> None:
        waits = select(TaskInstance.run_id).where(
            TaskInstance.task_id == "discover", TaskInstance.state == "up_for_retry"
        )
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            with create_session(scoped=False) as session:
                if session.scalar(waits):
                    break
            time.sleep(0.1)
        set_state("success")

    set_state("running")
    leases.acquire(pipeline.store, DAY, "other.1", 0, json.dumps(["ingest_clips", other]))
    ending = threading.Thread(target=end_when_discover_was_refused)
    ending.start()
    done = run(day=DAY)
    ending.join()
    assert done.state == "success"
    (discover,) = (task for task in done.get_task_instances() if task.task_id == "discover")
    assert discover.try_number == 2


def test_a_day_without_clips_is_green_and_has_a_report(pipeline, run, engine):
    done = run(day="2026-01-01")
    assert done.state == "success"
    assert load_report(pipeline.store, label(done)).total("planned") == 0
    assert states(done)["publish"] == "skipped"


def test_a_day_that_is_run_again_asks_for_nothing_and_changes_nothing(pipeline, run, engine):
    pipeline.put(3)
    run(day=DAY)
    points = pipeline.points()
    again = run(day=DAY)
    assert again.state == "success"
    assert load_plan(pipeline.store, label(again)).done == 3
    assert len(engine.chats) == 3
    assert pipeline.points() == points


@pytest.mark.slow
def test_recaption_asks_again_for_what_has_a_caption(pipeline, run, engine):
    pipeline.put(3)
    run(day=DAY)
    again = run(day=DAY, recaption=True)
    assert load_report(pipeline.store, label(again)).total("asked") == 3
    assert len(engine.chats) == 6


@pytest.mark.slow
def test_retry_quarantined_tries_those_of_the_reason_again_and_no_others(pipeline, run, engine):
    clips = pipeline.put(6)
    clips[0].with_name("empty.mp4").touch()
    refused = pipeline.proxy_digest(clips[2])
    engine.plan.set(f"400:digest={refused}")
    run(day=DAY)
    engine.plan.set("")
    again = run(day=DAY, retry_quarantined=["rejected_by_engine"])
    plan = load_plan(pipeline.store, label(again))
    assert (plan.to_do, plan.quarantined) == (1, 1)
    assert pipeline.outcomes(label(again))[clips[2].name].outcome is Outcome.INDEXED


def test_a_wrong_model_fails_the_task_at_once_and_condemns_no_clip(pipeline, run, engine):
    pipeline.put(3)
    engine.model = "another/model"
    done = run(day=DAY)
    assert done.state == "failed"
    assert {task: state for task, state in states(done).items() if state == "failed"} == {
        "process.caption": "failed", "report": "failed",
    }  # fmt: skip
    assert pipeline.outcomes(label(done)) == {}


def test_the_log_of_an_expected_failure_ends_with_what_happens_next_and_no_traceback(pipeline, run, engine, logged):
    """The engine is away at the first try of captioning and back at the second."""
    pipeline.put(2)
    engine.plan.set("503:6:say=The server is overloaded")
    dag = loaded_dag("ingest_clips")
    dag.task_dict["process.caption"].retry_delay = timedelta(seconds=1)
    done = dag.test(run_conf={"day": DAY})
    assert done.state == "success"
    lines, log = logged()
    assert "Traceback" not in log and "Task exited" in log
    (line,) = [line for line in lines if "failed: " in line]
    assert line.startswith("caption failed: EngineUnavailable: 2 of 2 clips are left for the next try: ")
    assert "503 The server is overloaded" in line
    assert line.endswith(
        "Captions and outcomes of this try are stored; the next one requests only the other clips. "
        "Try 2 of 7 starts in 1 to 2 s."
    )


@pytest.mark.slow
def test_embedding_servers_of_a_connection_embed_the_chunks_and_are_retried(pipeline, run, monkeypatch, logged):
    pipeline.put(2)
    dag = loaded_dag("ingest_clips")
    dag.task_dict["process.index"].retry_delay = timedelta(seconds=1)
    with EmbeddingServer("503:1", api_key="a-key") as server:
        connection = {"host": server.url, "password": "a-key", "extra": {"tries": 1}}
        monkeypatch.setenv("AIRFLOW_CONN_CLIPDEX_EMBEDDING", json.dumps(connection))
        assert dag.test(run_conf={"day": DAY}).state == "success"
        embedded = set(server.texts)
    assert embedded == {point["text"] for point in pipeline.points().values()}
    lines, log = logged()
    assert "Traceback" not in log
    (line,) = [line for line in lines if "failed: " in line]
    assert line.startswith(f"index failed: EmbeddingUnavailable: {server.url}/v1/embeddings: 503 ")
    assert line.endswith(
        "Points that were written stay; the next try writes the others. Try 2 of 7 starts in 1 to 2 s."
    )


def test_the_log_of_a_failure_that_a_person_must_fix_names_what_to_do(pipeline, run, engine, logged):
    pipeline.put(1)
    engine.model = "another/model"
    done = run(day=DAY)
    lines, log = logged()
    assert "Traceback" not in log
    (line,) = [line for line in lines if line.startswith("caption failed: ")]
    assert f"ConfigurationError: {engine.url}/v1/models: serves another/model, wanted {MODEL}" in line
    assert line.endswith("No retry: a person must change something first. To run this task again, clear it.")
    (shown,) = [task.rendered_map_index for task in done.get_task_instances() if task.task_id == "process.caption"]
    assert shown == "2026/11/03/tiny-000000.mp4"


def test_the_log_of_an_unexpected_failure_has_its_traceback(pipeline, logged):
    pipeline.put(1)
    pipeline.store.write("runs", b"a file in place of the folder of plans")
    dag = loaded_dag("ingest_clips")
    dag.task_dict["discover"].retries = 0
    assert dag.test(run_conf={"day": DAY}).state == "failed"
    lines, log = logged()
    assert "Traceback" in log and not any(line.startswith("discover failed: ") for line in lines)


def moved_to_times(pipeline, monkeypatch, moments: dict[str, str]) -> list[Path]:
    """Make an archive without days in its paths, of clips with these modification times."""
    monkeypatch.setenv("CLIPDEX_SOURCE__DAY_PATTERN", "")
    paths = [path.rename(pipeline.clips / name) for path, name in zip(pipeline.put(len(moments)), moments, strict=True)]
    for path in paths:
        os.utime(path, (datetime.fromisoformat(moments[path.name]).timestamp(),) * 2)
    return paths


def test_the_nightly_run_has_the_local_day_that_is_over_also_when_the_clocks_change(
    pipeline, run_nightly, engine, monkeypatch
):
    monkeypatch.setenv("CLIPDEX_SOURCE__TIMEZONE", "Europe/Berlin")
    moved_to_times(pipeline, monkeypatch, {
        "too-early.mp4": "2026-10-24T23:59:59+02:00",
        "first.mp4": "2026-10-25T00:00:00+02:00",
        "last.mp4": "2026-10-25T23:59:59+01:00",
        "too-late.mp4": "2026-10-26T00:00:00+01:00",
    })  # fmt: skip
    monkeypatch.setenv("CLIPDEX_SOURCE__LOOKBACK_DAYS", "0")
    day, done = run_nightly(datetime(2026, 10, 25, 12, tzinfo=UTC))
    assert (day, done.state) == ("2026-10-25", "success")
    assert {(point["uri"].rpartition("/")[2], point["day"]) for point in pipeline.points().values()} == {
        ("first.mp4", day), ("last.mp4", day),
    }  # fmt: skip
    assert load_report(pipeline.store, label(done)).timezone == "Europe/Berlin"


def test_nightly_runs_after_a_change_of_the_zone_move_the_clips_of_their_days(
    pipeline, run_nightly, engine, monkeypatch
):
    clips = {"morning.mp4": "2026-11-03T09:00+00:00", "night.mp4": "2026-11-03T22:00+00:00"}
    moved_to_times(pipeline, monkeypatch, clips)
    assert run_nightly(datetime(2026, 11, 3, 12, tzinfo=UTC))[0] == "2026-11-03"
    monkeypatch.setenv("CLIPDEX_SOURCE__TIMEZONE", "Europe/Moscow")
    day, done = run_nightly(datetime(2026, 11, 4, 12, tzinfo=UTC))
    report = load_report(pipeline.store, label(done))
    assert (day, done.state, report.moved) == ("2026-11-04", "success", 1)
    assert (report.done_before, report.total("asked"), len(engine.chats)) == (1, 0, 2)
    assert {(point["uri"].rpartition("/")[2], point["day"]) for point in pipeline.points().values()} == {
        ("morning.mp4", "2026-11-03"), ("night.mp4", "2026-11-04"),
    }  # fmt: skip


@pytest.mark.parametrize(("given", "state"), [("Europe/Moscow", "failed"), ("Asia/Tokyo", "success")])
@pytest.mark.slow
def test_a_connection_with_another_zone_than_the_schedule_fails_scheduled_runs_alone(
    pipeline, run, run_nightly, engine, logged, monkeypatch, given, state
):
    monkeypatch.setenv("CLIPDEX_SOURCE__TIMEZONE", "Asia/Tokyo")
    connection = {"host": str(pipeline.clips), "extra": {"timezone": given}}
    monkeypatch.setenv("AIRFLOW_CONN_CLIPDEX_SOURCE", json.dumps(connection))
    pipeline.put(1)
    day, done = run_nightly(datetime(2026, 11, 3, 12, tzinfo=UTC))
    assert (day, done.state) == (DAY, state)
    if state == "failed":
        line = next(line for line in logged()[0] if line.startswith("discover failed: ConfigurationError"))
        assert "the time zone of connection clipdex_source is Europe/Moscow" in line and "days of Asia/Tokyo" in line
        assert not engine.requests
    assert run(day=DAY).state == "success"


def test_a_run_that_was_scheduled_in_another_zone_does_not_take_a_day_that_is_not_over(
    pipeline, run_nightly, engine, logged, monkeypatch
):
    from airflow.sdk import DAG

    pipeline.put(1)
    test = DAG.test

    def in_another_process(self, **given):
        monkeypatch.setenv("CLIPDEX_SOURCE__TIMEZONE", "America/Los_Angeles")
        return test(self, **given)

    monkeypatch.setattr(DAG, "test", in_another_process)
    day, done = run_nightly(datetime(2026, 11, 3, 12, tzinfo=UTC))
    assert (day, done.state) == (DAY, "failed")
    assert any(f"{DAY} is not over in America/Los_Angeles" in line for line in logged()[0]) and not engine.requests


def label(run) -> str:
    return run_label(run.run_id, 1)


def states(run) -> dict[str, str]:
    return {task.task_id: task.state for task in run.get_task_instances()}
