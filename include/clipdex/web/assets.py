"""Static assets: a stylesheet, a short script and icons, served by name from one folder behind the guard."""

from pathlib import Path

from fastapi import APIRouter, HTTPException, Response
from fastapi.responses import FileResponse

router = APIRouter()

_FOLDER = Path(__file__).parent / "static"
_NAMES = frozenset(file.name for file in _FOLDER.iterdir())


@router.get("/static/{name}", name="static", include_in_schema=False)
async def static(name: str) -> Response:
    if name not in _NAMES:
        raise HTTPException(404, f"no {name}")
    return FileResponse(_FOLDER / name, headers={"Cache-Control": "private, max-age=300"})
