"""Search: clips by what is said of them, by meaning and by words at once, grouped by clip."""

from collections.abc import Sequence
from dataclasses import dataclass

from clipdex.embeddings import Embedder
from clipdex.errors import ClipdexError, ConfigurationError
from clipdex.index import Filters, Hit, Index, Query, sparse_query


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
    if not query.strip():
        raise EmptyQuery("the query is empty; say what to look for, such as: a red car turns left")
    _same_model(index, embedder)
    dense, sparse = embedder.embed_query(query).tolist(), sparse_query(query)
    kept = {**(filters or {}), **({"day": day} if day else {})}
    wanted = limit * _CHUNKS_A_CLIP
    while True:
        hits = index.query(Query(dense, sparse, limit=wanted, depth=max(wanted, _DEPTH), filters=kept))
        clips = _by_clip(hits)
        if len(clips) >= limit or len(hits) < wanted:
            return clips[:limit]
        wanted *= 4


_DEPTH = 100
_CHUNKS_A_CLIP = 4


def _same_model(index: Index, embedder: Embedder) -> None:
    made_by = index.collection.embedder or embedder.identity
    if made_by != embedder.identity or index.collection.dimension != embedder.dimension:
        raise ConfigurationError(
            f"collection {index.collection.name} was made by the embedding model {made_by} "
            f"({index.collection.dimension} dimensions), the query by {embedder.identity} ({embedder.dimension}); "
            "set CLIPDEX_EMBEDDING__MODEL to the former, or reindex with the latter"
        )


def _by_clip(hits: Sequence[Hit]) -> list[ClipHit]:
    groups: dict[str, list[Hit]] = {}
    for hit in sorted(hits, key=lambda hit: (-hit.score, hit.id)):
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
