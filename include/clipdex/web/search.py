"""The search page, the same as JSON, and the posters of the clips."""

import re
import time
from dataclasses import asdict
from datetime import date
from typing import Annotated, Any

from fastapi import APIRouter, BackgroundTasks, HTTPException, Path, Query, Request, Response
from pydantic import AfterValidator, BaseModel, Field

from clipdex.index.search import ClipHit
from clipdex.storage.artifacts import poster_path
from clipdex.web.backend import TheBackend
from clipdex.web.rendering import page, url

router = APIRouter()

MOST = 60
_POSTER = re.compile(r"posters/[0-9a-f]{2}/([0-9a-f]{64})\.jpg")


def _a_day(given: str) -> str:
    """As the index spells it; a form that is left empty sends ""."""
    try:
        return date.fromisoformat(given).isoformat() if given else ""
    except ValueError:
        raise ValueError(f"{given!r} is not a date such as 2026-11-03") from None


class SearchQuery(BaseModel):
    """What a person looks for: q in words, of one day (YYYY-MM-DD) or "" for all, at most so many clips."""

    q: Annotated[str, Field(max_length=500)] = ""
    day: Annotated[str, Field(max_length=10), AfterValidator(_a_day)] = ""
    limit: Annotated[int, Field(ge=1, le=MOST)] = 12


@router.get("/", name="search")
async def search_page(
    request: Request, backend: TheBackend, question: Annotated[SearchQuery, Query()], later: BackgroundTasks
) -> Response:
    if not question.q.strip():
        response = page(request, "search.html", question=question, clips=None)
        response.background = later
        later.add_task(backend.warm)
        return response
    started = time.perf_counter()
    found = await backend.search(question.q, limit=question.limit, day=question.day)
    return page(
        request,
        "search.html",
        question=question,
        clips=[_shown(request, clip) for clip in found],
        more=min(2 * question.limit, MOST) if len(found) == question.limit < MOST else None,
        seconds=time.perf_counter() - started,
    )


@router.get("/api/search")
async def search_json(
    request: Request, backend: TheBackend, question: Annotated[SearchQuery, Query()]
) -> dict[str, Any]:
    found = await backend.search(question.q, limit=question.limit, day=question.day)
    return {**question.model_dump(), "clips": [_shown(request, clip) for clip in found]}


@router.get("/posters/{content}.jpg", name="poster")
async def poster(backend: TheBackend, content: Annotated[str, Path(pattern="^[0-9a-f]{64}$")]) -> Response:
    """By the digest of a clip's content, and by nothing else: no other object of the store has an address here."""
    store = await backend.store()
    try:
        picture = await backend.read(store.read, poster_path(content))
    except FileNotFoundError:
        raise HTTPException(404, f"no poster of {content}") from None
    return Response(picture, media_type="image/jpeg", headers={"Cache-Control": "private, max-age=31536000, immutable"})


def poster_url(request: Request, key: str) -> str:
    """Where a browser finds a poster that the store has under a key; "" where that is none."""
    known = _POSTER.fullmatch(key)
    return url(request, "poster", content=known[1]) if known else ""


def _shown(request: Request, clip: ClipHit) -> dict[str, Any]:
    return {**asdict(clip), "poster_url": poster_url(request, clip.poster)}
