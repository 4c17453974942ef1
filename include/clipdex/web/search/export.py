"""The hits of a search as a file: CSV for spreadsheets, JSON for programs. Bounded."""

import csv
import io
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from pydantic import Field

from clipdex.sanitize import safe_cell
from clipdex.web.backend import TheBackend
from clipdex.web.rendering import url
from clipdex.web.search.hits import FoundClip, find, shown
from clipdex.web.search.queries import SearchQuery

router = APIRouter(include_in_schema=False)

MOST = 500
_FIELDS = (
    "clip_id", "uri", "day", "start_s", "end_s", "duration_s", "relevance", "weak", "score", "recorded_at", "part_of",
    "part_no", "clip_start_s", "text",
)  # fmt: skip


class ExportQuery(SearchQuery):
    """Hold a query; limit, the maximum number of clips."""

    limit: Annotated[int, Field(ge=1, le=MOST, description="The most clips")] = MOST


@router.get("/export.csv", name="export_csv")
async def export_csv(request: Request, backend: TheBackend, question: Annotated[ExportQuery, Query()]) -> Response:
    """Return the hits of a search as CSV, one line per clip."""
    clips = [shown(request, clip) for clip in await find(backend, question)]
    names = sorted({name for clip in clips for name in clip.metadata})
    rows = (_row(request, rank, clip, names) for rank, clip in enumerate(clips, 1))
    return csv_response("clips.csv", ["rank", *_FIELDS, "page", *names], rows)


@router.get("/export.json", name="export_json")
async def export_json(request: Request, backend: TheBackend, question: Annotated[ExportQuery, Query()]) -> Response:
    """Return the hits of a search as JSON, as /api/search does."""
    clips = [asdict(shown(request, clip)) for clip in await find(backend, question)]
    whole = {**question.model_dump(), "clips": clips}
    return _file("clips.json", json.dumps(whole, ensure_ascii=False, indent=1), "application/json")


def csv_response(name: str, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> Response:
    """Return a file of CSV (RFC 4180). Texts that a spreadsheet would compute begin with an apostrophe."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow([as_cell(one) for one in header])
    writer.writerows([as_cell(one) for one in row] for row in rows)
    return _file(name, text.getvalue(), "text/csv")


def as_cell(value: Any) -> Any:
    """Return a value of a cell: a text that begins like a formula gets an apostrophe, as spreadsheets write text."""
    if not isinstance(value, str):
        return "" if value is None else value
    return safe_cell(value)


def _row(request: Request, rank: int, clip: FoundClip, names: Sequence[str]) -> list[Any]:
    link = url(request, "clip", clip_id=clip.clip_id)
    return [rank, *(getattr(clip, one) for one in _FIELDS), link, *(clip.metadata.get(one, "") for one in names)]


def _file(name: str, text: str, kind: str) -> Response:
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    return Response(text.encode("utf-8", "replace"), media_type=kind, headers=headers)
