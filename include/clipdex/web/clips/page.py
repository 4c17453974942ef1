"""The page of one clip, and its record as JSON."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from clipdex.web.backend import TheBackend
from clipdex.web.clips.player import Hits, Words, view_of
from clipdex.web.clips.record import CaptionRecord, ClipRecord, OutcomeRecord, clip_record
from clipdex.web.links import shown_path, stored_url
from clipdex.web.parameters import ClipIdInPath
from clipdex.web.problems import ERRORS
from clipdex.web.rendering import page

router = APIRouter()

Day = Annotated[
    str, Query(max_length=10, description="Day of a clip that is not indexed: YYYY-MM-DD, today or yesterday")
]
At = Annotated[float | None, Query(alias="t", ge=0, allow_inf_nan=False, description="Where to start [s of the file]")]


@dataclass(frozen=True, slots=True)
class ClipCaptions:
    """Hold the captions of a clip's content, the indexed one first."""

    clip_id: str
    day: str
    captions: tuple[CaptionRecord, ...]


@dataclass(frozen=True, slots=True)
class ClipOutcomes:
    """Hold the outcomes of a clip, the last one first."""

    clip_id: str
    day: str
    outcomes: tuple[OutcomeRecord, ...]


@router.get("/clips/{clip_id}", name="clip", include_in_schema=False)
async def clip_page(
    request: Request, backend: TheBackend, clip_id: ClipIdInPath, day: Day = "", at_s: At = None, words: Words = "",
    hits: Hits = [],  # noqa: B006
) -> Response:  # fmt: skip
    record = await backend.query(clip_record, clip_id, day)
    return page(
        request,
        "clip.html",
        record=record,
        player=await view_of(request, backend, record, words, hits, at_s),
        path=shown_path(record.file.uri),
        stored_url=lambda key: stored_url(request, key),
    )


@router.get("/api/clips/{clip_id}/record", operation_id="get_clip_record", responses=ERRORS)
async def get_clip_record(backend: TheBackend, clip_id: ClipIdInPath, day: Day = "") -> ClipRecord:
    """Return what is known of a clip, also of one that is not indexed."""
    return await backend.query(clip_record, clip_id, day)


@router.get("/api/clips/{clip_id}/captions", operation_id="get_clip_captions", responses=ERRORS)
async def get_clip_captions(backend: TheBackend, clip_id: ClipIdInPath, day: Day = "") -> ClipCaptions:
    """Return the captions of a clip's content with what made them, the indexed one first."""
    record = await backend.query(clip_record, clip_id, day)
    return ClipCaptions(record.clip_id, record.day, record.captions)


@router.get("/api/clips/{clip_id}/outcomes", operation_id="get_clip_outcomes", responses=ERRORS)
async def get_clip_outcomes(backend: TheBackend, clip_id: ClipIdInPath, day: Day = "") -> ClipOutcomes:
    """Return the outcomes of a clip over time, the last one first."""
    record = await backend.query(clip_record, clip_id, day)
    return ClipOutcomes(record.clip_id, record.day, record.outcomes)
