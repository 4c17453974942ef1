"""Run `make demo`: ingest three days of sample clips in a real Airflow, then run three searches.

The last line is one JSON object, also written to .clipdex/demo.json. A second run backfills the same days with
reprocess "completed", and captions no clip again.
"""

import json
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.padding import Padding
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from clipdex import Pipeline, Settings
from clipdex.runs.outcomes import Outcome, run_outcomes
from clipdex.runs.planning import load_plan, run_label
from clipdex.runs.report import RunReport, load_report
from clipdex.storage.artifacts import Store
from demo.airflow_api import AirflowApi, finished
from demo.local_airflow import AirflowFailed, LocalAirflow
from demo.places import DAG, airflow_home, home
from demo.samples import DAYS, write_samples

QUERIES = ("people riding bicycles", "EXIT", "a person walking from right to left")
DEADLINE_S = 600

console = Console(highlight=False, soft_wrap=True)


def main() -> int:
    started = time.monotonic()
    settings = Settings.load(home=home())
    pipeline = Pipeline.open(settings)
    store = pipeline.store
    samples = write_samples(settings.state / "samples")
    console.print(f"{len(samples)} sample clips over {len(DAYS)} days in {settings.state / 'samples'}")
    console.print("Starting Airflow: scheduler, API server, dag processor, triggerer …")
    with LocalAirflow(airflow_home(), {"CLIPDEX_HOME": str(home())}) as airflow:
        console.print(f"Airflow is up at {airflow.url} ({time.monotonic() - started:.0f} s)")
        with AirflowApi(airflow.url, airflow.user, airflow.password) as api:
            runs = backfill(airflow, api, store, len(samples))
            reports = [load_report(store, label(api, run)) for run in runs if run["state"] == "success"]
            failed = [run for run in runs if run["state"] != "success"]
    show_days(reports)
    for run in failed:
        console.print(f"[red]{run['partition_key']}: the run {run['dag_run_id']} failed[/]: run make up, read its log")
    points = show_searches(pipeline)
    summary = summary_of(reports, points, time.monotonic() - started)
    (settings.state / "demo.json").write_text(json.dumps(summary) + "\n")
    print(json.dumps(summary))
    return 1 if failed else 0


def backfill(airflow: LocalAirflow, api: AirflowApi, store: Store, clips: int) -> list[dict[str, Any]]:
    """Backfill the sample days through Airflow's API, show progress, and return the runs by day."""
    before = {run["dag_run_id"]: run["start_date"] for run in api.runs(DAG) if run["partition_key"] in DAYS}
    reprocess = "completed" if before else "none"
    api.close_backfills(DAG)
    api.backfill(DAG, DAYS[0], DAYS[-1], reprocess)
    console.print(f"Backfill of {DAYS[0]} to {DAYS[-1]} created, reprocess: {reprocess}")
    deadline = time.monotonic() + DEADLINE_S
    with progress() as show:
        while True:
            airflow.check()
            runs = [run for run in api.runs(DAG) if run["partition_key"] in DAYS]
            anew = [run for run in runs if run["start_date"] and before.get(run["dag_run_id"]) != run["start_date"]]
            done = [run for run in anew if finished(run)]
            show(Progressed.of(api, store, anew, len(done), clips))
            if len(done) == len(DAYS):
                return sorted(done, key=lambda run: run["partition_key"])
            if time.monotonic() > deadline:
                states = {run["dag_run_id"]: run["state"] for run in runs}
                raise AirflowFailed(f"the backfill is not done after {DEADLINE_S} s: {states}; see {airflow.home}/logs")
            time.sleep(0.5)


