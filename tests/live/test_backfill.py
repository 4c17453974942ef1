"""A real Airflow against the stand-in engine and its faults: backfilled days, killed tasks, a red day repaired.

The runs that can go side by side are started together; each test waits for its own.
"""

import hashlib
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import psutil
import pytest

from clipdex.runs import leases
from clipdex.runs.planning import load_plan, run_label
from clipdex.runs.report import load_report
from demo.airflow_api import AirflowApi, ApiError, finished
from demo.local_airflow import LocalAirflow
from tests.support.engine import StandIn
from tests.support.pipeline import Pipeline, asked_twice
from tests.support.watching import Collector, dags_soon_late, said_late

DAG, CAPTION = "ingest_clips", "process.caption"
DAYS = ["2026-01-05", "2026-01-06"]
KILLED, HELD, RED = "2026-01-08", "2026-01-10", "2026-01-12"
SECONDS = 180

pytestmark = pytest.mark.live


@dataclass(frozen=True, slots=True)
class Deployment:
    """Airflow, the engine that it asks, and what its runs leave. clips: how the engine sees each, by day and name;
    collector: where it sends its metrics."""

    airflow: LocalAirflow
    api: AirflowApi
    collector: Collector
    engine: StandIn
    pipeline: Pipeline
    clips: dict[str, dict[str, str]]

    def runs(self, *days: str, seconds: float = SECONDS) -> list[dict[str, Any]]:
        """The runs of these days, once they have ended, in the order of their days."""

        def of_days(runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
            return sorted((run for run in runs if run["partition_key"] in days), key=lambda run: run["partition_key"])

        ended = lambda runs: [finished(run) for run in of_days(runs)] == [True] * len(days)  # noqa: E731
        return of_days(self.api.wait(DAG, ended, seconds))

    def log(self, run: dict[str, Any], try_number: int, task: str = CAPTION, map_index: int = 0) -> str:
        return self.api.log(DAG, run["dag_run_id"], task, try_number, map_index)

    def tries(self, run: dict[str, Any], task: str = CAPTION, map_index: int = 0) -> list[str]:
        """The state of each try, the last one last."""
        return [one["state"] for one in self.api.tries(DAG, run["dag_run_id"], task, map_index)]

    def searchable(self, day: str) -> set[str]:
        """Names of the clips of a day that have points."""
        return {point["uri"].rpartition("/")[2] for point in self.pipeline.points().values() if point["day"] == day}

    def asked(self, day: str) -> list[str]:
        """The clips of a day that the engine was asked for, once for each request."""
        names = {digest: name for name, digest in self.clips[day].items()}
        return [names[request.digest] for request in self.engine.chats if request.digest in names]


@pytest.fixture(scope="module")
def deployment(tmp_path_factory) -> Iterator[Deployment]:
    home = tmp_path_factory.mktemp("deployment")
    with StandIn(words=80) as engine, Collector() as collector:
        limits = {"in_flight": 2, "tries": 2, "request_timeout_s": 5.0}
        pipeline = Pipeline(home, [engine.url], engine=limits)
        clips = {}
        for number, day in enumerate([*DAYS, KILLED, HELD, RED]):
            paths = pipeline.put(2 if day == HELD else 6, day, first=10 * number)
            clips[day] = {path.name: pipeline.proxy_digest(path) for path in paths}
        (pipeline.clips / DAYS[0].replace("-", "/") / "empty.mp4").touch()
        engine.plan.set(",".join(faults(clips)))
        given = pipeline.environment() | collector.options
        given["AIRFLOW__CORE__DAGS_FOLDER"] = str(dags_soon_late(home / "dags"))
        with (
            LocalAirflow(home / "airflow", given) as airflow,
            AirflowApi(airflow.url, airflow.user, airflow.password) as api,
        ):
            yield Deployment(airflow, api, collector, engine, pipeline, clips)


@dataclass(frozen=True, slots=True)
class Killed:
    """What there was when a caption task was killed: clips with a stored caption, and requests for clips of its day."""

    kept: set[str]
    asked: int


@pytest.fixture(scope="module")
def started(deployment) -> Deployment:
    """Two days are backfilled; a third run waits for its day."""
    leases.acquire(deployment.pipeline.store, HELD, "another-run", 600)
    deployment.api.backfill(DAG, DAYS[0], DAYS[1], runs=2)
    for day in (KILLED, HELD):
        deployment.api.trigger(DAG, day)
    return deployment


@pytest.fixture(scope="module")
def killed(started) -> Killed:
    """Two of six clips are captioned, two are asked for: SIGKILL, to the task alone."""
    process = wait_for(lambda: running(started, KILLED))
    wait_for(lambda: len(captioned(started, KILLED)) >= 2)
    process.kill()
    process.wait(10)
    return Killed(captioned(started, KILLED), len(started.asked(KILLED)))


@pytest.fixture(scope="module")
def freed(started, killed) -> str:
    """The day is given back, then held by the first try of the run itself, as if it had been killed; that try's log."""
    run = of_day(started, HELD)
    told = wait_for(lambda: told_by(started, run, "is worked on by"))
    leases.release(started.pipeline.store, HELD, "another-run")
    leases.acquire(started.pipeline.store, HELD, run_label(run["dag_run_id"], 1), 600)
    return told


def faults(clips: dict[str, dict[str, str]]) -> list[str]:
    """Enough 503s that one try ends half-way; on the next day, trouble that a try rides out; a key that turns bad."""
    first, second, red = (list(clips[day].values()) for day in (*DAYS, RED))
    return [
        *(f"503:2:digest={digest}" for digest in first[2:]),
        *(f"{name}:1:digest={digest}" for name, digest in zip(["hang", "garbage", "503"], second, strict=False)),
        *(f"slow:digest={digest}:seconds=2.5" for digest in clips[KILLED].values()),
        f"401:1:digest={red[3]}",
    ]


def test_a_run_waits_for_a_day_that_another_works_on_and_says_who_holds_it(started, freed):
    assert f"{HELD} is worked on by another-run" in freed
    (run,) = started.runs(HELD)
    assert run["state"] == "success"
    assert started.searchable(HELD) == set(started.clips[HELD])


def test_a_killed_task_is_retried_and_asks_for_nothing_that_was_stored(started, killed, freed):
    (run,) = started.runs(KILLED)
    names = set(started.clips[KILLED])
    assert run["state"] == "success" and len(started.tries(run)) == 2
    assert not killed.kept & set(started.asked(KILLED)[killed.asked :])
    assert len(started.asked(KILLED)) <= len(names) + started.pipeline.settings.engine.in_flight
    assert started.searchable(KILLED) == names


def test_every_good_clip_of_the_backfilled_days_is_searchable_and_none_was_paid_for_twice(started, freed):
    runs = started.runs(*DAYS)
    assert [run["state"] for run in runs] == ["success", "success"]
    for day in DAYS:
        assert started.searchable(day) == set(started.clips[day])
    digests = {digest for day in DAYS for digest in started.clips[day].values()}
    assert asked_twice([request for request in started.engine.chats if request.digest in digests]) == []


def test_a_bad_clip_of_a_backfilled_day_is_in_quarantine_and_no_other(started, freed):
    run, _ = started.runs(*DAYS)
    report = load_report(started.pipeline.store, run_label(run["dag_run_id"], 1))
    assert [(line["uri"].rpartition("/")[2], line["reason"]) for line in report.quarantine] == [
        ("empty.mp4", "empty_file")
    ]


def test_a_try_that_the_engine_let_down_is_seen_and_the_next_says_what_was_done(started, freed):
    run, other = started.runs(*DAYS)
    assert started.tries(run)[-1] == "success" and len(started.tries(run)) == 2
    left = re.search(r"(\d) of 7 clips are left for the next try", started.log(run, 1))
    assert left
    done = f"earlier tries captioned {6 - int(left[1])} of 7 clips and refused 1; {left[1]} to do"
    assert done in started.log(run, 2)
    assert started.tries(other) == ["success"]


def test_a_red_day_is_repaired_by_a_backfill_that_asks_only_for_what_is_missing(started, freed):
    started.runs(*DAYS)
    backfill(started, RED)
    (red,) = started.runs(RED)
    had, found = captioned(started, RED), started.searchable(RED)
    assert red["state"] == "failed" and started.tries(red) == ["failed"]
    assert "check the key" in started.log(red, 1)
    assert found and found <= had < set(started.clips[RED])
    asked = len(started.asked(RED))
    backfill(started, RED, "failed")
    repaired = wait_for(lambda: ended_after(started, red), SECONDS)
    assert repaired["state"] == "success"
    assert started.searchable(RED) == set(started.clips[RED])
    assert sorted(started.asked(RED)[asked:]) == sorted(set(started.clips[RED]) - had)
    assert load_plan(started.pipeline.store, run_label(repaired["dag_run_id"], 1)).done == len(found)


def test_a_run_that_is_late_is_told_by_the_triggerer_and_the_nightly_one_as_an_error(started):
    """Every run is, with a deadline of a second."""
    (nightly,) = (run for run in started.api.runs(DAG) if run["run_type"] == "scheduled")
    home, backfilled = started.airflow.home, of_day(started, DAYS[0])
    wait_for(lambda: said_late(home, nightly["dag_run_id"]) and said_late(home, backfilled["dag_run_id"]))
    assert all("error" in line for line in said_late(home, nightly["dag_run_id"]))
    assert not any("error" in line for line in said_late(home, backfilled["dag_run_id"]))


def test_what_the_runs_did_reaches_an_opentelemetry_collector(started, freed):
    """Many processes count, each for a while: what they told adds up, whatever became of them."""
    started.runs(*DAYS, KILLED, HELD)
    wait_for(lambda: all(map(finished, started.api.runs(DAG))), SECONDS)
    searchable = len({point["clip_id"] for point in started.pipeline.points().values()})
    told = started.collector
    wait_for(lambda: told.counters["airflow.clipdex.clips.indexed"] >= searchable)
    assert told.counters["airflow.clipdex.clips.indexed"] == searchable
    assert told.counters["airflow.clipdex.quarantined.empty_file"] == 1
    assert told.not_summed == set()


def backfill(deployment: Deployment, day: str, reprocess: str = "none") -> None:
    """Airflow takes one backfill of a DAG at a time."""
    backfills = lambda: list(deployment.api.pages("/backfills", "backfills", dag_id=DAG))  # noqa: E731
    wait_for(lambda: all(one["completed_at"] for one in backfills()))
    deployment.api.backfill(DAG, day, day, reprocess)


def of_day(deployment: Deployment, day: str) -> dict[str, Any]:
    (run,) = (run for run in deployment.api.runs(DAG) if run["partition_key"] == day)
    return run


def ended_after(deployment: Deployment, run: dict[str, Any]) -> dict[str, Any] | None:
    """The other run of that day, once it has ended: Airflow makes a new one to reprocess a partition."""
    of_that_day = [one for one in deployment.api.runs(DAG) if one["partition_key"] == run["partition_key"]]
    return next((one for one in of_that_day if one["dag_run_id"] != run["dag_run_id"] and finished(one)), None)


def running(deployment: Deployment, day: str) -> psutil.Process | None:
    """The process of a day's caption task, by the title that Airflow gives it; not the one that watches over it."""
    for task in deployment.api.tasks(DAG, of_day(deployment, day)["dag_run_id"]):
        if task["task_id"] == CAPTION and task["state"] == "running":
            title = f"airflow worker -- {task['id']}"
            return next((one for one in psutil.process_iter() if titled(one) == title), None)
    return None


def titled(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline()).strip()
    except psutil.Error:
        return ""


def captioned(deployment: Deployment, day: str) -> set[str]:
    """Names of the clips of a day whose captions are stored."""
    store, folder = deployment.pipeline.store, deployment.pipeline.clips / day.replace("-", "/")
    contents = {store.read_json(key)["content"] for key in store.list("captions")}
    return {path.name for path in folder.iterdir() if hashlib.sha256(path.read_bytes()).hexdigest() in contents}


def told_by(deployment: Deployment, run: dict[str, Any], words: str) -> str:
    """The log of the run's first discovery, once it has these words."""
    try:
        log = deployment.log(run, 1, "discover", -1)
    except ApiError:
        return ""  # it has not begun
    return log if words in log else ""


def wait_for(what: Callable[[], Any], seconds: float = 90) -> Any:
    """What is awaited, as soon as it is true."""
    deadline = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < deadline, f"not within {seconds:.0f} s"
        time.sleep(0.1)
    return found
