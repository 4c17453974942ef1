"""The outcomes of one batch, as a page and as JSON."""

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any

from fastapi import APIRouter, HTTPException, Path, Request, Response

from clipdex.runs.outcomes import ClipOutcome, Outcome, batch_outcomes
from clipdex.runs.planning import load_plan, manifest
from clipdex.storage.artifacts import Store, poster_path
from clipdex.storage.clip import Clip
from clipdex.web.backend import Backend, TheBackend
from clipdex.web.problems import ERRORS
from clipdex.web.rendering import clock, page
from clipdex.web.search import poster_url

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
class BatchView:
    """Hold a batch and its clips, those that need attention first.

    counts: clips by outcome; timezone: that of the day
    """

    run: str
    day: str
    batch: str
    counts: dict[str, int]
    rows: tuple[Row, ...]
    timezone: str = "UTC"

    def total(self, field: str) -> Any:
        return sum(getattr(row, field) for row in self.rows)


Run = Annotated[str, Path(pattern=r"^[\w=-][\w.=-]*$", max_length=300)]
Day = Annotated[str, Path(pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$")]
Batch = Annotated[str, Path(pattern="^[0-9a-f]{12}$")]


@router.get("/batches/{run}/{day}/{batch}", name="batch", include_in_schema=False)
async def batch_page(request: Request, backend: TheBackend, run: Run, day: Day, batch: Batch) -> Response:
    view = await _view_or_404(backend, run, day, batch)
    return page(request, "batch.html", view=view, poster_url=lambda key: poster_url(request, key))


@router.get("/api/batches/{run}/{day}/{batch}", operation_id="get_batch", responses=ERRORS)
async def get_batch(backend: TheBackend, run: Run, day: Day, batch: Batch) -> BatchView:
    """Return the outcomes of a batch."""
    return await _view_or_404(backend, run, day, batch)


def look_up(store: Store, run: str, day: str, batch: str) -> BatchView | None:
    """Return the current state of a batch, finished or running, or None if it was not planned, or was pruned."""
    outcomes = batch_outcomes(store, day, run, batch)  # before the plan: pruning deletes the plan first
    try:
        plan = load_plan(store, run)
        ref = next((one for one in plan.batches if (one.day, one.batch) == (day, batch)), None)
        if ref is None:
            return None
        clips = manifest(store, ref)
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
        rows.append(Row.of(clip, file, names))
        parts = (one for one in outcomes_of[clip.clip_id] if one.part_of and (file is None or one.part_no < file.parts))
        rows += [replace(Row.of(clip, part, names), clip_id=part.clip_id) for part in parts]
    counts = Counter(row.outcome for row in rows if not row.parts)
    rows.sort(key=lambda row: (_ORDER.index(row.outcome), row.path, row.start_s))
    return BatchView(
        run, day, batch, {str(kind): counts[kind] for kind in _ORDER if counts[kind]}, tuple(rows), plan.timezone
    )


def _has_poster(outcome: ClipOutcome) -> bool:
    return bool(outcome.caption_key and outcome.content) and not outcome.without_poster


def _name(clip: Clip, outcome: ClipOutcome) -> str:
    return _with_times(clip.path, outcome.start_s, outcome.end_s) if outcome.part_of else clip.path


def _with_times(path: str, start_s: float, end_s: float) -> str:
    return f"{path} ({clock(start_s)}–{clock(end_s)})"


async def _view_or_404(backend: Backend, run: str, day: str, batch: str) -> BatchView:
    view = await backend.read(look_up, await backend.store(), run, day, batch)
    if view is None:
        raise HTTPException(
            404, f"no batch {batch} of {day} in run {run}: it was not planned, or is past its retention"
        )
    return view
