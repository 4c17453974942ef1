"""Search: find clips by their captions, by meaning and by words at once, grouped by clip."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np

from clipdex.config import Search, Settings
from clipdex.errors import ClipdexError
from clipdex.index import Filters, Hit, Index, Query, Sparse, open_index, sparse_query
from clipdex.index.chunking import split_sentences
from clipdex.index.diversity import diversified, pool
from clipdex.index.embeddings import Embedder
from clipdex.index.lexical import query_words
from clipdex.index.moments import moment
from clipdex.index.payloads import clip_fields
from clipdex.index.ranking import rank
from clipdex.index.relevance import Evidence, Judge
from clipdex.index.reranking import reranked
from clipdex.index.where import in_index

_CHUNKS_PER_CLIP, _JUDGED = 4, 10
_MOST_SENTENCES, _SENTENCES_WEIGHT = 16, 0.3


@dataclass(frozen=True, slots=True)
class ChunkHit:
    """Hold a chunk that matched.

    start_s, end_s: time range of it that answers the query [s on a player's clock of the file]
    score: see ClipHit
    id: of its point in Qdrant; another caption of the clip has chunks of other ids
    """

    text: str
    start_s: float
    end_s: float
    score: float
    id: str = ""


@dataclass(frozen=True, slots=True)
class ClipHit:
    """Hold a clip that matched, ranked by its best chunk.

    score: comparable within one result list only
    relevance: probability that the clip answers the query, 0 to 1; None if the embedding model is not calibrated
    evidence: what the relevance is computed from, of the most relevant chunk; None if meaning does not count
    weak: the relevance is below CLIPDEX_SEARCH__MIN_RELEVANCE
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
    relevance: float | None = None
    evidence: Evidence | None = None
    weak: bool = False


class EmptyQuery(ClipdexError):
    """Signal a query without words."""


def search(
    index: Index,
    embedder: Embedder,
    query: str,
    *,
    limit: int = 10,
    filters: Filters | None = None,
    how: Search | None = None,
    weak: bool = False,
    diversity: float = 0.0,
) -> list[ClipHit]:
    """Return the best clips for a query, best first.

    filters: by any payload field, see clipdex.index.points.Filters
    diversity: 0 to 1, see clipdex.index.diversity
    how: None for the defaults
    weak: include hits that are probably no match
    Raises EmptyQuery, ConfigurationError if the index was made by another embedding model, IndexUnavailable.
    """
    how, most = how or Search(), pool(limit, diversity)
    clips = _hits(_find(index, _prepare(embedder, query, how), how, most, filters), how, most, weak)
    return _chosen(index, clips, limit, diversity)


def search_once(
    settings: Settings,
    embedder: Embedder,
    query: str,
    *,
    limit: int = 10,
    filters: Filters | None = None,
    weak: bool = False,
    diversity: float = 0.0,
) -> list[ClipHit]:
    """Embed the query, then open the index and search once. Raises NothingIndexed if the alias is unset.

    No model is loaded or computes while the embedded index is locked.
    """
    how, most = settings.search, pool(limit, diversity)
    prepared = _prepare(embedder, query, how)
    with open_index(settings) as index:
        found = _find(index, prepared, how, most, filters)
    clips = _hits(found, how, most, weak)
    if not diversity:
        return clips[:limit]
    with open_index(settings) as index:
        return _chosen(index, clips, limit, diversity)


@dataclass(frozen=True, slots=True)
class _Prepared:
    """Hold a query, its dense vector (empty if meaning does not count), and the embedding model that made it.

    probe: of this model
    """

    text: str
    dense: Sequence[float]
    embedder: str
    probe: Sequence[Sequence[float]] | np.ndarray = ()


def _prepare(embedder: Embedder, query: str, how: Search) -> _Prepared:
    if not query.strip():
        raise EmptyQuery("the query is empty; enter words, such as: a red car turns left")
    if not how.weights[0]:
        return _Prepared(query, (), embedder.identity)
    return _Prepared(query, _dense(embedder, query), embedder.identity, embedder.probe)


def _dense(embedder: Embedder, query: str) -> Sequence[float]:
    """Return the vector of a query; of several sentences, drawn a little to each of them."""
    sentences = split_sentences(query)
    if len(sentences) < 2:
        vector = embedder.embed_query(query)
    else:
        whole, *parts = embedder.embed_queries([query, *sentences[:_MOST_SENTENCES]])
        vector = whole + _SENTENCES_WEIGHT * np.mean(parts, axis=0)
        vector /= np.linalg.norm(vector)
    found: list[float] = vector.tolist()
    return found


@dataclass(frozen=True, slots=True)
class _Found:
    """Hold the chunks of the best clips, best first. chunks: number that were searched"""

    query: _Prepared
    words: Sparse
    clips: list[list[Hit]]
    chunks: int
    language: str


def _find(index: Index, query: _Prepared, how: Search, limit: int, filters: Filters | None) -> _Found:
    if query.dense:
        index.collection.check(query.embedder, len(query.dense), query.probe)
    language = index.collection.language
    words = sparse_query(query.text, language)
    sparse = words if how.weights[1] else Sparse((), ())
    kept = in_index(index, filters or {})
    depth = max(limit * _CHUNKS_PER_CLIP, how.depth)
    while True:
        found = index.nearest(Query(query.dense, sparse, depth, kept, ("clip_id",)))
        clips = _by_clip(rank(found, query.dense, how))
        if len(clips) >= limit or max(len(found.dense), len(found.sparse)) < depth:
            break
        depth *= 4
    chunks = len(found.dense) if len(found.dense) < depth else index.count(kept, exact=False)
    wanted = max(limit, _JUDGED, how.rerank if how.reranker else 0)
    return _Found(query, words, _with_payloads(index, clips[:wanted]), chunks, language)


def _hits(found: _Found, how: Search, limit: int, weak: bool) -> list[ClipHit]:
    """Return the best clips. At least ten are judged, so that a weak one does not hide a match below it."""
    query, clips = found.query, found.clips
    if how.reranker:
        clips = reranked(how.reranker, query.text, clips, max(limit, how.rerank))
    words = query_words(query.text, found.language)
    judge = Judge(query.dense, query.embedder, words, found.language, found.chunks, how)
    times = partial(moment, words=found.words, language=found.language)
    hits: list[ClipHit] = []
    for group in clips[: max(limit, _JUDGED)]:
        hit = _judged(clip_hit(group, times), judge, judge.evidence(group), how)
        if weak or not hit.weak:
            hits.append(hit)
    return hits[:limit]


def _chosen(index: Index, clips: list[ClipHit], limit: int, diversity: float) -> list[ClipHit]:
    """Return the first clips or, with a diversity, clips that differ. A weak one then takes the place of no other."""
    if not diversity:
        return clips[:limit]
    good, weak = ([clip for clip in clips if clip.weak is kind] for kind in (False, True))
    chosen = diversified(index, good, limit, diversity)
    return [*chosen, *diversified(index, weak, limit - len(chosen), diversity)]


def _by_clip(hits: Sequence[Hit]) -> list[list[Hit]]:
    """Return the hits of each clip, the clip with the best one first."""
    groups: dict[str, list[Hit]] = {}
    for hit in hits:
        groups.setdefault(hit.payload["clip_id"], []).append(hit)
    return list(groups.values())


def _with_payloads(index: Index, clips: Sequence[Sequence[Hit]]) -> list[list[Hit]]:
    """Return the hits with their whole payloads, without those whose points are gone since they were found."""
    payloads = index.payloads([hit.id for group in clips for hit in group])
    found = [[replace(hit, payload=payloads[hit.id]) for hit in group if hit.id in payloads] for group in clips]
    return [group for group in found if group]


def _judged(clip: ClipHit, judge: Judge, evidence: Evidence | None, how: Search) -> ClipHit:
    relevance = judge.relevance(evidence)
    weak = relevance is not None and relevance < how.min_relevance
    return replace(clip, evidence=evidence, relevance=relevance, weak=weak)


def _whole(payload: Mapping[str, Any]) -> tuple[float, float]:
    return payload["start_s"], payload["end_s"]


def clip_hit(group: Sequence[Hit], times: Callable[[Mapping[str, Any]], tuple[float, float]] = _whole) -> ClipHit:
    """Return the hit of a clip.

    group: its chunks that matched, best first; times: return the time range of a payload that answers the query
    """
    best = group[0].payload
    chunks = tuple(ChunkHit(hit.payload["text"], *times(hit.payload), hit.score, hit.id) for hit in group)
    return ClipHit(
        **clip_fields(best),
        score=group[0].score,
        text=best["text"],
        start_s=chunks[0].start_s,
        end_s=chunks[0].end_s,
        hits=chunks,
    )
