"""Two Celery workers, a real Postgres and a real Redis: what make celery-demo shows, what an operator relies on."""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from demo.airflow_api import AirflowApi, finished
from demo.local_airflow import leftovers
from demo.local_celery import LocalCelery
from demo.places import DAG
from tests.support.engine import StandIn
from tests.support.pipeline import Pipeline, asked_twice

ROOT = Path(__file__).resolve().parents[2]
DAY, NEXT_DAY = "2026-11-03", "2026-11-04"
CLIPS, IN_FLIGHT = 8, 2
REDELIVERED_AFTER_S = 10


@pytest.fixture(scope="module")
def shown(tmp_path_factory) -> tuple[dict[str, Any], str]:
    """What make celery-demo says in the end, and all that it said before. It fails by itself if anything is lost."""
    home = tmp_path_factory.mktemp("demo")
    done = subprocess.run(
        [sys.executable, "-m", "demo.celery"], cwd=ROOT, env=environment(home), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert leftovers(home / ".celery" / ".airflow") == []
    return json.loads(done.stdout.splitlines()[-1]), done.stdout


def test_the_other_worker_takes_over_what_a_killed_one_had_in_hand(shown):
    told, said = shown
    assert len(told["taken_over_after_s"]) == told["tasks_in_hand"] >= 1
    assert set(re.findall(r"(worker-\d) took over", said)) == {"worker-2"}
    assert set(told["tries_by_worker"]) == {"worker-1", "worker-2"}


def test_a_killed_worker_is_noticed_within_the_heartbeat_timeout_and_the_first_retry_delay(shown):
    told, _ = shown
    assert told["taken_over_after_s"][-1] < told["heartbeat_timeout_s"] + 45


def test_no_stored_caption_is_asked_for_again_and_only_what_was_in_flight_is_repeated(shown):
    told, _ = shown
    assert told["stored_asked_again"] == 0
    assert told["requests"] == told["clips"] + told["requests_repeated"]
    assert told["requests_repeated"] <= told["tasks_in_hand"] * IN_FLIGHT


def test_the_run_ends_with_the_points_of_an_undisturbed_one_although_the_scheduler_was_killed_too(shown):
    told, _ = shown
    assert told["same_points"]
    assert told["runs"] == {"success": 3}


@pytest.fixture(scope="module")
def engine() -> Iterator[StandIn]:
    with StandIn(latency_s=6.0) as engine:
        yield engine


@pytest.fixture(scope="module")
def airflow(engine, tmp_path_factory) -> Iterator[LocalCelery]:
    """Two workers, and a broker that hands out again after seconds what is not acknowledged."""
    home = tmp_path_factory.mktemp("celery")
    pipeline = Pipeline(home, [engine.url], engine={"in_flight": IN_FLIGHT, "request_timeout_s": 60.0})
    for number, day in enumerate((DAY, NEXT_DAY)):
        pipeline.put(CLIPS, day, first=number * CLIPS)
    option = "AIRFLOW__CELERY_BROKER_TRANSPORT_OPTIONS__"
    given = {
        f"{option}VISIBILITY_TIMEOUT": str(REDELIVERED_AFTER_S),
        f"{option}UNACKED_RESTORE_INTERVAL": "1",  # a worker looks every second for what to hand out again,
        f"{option}UNACKED_RESTORE_THROTTLE": "1",  # each time: by default that is every 100 s
    }
    with LocalCelery(home / ".airflow", pipeline.environment() | given) as airflow:
        yield airflow


@pytest.fixture
def api(airflow) -> Iterator[AirflowApi]:
    with AirflowApi(airflow.url, airflow.user, airflow.password) as api:
        yield api


def test_a_task_that_the_broker_hands_out_again_runs_once(airflow, api, engine):
    run = api.trigger(DAG, DAY)
    wait_until(lambda: finished(api.run(DAG, run)), 180)
    assert any(map(refused, (airflow.home / "logs/components").glob("worker-*")))
    assert [task["try_number"] for task in api.tasks(DAG, run)] == [1] * len(api.tasks(DAG, run))
    assert asked_twice(engine.chats) == []


def test_a_worker_that_is_told_to_stop_finishes_its_task_first(airflow, api):
    run = api.trigger(DAG, NEXT_DAY)
    wait_until(lambda: captioning(api, run), 120)
    worker = captioning(api, run)["hostname"]
    stopped = airflow.end(worker, 120)
    wait_until(lambda: finished(api.run(DAG, run)), 180)
    hosts = {task["task_id"]: (task["hostname"], task["try_number"]) for task in api.tasks(DAG, run)}
    assert stopped == 0
    assert hosts["process.caption"] == (worker, 1)
    assert hosts["process.index"][0] != worker


def environment(home: Path) -> dict[str, str]:
    return {**os.environ, "CLIPDEX_HOME": str(home)}


def refused(log: Path) -> bool:
    return "already running elsewhere" in log.read_text(errors="replace")


def captioning(api: AirflowApi, run: str) -> dict[str, Any] | None:
    mapped = (task for task in api.tasks(DAG, run) if task["task_id"] == "process.caption")
    return next((task for task in mapped if task["state"] == "running"), None)


def wait_until(true, seconds):
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, f"not after {seconds} s"
        time.sleep(0.2)