@dataclass(frozen=True, slots=True)
class Progressed:
    """The progress of the backfill. clips: captioned or quarantined, in this run or before."""

    days: int
    batches: int
    batches_planned: int
    clips: int
    clips_in_all: int

    @classmethod
    def of(
        cls, api: AirflowApi, store: Store, runs: list[dict[str, Any]], days: int, clips_in_all: int
    ) -> "Progressed":
        batches = batches_planned = clips = 0
        for run in runs:
            tasks = api.tasks(DAG, run["dag_run_id"])
            indexed = [task for task in tasks if task["task_id"] == "process.index" and task["map_index"] >= 0]
            batches += sum(task["state"] in ("success", "failed") for task in indexed)
            try:
                plan = load_plan(store, run_label(run["dag_run_id"], _tries(tasks)))
            except FileNotFoundError:
                continue  # discover has not written the plan yet
            batches_planned += len(plan.batches)
            outcomes = [one.outcome for day in plan.days for one in run_outcomes(store, day, plan.run).values()]
            clips += plan.done + plan.quarantined + len(outcomes) - outcomes.count(Outcome.FAILED)
        return cls(days, batches, batches_planned, clips, clips_in_all)

    def __str__(self) -> str:
        return (
            f"days {self.days}/{len(DAYS)}  batches {self.batches}/{self.batches_planned}  "
            f"clips {self.clips}/{self.clips_in_all}"
        )


@contextmanager
def progress() -> Iterator[Any]:
    """Yield a function that shows progress: a bar on a terminal, else one line per change."""
    if not console.is_terminal:
        last = ""

        def show(now: Progressed) -> None:
            nonlocal last
            if str(now) != last:
                last = str(now)
                print(last, flush=True)

        yield show
        return
    with Progress(TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), console=console) as bars:
        bar = bars.add_task("days 0", total=None)

        def draw(now: Progressed) -> None:
            bars.update(bar, description=str(now), completed=now.clips, total=now.clips_in_all)

        yield draw


def label(api: AirflowApi, run: dict[str, Any]) -> str:
    return run_label(run["dag_run_id"], _tries(api.tasks(DAG, run["dag_run_id"])))


def show_days(reports: list[RunReport]) -> None:
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for name in ("day", "found", "captioned", "bad", "chunks", "engine s", "before", "known bad"):
        table.add_column(name, justify="left" if name == "day" else "right", no_wrap=True)
    for report in reports:
        total = report.total
        table.add_row(
            report.days[0].day, str(total("discovered")), str(total("captioned")), str(total("quarantined")),
            str(total("chunks")), f"{sum(day.pace.engine_s for day in report.days):.1f}", str(report.done_before),
            str(report.known_quarantined),
        )  # fmt: skip
    console.print(table)
    for line in (line for report in reports for line in report.quarantine):
        console.print(f"quarantined: {line['uri']}: {line['reason']} ({line['detail']})", markup=False)
    before, known = (sum(getattr(report, name) for report in reports) for name in ("done_before", "known_quarantined"))
    if before:
        console.print(f"Skipped {before} clips that were already done and {known} files in quarantine.")


def show_searches(pipeline: Pipeline) -> int:
    """Run the searches; return the number of points in the index."""
    for query in QUERIES:
        console.print(f"\n[bold]clipdex search {query!r}[/]")
        for hit in pipeline.search(query, limit=3):
            console.print(f"  {hit.day} {hit.uri.rpartition('/')[2]}", style="cyan", markup=False)
            console.print(Padding.indent(Text(hit.text), 4), soft_wrap=not console.is_terminal)
    with pipeline.open_index() as index:
        return index.count()


def summary_of(reports: list[RunReport], points: int, seconds: float) -> dict[str, Any]:
    """Return the counts of this run. points: size of the collection."""
    counted = ("discovered", "captioned", "asked", "quarantined", "chunks")
    return {
        "days": len(reports),
        **{name: sum(report.total(name) for report in reports) for name in counted},
        "points": points,
        "seconds": round(seconds, 1),
        "done_before": sum(report.done_before for report in reports),
        "known_quarantined": sum(report.known_quarantined for report in reports),
    }


def _tries(tasks: list[dict[str, Any]]) -> int:
    return next((task["try_number"] for task in tasks if task["task_id"] == "discover"), 1)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        sys.exit(main())
    except AirflowFailed as error:
        sys.exit(f"demo: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
