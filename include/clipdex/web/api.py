"""The JSON API of search: what the page shows, and what programs need. Described by models, for /openapi.json."""

from typing import Annotated

from fastapi import APIRouter, Query, Request
from pydantic import Field

from clipdex.index.facets import Facet
from clipdex.web.backend import TheBackend
from clipdex.web.problems import ERRORS
from clipdex.web.search import Diverse, FacetQuery, FilterQuery, FoundClip, Limit, SearchQuery, find, shown


ClipId = Annotated[str, Field(min_length=1, max_length=64, description="As in the clips of a search")]

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
    found = await backend.similar(
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
