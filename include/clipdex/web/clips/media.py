"""The picture of a clip, and its playback: what browsers play, in ranges, so that a player can start in the middle."""

import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, HTTPException, Path, Request, Response
from fastapi.responses import StreamingResponse

from clipdex.storage.artifacts import Store, playback_path, poster_path
from clipdex.web.backend import Backend, TheBackend
from clipdex.web.problems import ERRORS, Problem

router = APIRouter()

PIECE = 512 * 1024
"""Bytes that are read from the store at once: what a response holds in memory."""

_MOST_HEADER = 200  # characters of a Range
_RANGE = re.compile(r"\s*(\d{0,18})\s*-\s*(\d{0,18})\s*")
_CACHED = "private, max-age=31536000, immutable"
_DESCRIBED: dict[int | str, dict[str, Any]] = {
    **ERRORS,
    200: {"content": {"video/mp4": {}}, "description": "The playback: H.264 in mp4, perhaps with AAC"},
    206: {"content": {"video/mp4": {}}, "description": "The range of it that the header Range names"},
    416: {"model": Problem, "description": "The range is not in the playback; Content-Range has its size"},
}

Content = Annotated[str, Path(pattern="^[0-9a-f]{64}$", description="Of the clip: the name of its poster")]


@dataclass(frozen=True, slots=True)
class Span:
    """The bytes from start up to end, without end."""

    start: int
    end: int


class Unsatisfiable(Exception):
    """No byte of the object is in the range."""


@router.get(
    "/posters/{content}.jpg",
    name="poster",
    operation_id="get_poster",
    response_class=Response,
    responses={**ERRORS, 200: {"content": {"image/jpeg": {}}, "description": "A picture of the clip"}},
)
async def poster(backend: TheBackend, content: Annotated[str, Path(pattern="^[0-9a-f]{64}$")]) -> Response:
    """Return a poster by its content digest. No other store object is reachable through this route."""
    store = await backend.store()
    try:
        picture = await backend.read(store.read, poster_path(content))
    except FileNotFoundError:
        raise HTTPException(404, f"no poster of {content}") from None
    return Response(picture, media_type="image/jpeg", headers={"Cache-Control": _CACHED})


@router.head("/playbacks/{content}.mp4", include_in_schema=False)
@router.get(
    "/playbacks/{content}.mp4",
    name="playback",
    operation_id="get_playback",
    response_class=Response,
    responses=_DESCRIBED,
)
async def playback(request: Request, backend: TheBackend, content: Content) -> Response:
    """Return the playback of a clip, or a range of it. No other store object is reachable through this route."""
    store, key = await backend.store(), playback_path(content)
    try:
        size = await backend.read(store.size, key)
    except FileNotFoundError:
        raise HTTPException(
            404,
            f"no playback of {content}: clipdex playback --day DAY makes those of the clips of a day "
            "that were captioned without one",
        ) from None
    tag = f'"{content[:32]}-{size:x}"'
    headers = {"Accept-Ranges": "bytes", "ETag": tag, "Cache-Control": _CACHED}
    if tag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    given = request.headers.get("range", "")
    if request.headers.get("if-range", tag) != tag:
        given = ""  # a range of another version, after the playback was made again
    try:
        span = parse_range(given, size)
    except Unsatisfiable:
        raise HTTPException(
            416, f"a range such as bytes=0-499 of {size} bytes expected", {"Content-Range": f"bytes */{size}"}
        ) from None
    status, whole = 200, Span(0, size)
    if span is not None:
        status, headers["Content-Range"] = 206, f"bytes {span.start}-{span.end - 1}/{size}"
    span = span or whole
    headers["Content-Length"] = str(span.end - span.start)
    if request.method == "HEAD":
        return Response(status_code=status, headers=headers, media_type="video/mp4")
    return StreamingResponse(_pieces(backend, store, key, span), status, headers, media_type="video/mp4")


def parse_range(header: str, size: int) -> Span | None:
    """Return the range that a header names, None for the whole object. Raises Unsatisfiable.

    Several ranges, and other units than bytes, are answered with the whole object, as RFC 9110 allows: the sum of many
    overlapping ranges has no bound.
    """
    unit, equals, ranges = header.strip().partition("=")
    if not equals or unit.strip().lower() != "bytes" or "," in ranges:
        return None
    found = _RANGE.fullmatch(ranges) if len(header) <= _MOST_HEADER else None
    if found is None or not (found[1] or found[2]):
        raise Unsatisfiable
    if not found[1]:  # the last bytes
        start, end = max(0, size - int(found[2])), size
    else:
        start, end = int(found[1]), min(size, int(found[2]) + 1) if found[2] else size
        if found[2] and int(found[2]) < start:
            raise Unsatisfiable
    if start >= end:
        raise Unsatisfiable
    return Span(start, end)


async def _pieces(backend: Backend, store: Store, key: str, span: Span) -> AsyncIterator[bytes]:
    for start in range(span.start, span.end, PIECE):
        yield await backend.read(store.read_range, key, start, min(start + PIECE, span.end))
