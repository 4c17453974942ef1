"""The JSON API of search: what the page shows, and what programs need. Described by models, for /openapi.json."""

from dataclasses import dataclass, fields
from typing import Annotated

from fastapi import APIRouter, Query, Request
from pydantic import Field

from clipdex.index.clips import IndexedClip
from clipdex.index.facets import Facet, FacetValue
from clipdex.pipeline import Pipeline
from clipdex.web.backend import TheBackend
from clipdex.web.links import poster_url
from clipdex.web.parameters import ClipIdInPath, RangeQuery
from clipdex.web.problems import ERRORS
from clipdex.web.search.hits import FoundClip, find, shown
from clipdex.web.search.queries import Diverse, FacetQuery, FilterQuery, Limit, SearchQuery

ClipId = Annotated[str, Field(min_length=1, max_length=64, description="As in the clips of a search")]
Days = Annotated[int, Field(ge=1, le=1000, description="The most days")]

router = APIRouter(prefix="/api", responses=ERRORS)


class SearchResult(SearchQuery):
    """The query as it was read, and its clips, best first."""

    clips: list[FoundClip]


class SimilarQuery(FilterQuery):
    """Hold a clip_id; limit, the maximum number of clips; diverse, 0 to 1.

    related: include copies of the clip, and parts of its file
    """

    clip_id: ClipId
    limit: Limit = 12
    diverse: Diverse = 0.0
    related: Annotated[bool, Field(description="Include copies of the clip, and parts of its file")] = False


class SimilarResult(SimilarQuery):
    """The query as it was read, and its clips, most similar first. Their score is a cosine."""

    clips: list[FoundClip]


class FacetResult(FacetQuery):
    """The query as it was read, and the values of each field with the number of clips that have it."""

    facets: list[Facet]


class DaysQuery(RangeQuery):
    """Hold filters, and the maximum number of days."""

    limit: Days = 31


class DaysResult(DaysQuery):
    """The query as it was read, and the days with their number of clips, the last day first.

    more: whether there are earlier days
    """

    days: tuple[FacetValue, ...]
    more: bool


@dataclass(frozen=True, slots=True)
class WholeClip(IndexedClip):
    """Hold a clip with its whole caption. poster_url: path on this server, or "".

    segments: the parts of the text with their times [s on a player's clock of the file]
    """

    poster_url: str = ""


@router.get("/search", operation_id="search_clips")
async def search_clips(
    request: Request, backend: TheBackend, question: Annotated[SearchQuery, Query()]
) -> SearchResult:
    """Find clips by words (q), or clips like one of them (like)."""
    clips = [shown(request, clip) for clip in await find(backend, question)]
    return SearchResult(**question.model_dump(), clips=clips)


@router.get("/similar", operation_id="similar_clips")
async def similar_clips(
    request: Request, backend: TheBackend, question: Annotated[SimilarQuery, Query()]
) -> SimilarResult:
    """Find the clips most similar to a clip."""
    found = await backend.query(
        Pipeline.similar,
        question.clip_id,
        limit=question.limit,
        where=question.filters,
        diverse=question.diverse,
        related=question.related,
    )
    return SimilarResult(**question.model_dump(), clips=[shown(request, clip) for clip in found])


@router.get("/facets", operation_id="count_facets")
async def count_facets(backend: TheBackend, question: Annotated[FacetQuery, Query()]) -> FacetResult:
    """Count the clips by the values of their fields."""
    found = await backend.facets(question.filters, question.field, question.limit)
    return FacetResult(**question.model_dump(), facets=found)


@router.get("/days", operation_id="list_days")
async def list_days(backend: TheBackend, question: Annotated[DaysQuery, Query()]) -> DaysResult:
    """List the days of the index with their number of clips."""
    found = await backend.query(
        Pipeline.days, first=question.first, last=question.last, where=question.named, limit=question.limit
    )
    return DaysResult(**question.model_dump(), days=found.values, more=found.more)


@router.get("/clips/{clip_id}", operation_id="get_clip")
async def get_clip(request: Request, backend: TheBackend, clip_id: ClipIdInPath) -> WholeClip:
    """Return an indexed clip with its whole caption. Its record has also its other captions and its outcomes."""
    clip = await backend.query(Pipeline.clip, clip_id)
    values = {one.name: getattr(clip, one.name) for one in fields(clip)}
    return WholeClip(**values, poster_url=poster_url(request, clip.poster))
