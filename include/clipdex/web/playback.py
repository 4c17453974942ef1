"""Playbacks: the small videos that a browser plays, by the digest of their content."""

from typing import Annotated

from fastapi import APIRouter, HTTPException, Path, Response

from clipdex.storage.artifacts import playback_path
from clipdex.web.backend import TheBackend

router = APIRouter()


@router.get("/playbacks/{content}.mp4", name="playback", include_in_schema=False)
async def playback(backend: TheBackend, content: Annotated[str, Path(pattern="^[0-9a-f]{64}$")]) -> Response:
    store = await backend.store()
    try:
        data = await backend.read(store.read, playback_path(content))
    except FileNotFoundError:
        raise HTTPException(404, f"no playback of {content}") from None
    return Response(data, media_type="video/mp4")
