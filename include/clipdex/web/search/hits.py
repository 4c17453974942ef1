"""The clips that a search finds, as the page, the exports and the JSON API return them."""

from dataclasses import dataclass, fields
from typing import Any

from fastapi import Request

from clipdex.index.search import ClipHit
from clipdex.pipeline import Pipeline
from clipdex.web.backend import Backend
from clipdex.web.links import poster_url
from clipdex.web.search.queries import SearchQuery


@dataclass(frozen=True, slots=True)
class FoundClip(ClipHit):
    """Hold a clip that matched. poster_url: path on this server, or "".

    The other fields are those of clipdex.ClipHit.
    """

    poster_url: str = ""


async def find(
    backend: Backend, question: SearchQuery, *, most: int | None = None, weak: bool | None = None
) -> list[ClipHit]:
    """Return the clips of a query, best first. most, weak: in place of those of the query"""
    how: dict[str, Any] = {"limit": most or question.limit, "where": question.filters, "diverse": question.diverse}
    if question.like:
        return await backend.query(Pipeline.similar, question.like, **how)
    weak = question.weak if weak is None else weak
    return await backend.query(Pipeline.search, question.q, weak=weak, **how)


def shown(request: Request, clip: ClipHit) -> FoundClip:
    """Return a clip with the URL of its poster."""
    values = {one.name: getattr(clip, one.name) for one in fields(clip)}
    return FoundClip(**values, poster_url=poster_url(request, clip.poster))
