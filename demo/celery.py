"""Run `make celery-demo`: two Celery workers share three days of clips; kill one worker at work, then the scheduler.

The engine is a stand-in that logs each request. The index is compared with that of a run without faults. The last line
is one JSON object, which --out also writes to a file. Exit with 1 if a clip is lost, or a stored caption is requested
again.
"""

import argparse
import hashlib
import json
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console

from clipdex.errors import ConfigurationError
from clipdex.runs.report import report_run
from clipdex.storage.filesystem import require_writable
from demo.airflow_api import AirflowApi, finished
from demo.local_airflow import AirflowFailed, die_with_parent, stop_leftovers
from demo.local_celery import HEARTBEAT_TIMEOUT_S, LocalCelery
from demo.places import DAG, REPOSITORY, celery_home
from demo.samples import DAYS, write_tiny_clips
from tests.support.engine import Request, StandIn, read_log
from tests.support.pipeline import Pipeline

WORKERS = ("worker-1", "worker-2")
CONCURRENCY = 2
CLIPS_A_DAY, BATCH, IN_FLIGHT = 24, 6, 2
CAPTION_S = 2.0
DEADLINE_S = 900

Task = dict[str, Any]

console = Console(highlight=False, soft_wrap=True)


@dataclass(slots=True)
class Story:
    """The injected faults and their effects. killed_at: seconds since 1970; *_s: seconds."""

    killed: str = ""
    killed_at: float = 0.0
    in_hand: tuple[str, ...] = ()
    taken_over_s: tuple[float, ...] = ()
    cut_off: int = 0
    scheduler_down_s: float = 0.0
    next_task_s: float = 0.0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="also write the JSON object to this file")
    out = parser.parse_args().out
    if out:
        require_writable(out)
    started = time.monotonic()
    home = celery_home()
    stop_leftovers(home / ".airflow")
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir(parents=True)
    for number, day in enumerate(DAYS):
        write_tiny_clips(home / "clips", CLIPS_A_DAY, day, first=number * CLIPS_A_DAY)
    clips = CLIPS_A_DAY * len(DAYS)
    report(f"{clips} clips over {len(DAYS)} days, in batches of {BATCH}; the engine takes {CAPTION_S:.0f} s per clip")
    undisturbed = undisturbed_points(home)
    report(f"A run without faults writes {len(undisturbed)} points; this is the expected index")
    with stand_in(home / "requests.jsonl") as url:
        pipeline = Pipeline(home, [url], home / "clips", engine={"in_flight": IN_FLIGHT, "request_timeout_s": 60.0})
        report("Starting Postgres, Redis and Airflow with CeleryExecutor: " + ", ".join(WORKERS) + " …")
        environment = pipeline.environment() | {"CLIPDEX_BATCHES__SIZE": str(BATCH)}
        with (
            LocalCelery(home / ".airflow", environment, WORKERS, CONCURRENCY) as airflow,
            AirflowApi(airflow.url, airflow.user, airflow.password) as api,
        ):
            report(f"Airflow is up at {airflow.url} ({time.monotonic() - started:.0f} s)")
            story, runs, tasks = disturbed(airflow, api, home / "requests.jsonl")
    requests = chats(home / "requests.jsonl")
    repeated = stored_asked_again(pipeline, requests)
    same = pipeline.points() == undisturbed
    summary = {
        "clips": clips,
        "runs": dict(Counter(run["state"] for run in runs)),
        "batches": len({place(task) for task in tasks if task["task_id"] == "process.caption"}),
        "tries_by_worker": dict(Counter(task["hostname"] for task in tasks if task["task_id"].startswith("process."))),
        "worker_killed": story.killed,
        "tasks_in_hand": len(story.in_hand),
        "heartbeat_timeout_s": HEARTBEAT_TIMEOUT_S,
        "taken_over_after_s": sorted(round(seconds, 1) for seconds in story.taken_over_s),
        "scheduler_down_s": round(story.scheduler_down_s, 1),
        "next_task_after_s": round(story.next_task_s, 1),
        "requests": len(requests),
        "requests_cut_off": story.cut_off,
        "requests_repeated": len(requests) - len({request.digest for request in requests}),
        "stored_asked_again": repeated,
        "points": len(undisturbed),
        "same_points": same,
        "seconds": round(time.monotonic() - started, 1),
    }
    good = same and not repeated and summary["runs"] == {"success": len(DAYS)}
    report("No clip lost, no clip captioned twice." if good else "[red]Check failed: see the next line.[/]")
    text = json.dumps(summary)
    if out:
        out.write_text(text + "\n")
    print(text)
    return 0 if good else 1


