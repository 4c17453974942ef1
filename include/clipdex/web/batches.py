"""What happened to each clip of one batch, as a page and as JSON."""

from collections import Counter
from dataclasses import asdict, dataclass
from typing import Annotated, Any

from fastapi import APIRouter, HTTPException, Path, Request, Response

from clipdex.runs.outcomes import ClipOutcome, Outcome, batch_outcomes
from clipdex.runs.planning import load_plan, manifest
from clipdex.storage.artifacts import Store, poster_path
from clipdex.storage.source import Clip
from clipdex.web.backend import Backend, TheBackend
from clipdex.web.rendering import page
from clipdex.web.search import poster_url

router = APIRouter()

WAITING = "waiting"
_ORDER = (Outcome.FAILED, Outcome.REJECTED, Outcome.QUARANTINED, WAITING, Outcome.CAPTIONED, Outcome.INDEXED)
"""What a person has to look at comes first."""


@dataclass(frozen=True, slots=True)
class Row:
    """A clip of the batch: how far it came (an Outcome, or "waiting" while there is none), why, and at what price.

    origin: where its caption came from; text: the caption that failed a gate; seconds: time at the engine [s].
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

    @classmethod
    def of(cls, clip: Clip, said: ClipOutcome | None) -> "Row":
        if said is None:
            return cls(clip.clip_id, clip.path, clip.uri, WAITING)
        return cls(
            clip.clip_id, clip.path, clip.uri, said.outcome, said.reason, said.detail, said.text, said.origin,
            said.chunks, said.attempts, said.prompt_tokens, said.completion_tokens, said.seconds, said.at,
            poster_path(said.content) if said.caption_key and said.content else "",
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class BatchView:
    """A batch and its clips, those first that a person has to look at. counts: clips by outcome."""

    run: str
    day: str
    batch: str
    counts: dict[str, int]
    rows: tuple[Row, ...]

    def total(self, field: str) -> Any:
        return sum(getattr(row, field) for row in self.rows)


Run = Annotated[str, Path(pattern=r"^[\w=-][\w.=-]*$", max_length=300)]
Day = Annotated[str, Path(pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$")]
Batch = Annotated[str, Path(pattern="^[0-9a-f]{12}$")]


@router.get("/batches/{run}/{day}/{batch}", name="batch")
async def batch_page(request: Request, backend: TheBackend, run: Run, day: Day, batch: Batch) -> Response:
    view = await _looked_up(backend, run, day, batch)
    return page(request, "batch.html", view=view, poster_url=lambda key: poster_url(request, key))


@router.get("/api/batches/{run}/{day}/{batch}")
async def batch_json(backend: TheBackend, run: Run, day: Day, batch: Batch) -> dict[str, Any]:
    return asdict(await _looked_up(backend, run, day, batch))


def look_up(store: Store, run: str, day: str, batch: str) -> BatchView | None:
    """What is known of a batch now, while it runs too; None if no such batch was planned."""
    try:
        plan = load_plan(store, run)
        ref = next((one for one in plan.batches if (one.day, one.batch) == (day, batch)), None)
        if ref is None:
            return None
        clips = manifest(store, ref)
    except FileNotFoundError:
        return None
    said = batch_outcomes(store, day, run, batch)
    rows = [Row.of(clip, said.get(clip.clip_id)) for clip in clips]
    counts = Counter(row.outcome for row in rows)
    rows.sort(key=lambda row: (_ORDER.index(row.outcome), row.path))
    return BatchView(run, day, batch, {str(kind): counts[kind] for kind in _ORDER if counts[kind]}, tuple(rows))


async def _looked_up(backend: Backend, run: str, day: str, batch: str) -> BatchView:
    view = await backend.read(look_up, await backend.store(), run, day, batch)
    if view is None:
        raise HTTPException(
            404, f"no batch {batch} of {day} in run {run}: it was not planned, or is past its retention"
        )
    return view
