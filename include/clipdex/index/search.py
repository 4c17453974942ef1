"""Search: find clips by their captions, by meaning and by words at once, grouped by clip."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from clipdex.config import RESERVED_FIELDS, Search, Settings
from clipdex.errors import ClipdexError
from clipdex.index import Filters, Hit, Index, Query, Sparse, open_index, sparse_query
from clipdex.index.diversity import diversified, pool
from clipdex.index.embeddings import Embedder
from clipdex.index.where import in_index

_CHUNKS_PER_CLIP = 4


@dataclass(frozen=True, slots=True)
class ChunkHit:
    """Hold a chunk that matched.

    start_s, end_s: time range that it describes [s on a player's clock of the file]
    score: see ClipHit
    """

    text: str
    start_s: float
    end_s: float
    score: float


@dataclass(frozen=True, slots=True)
class ClipHit:
    """Hold a clip that matched, ranked by its best chunk.

    score: reciprocal rank fusion, comparable within one result list only
    poster: a store key, or ""
    text, start_s, end_s: of the best chunk
    hits: the matching chunks, best first
    metadata: of the clip, by name
    recorded_at: ISO 8601 in UTC, or ""; recorded_from: path, container or modified
    part_of: clip_id of the file that it is a part of, or ""; part_no: from 0; clip_start_s: of the part [s]
    """

    clip_id: str
    uri: str
    day: str
    score: float
    poster: str
    duration_s: float
    text: str
    start_s: float
    end_s: float
    hits: tuple[ChunkHit, ...]
    metadata: dict[str, str | float] = field(default_factory=dict)
    recorded_at: str = ""
    recorded_from: str = ""
    part_of: str = ""
    part_no: int = 0
    clip_start_s: float = 0.0


class EmptyQuery(ClipdexError):
    """Signal a query without words."""


def search(
    index: Index,
    embedder: Embedder,
    query: str,
    *,
    limit: int = 10,
    day: str | None = None,
    filters: Filters | None = None,
    how: Search | None = None,
    diversity: float = 0.0,
) -> list[ClipHit]:
    """Return the best clips for a query, best first.

    day: YYYY-MM-DD
    filters: by any payload field, see clipdex.index.points.Filters
    diversity: 0 to 1, see clipdex.index.diversity
    how: None for the defaults
    Raises EmptyQuery, ConfigurationError if the index was made by another embedding model, IndexUnavailable.
    """
    how = how or Search()
    clips = _find(index, _vectors(embedder, query, how), how, pool(limit, diversity), day, filters)
    return diversified(index, clips, limit, diversity)


def search_once(
    settings: Settings,
    embedder: Embedder,
    query: str,
    *,
    limit: int = 10,
    day: str | None = None,
    filters: Filters | None = None,
    diversity: float = 0.0,
) -> list[ClipHit]:
    """Embed the query, then open the index and search once. Raises NothingIndexed if the alias is unset.

    Nothing of the embedding model is loaded or computed while the embedded index is locked.
    """
    vectors = _vectors(embedder, query, settings.search)
    with open_index(settings) as index:
        clips = _find(index, vectors, settings.search, pool(limit, diversity), day, filters)
        return diversified(index, clips, limit, diversity)


@dataclass(frozen=True, slots=True)
class _Vectors:
    """Hold the vectors of a query, and the embedding model that made the dense one; empty if they do not count."""

    dense: Sequence[float]
    sparse: Sparse
    embedder: str


def _vectors(embedder: Embedder, query: str, how: Search) -> _Vectors:
    if not query.strip():
        raise EmptyQuery("the query is empty; enter words, such as: a red car turns left")
    dense, sparse = how.weights
    return _Vectors(
        embedder.embed_query(query).tolist() if dense else (),
        sparse_query(query) if sparse else Sparse((), ()),
        embedder.identity,
    )


def _find(
    index: Index, vectors: _Vectors, how: Search, limit: int, day: str | None, filters: Filters | None
) -> list[ClipHit]:
    if vectors.dense:
        index.collection.check(vectors.embedder, len(vectors.dense))
    kept = in_index(index, {**(filters or {}), **({"day": day} if day else {})})
    wanted = limit * _CHUNKS_PER_CLIP
    while True:
        depth = max(wanted, how.depth)
        hits = index.query(Query(vectors.dense, vectors.sparse, wanted, depth, kept, how.rrf_k, how.weights))
        clips = _by_clip(hits)
        if len(clips) >= limit or len(hits) < wanted:
            return clips[:limit]
        wanted *= 4


def _by_clip(hits: Sequence[Hit]) -> list[ClipHit]:
    groups: dict[str, list[Hit]] = {}
    # Swapped ranks fuse to scores that differ in the last bit: round them to keep the order deterministic.
    for hit in sorted(hits, key=lambda hit: (-round(hit.score, 6), hit.id)):
        groups.setdefault(hit.payload["clip_id"], []).append(hit)
    return [clip_hit(group) for group in groups.values()]


def clip_hit(group: Sequence[Hit]) -> ClipHit:
    """Return the hit of a clip. group: its chunks that matched, best first"""
    best = group[0].payload
    chunks = tuple(
        ChunkHit(hit.payload["text"], hit.payload["start_s"], hit.payload["end_s"], hit.score) for hit in group
    )
    return ClipHit(
        clip_id=best["clip_id"],
        uri=best["uri"],
        day=best["day"],
        score=group[0].score,
        poster=best["poster"],
        duration_s=best["duration_s"],
        text=best["text"],
        start_s=best["start_s"],
        end_s=best["end_s"],
        hits=chunks,
        metadata={name: value for name, value in best.items() if name not in RESERVED_FIELDS},
        recorded_at=best.get("recorded_at", ""),
        recorded_from=best.get("recorded_from", ""),
        part_of=best.get("part_of", ""),
        part_no=best.get("part_no", 0),
        clip_start_s=best.get("clip_start_s", 0.0),
    )