def disturbed(airflow: LocalCelery, api: AirflowApi, log: Path) -> tuple[Story, list[dict[str, Any]], list[Task]]:
    """Backfill the days; kill a worker, then the scheduler. Return the story, the runs, and all tries of all tasks."""
    story, watch = Story(), Watch(airflow, api, log)
    api.backfill(DAG, DAYS[0], DAYS[-1], runs=len(DAYS))
    report(f"Backfill of {DAYS[0]} to {DAYS[-1]} created")

    victim = WORKERS[0]
    # Each worker has completed a batch and is captioning another; more requests are in flight than one worker has.
    watch.until(
        lambda: (
            captioning_on(watch.tasks, "success") >= set(WORKERS)
            and captioning_on(watch.tasks) >= set(WORKERS)
            and watch.in_flight > CONCURRENCY * IN_FLIGHT
        )
    )
    story.killed, story.killed_at = victim, time.time()
    killed = airflow.kill(victim)
    mine = [task for task in watch.look() if task["hostname"] == victim and task["state"] == "running"]
    story.in_hand = tuple(task["id"] for task in mine)
    report(f"[bold red]SIGKILL[/] to {victim} and its {killed - 1} processes; running: {', '.join(map(name, mine))}")
    watch.until(lambda: len(taken_over(watch.tasks, mine, story.killed_at)) == len(mine))
    retried = taken_over(watch.tasks, mine, story.killed_at)
    story.taken_over_s = tuple(at(task["start_date"]) - story.killed_at for task in retried)
    for task, seconds in zip(retried, story.taken_over_s, strict=True):
        report(f"{task['hostname']} took over {name(task)} after {seconds:.0f} s, as try {task['try_number']}")
    story.cut_off = sum(one.status == 499 and (one.end or 0.0) < story.killed_at + 5 for one in chats(log))

    watch.until(lambda: bool(captioning_on(watch.tasks)))
    began = time.time()
    airflow.kill("scheduler")
    report("[bold red]SIGKILL[/] to the scheduler")
    airflow.start("scheduler")
    watch.until(lambda: watch.scheduler_beat > began)
    story.scheduler_down_s = time.time() - began
    report(f"A new scheduler is running after {story.scheduler_down_s:.0f} s")
    watch.until(lambda: any(at(task["queued_when"]) > began for task in watch.tasks))
    story.next_task_s = min(at(task["queued_when"]) for task in watch.tasks if at(task["queued_when"]) > began) - began
    report(f"It queued its first task {story.next_task_s:.0f} s after the kill")

    watch.until(lambda: len(watch.runs) == len(DAYS) and all(map(finished, watch.runs)))
    tries = [
        one
        for task in watch.tasks
        for one in api.tries(DAG, task["dag_run_id"], task["task_id"], task["map_index"])
    ]  # fmt: skip
    return story, watch.runs, tries


