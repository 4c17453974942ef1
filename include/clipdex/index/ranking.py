"""Ranking: one order of the chunks that were found by meaning and by words.

Score fusion, the default:

    score = dense_weight · (cosine - density_weight · density) / deviation + sparse_weight · BM25 / best BM25

deviation: standard deviation of the cosines of the candidates by meaning, so that one weight suits models whose cosines
    spread differently
density: mean cosine of a chunk with the twenty nearest chunks of other clips among these candidates. A chunk that
    resembles many is near to many queries; without the penalty it hides the specific one (as in cross-domain similarity
    local scaling, Conneau et al. 2018)

Reciprocal rank fusion (Cormack et al. 2009): the sum of weight / (rrf_k + rank), rank from 1.
"""

import functools
import threading
from collections.abc import Sequence

import numpy as np
from threadpoolctl import ThreadpoolController

from clipdex.config import Fusion, Search
from clipdex.index.points import Candidates, Hit

_multiplying = threading.Lock()  # the limit is that of the process: two that overlap would restore 1
_NEIGHBOURS = 20
_LOWEST_DEVIATION = 0.01


def rank(candidates: Candidates, query: Sequence[float], how: Search) -> list[Hit]:
    """Return the candidates, each once, best first, with the combined score.

    query: its dense vector, or empty if meaning does not count
    """
    hits = {hit.id: hit for hit in (*candidates.dense, *candidates.sparse)}
    if how.fusion is Fusion.RRF:
        scores = _by_rank(candidates, how)
    else:
        scores = _by_score(list(hits.values()), candidates, query, how)
    order = sorted(hits, key=lambda id: (-scores[id], id))
    return [Hit(id, scores[id], hits[id].payload, hits[id].vector) for id in order]


def _by_rank(candidates: Candidates, how: Search) -> dict[str, float]:
    scores: dict[str, float] = {}
    for hits, weight in zip((candidates.dense, candidates.sparse), how.weights, strict=True):
        for number, hit in enumerate(hits, 1):
            scores[hit.id] = scores.get(hit.id, 0.0) + weight / (how.rrf_k + number)
    return scores


def _by_score(hits: Sequence[Hit], candidates: Candidates, query: Sequence[float], how: Search) -> dict[str, float]:
    dense, sparse = how.weights
    words = {hit.id: hit.score for hit in candidates.sparse}
    best = max(words.values(), default=0.0) or 1.0
    scores = sparse / best * np.array([words.get(hit.id, 0.0) for hit in hits])
    if len(query) and candidates.dense:
        vectors, row = vectors_of(hits), {hit.id: number for number, hit in enumerate(hits)}
        pool = vectors[[row[hit.id] for hit in candidates.dense]]
        # After a product, further threads spin for some 20 ms, on cores that the next search needs.
        with _multiplying, _blas().limit(limits=1):
            nearness = vectors @ np.asarray(query, np.float32)
            if how.density_weight:
                nearness = nearness - how.density_weight * _density(hits, vectors, candidates.dense, pool)
        deviation = max(float(np.std([hit.score for hit in candidates.dense])), _LOWEST_DEVIATION)
        scores = scores + dense / deviation * nearness
    # Equal scores differ in the last bit on another backend: round them to keep the order deterministic.
    return dict(zip((hit.id for hit in hits), scores.round(5).tolist(), strict=True))


def _density(hits: Sequence[Hit], vectors: np.ndarray, pool: Sequence[Hit], pool_vectors: np.ndarray) -> np.ndarray:
    """Return the mean cosine of each hit with the nearest chunks of other clips in the pool; 0 if there is none."""
    numbers: dict[str, int] = {}
    of_hits, of_pool = (
        [numbers.setdefault(hit.payload["clip_id"], len(numbers)) for hit in one] for one in (hits, pool)
    )
    near = vectors @ pool_vectors.T
    near[np.equal.outer(of_hits, of_pool)] = -np.inf
    nearest = -np.partition(-near, min(_NEIGHBOURS, near.shape[1]) - 1, axis=1)[:, :_NEIGHBOURS]
    others = nearest > -np.inf
    density: np.ndarray = np.where(others, nearest, 0.0).sum(axis=1) / np.maximum(others.sum(axis=1), 1)
    return density


def vectors_of(hits: Sequence[Hit]) -> np.ndarray:
    """Return one row per hit, float32."""
    return np.stack([hit.vector for hit in hits])


@functools.cache
def _blas() -> ThreadpoolController:
    """Return a control of the threads of numpy's products."""
    return ThreadpoolController().select(user_api="blas")
