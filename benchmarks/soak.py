"""Run small batches for a long time, and detect leaks.

    python -m benchmarks.soak [--minutes 15]        (make soak; make soak-hour for 60)

Two workloads run in parallel, each with its own store and index. The stand-in engine sometimes returns 503 or HTML,
resets a connection or hangs:

- a live Airflow runs one small day after another through ingest_clips, while pages of clipdex and Airflow are read;
- one process captions and indexes batch after batch (`--loop`, a permanent worker), each with a file that is no video.

The resources of each process are sampled every 5 s. A line is fitted after the first third (slopes.py) and compared
with the bounds below. Write results/soak.json; exit with 1 if a bound is exceeded.
"""

import argparse
import gc
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, date, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any

import psutil

from benchmarks.footprint import files
from benchmarks.slopes import Slope, slope
from clipdex.config import REPOSITORY
from clipdex.runs.report import report_run
from demo.airflow_api import AirflowApi, ApiError, finished
from demo.local_airflow import LocalAirflow
from demo.places import DAG
from demo.samples import write_tiny_clips
from tests.support.engine import StandIn
from tests.support.pipeline import Pipeline

EVERY_S = 5.0
CLIPS = 8
FAULTS = "503:0.03,html:0.02,reset:0.02,429:0.02:retry_after=1,hang:0.004"
FIRST = date(2026, 1, 1)
QUERIES = ("a red square moves", "two stripes", "blue")
RESULT = Path(__file__).parent / "results" / "soak.json"

BOUNDS = {
    # 60 MB per hour is 1.4 GB per day, too much for a node that is restarted weekly. The bound includes Airflow's
    # processes.
    "memory_mb": 60.0,
    # One open file or thread per minute is a leak; a few that come and go with requests are not.
    "fds": 30.0,
    "threads": 30.0,
    "children": 30.0,
    # Live Python objects of the single process. A batch creates some hundred thousand.
    "objects": 50_000.0,
    # Files left in the temporary folder, in shared memory, or partially written in the store or the index.
    "temporary": 6.0,
}
"""Maximum growth per hour."""


@dataclass(slots=True)
class Series:
    at: list[float] = field(default_factory=list)
    value: list[float] = field(default_factory=list)

    def add(self, at: float, value: float) -> None:
        self.at.append(round(at, 1))
        self.value.append(round(value, 1))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=15.0)
    parser.add_argument("--loop", type=Path, metavar="FOLDER", help="run the single process (internal)")
    given = parser.parse_args()
    if given.loop:
        loop(given.loop)
        return
    with tempfile.TemporaryDirectory(prefix="clipdex-soak-") as name:
        result = soaked(Path(name), 60 * given.minutes)
    RESULT.write_text(json.dumps(result) + "\n")
    broken = print_table(result)
    if broken:
        sys.exit(f"grows: {', '.join(broken)}")


def soaked(home: Path, seconds: float) -> dict[str, Any]:
    temporary = home / "tmp"
    temporary.mkdir()
    with (
        StandIn(FAULTS, latency_s=0.3, words=150) as engine,
        one_process(home / "loop", engine.url, temporary) as process,
        airflow(home / "airflow", engine.url, temporary) as (running, api),
    ):
        samples = Samples(home, temporary, {**running.pids, "one process": process.pid})
        days = through_airflow(home / "airflow", api, samples, seconds)
        if process.poll() is not None:
            raise SystemExit(f"the one process ended:\n{(home / 'loop/log').read_text()[-2000:]}")
        loops = read_loop_log(home / "loop")
        rows = (running.home / "airflow.db").stat().st_size / 1e6
    series = samples.series
    series["one process: objects"] = Series([at for at, _, _ in loops], [held for _, _, held in loops])
    slopes = {name: asdict(slope(one.at, one.value, seconds / 3)) for name, one in series.items()}
    return {
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "command": f"python -m benchmarks.soak --minutes {seconds / 60:g}",
        "minutes": seconds / 60,
        "warm_up_minutes": seconds / 180,
        "days_through_airflow": days,
        "batches_of_one_process": loops[-1][1],
        "requests": len(engine.chats),
        "faults": sum(bool(request.fault) for request in engine.chats),
        "database_mb": round(rows, 1),
        "logs_mb": files(home / "airflow/.airflow/logs")["megabytes"],
        "bounds_an_hour": BOUNDS,
        "slopes": slopes,
        "samples": {name: asdict(one) for name, one in series.items()},
    }


class Samples:
    """Sample the resources of each process. Series are named PROCESS: QUANTITY."""

    def __init__(self, home: Path, temporary: Path, pids: dict[str, int]) -> None:
        self._home, self._temporary = home, temporary
        self._processes = {name: psutil.Process(pid) for name, pid in pids.items()}
        self._began = time.monotonic()
        self.series: dict[str, Series] = {}

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._began

    def sample(self) -> None:
        for name, process in self._processes.items():
            # USS, because PSS grows when another process that shared pages ends.
            self._add(f"{name}: memory_mb", process.memory_full_info().uss / 2**20)
            self._add(f"{name}: fds", process.num_fds())
            self._add(f"{name}: threads", process.num_threads())
            self._add(f"{name}: children", len(process.children(recursive=True)))
        self._add("all: temporary", sum(1 for _ in self._left_behind()))

    def _left_behind(self) -> Iterator[Path]:
        """Yield temporary files that are older than any task."""
        before = time.time() - 120
        found = [*self._temporary.rglob("*"), *self._home.rglob(".tmp-*"), *self._home.rglob(".new-*")]
        for path in [*found, *Path("/dev/shm").iterdir()]:
            try:
                if path.stat().st_mtime < before:
                    yield path
            except FileNotFoundError:
                continue

    def _add(self, name: str, value: float) -> None:
        self.series.setdefault(name, Series()).add(self.seconds, value)