class Watch:
    """Poll the runs and the engine's log, and print changes."""

    def __init__(self, airflow: LocalCelery, api: AirflowApi, log: Path) -> None:
        self._airflow, self._api, self._log = airflow, api, log
        self._status = ""
        self.runs: list[dict[str, Any]] = []
        self.tasks: list[Task] = []
        self.in_flight = 0
        self.scheduler_beat = 0.0

    def until(self, true: Callable[[], bool]) -> None:
        """Poll until the condition is true; raise AirflowFailed after DEADLINE_S."""
        deadline = time.monotonic() + DEADLINE_S
        self.look()
        while not true():
            if time.monotonic() > deadline:
                states = Counter(f"{task['task_id']} {task['state']}" for task in self.tasks)
                raise AirflowFailed(f"not reached in {DEADLINE_S} s: {dict(states)}; see {self._airflow.home}/logs")
            time.sleep(0.5)
            self.look()

    def look(self) -> list[Task]:
        self._airflow.check()
        self.runs = [run for run in self._api.runs(DAG) if run["partition_key"] in DAYS]  # without the nightly run
        self.tasks = [task for run in self.runs for task in self._api.tasks(DAG, run["dag_run_id"])]
        self.scheduler_beat = at(self._api.call("GET", "/monitor/health")["scheduler"]["latest_scheduler_heartbeat"])
        requests = chats(self._log)
        self.in_flight = sum(request.status is None for request in requests)
        answered = sum(request.status == 200 for request in requests)
        hands = {worker: Counter[str]() for worker in WORKERS}
        for task in self.tasks:
            if task["state"] == "running" and task["hostname"] in hands:
                hands[task["hostname"]][task["task_id"].rpartition(".")[2]] += 1
        done = sum(map(finished, self.runs))
        status = f"days {done}/{len(DAYS)}  captions {answered}  " + "  ".join(
            f"{worker}: {', '.join(f'{count} {what}' for what, count in sorted(hand.items())) or 'idle'}"
            for worker, hand in hands.items()
        )
        if status != self._status:
            self._status = status
            report(status)
        return self.tasks


def captioning_on(tasks: list[Task], state: str = "running") -> set[str]:
    """Return the workers with a caption task in this state."""
    return {task["hostname"] for task in tasks if task["task_id"] == "process.caption" and task["state"] == state}


def taken_over(tasks: list[Task], lost: list[Task], killed_at: float) -> list[Task]:
    """Return the lost tasks that have restarted."""
    places = {place(task): task["try_number"] for task in lost}
    retried = [task for task in tasks if task["try_number"] > places.get(place(task), sys.maxsize)]
    # Until a task restarts, it has the start date and host of its last try.
    return [task for task in retried if at(task["start_date"]) > killed_at]


def place(task: Task) -> tuple[str, str, int]:
    return task["dag_run_id"], task["task_id"], task["map_index"]


def name(task: Task) -> str:
    return f"{task['task_id'].rpartition('.')[2]} {task.get('rendered_map_index') or task['dag_run_id']}"


def undisturbed_points(home: Path) -> dict[str, dict[str, Any]]:
    """Return the index after a run of the same days without Airflow and without faults."""
    with StandIn() as engine:
        pipeline = Pipeline(home / "undisturbed", [engine.url], home / "clips")
        for batch in pipeline.plan(days=DAYS).batches:
            pipeline.caption(batch)
            pipeline.index(batch)
        report_run(pipeline.store, "r.1")
        return pipeline.points()


def stored_asked_again(pipeline: Pipeline, requests: list[Request]) -> int:
    """Count the clips that were requested after their caption was stored."""
    stored = {}
    for key in pipeline.store.list("captions"):
        record = pipeline.store.read_json(key)
        stored[record["content"]] = at(record["created_at"])
    requested = {request.digest: request.at for request in requests}  # the last time
    repeated = 0
    for path in pipeline.clips.rglob("*.mp4"):
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        if requested.get(pipeline.proxy_digest(path), 0.0) > stored.get(content, float("inf")):
            repeated += 1
    return repeated


@contextmanager
def stand_in(log: Path) -> Iterator[str]:
    """Run the engine in its own process; yield its URL."""
    log.touch()
    command = [sys.executable, "-m", "tests.support.engine", "--latency-s", str(CAPTION_S), "--log", str(log)]
    with subprocess.Popen(
        command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True, preexec_fn=die_with_parent
    ) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.terminate()


def chats(log: Path) -> list[Request]:
    return [request for request in read_log(log) if request.path == "/v1/chat/completions"]


def at(moment: str | None) -> float:
    """Return seconds since 1970; 0 for None."""
    return datetime.fromisoformat(moment).astimezone(UTC).timestamp() if moment else 0.0


_BEGAN = time.monotonic()


def report(line: str) -> None:
    console.print(f"[dim]{time.monotonic() - _BEGAN:5.0f} s[/]  {line}")


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        sys.exit(main())
    except (AirflowFailed, ConfigurationError) as error:
        sys.exit(f"celery-demo: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
