"""Search as a page and as JSON, and the posters of the clips."""

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

MAX_LIMIT = 60
_POSTER = re.compile(r"posters/[0-9a-f]{2}/([0-9a-f]{64})\.jpg")


def _parse_day(given: str) -> str:
    """Return the day as YYYY-MM-DD, or "" for an empty form field."""
    try:
        return date.fromisoformat(given).isoformat() if given else ""
    except ValueError:
        raise ValueError(f"{given!r} is not a date such as 2026-11-03") from None


class SearchQuery(BaseModel):
    """Hold a query: q, words; day, YYYY-MM-DD or "" for all; limit, the maximum number of clips."""

    q: Annotated[str, Field(max_length=500)] = ""
    day: Annotated[str, Field(max_length=10), AfterValidator(_parse_day)] = ""
    limit: Annotated[int, Field(ge=1, le=MAX_LIMIT)] = 12


@router.get("/", name="search")
async def search_page(
    request: Request, backend: TheBackend, question: Annotated[SearchQuery, Query()], later: BackgroundTasks
) -> Response:
    if not question.q.strip():
        response = page(request, "search.html", question=question, clips=None, timezone=await backend.timezone())
        response.background = later
        later.add_task(backend.warm)
        return response
    started = time.perf_counter()
    found = await backend.search(question.q, limit=question.limit, day=question.day)
    return page(
        request,
        "search.html",
        question=question,
        clips=[_clip_json(request, clip) for clip in found],
        timezone=await backend.timezone(),
        more=min(2 * question.limit, MAX_LIMIT) if len(found) == question.limit < MAX_LIMIT else None,
        seconds=time.perf_counter() - started,
    )


@router.get("/api/search")
async def search_json(
    request: Request, backend: TheBackend, question: Annotated[SearchQuery, Query()]
) -> dict[str, Any]:
    found = await backend.search(question.q, limit=question.limit, day=question.day)
    return {**question.model_dump(), "clips": [_clip_json(request, clip) for clip in found]}


@router.get("/posters/{content}.jpg", name="poster")
async def poster(backend: TheBackend, content: Annotated[str, Path(pattern="^[0-9a-f]{64}$")]) -> Response:
    """Return a poster by its content digest. No other store object is reachable through this route."""
    store = await backend.store()
    try:
        picture = await backend.read(store.read, poster_path(content))
    except FileNotFoundError:
        raise HTTPException(404, f"no poster of {content}") from None
    return Response(picture, media_type="image/jpeg", headers={"Cache-Control": "private, max-age=31536000, immutable"})


def poster_url(request: Request, key: str) -> str:
    """Return the URL of a poster by its store key, or "" if the key is not a poster's."""
    known = _POSTER.fullmatch(key)
    return url(request, "poster", content=known[1]) if known else ""


def _clip_json(request: Request, clip: ClipHit) -> dict[str, Any]:
    return {**asdict(clip), "poster_url": poster_url(request, clip.poster)}
