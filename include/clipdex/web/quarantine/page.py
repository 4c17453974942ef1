"""The clips in quarantine: as a page with filters, as JSON and as CSV. What changes them is in repair.py."""

import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, FastAPI, Query, Request, Response
from pydantic import Field

from clipdex.days import parse_day
from clipdex.errors import InvalidFilter, Reason
from clipdex.runs.quarantine import requeues
from clipdex.runs.quarantine.by_day import QuarantinedClip
from clipdex.runs.quarantine.catalog import Catalog, Quarantine, QuarantineFilter
from clipdex.runs.quarantine.export import as_csv
from clipdex.storage.artifacts import Store, poster_path
from clipdex.web import csrf
from clipdex.web.backend import Backend, TheBackend
from clipdex.web.links import poster_url
from clipdex.web.parameters import RangeQuery
from clipdex.web.problems import ERRORS
from clipdex.web.rendering import clock, page, url

router = APIRouter()

PAGE_SIZE, _RECENT = 50, 3
_NEVER = {"": None, "yes": True, "no": False}

ReasonWord = Annotated[str, Field(max_length=40, pattern="^[a-z_]*$")]


class QuarantineQuery(RangeQuery):
    """Hold filters of the quarantine, and the number of a page, from 1. first, last, where: as in a search"""

    reason: Annotated[
        list[ReasonWord], Field(max_length=40, default_factory=list, description="Any of these reasons; none for all")
    ]
    folder: Annotated[str, Field(max_length=2000, description="URI of a folder, or of one above it")] = ""
    q: Annotated[str, Field(max_length=200, description="Words in the path or in the detail")] = ""
    never: Annotated[
        str, Field(pattern="^(yes|no)?$", description="yes: only clips that are never tried again; no: only others")
    ] = ""
    page: Annotated[int, Field(ge=1, le=1_000_000, description="Number of the page, from 1")] = 1

    def filter(self, timezone: str) -> QuarantineFilter:
        """Return what the catalog takes. timezone: of today and yesterday. Raises InvalidFilter."""
        pairs = [word.partition("=") for word in self.where if word.strip()]
        if wrong := [name for name, equals, _ in pairs if not equals]:
            raise InvalidFilter(f"where: {wrong[0]!r} is not FIELD=VALUE, such as camera=cam-7")
        first, last = (parse_day(day, timezone).isoformat() if day else "" for day in (self.first, self.last))
        return QuarantineFilter(
            tuple(one for one in self.reason if one), first, last,
            tuple((name.strip(), value.strip()) for name, _, value in pairs), self.folder, self.q.strip(),
            _NEVER[self.never],
        )  # fmt: skip

    def pairs(self, **changes: Any) -> list[tuple[str, str]]:
        """Return the filters as the parameters of a link, without the page."""
        now: dict[str, Any] = {
            "reason": self.reason, "from": self.first, "to": self.last, "where": self.where, "folder": self.folder,
            "q": self.q, "never": self.never, **changes,
        }  # fmt: skip
        return [
            (name, str(one))
            for name, value in now.items()
            for one in (value if isinstance(value, list) else [value])
            if one not in ("", None)
        ]


@dataclass(frozen=True, slots=True)
class QuarantineRow(QuarantinedClip):
    """Hold a clip in quarantine. poster_url, clip_url: paths on this server, or ""

    never_by, never_at: user and time of the mark "never again"; "" without one
    """

    poster_url: str = ""
    clip_url: str = ""
    never_by: str = ""
    never_at: str = ""

    @property
    def times(self) -> str:
        return f"{clock(self.start_s)}–{clock(self.end_s)}" if self.part_of else ""

    @property
    def where(self) -> str:
        return ", ".join(f"{name}={value}" for name, value in self.metadata.items())


class QuarantinePage(QuarantineQuery):
    """The query as it was read, and one page of its clips, the latest day first.

    total: clips under these filters; pages: number of pages; days: of these clips
    reasons: number of clips by reason, under the other filters
    unread_days: days of an earlier release that this response left out; `clipdex quarantine list` includes them
    """

    total: int
    pages: int
    days: int
    reasons: dict[str, int]
    clips: list[QuarantineRow]
    unread_days: int


