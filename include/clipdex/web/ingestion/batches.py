"""The outcomes of one batch, as a page and as JSON."""

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any

from fastapi import APIRouter, HTTPException, Path, Request, Response

from clipdex.runs.outcomes import ClipOutcome, Outcome, batch_history
from clipdex.runs.planning import load_plan, manifest
from clipdex.runs.tries import ClipTry, TryError, errors_of
from clipdex.storage.artifacts import Store, poster_path
from clipdex.storage.clip import Clip
from clipdex.web.backend import Backend, TheBackend
from clipdex.web.links import poster_url
from clipdex.web.problems import ERRORS
from clipdex.web.rendering import clock, page

router = APIRouter()

WAITING = "waiting"
_ORDER = (Outcome.FAILED, Outcome.REJECTED, Outcome.QUARANTINED, WAITING, Outcome.CAPTIONED, Outcome.INDEXED)
"""Outcomes that need attention come first."""


@dataclass(frozen=True, slots=True)
class Row:
    """Hold one clip of the batch, or one part of a file that is cut, and its outcome.

    name: path below the root, with the times of a part
    parts: number of parts of a file that is cut; part_of: clip_id of the file of a part
    outcome: an Outcome, or "waiting" if there is none yet
    origin: the source of its caption
    similar_to: path of the near-duplicate that its caption is from, or the caption's key if that is in another batch
    distance: of the two [mean bits of 64 per frame]
    paragraphs, timed: as in Caption, of one that this run wrote
    text: the caption that failed a gate
    seconds: time at the engine [s]
    tries: what happened on each try, if the batch took several
    """

    clip_id: str
    path: str
    uri: str
    outcome: str
    reason: str = ""
    detail: str = ""
    text: str = ""
    origin: str = ""
    chunks: int = 0
    attempts: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    seconds: float = 0.0
    at: str = ""
    poster: str = ""
    part_of: str = ""
    start_s: float = 0.0
    end_s: float = 0.0
    parts: int = 0
    similar_to: str = ""
    distance: float = 0.0
    paragraphs: int = 0
    timed: int = 0
    tries: tuple[ClipTry, ...] = ()

    @property
    def name(self) -> str:
        return _with_times(self.path, self.start_s, self.end_s) if self.part_of else self.path

    @classmethod
    def of(cls, clip: Clip, outcome: ClipOutcome | None, names: Mapping[str, str]) -> "Row":
        """Return the row of a clip. names: of the clips and parts by the key of their caption."""
        if outcome is None:
            return cls(clip.clip_id, clip.path, clip.uri, WAITING)
        return cls(
            clip.clip_id, clip.path, clip.uri, outcome.outcome, outcome.reason, outcome.detail, outcome.text,
            outcome.origin, outcome.chunks, outcome.attempts, outcome.prompt_tokens, outcome.completion_tokens,
            outcome.seconds, outcome.at,
            poster_path(outcome.content) if _has_poster(outcome) else "",
            outcome.part_of, outcome.start_s, outcome.end_s, outcome.parts,
            names.get(outcome.similar_to, outcome.similar_to), outcome.distance, outcome.paragraphs, outcome.timed,
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class BatchTry:
    """Hold what one try did. phase: caption or index; number: of the try, from 1; began, ended: of its outcomes

    counts: clips by outcome; origins: of those with a caption, clips by its source; reasons: of failures and rejections
    before: clips that were done before it, as earlier tries did them
    error, why: kind and message of the error that ended it; "" if there was none, or if it was killed
    log_url: of its log in Airflow, or ""
    """

    phase: str
    number: int
    began: str
    ended: str
    counts: dict[str, int]
    origins: dict[str, int]
    reasons: dict[str, int]
    before: int
    error: str = ""
    why: str = ""
    log_url: str = ""


@dataclass(frozen=True, slots=True)
class BatchView:
    """Hold a batch and its clips, those that need attention first.

    counts: clips by outcome; timezone: that of the day
    tries: of a batch that took several, in order
    job: as in Plan; map_index: of the batch in its run
    """

    run: str
    day: str
    batch: str
    counts: dict[str, int]
    rows: tuple[Row, ...]
    timezone: str = "UTC"
    tries: tuple[BatchTry, ...] = ()
    job: str = ""
    map_index: int = 0

    def total(self, field: str) -> Any:
        return sum(getattr(row, field) for row in self.rows)


Run = Annotated[str, Path(pattern=r"^[\w=-][\w.=-]*$", max_length=300)]
Day = Annotated[str, Path(pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$")]
Batch = Annotated[str, Path(pattern="^[0-9a-f]{12}$")]


@router.get("/batches/{run}/{day}/{batch}", name="batch", include_in_schema=False)
async def batch_page(request: Request, backend: TheBackend, run: Run, day: Day, batch: Batch) -> Response:
    view = await _view_or_404(request, backend, run, day, batch)
    return batch_response(request, view)


def batch_response(request: Request, view: BatchView) -> Response:
    """Return the page of a batch."""
    return page(
        request,
        "batch.html",
        view=view,
        poster_url=lambda key: poster_url(request, key),
    )


@router.get("/api/batches/{run}/{day}/{batch}", operation_id="get_batch", responses=ERRORS)
async def get_batch(request: Request, backend: TheBackend, run: Run, day: Day, batch: Batch) -> BatchView:
    """Return the outcomes of a batch, and what happened on each try."""
    return await _view_or_404(request, backend, run, day, batch)


def look_up(store: Store, run: str, day: str, batch: str) -> BatchView | None:
    """Return the current state of a batch, finished or running, or None if it was not planned, or was pruned."""
    outcomes, tries = batch_history(store, day, run, batch)  # before the plan: pruning deletes the plan first
    try:
        plan = load_plan(store, run)
        refs = ((number, one) for number, one in enumerate(plan.batches) if (one.day, one.batch) == (day, batch))
        map_index, ref = next(refs, (0, None))
        if ref is None:
            return None
        clips = manifest(store, ref)
        errors = errors_of(store, day, run, batch)
    except FileNotFoundError:
        return None
    outcomes_of: dict[str, list[ClipOutcome]] = defaultdict(list)
    for outcome in outcomes.values():
        outcomes_of[outcome.part_of or outcome.clip_id].append(outcome)
    captioned = ((clip, one) for clip in clips for one in outcomes_of[clip.clip_id] if one.caption_key)
    names = {one.caption_key: _name(clip, one) for clip, one in captioned}
    rows = []
    for clip in clips:
        file = outcomes.get(clip.clip_id)
        rows.append(replace(Row.of(clip, file, names), tries=tries.get(clip.clip_id, ())))
        parts = (one for one in outcomes_of[clip.clip_id] if one.part_of and (file is None or one.part_no < file.parts))
        rows += [
            replace(Row.of(clip, part, names), clip_id=part.clip_id, tries=tries.get(part.clip_id, ()))
            for part in parts
        ]
    counts = Counter(row.outcome for row in rows if not row.parts)
    rows.sort(key=lambda row: (_ORDER.index(row.outcome), row.path, row.start_s))
    return BatchView(
        run, day, batch, {str(kind): counts[kind] for kind in _ORDER if counts[kind]}, tuple(rows), plan.timezone,
        _tries(tries, errors), plan.job, map_index,
    )  # fmt: skip


def _tries(of_clips: Mapping[str, tuple[ClipTry, ...]], errors: tuple[TryError, ...]) -> tuple[BatchTry, ...]:
    """Return what each try did, from what happened to each clip."""
    ended = {(one.phase, one.number): one for one in errors}
    found: dict[tuple[str, int], list[ClipTry]] = {key: [] for key in ended}
    for tries in of_clips.values():
        for one in tries:
            found.setdefault((one.phase, one.number), []).append(one)
    views, done = [], Counter[str]()
    for phase, number in sorted(found):
        clips = found[phase, number]
        error, times = ended.get((phase, number)), sorted(one.at for one in clips if one.at)
        views.append(
            BatchTry(
                phase,
                number,
                times[0] if times else "",
                error.at if error else times[-1] if times else "",
                dict(Counter(one.outcome for one in clips)),
                dict(Counter(one.origin for one in clips if one.origin)),
                dict(Counter(one.reason for one in clips if one.reason)),
                done[phase],
                error.error if error else "",
                error.why if error else "",
            )
        )
        done[phase] += sum(one.outcome not in ("failed", "rejected") for one in clips)
    return tuple(views)


def _has_poster(outcome: ClipOutcome) -> bool:
    return bool(outcome.caption_key and outcome.content) and not outcome.without_poster


def _name(clip: Clip, outcome: ClipOutcome) -> str:
    return _with_times(clip.path, outcome.start_s, outcome.end_s) if outcome.part_of else clip.path


def _with_times(path: str, start_s: float, end_s: float) -> str:
    return f"{path} ({clock(start_s)}–{clock(end_s)})"


async def _view_or_404(request: Request, backend: Backend, run: str, day: str, batch: str) -> BatchView:
    view = await backend.read(look_up, await backend.store(), run, day, batch)
    if view is None:
        raise HTTPException(
            404, f"no batch {batch} of {day} in run {run}: it was not planned, or is past its retention"
        )
    return with_logs(request, view)


def with_logs(request: Request, view: BatchView) -> BatchView:
    """Return the batch with the URL of the log of each try, where the host of the pages has them."""
    operations = request.app.state.operations
    if operations is None or not view.job:
        return view
    tries = (
        replace(one, log_url=operations.log_url(view.job, one.phase, view.map_index, one.number)) for one in view.tries
    )
    return replace(view, tries=tuple(tries))
