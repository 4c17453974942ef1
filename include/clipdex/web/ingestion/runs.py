"""The report of a run, and the way from Airflow's runs and task instances to it and to batches."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, HTTPException, Path, Request, Response
from fastapi.responses import RedirectResponse

from clipdex.runs.planning import BatchRef, Plan, latest_label, load_plan
from clipdex.runs.report import DayReport, RunReport, load_report
from clipdex.storage.artifacts import Store
from clipdex.web.backend import Backend, TheBackend
from clipdex.web.ingestion.batches import Run, batch_response, look_up, with_logs
from clipdex.web.problems import ERRORS
from clipdex.web.rendering import page, url

router = APIRouter()

DAG = "ingest_clips"
_TASKS = ("process.caption", "process.index")
_MOST_LINES = 200


@dataclass(frozen=True, slots=True)
class BatchLink:
    """Point to a batch of a run. label: its first clip; url: path of its page on this server"""

    day: str
    batch: str
    clips: int
    label: str
    url: str


@dataclass(frozen=True, slots=True)
class RunView:
    """Hold a run: its plan, and its report once it has one.

    run: its label; job: Airflow's dag_id and run_id as a JSON list, or ""; url: of its page in Airflow, or ""
    reported: whether the report is written; discovered, to_do, done_before, known_quarantined: number of clips, as
    planned; days: totals of each day, once it is reported
    quarantine: the clips that it quarantined; unfinished: URIs of planned clips without a final outcome; of both the
    first 200, and their numbers
    """

    run: str
    job: str
    url: str
    timezone: str
    reported: bool
    planned_days: tuple[str, ...]
    discovered: int
    to_do: int
    done_before: int
    known_quarantined: int
    days: tuple[DayReport, ...]
    batches: tuple[BatchLink, ...]
    quarantine: tuple[dict[str, str], ...]
    quarantined: int
    unfinished: tuple[str, ...]
    left: int
    notes: tuple[str, ...]

    def total(self, field: str) -> int:
        return sum(getattr(day, field) for day in self.days)


@router.get("/runs/{run}", name="run", include_in_schema=False)
async def run_page(request: Request, backend: TheBackend, run: Run) -> Response:
    return page(request, "run.html", view=await _view_or_404(request, backend, run))


@router.get("/api/runs/{run}", operation_id="get_run", responses=ERRORS)
async def get_run(request: Request, backend: TheBackend, run: Run) -> RunView:
    """Return the plan and the report of a run."""
    return await _view_or_404(request, backend, run)


Id = Annotated[str, Path(min_length=1, max_length=250)]


@router.get("/dag-runs/{dag_id}/{run_id}", name="dag_run", include_in_schema=False)
async def dag_run(request: Request, backend: TheBackend, dag_id: Id, run_id: Id) -> Response:
    """Show the report of one of Airflow's runs, as the tab of a run."""
    label = await _label(backend, dag_id, run_id)
    if not label:
        return _nothing_yet(request, dag_id)
    return page(request, "run.html", view=await _view_or_404(request, backend, label))


@router.get("/tasks/{dag_id}/{run_id}/{task_id}/{map_index}", name="task", include_in_schema=False)
async def task_instance(
    request: Request,
    backend: TheBackend,
    dag_id: Id,
    run_id: Id,
    task_id: Id,
    map_index: Annotated[str, Path(pattern=r"^(-?[0-9]{1,6}|\{MAP_INDEX\})$")],
) -> Response:
    """Show the batch of one of Airflow's task instances, as its tab; of another task, the report of the run.

    The batches of a plan are in the order of the map indexes. A task that was not mapped has none, and Airflow then
    leaves the placeholder in the address.
    """
    label = await _label(backend, dag_id, run_id)
    if not label:
        return _nothing_yet(request, dag_id)
    number = int(map_index) if map_index.lstrip("-").isdecimal() else -1
    if task_id in _TASKS and number >= 0:
        store = await backend.store()
        plan = await backend.read(load_plan, store, label)
        if number < len(plan.batches):
            ref = plan.batches[number]
            view = await backend.read(look_up, store, label, ref.day, ref.batch)
            if view is not None:
                return batch_response(request, with_logs(request, view))
    return page(request, "run.html", view=await _view_or_404(request, backend, label))


@router.get("/dags/{dag_id}", name="dag", include_in_schema=False)
async def dag(request: Request, dag_id: Id) -> Response:
    """Lead from the tab of a DAG to the quarantine; other DAGs have none."""
    if dag_id != DAG:
        return _nothing_yet(request, dag_id)
    return RedirectResponse(url(request, "quarantine"), 303)


async def _label(backend: Backend, dag_id: str, run_id: str) -> str:
    """Return the label of the last plan of a run, "" if there is none."""
    if dag_id != DAG:
        return ""
    found: str = await backend.read(latest_label, await backend.store(), run_id)
    return found


def _nothing_yet(request: Request, dag_id: str) -> Response:
    message = "It is not planned yet, or is past its retention: the task discover writes the plan. Reload in a moment."
    if dag_id != DAG:
        message = f"{dag_id} processes no clips. This tab shows the clips of {DAG}."
    return page(request, "notice.html", title="No clips here", message=message)


def describe_run(store: Store, run: str) -> tuple[Plan, RunReport | None]:
    """Return the plan and the report of a run. Raises FileNotFoundError without a plan."""
    plan = load_plan(store, run)
    try:
        return plan, load_report(store, run)
    except FileNotFoundError:
        return plan, None


async def _view_or_404(request: Request, backend: Backend, run: str) -> RunView:
    try:
        plan, report = await backend.read(describe_run, await backend.store(), run)
    except FileNotFoundError:
        raise HTTPException(404, f"no run {run}: it was not planned, or is past its retention") from None
    operations = request.app.state.operations
    link = operations.run_url(json.loads(plan.job)[1]) if operations is not None and plan.job else ""
    quarantine = report.quarantine if report else ()
    unfinished = report.unfinished if report else ()
    notes = [*map(str, plan.vanished), plan.nothing, report.saved if report else "", report.times if report else ""]
    return RunView(
        run=run,
        job=plan.job,
        url=link,
        timezone=plan.timezone,
        reported=report is not None,
        planned_days=plan.days,
        discovered=sum(plan.discovered.values()),
        to_do=plan.to_do,
        done_before=plan.done,
        known_quarantined=plan.quarantined,
        days=report.days if report else (),
        batches=_links(request, plan.batches),
        quarantine=quarantine[:_MOST_LINES],
        quarantined=len(quarantine),
        unfinished=unfinished[:_MOST_LINES],
        left=len(unfinished),
        notes=tuple(note for note in notes if note),
    )


def _links(request: Request, batches: Sequence[BatchRef]) -> tuple[BatchLink, ...]:
    return tuple(
        BatchLink(
            one.day, one.batch, one.clips, one.label, url(request, "batch", run=one.run, day=one.day, batch=one.batch)
        )
        for one in batches
    )
