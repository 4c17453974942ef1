"""Repair: try clips in quarantine again, or never again. Only where the host of the pages starts runs (operations.py).

Each of these routes is a form (csrf.py), needs the right to trigger runs of ingest_clips, and leaves an audit entry.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, HTTPException, Path, Request, Response
from fastapi.responses import RedirectResponse
from pydantic import ValidationError

from clipdex.runs.quarantine import requeues
from clipdex.runs.quarantine.by_day import QuarantinedClip
from clipdex.runs.quarantine.catalog import Quarantine
from clipdex.runs.quarantine.marks import set_marks
from clipdex.runs.quarantine.requeues import Requeue, RequeuedRun
from clipdex.storage.artifacts import Store
from clipdex.web import csrf
from clipdex.web.backend import Backend, TheBackend
from clipdex.web.operations import Operations
from clipdex.web.problems import ERRORS
from clipdex.web.quarantine.page import QuarantineQuery, find
from clipdex.web.rendering import page, url

router = APIRouter()
"""Routes that only read."""

writes = APIRouter(include_in_schema=False)

MOST_DAYS, MOST_CLIPS = 31, 50_000
"""Of one request. A run per day is triggered, and Airflow works on few at a time."""

_MOST_SHOWN = 1000

Name = Annotated[str, Path(pattern="^[0-9]{8}T[0-9]{6}-[0-9a-f]{8}$")]


@dataclass(frozen=True, slots=True)
class RequeuedClip:
    """Hold how far a clip is. state: an outcome, or queued, waiting, left out; clip_url: path on this server, or "" """

    clip_id: str
    uri: str
    day: str
    state: str
    reason: str
    detail: str
    clip_url: str


@dataclass(frozen=True, slots=True)
class RequeuedRunView:
    """Hold one run of a requeue. run: Airflow's id, "" if it did not start; state: Airflow's, "" if unknown

    url: of its page in Airflow, or ""; counts: clips by state; error: why it did not start
    """

    day: str
    run: str
    state: str
    url: str
    counts: dict[str, int]
    error: str


@dataclass(frozen=True, slots=True)
class RequeueView:
    """Hold how far the clips of a requeue are. through: clips with a final state; clips: the first 1,000

    done: whether nothing will change any more
    """

    name: str
    by: str
    at: str
    total: int
    through: int
    done: bool
    counts: dict[str, int]
    runs: tuple[RequeuedRunView, ...]
    clips: tuple[RequeuedClip, ...]


@router.get("/requeues/{name}", name="requeue", include_in_schema=False)
async def requeue_page(request: Request, backend: TheBackend, name: Name) -> Response:
    return page(request, "requeue.html", view=await _view(request, backend, name))


@router.get("/api/requeues/{name}", name="requeue_state", operation_id="get_requeue", responses=ERRORS)
async def get_requeue(request: Request, backend: TheBackend, name: Name) -> RequeueView:
    """Return how far the clips are that a person requeued."""
    return await _view(request, backend, name)


@writes.post("/quarantine/requeue", name="requeue_clips")
async def requeue_clips(request: Request, backend: TheBackend) -> Response:
    """Trigger a run per day for the chosen clips, and lead to the page that shows how far they are."""
    operations, form = await csrf.writer_form(request)
    found, chosen = await _chosen(request, backend, form)
    wanted = [one for one in chosen if found.mark_of(one) is None]
    if not wanted:
        raise HTTPException(422, "each of these clips is marked never again: allow them first, then requeue them")
    by_day: dict[str, dict[str, str]] = {}
    for one in wanted:
        by_day.setdefault(one.day, {})[one.clip_id] = one.uri
    if len(by_day) > MOST_DAYS or len(wanted) > MOST_CLIPS:
        raise HTTPException(
            422, f"these are {len(wanted)} clips of {len(by_day)} days, and one request starts at most {MOST_DAYS} "
            f"runs, one per day, with {MOST_CLIPS} clips together: narrow the days, and repeat",
        )  # fmt: skip
    store, runs = await backend.store(), []
    for day in sorted(by_day):
        try:
            runs.append(RequeuedRun(day, await operations.requeue(request, day, list(by_day[day])), by_day[day]))
        except HTTPException as error:
            if error.status_code in (401, 403):
                raise
            runs.append(RequeuedRun(day, "", by_day[day], str(error.detail)))
    requeue = Requeue(requeues.new_name(), await operations.user(request), _now(), tuple(runs))
    await backend.read(requeues.write, store, requeue)
    detail = {"requeue": requeue.name, "clips": len(wanted), "runs": {one.day: one.run for one in runs}}
    await operations.audit(request, "clipdex_requeue", json.dumps({**detail, **_some(wanted)}))
    return RedirectResponse(url(request, "requeue", name=requeue.name), 303)


@writes.post("/quarantine/never", name="never_again")
async def never_again(request: Request, backend: TheBackend) -> Response:
    """Exclude the chosen clips from every further try."""
    return await _mark(request, backend, never=True)


@writes.post("/quarantine/allow", name="allow_again")
async def allow_again(request: Request, backend: TheBackend) -> Response:
    """Undo never_again()."""
    return await _mark(request, backend, never=False)


async def _mark(request: Request, backend: Backend, never: bool) -> Response:
    operations, form = await csrf.writer_form(request)
    _, chosen = await _chosen(request, backend, form)
    who = await operations.user(request)
    changed = await backend.read(set_marks, await backend.store(), chosen, never, who)
    action = "clipdex_never_again" if never else "clipdex_allow_again"
    await operations.audit(request, action, json.dumps({"changed": changed, "clips": len(chosen), **_some(chosen)}))
    back = form.get("back", [""])[0].partition("#")[0]
    return RedirectResponse(f"{url(request, 'quarantine')}{back if back.startswith('?') else ''}", 303)


async def _chosen(
    request: Request, backend: Backend, form: dict[str, list[str]]
) -> tuple[Quarantine, list[QuarantinedClip]]:
    """Return the clips that a form names: those selected, or all of a filter. Raises 422."""
    fields: dict[str, Any] = {
        name: values if name in ("reason", "where") else values[0] for name, values in form.items() if name in _FILTERS
    }
    everything = form.get("all", [""])[0] == "yes"
    selected = set(form.get("clip", []))
    if not everything and not selected:
        raise HTTPException(422, "no clip is selected: tick some clips, or use the buttons for all of the filter")
    try:
        question = QuarantineQuery.model_validate(fields if everything else {})
    except ValidationError as error:
        raise HTTPException(422, f"a filter of the form is wrong: {error.errors()[0]['msg']}") from None
    found = await find(request, backend, question)
    chosen = [one for one in found.clips if everything or one.clip_id in selected]
    if not chosen:
        raise HTTPException(422, "none of these clips is in quarantine any more: reload the page")
    return found, chosen


_FILTERS = ("reason", "from", "to", "where", "folder", "q", "never")


async def _view(request: Request, backend: Backend, name: str) -> RequeueView:
    store = await backend.store()
    operations: Operations | None = request.app.state.operations
    try:
        requeue: Requeue = await backend.read(requeues.load, store, name)
    except FileNotFoundError:
        raise HTTPException(404, f"no requeue {name}: it is past its retention, or of another store") from None
    of_runs = await backend.read(_states, store, requeue)
    runs, through, done = [], 0, True
    for one, found in zip(requeue.runs, of_runs, strict=True):
        state = await operations.run_state(request, one.run) if operations is not None and one.run else ""
        link = operations.run_url(one.run) if operations is not None and one.run else ""
        runs.append(RequeuedRunView(one.day, one.run, state, link, requeues.count(found), one.error))
        final = sum(clip.through for clip in found)
        through += final
        done = done and (not one.run or state in ("success", "failed") or (not state and final == len(found)))
    every = [clip for found in of_runs for clip in found]
    clips = tuple(
        RequeuedClip(**asdict(clip), clip_url=url(request, "clip", clip_id=clip.clip_id))
        for clip in every[:_MOST_SHOWN]
    )
    return RequeueView(
        requeue.name, requeue.by, requeue.at, len(every), through, done, requeues.count(every), tuple(runs), clips
    )


def _states(store: Store, requeue: Requeue) -> list[list[requeues.ClipState]]:
    return [requeues.states(store, one) for one in requeue.runs]


def _some(clips: Sequence[QuarantinedClip]) -> dict[str, Any]:
    """Return the first clips, for the audit entry: the record in the store has all."""
    return {"clip_ids": [one.clip_id for one in clips[:20]], **({"more": len(clips) - 20} if len(clips) > 20 else {})}


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
