"""Search: clips by what is said of them, by meaning and by words at once, grouped by clip."""

from collections.abc import Sequence
from dataclasses import dataclass

from clipdex.config import Settings
from clipdex.errors import ClipdexError
from clipdex.index import Filters, Hit, Index, Query, open_index, sparse_query
from clipdex.index.embeddings import Embedder, open_embedder

_DEPTH = 100
_CHUNKS_A_CLIP = 4


@dataclass(frozen=True, slots=True)
class ChunkHit:
    """A chunk that was found. score: see ClipHit. start_s, end_s: what it speaks of [s from the clip's start]."""

    text: str
    start_s: float
    end_s: float
    score: float


@dataclass(frozen=True, slots=True)
class ClipHit:
    """A clip that was found, by its best chunk.

    score: reciprocal rank fusion, comparable within one answer only. poster: a store key, or "".
    hits: the chunks that were found, best first.
    """

    clip_id: str
    uri: str
    day: str
    score: float
    poster: str
    duration_s: float
    hits: tuple[ChunkHit, ...]


class EmptyQuery(ClipdexError):
    """There is no word in the query."""


def search(
    index: Index,
    embedder: Embedder,
    query: str,
    *,
    limit: int = 10,
    day: str | None = None,
    filters: Filters | None = None,
) -> list[ClipHit]:
    """The best clips for a query, best first.

    day: YYYY-MM-DD. filters: by any payload field, see clipdex.index.points.Filters. Raises EmptyQuery,
    ConfigurationError if the index was made by another embedding model, IndexUnavailable.
    """
    _require_words(query)
    index.collection.check(embedder.identity, embedder.dimension)
    dense, sparse = embedder.embed_query(query).tolist(), sparse_query(query)
    kept = {**(filters or {}), **({"day": day} if day else {})}
    wanted = limit * _CHUNKS_A_CLIP
    while True:
        hits = index.query(Query(dense, sparse, limit=wanted, depth=max(wanted, _DEPTH), filters=kept))
        clips = _by_clip(hits)
        if len(clips) >= limit or len(hits) < wanted:
            return clips[:limit]
        wanted *= 4


def ask(
    settings: Settings, query: str, *, limit: int = 10, day: str | None = None, filters: Filters | None = None
) -> list[ClipHit]:
    """search() with all it needs opened for this one question. Raises NothingIndexed where nothing is served yet."""
    _require_words(query)
    embedder = open_embedder(settings.embedding)
    embedder.embed_query(query)  # the model loads before the index opens: meanwhile others may want the embedded one
    with open_index(settings) as index:
        return search(index, embedder, query, limit=limit, day=day, filters=filters)


def _require_words(query: str) -> None:
    if not query.strip():
        raise EmptyQuery("the query is empty; say what to look for, such as: a red car turns left")


def _by_clip(hits: Sequence[Hit]) -> list[ClipHit]:
    groups: dict[str, list[Hit]] = {}
    # Two swapped ranks fuse to the same score, but for the last bit: rounded, so that a query always has one answer.
    for hit in sorted(hits, key=lambda hit: (-round(hit.score, 6), hit.id)):
        groups.setdefault(hit.payload["clip_id"], []).append(hit)
    return [_clip_hit(group) for group in groups.values()]


def _clip_hit(group: list[Hit]) -> ClipHit:
    best = group[0].payload
    chunks = tuple(
        ChunkHit(hit.payload["text"], hit.payload["start_s"], hit.payload["end_s"], hit.score) for hit in group
    )
    return ClipHit(
        best["clip_id"], best["uri"], best["day"], group[0].score, best["poster"], best["duration_s"], chunks
    )
