"""Search as a page, the parameters of its queries, and the posters of the clips."""

import time
from dataclasses import dataclass, fields
from datetime import date
from itertools import islice
from typing import Annotated, Any, Self
from urllib.parse import urlencode

from fastapi import APIRouter, BackgroundTasks, HTTPException, Path, Query, Request, Response
from markupsafe import Markup
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from clipdex.config import Settings
from clipdex.errors import ClipdexError, NothingIndexed
from clipdex.index.diversity import DEFAULT
from clipdex.index.search import ClipHit
from clipdex.index.where import Where, from_words, with_days
from clipdex.storage.artifacts import poster_path
from clipdex.web.backend import Backend, TheBackend
from clipdex.web.filter_form import FilterForm, filter_form
from clipdex.web.narrowing import Narrowing
from clipdex.web.player import MOST_SPANS, shown_path, stored_url, with_marks
from clipdex.web.problems import ERRORS
from clipdex.web.rendering import page, url

router = APIRouter()

MAX_LIMIT = 60
_MOST_TAGS = 3
_LEAST = 10  # clips that a search judges at least


def _parse_day(given: str) -> str:
    """Return the day as YYYY-MM-DD, "today" or "yesterday", or "" for an empty form field."""
    if given in ("", "today", "yesterday"):  # parse() reads the words in the time zone of the source
        return given
    try:
        return date.fromisoformat(given).isoformat()
    except ValueError:
        raise ValueError(f"{given!r} is not a date such as 2026-11-03, today or yesterday") from None


def _parse_diverse(given: Any) -> Any:
    """Return the diversity: the number, the default for what a form sends, 0 for an empty field."""
    return (
        {"": 0.0, "on": DEFAULT, "true": DEFAULT, "false": 0.0}.get(given, given) if isinstance(given, str) else given
    )


_A_DAY = "YYYY-MM-DD, today or yesterday"
Word = Annotated[str, Field(max_length=1200)]
Limit = Annotated[int, Field(ge=1, le=MAX_LIMIT, description="The most clips")]
Diverse = Annotated[
    float,
    Field(ge=0, le=1, allow_inf_nan=False, description="How much the clips differ from each other: 0, as ranked"),
    BeforeValidator(_parse_diverse),
]


class RangeQuery(BaseModel):
    """Hold filters: where, such as camera=cam-7; first and last: YYYY-MM-DD, today, yesterday or ""."""

    model_config = ConfigDict(populate_by_name=True)

    first: Annotated[
        str, Field(alias="from", max_length=10, description=f"First day: {_A_DAY}"), AfterValidator(_parse_day)
    ] = ""
    last: Annotated[
        str, Field(alias="to", max_length=10, description=f"Last day: {_A_DAY}"), AfterValidator(_parse_day)
    ] = ""
    where: Annotated[
        list[Word], Field(max_length=32, description="Filters, such as camera=cam-7,cam-8 or duration=..30")
    ] = []

    @property
    def named(self) -> Where:
        """Return the filters without the days. Raises InvalidFilter."""
        return from_words(word for word in self.where if word.strip())


class FilterQuery(RangeQuery):
    """Hold filters, also by one day."""

    day: Annotated[str, Field(max_length=10, description=_A_DAY), AfterValidator(_parse_day)] = ""

    @property
    def filters(self) -> Where:
        """Return what Pipeline.search takes. Raises InvalidFilter."""
        return with_days(self.named, self.day, self.first, self.last)


class SearchQuery(FilterQuery):
    """Hold a query: q, words, or like, a clip_id; limit, the maximum number of clips; diverse, 0 to 1.

    weak: include clips that are probably no match
    """

    q: Annotated[str, Field(max_length=500, description="Words to search for")] = ""
    like: Annotated[str, Field(max_length=64, description="A clip_id, instead of words")] = ""
    limit: Limit = 12
    diverse: Diverse = 0.0
    weak: Annotated[bool, Field(description="Include clips that are probably no match")] = False

    @model_validator(mode="after")
    def _words_or_a_clip(self) -> Self:
        if self.q.strip() and self.like:
            raise ValueError("give q, words, or like, a clip_id, not both")
        return self


class FacetQuery(FilterQuery):
    """Hold the fields whose values are counted, none for all, and the number of values of each."""

    field: Annotated[
        list[Annotated[str, Field(max_length=64)]], Field(max_length=64, description="Fields to count; none for all")
    ] = []
    limit: Annotated[int, Field(ge=1, le=1000, description="The most values of a field")] = 10


