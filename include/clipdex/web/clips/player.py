"""The player: the video of a clip from a second, with its caption beside it and the words of the query marked."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from markupsafe import Markup, escape
from pydantic import AfterValidator, Field

from clipdex.index.marking import marked
from clipdex.web.backend import TheBackend
from clipdex.web.clips.record import ClipRecord, clip_record
from clipdex.web.links import shown_path, stored_url
from clipdex.web.parameters import ClipIdInPath
from clipdex.web.rendering import page

router = APIRouter()

MOST_SPANS = 16
_SPAN = re.compile(r"(\d{1,7}(?:\.\d{1,6})?)-(\d{1,7}(?:\.\d{1,6})?)")

Span = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Paragraph:
    """Hold a part of a caption as it is shown.

    text: escaped, with the words of the query marked; is_hit: whether a hit covers it
    start_s, end_s: [s of the video], both 0 without times
    """

    text: Markup
    start_s: float
    end_s: float
    is_hit: bool

    @property
    def is_timed(self) -> bool:
        return self.end_s > self.start_s


@dataclass(frozen=True, slots=True)
class PlayerView:
    """Hold what the player shows. Times are those of the video, whose first second is that of the clip [s].

    playback_url, poster_url: "" if there is none
    spans: of the hits; at_s: where it starts; offset_s: of the clip in its file
    """

    clip_id: str
    day: str
    name: str
    path: str
    playback_url: str
    poster_url: str
    duration_s: float
    at_s: float
    offset_s: float
    spans: tuple[Span, ...]
    paragraphs: tuple[Paragraph, ...]
    command: str

    @property
    def is_part(self) -> bool:
        return self.offset_s > 0


def _checked_span(given: str) -> str:
    found = _SPAN.fullmatch(given)
    if not found or float(found[2]) < float(found[1]):
        raise ValueError(f"{given[:40]!r} is not START-END in seconds, such as 3.5-8")
    return given


Hits = Annotated[
    list[Annotated[str, Field(max_length=40), AfterValidator(_checked_span)]],
    Query(alias="hit", max_length=MOST_SPANS, description="START-END of a hit [s on a player's clock of the file]"),
]
Words = Annotated[str, Query(alias="q", max_length=500, description="Words to mark")]


@router.get("/clips/{clip_id}/player", name="player", include_in_schema=False)
async def player(
    request: Request,
    backend: TheBackend,
    clip_id: ClipIdInPath,
    words: Words = "",
    hits: Hits = [],  # noqa: B006
) -> Response:
    """Return the player of a clip as a part of a page."""
    view = await view_of(request, backend, await backend.query(clip_record, clip_id, brief=True), words, hits)
    return page(request, "player.html", player=view)


async def view_of(
    request: Request,
    backend: Any,
    record: ClipRecord,
    words: str = "",
    hits: Sequence[str] = (),
    at_s: float | None = None,
) -> PlayerView:
    """Return what the player shows of a clip. hits: START-END on the file's clock; at_s: where to start, on it"""
    language = await backend.language() if words.strip() else ""
    file, offset_s = record.file, record.file.start_s
    spans = [(float(start) - offset_s, float(end) - offset_s) for start, end in (one.split("-") for one in hits)]
    spans = [(max(0.0, start), end) for start, end in spans if end > 0]
    start_s = at_s - offset_s if at_s is not None and math.isfinite(at_s) else spans[0][0] if spans else 0.0
    caption = record.caption
    segments = [(one.start_s, one.end_s, one.text) for one in caption.segments] if caption else []
    if caption and not segments:
        segments = [(0.0, 0.0, one) for one in re.split(r"\n{2,}", caption.text) if one.strip()]
    paragraphs = [
        Paragraph(
            with_marks(text, words, language),
            max(0.0, start - offset_s) if end > start else 0.0,
            end - offset_s if end > start else 0.0,
            end > start and any(start - offset_s < high and end - offset_s > low for low, high in spans),
        )
        for start, end, text in segments
    ]
    path = shown_path(file.uri)
    return PlayerView(
        record.clip_id, record.day, path.rpartition("/")[2] or record.clip_id, path,
        stored_url(request, record.playback), stored_url(request, record.poster), file.duration_s,
        min(max(0.0, start_s), file.duration_s or math.inf), offset_s, tuple(spans), tuple(paragraphs),
        f"clipdex playback --day {record.day}",
    )  # fmt: skip


def with_marks(text: str, words: str, language: str) -> Markup:
    """Return a text, escaped, with the words of a query in <mark>."""
    if not words.strip():
        return escape(text)
    pieces = marked(text, words, language)
    return Markup().join(Markup("<mark>{}</mark>").format(piece) if match else escape(piece) for piece, match in pieces)
