"""Search as a page."""

import time
from dataclasses import dataclass
from itertools import islice
from typing import Annotated, Any, Self
from urllib.parse import urlencode

from fastapi import APIRouter, BackgroundTasks, Query, Request, Response
from markupsafe import Markup

from clipdex.config import Settings
from clipdex.errors import ClipdexError, NothingIndexed
from clipdex.index.where import Where
from clipdex.web.backend import Backend, TheBackend
from clipdex.web.clips.player import MOST_SPANS, with_marks
from clipdex.web.links import shown_path
from clipdex.web.rendering import page, url
from clipdex.web.search.filter_form import FilterForm, filter_form
from clipdex.web.search.hits import FoundClip, find, shown
from clipdex.web.search.narrowing import Narrowing
from clipdex.web.search.queries import MAX_LIMIT, SearchQuery

router = APIRouter()

_MOST_TAGS = 3
_LEAST = 10  # clips that a search judges at least


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
        form, problem = await _form_or_problem(backend, narrowing, where, settings)
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
    form, _ = await _form_or_problem(backend, narrowing, where, settings)
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
    backend: Backend, narrowing: Narrowing, where: Where, settings: Settings | None
) -> tuple[FilterForm, str]:
    """Return the filters with their counts, or without them and why there are none."""
    try:
        return await filter_form(backend, narrowing, where, settings), ""
    except NothingIndexed:
        problem = "Nothing is indexed yet: run the DAG ingest_clips, or clipdex ingest."
    except ClipdexError as error:
        problem = str(error)
    return FilterForm((), tuple(narrowing.words), ()), problem