def through_airflow(home: Path, api: AirflowApi, samples: Samples, seconds: float) -> int:
    """Run day after day until the time is up, and sample; return the number of days."""
    for number in count():
        day = (FIRST + timedelta(days=number)).isoformat()
        write_tiny_clips(home / "clips", CLIPS, day, first=number * CLIPS)
        run = api.trigger(DAG, day)
        while not finished(api.run(DAG, run)):
            if samples.seconds > seconds:
                return number
            samples.sample()
            if number:  # the index is empty during the first day
                look(api, run)
            time.sleep(EVERY_S)
        state = api.run(DAG, run)["state"]
        if state != "success":
            raise SystemExit(f"{run} of {day} ended as {state}")
    raise AssertionError("count() has no end")


def look(api: AirflowApi, run: str) -> None:
    """Read the UI as a user does: searches, the tasks of a run, their logs."""
    for query in QUERIES:
        try:
            api.page("/clipdex/", q=query)
        except ApiError as error:
            if ": 503 " not in str(error):  # a write held the index longer than a page waits
                raise
    for task in api.tasks(DAG, run):
        if task["state"] == "success" and task["map_index"] >= 0:
            api.log(DAG, run, task["task_id"], task["try_number"], task["map_index"])


@contextmanager
def airflow(home: Path, url: str, temporary: Path) -> Iterator[tuple[LocalAirflow, AirflowApi]]:
    pipeline = Pipeline(home, [url], engine=ENGINE)
    given = pipeline.environment() | {"TMPDIR": str(temporary), "AIRFLOW__API__EXPOSE_CONFIG": "False"}
    with (
        LocalAirflow(home / ".airflow", given) as running,
        AirflowApi(running.url, running.user, running.password) as api,
    ):
        yield running, api


ENGINE = {"in_flight": 4, "tries": 6, "request_timeout_s": 5.0, "deadline_s": 60.0}


@contextmanager
def one_process(home: Path, url: str, temporary: Path) -> Iterator["subprocess.Popen[bytes]"]:
    home.mkdir()
    (home / "engine").write_text(url)
    command = [sys.executable, "-m", "benchmarks.soak", "--loop", str(home)]
    environment = os.environ | {"TMPDIR": str(temporary)}
    with (home / "log").open("ab") as log:
        process = subprocess.Popen(command, env=environment, cwd=REPOSITORY, stdout=log, stderr=log)
    try:
        yield process
    finally:
        process.terminate()
        process.wait()


def loop(home: Path) -> None:
    """Ingest eight clips and a file that is no video in a loop; log the live Python objects after each batch."""
    pipeline = Pipeline(home, [(home / "engine").read_text()], engine=ENGINE)
    began = time.monotonic()
    for number in count():
        day = (FIRST + timedelta(days=number)).isoformat()
        paths = pipeline.put(CLIPS, day, first=number * CLIPS)
        paths[0].with_name("no-video.mp4").write_bytes(b"no video " * 20)
        run = f"r{number}.1"
        for batch in pipeline.plan(run, [day]).batches:
            pipeline.caption(batch)
            pipeline.index(batch)
        report_run(pipeline.store, run)
        gc.collect()
        with (home / "objects.jsonl").open("a") as log:
            log.write(json.dumps([round(time.monotonic() - began, 1), number + 1, len(gc.get_objects())]) + "\n")
        alive = [thread.name for thread in threading.enumerate() if thread is not threading.main_thread()]
        if len(alive) > 50:
            raise SystemExit(f"{len(alive)} threads after {number + 1} batches: {alive[:5]} …")


def read_loop_log(home: Path) -> list[tuple[float, int, int]]:
    """Read seconds, batches and objects; skip a truncated last line."""
    lines = (home / "objects.jsonl").read_text().splitlines(keepends=True)
    return [tuple(json.loads(line)) for line in lines if line.endswith("\n")]


def print_table(result: dict[str, Any]) -> list[str]:
    """Print the slopes; return the names of those that exceed their bound."""
    broken = []
    print(f"{'':32} {'first':>9} {'last':>9} {'an hour':>10} {'(95 %)':>20} {'bound':>8}")
    for name, fields in result["slopes"].items():
        found, bound = Slope(**fields), BOUNDS[name.rpartition(": ")[2]]
        bad = found.breaks(bound)
        broken += [name] if bad else []
        print(
            f"{name:32} {found.first:9.1f} {found.last:9.1f} {found.an_hour:10.1f} "
            f"{found.low:9.1f} …{found.high:9.1f} {bound:8g}{'  BROKEN' if bad else ''}"
        )
    print(json.dumps({name: value for name, value in result.items() if name not in ("slopes", "samples")}))
    return broken


if __name__ == "__main__":
    main()
