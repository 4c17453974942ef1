"""Measure the overhead of a day of 33,000 clips in a live Airflow. A million clips are thirty such days.

    python -m benchmarks.day [--clips 33000] [--batch 512] [--postgres]

Run ingest_clips in the Airflow of `make up` (SQLite, or Postgres from a wheel as in `make celery-demo`; LocalExecutor
with four parallel tasks). Two parts are stand-ins (cheap.py): prepared clips and random vectors. Twenty stand-in nodes
answer in 0.2 s. Store, journal, gates, chunks and Qdrant Edge are real. The day is ingested, then run again when all
clips are done. Write results/day.json, or results/day-postgres.json with --postgres.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
import sqlalchemy

from benchmarks.fleet import DAY, QUICK, Ready, Serving, busy_s, nodes
from benchmarks.footprint import files, rss_mb
from clipdex.config import REPOSITORY
from clipdex.runs.report import load_report
from demo.airflow_api import AirflowApi, finished, seconds_of
from demo.local_airflow import LocalAirflow
from demo.local_celery import postgres
from demo.places import DAG
from tests.support.pipeline import Pipeline

LIMIT_S = 3600
EVERY_S = 1.0
RESULTS = Path(__file__).parent / "results"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=33_000)
    parser.add_argument("--batch", type=int, default=512)
    parser.add_argument("--postgres", action="store_true", help="use Postgres as metadata database instead of SQLite")
    given = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="clipdex-day-") as folder,
        nodes(QUICK) as serving,
        postgres() if given.postgres else nullcontext() as database,
    ):
        pipeline = Pipeline(Path(folder), serving.urls, engine={"in_flight": 64, "request_timeout_s": 60.0})
        Ready(pipeline.settings).write(given.clips)
        environment = pipeline.environment() | {
            "CLIPDEX_BATCHES__SIZE": str(given.batch),
            "PYTHONPATH": f"{REPOSITORY}/include:{REPOSITORY}",
            "AIRFLOW__CORE__DAGS_FOLDER": str(REPOSITORY / "benchmarks/cheap_dags"),
        }
        if database:
            environment["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"] = f"postgresql+psycopg{database}"
        with (
            LocalAirflow(Path(folder) / ".airflow", environment) as airflow,
            AirflowApi(airflow.url, airflow.user, airflow.password) as api,
        ):
            day = Day(pipeline, airflow, api)
            result = {
                "date": f"{datetime.now(UTC):%Y-%m-%d}",
                "python": sys.version.split()[0],
                "cores": os.cpu_count(),
                "command": "python -m benchmarks.day" + " --postgres" * given.postgres,
                "database": "Postgres" if given.postgres else "SQLite",
                "clips": given.clips,
                "batch_size": given.batch,
                "new": day.run(),
                "again": day.run(),
            }
        result["engine"] = request_counts(serving)
    (RESULTS / ("day-postgres.json" if given.postgres else "day.json")).write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))
    assert result["new"]["indexed"] == given.clips and result["new"]["state"] == "success", result["new"]
    assert result["again"]["planned"] == 0 and result["engine"]["requests"] < 1.01 * given.clips, result


class Day:
    """Ingest one day of an archive with Airflow."""

    def __init__(self, pipeline: Pipeline, airflow: LocalAirflow, api: AirflowApi) -> None:
        self.pipeline, self.airflow, self.api = pipeline, airflow, api

    def run(self) -> dict[str, Any]:
        """Trigger the day, wait for its end, and return its costs."""
        before, cpu = self.rows(), self.cpu_s()
        machine = busy_s()
        with self.watched() as peaks:
            run = self.api.trigger(DAG, DAY)
            deadline = time.monotonic() + LIMIT_S
            while not finished(self.api.run(DAG, run)):
                if time.monotonic() > deadline:
                    raise SystemExit(f"{run} did not end within {LIMIT_S} s")
                time.sleep(1)
        ended, tasks = self.api.run(DAG, run), self.api.tasks(DAG, run)
        report = load_report(self.pipeline.store, self.label())
        batches = sum(task["task_id"] == "process.caption" for task in tasks if task["map_index"] >= 0)
        spent = {name: round(seconds - cpu[name], 1) for name, seconds in self.cpu_s().items()}
        return {
            "state": ended["state"],
            "batches": batches,
            "planned": report.total("planned"),
            "indexed": report.total("indexed"),
            "chunks": report.total("chunks"),
            "seconds": round(seconds_of(ended), 1),
            "clips_per_s": round(report.total("indexed") / seconds_of(ended), 1),
            "task_seconds": {task_id: spread(tasks, task_id) for task_id in sorted({t["task_id"] for t in tasks})},
            "tries": max(task["try_number"] for task in tasks),
            "cpu_s": {**spent, "machine": round(busy_s() - machine, 1)},
            "scheduler_cpu_s_a_batch": round(spent["scheduler"] / batches, 2) if batches else None,
            "peak_mb": {name: round(peak) for name, peak in peaks.items()},
            "rows": {name: more for name, count in self.rows().items() if (more := count - before.get(name, 0))},
            "xcom": self.xcom(run),
            "database_mb": self.database_mb(),
            "store": files(Path(self.pipeline.home) / ".clipdex/store"),
            "index": files(Path(self.pipeline.home) / ".clipdex/index"),
            "logs": files(self.airflow.home / "logs"),
        }

    def label(self) -> str:
        """Return the name of the last run in the store."""
        runs = self.pipeline.store.written("reports")
        return max(runs, key=lambda key: runs[key]).removeprefix("reports/").removesuffix(".json")

    def rows(self) -> dict[str, int]:
        """Count the rows of each table of the metadata database."""
        with self._database().connect() as database:
            names = sqlalchemy.inspect(database).get_table_names()
            counts = {name: database.scalar(sqlalchemy.text(f"select count(*) from {name}")) for name in names}
        return {name: int(count or 0) for name, count in counts.items()}

    def xcom(self, run: str) -> dict[str, int]:
        """Return the number of XComs, their total bytes and the largest."""
        length = "length(cast(value as text))"
        query = f"select count(*), sum({length}), max({length}) from xcom where run_id = :run"
        with self._database().connect() as database:
            rows, total, largest = database.execute(sqlalchemy.text(query), {"run": run}).one()
        return {"rows": rows, "bytes": total or 0, "largest_bytes": largest or 0}

    def database_mb(self) -> float:
        with self._database().connect() as database:
            if database.dialect.name == "postgresql":
                size = database.scalar(sqlalchemy.text("select pg_database_size(current_database())"))
            else:
                size = (self.airflow.home / "airflow.db").stat().st_size
        return round((size or 0) / 1e6, 1)

    def cpu_s(self) -> dict[str, float]:
        """Return the CPU time of each component since its start, without tasks [s]."""
        times = {name: psutil.Process(pid).cpu_times() for name, pid in self.airflow.pids.items()}
        return {name: taken.user + taken.system for name, taken in times.items()}

    @contextmanager
    def watched(self) -> Iterator[dict[str, float]]:
        """Record peak resident memory of each component and of the largest task [MB]."""
        peaks: dict[str, float] = dict.fromkeys([*self.airflow.pids, "task"], 0.0)
        stop = threading.Event()

        def watch() -> None:
            while not stop.wait(EVERY_S):
                for name, pid in self.airflow.pids.items():
                    peaks[name] = max(peaks[name], rss_mb(psutil.Process(pid)))
                scheduler = psutil.Process(self.airflow.pids["scheduler"])
                tasks = [rss_mb(child) for child in scheduler.children(recursive=True)]
                peaks["task"] = max([peaks["task"], *tasks])

        thread = threading.Thread(target=watch)
        thread.start()
        try:
            yield peaks
        finally:
            stop.set()
            thread.join()

    def _database(self) -> sqlalchemy.Engine:
        return sqlalchemy.create_engine(self.airflow.environment["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"])


def spread(tasks: list[dict[str, Any]], task_id: str) -> dict[str, float]:
    """Return the number of tasks and the medians of run time and queue time [s]."""
    ran = [task for task in tasks if task["task_id"] == task_id and task["duration"] is not None]
    waited = [
        (datetime.fromisoformat(task["start_date"]) - datetime.fromisoformat(task["queued_when"])).total_seconds()
        for task in ran
        if task["queued_when"]
    ]
    return {
        "tasks": len(ran),
        "seconds": round(statistics.median([task["duration"] for task in ran] or [0]), 2),
        "longest_s": round(max([task["duration"] for task in ran], default=0), 2),
        "queued_s": round(statistics.median(waited or [0]), 2),
    }


def request_counts(serving: Serving) -> dict[str, Any]:
    """Return the request counts. Requests beyond the number of clips are hedged requests."""
    counts = serving.end()
    return {name: counts[name] for name in ("requests", "asked_again")}


if __name__ == "__main__":
    main()