@dataclass(frozen=True, slots=True)
class FoundClip(ClipHit):
    """Hold a clip that matched. poster_url: path on this server, or "".

    The other fields are those of clipdex.ClipHit.
    """

    poster_url: str = ""


@dataclass(frozen=True, slots=True)
class HitView:
    """Hold one hit as the page shows it.

    texts: of its chunks, escaped, with the words of the query marked, each with its start and end [s of the clip]
    spans: of the chunks, as START-END on the file's clock; href: of the clip's page
    """

    clip: FoundClip
    path: str
    texts: tuple[tuple[Markup, float, float], ...]
    spans: tuple[str, ...]
    href: str

    @property
    def tags(self) -> list[tuple[str, str]]:
        """Return the first texts of the clip's metadata, with their fields."""
        texts = ((name, value) for name, value in self.clip.metadata.items() if isinstance(value, str))
        return list(islice(texts, _MOST_TAGS))

    @classmethod
    def of(cls, request: Request, clip: FoundClip, words: str, language: str) -> Self:
        offset_s = clip.clip_start_s
        texts = (
            (with_marks(hit.text, words, language), max(0.0, hit.start_s - offset_s), hit.end_s - offset_s)
            for hit in clip.hits
        )
        spans = tuple(f"{hit.start_s:.3f}-{max(hit.start_s, hit.end_s):.3f}" for hit in clip.hits[:MOST_SPANS])
        query = [("q", words)] if words else []
        href = f"{url(request, 'clip', clip_id=clip.clip_id)}?{urlencode([*query, *(('hit', one) for one in spans)])}"
        return cls(clip, shown_path(clip.uri), tuple(texts), spans, href)


@router.get("/", name="search", include_in_schema=False)
async def search_page(
    request: Request, backend: TheBackend, question: Annotated[SearchQuery, Query()], later: BackgroundTasks
) -> Response:
    where, settings = question.filters, await backend.settings()
    timezone = settings.source.timezone if settings else ""
    narrowing = Narrowing(request, question, settings)
    shared: dict[str, Any] = {"question": question, "timezone": timezone, "narrowing": narrowing}
    if not question.q.strip() and not question.like:
        form, problem = await _form_or_problem(backend, question, narrowing, where, settings)
        response = page(request, "search.html", hits=None, form=form, problem=problem, **shared)
        response.background = later
        later.add_task(backend.warm)
        return response
    started = time.perf_counter()
    found = await find(backend, question, most=max(question.limit, _LEAST), weak=True)
    seconds = time.perf_counter() - started
    language = await backend.language() if question.q else ""
    views = [HitView.of(request, shown(request, clip), question.q, language) for clip in found]
    hits, weak = ([one for one in views if one.clip.weak is kind][: question.limit] for kind in (False, True))
    form, _ = await _form_or_problem(backend, question, narrowing, where, settings)
    return page(
        request,
        "search.html",
        hits=hits,
        weak=weak,
        more=min(2 * question.limit, MAX_LIMIT) if len(hits) == question.limit < MAX_LIMIT else None,
        seconds=seconds,
        form=form,
        **shared,
    )


async def _form_or_problem(
    backend: Backend, question: SearchQuery, narrowing: Narrowing, where: Where, settings: Settings | None
) -> tuple[FilterForm, str]:
    """Return the filters with their counts, or without them and why there are none."""
    try:
        return await filter_form(backend, question, narrowing, where, settings), ""
    except NothingIndexed:
        problem = "Nothing is indexed yet: run the DAG ingest_clips, or clipdex ingest."
    except ClipdexError as error:
        problem = str(error)
    return FilterForm((), tuple(narrowing.words), ()), problem


async def find(
    backend: Backend, question: SearchQuery, *, most: int | None = None, weak: bool | None = None
) -> list[ClipHit]:
    """Return the clips of a query, best first. most, weak: in place of those of the query"""
    how = {"limit": most or question.limit, "where": question.filters, "diverse": question.diverse}
    if question.like:
        return await backend.similar(question.like, **how)
    return await backend.search(question.q, weak=question.weak if weak is None else weak, **how)


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
    return Response(picture, media_type="image/jpeg", headers={"Cache-Control": "private, max-age=31536000, immutable"})


def poster_url(request: Request, key: str) -> str:
    """Return the URL of a poster by its store key, or "" if the key is not a poster's."""
    return stored_url(request, key) if key.startswith("posters/") else ""


def shown(request: Request, clip: ClipHit) -> FoundClip:
    """Return a clip with the URL of its poster."""
    values = {one.name: getattr(clip, one.name) for one in fields(clip)}
    return FoundClip(**values, poster_url=poster_url(request, clip.poster))
