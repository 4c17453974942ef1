"""Static assets: stylesheets, short scripts and icons, served by name from one folder behind the guard.

chart.js is Chart.js as the package chartkick ships it; without that package it is missing, and pages show tables alone.
"""

import gzip
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from fastapi import APIRouter, HTTPException, Request, Response
from fastapi.responses import FileResponse

router = APIRouter()

_FOLDER = Path(__file__).parent / "static"
_NAMES = frozenset(file.name for file in _FOLDER.iterdir())


_CHART = "chart.js"
_KEPT = {"Cache-Control": "private, max-age=300"}


@router.get("/static/{name}", name="static", include_in_schema=False)
async def static(request: Request, name: str) -> Response:
    if name == _CHART and chart_file():
        packed = "gzip" in request.headers.get("accept-encoding", "")
        headers = _KEPT | {"Vary": "Accept-Encoding"} | ({"Content-Encoding": "gzip"} if packed else {})
        return Response(_chart(packed), media_type="text/javascript", headers=headers)
    if name not in _NAMES:
        raise HTTPException(404, f"no {name}")
    return FileResponse(_FOLDER / name, headers=_KEPT)


@cache
def chart_file() -> Path | None:
    """Return the file of Chart.js in the installed package, or None."""
    found = find_spec("chartkick")
    folders = found.submodule_search_locations if found else None
    files = (Path(folder) / "django/static/chartkick/Chart.bundle.js" for folder in folders or ())
    return next((file for file in files if file.is_file()), None)


@cache
def _chart(packed: bool) -> bytes:
    file = chart_file()
    data = file.read_bytes() if file else b""
    return gzip.compress(data, mtime=0) if packed else data