@router.get("/quarantine", name="quarantine", include_in_schema=False)
async def quarantine_page(
    request: Request, backend: TheBackend, question: Annotated[QuarantineQuery, Query()]
) -> Response:
    found = await find(request, backend, question)
    store = await backend.store()
    operations = request.app.state.operations
    token = csrf.token_of(request)
    response = page(
        request,
        "quarantine.html",
        question=question,
        found=found,
        shown=await _rows(request, backend, found, question.page),
        pages=_pages(found),
        page_size=PAGE_SIZE,
        all_reasons=list(Reason),
        recent=await backend.read(requeues.latest, store, _RECENT),
        can_write=operations is not None and await operations.may_write(request),
        hosted=operations is not None,
        form_token=token,
        link=lambda **changes: _link(request, "quarantine", question, **changes),
        csv=_link(request, "quarantine_csv", question),
        dialog=question.pairs(),
    )
    csrf.set_token(request, response, token)
    return response


@router.get("/quarantine.csv", name="quarantine_csv", include_in_schema=False)
async def quarantine_csv(
    request: Request, backend: TheBackend, question: Annotated[QuarantineQuery, Query()]
) -> Response:
    found = await find(request, backend, question)
    text = await backend.read(as_csv, found)
    return Response(
        text.encode("utf-8", "surrogateescape"),
        media_type="text/csv; charset=utf-8",
        headers={"Content-Disposition": 'attachment; filename="quarantine.csv"'},
    )


@router.get("/api/quarantine", operation_id="list_quarantine", responses=ERRORS)
async def list_quarantine(
    request: Request, backend: TheBackend, question: Annotated[QuarantineQuery, Query()]
) -> QuarantinePage:
    """List the clips in quarantine, 50 per page."""
    found = await find(request, backend, question)
    return QuarantinePage(
        **question.model_dump(),
        total=len(found.clips),
        pages=_pages(found),
        days=len(found.days),
        reasons=found.reasons,
        clips=await _rows(request, backend, found, question.page),
        unread_days=found.unread,
    )


async def find(request: Request, backend: Backend, question: QuarantineQuery) -> Quarantine:
    """Return the clips that a query leaves. Raises InvalidFilter."""
    settings = await backend.settings()
    wanted = question.filter(settings.source.timezone if settings else "UTC")
    store = await backend.store()
    return await backend.read(catalog(request.app, store).find, wanted)


def catalog(app: FastAPI, store: Store) -> Catalog:
    """Return the catalog of a store, one per app."""
    kept: tuple[Store, Catalog] | None = getattr(app.state, "quarantine", None)
    if kept is None or kept[0] is not store:
        kept = app.state.quarantine = store, Catalog(store)
    return kept[1]


async def _rows(request: Request, backend: Backend, found: Quarantine, number: int) -> list[QuarantineRow]:
    shown = found.clips[(number - 1) * PAGE_SIZE : number * PAGE_SIZE]
    store = await backend.store()
    posters = await backend.read(_posters, store, shown)
    rows = []
    for one in shown:
        mark = found.mark_of(one)
        poster = poster_url(request, poster_path(one.content)) if one.content in posters else ""
        rows.append(
            QuarantineRow(
                **{name: getattr(one, name) for name in QuarantinedClip.__slots__},
                poster_url=poster,
                clip_url=url(request, "clip", clip_id=one.clip_id),
                never_by=mark.by if mark else "",
                never_at=mark.at if mark else "",
            )
        )
    return rows


def _posters(store: Store, clips: tuple[QuarantinedClip, ...]) -> set[str]:
    """Return the contents that have a poster, of clips that were decoded before they were rejected."""
    contents = {one.content for one in clips if one.content and not Reason(one.reason).seen_before_engine}
    with ThreadPoolExecutor(8) as looking:
        there = looking.map(lambda content: store.exists(poster_path(content)), contents)
        return {content for content, exists in zip(contents, there, strict=True) if exists}


def _pages(found: Quarantine) -> int:
    return max(1, math.ceil(len(found.clips) / PAGE_SIZE))


def _link(request: Request, route: str, question: QuarantineQuery, **changes: Any) -> str:
    return f"{url(request, route)}?{urlencode(question.pairs(**changes))}"
