"""Diversity: hits that differ, chosen by maximal marginal relevance (MMR), because neighbouring clips look alike.

Among more hits than are wanted, the next one is always the best by (1 - d) * relevance - d * similarity: its relevance,
or its score in relation to the best score where there is none, and its cosine to the most similar clip that was chosen.
d is the diversity, 0 to 1.
"""

from collections.abc import Sequence
from typing import Protocol, TypeVar

import numpy as np

from clipdex.errors import ConfigurationError
from clipdex.index import Index

_POOL, _SMALLEST_POOL, _LARGEST_POOL = 4, 40, 400
DEFAULT = 0.5


class Ranked(Protocol):
    @property
    def clip_id(self) -> str: ...
    @property
    def score(self) -> float: ...
    @property
    def relevance(self) -> float | None: ...


R = TypeVar("R", bound=Ranked)


def diversity_of(diverse: bool | float) -> float:
    """Return the diversity: 0 for False, the default for True. Raises ConfigurationError unless it is 0 to 1."""
    if isinstance(diverse, bool):
        return DEFAULT if diverse else 0.0
    if not isinstance(diverse, int | float) or not 0 <= diverse <= 1:
        raise ConfigurationError(f"diverse: {diverse!r} is not a number from 0 (as ranked) to 1 (by difference)")
    return float(diverse)


def pool(limit: int, diversity: float) -> int:
    """Return how many hits to choose from."""
    return max(limit, min(max(_POOL * limit, _SMALLEST_POOL), _LARGEST_POOL)) if diversity else limit


def diversified(index: Index, hits: Sequence[R], limit: int, diversity: float) -> list[R]:
    """Return the first hits, or, with a diversity, hits that differ, in the order in which they are chosen."""
    if not diversity or len(hits) < 2:
        return list(hits[:limit])
    centres = mean_vectors(index, [hit.clip_id for hit in hits])
    missing = np.zeros_like(next(iter(centres.values()), np.zeros(1)))
    vectors = np.array([centres.get(hit.clip_id, missing) for hit in hits])
    return [hits[row] for row in _chosen(_relevance(hits), vectors, limit, diversity)]


def mean_vectors(index: Index, clip_ids: Sequence[str]) -> dict[str, np.ndarray]:
    """Return the mean of the vectors of each clip's chunks, of length 1, by clip_id."""
    return {clip_id: mean_vector(vectors) for clip_id, vectors in index.vectors(clip_ids).items()}


def mean_vector(vectors: Sequence[Sequence[float]]) -> np.ndarray:
    """Return the mean of vectors, of length 1; their first one if they cancel out."""
    mean = np.mean(np.asarray(vectors, dtype=float), axis=0)
    length = float(np.linalg.norm(mean))
    return mean / length if length > 1e-9 else np.asarray(vectors[0], dtype=float)


def _relevance(hits: Sequence[Ranked]) -> np.ndarray:
    """Return 0 to 1 for each hit, rounded, so that the order decides between equals."""
    known = [hit.relevance for hit in hits if hit.relevance is not None]
    if len(known) == len(hits):
        return np.round(known, 2)
    scores = np.array([hit.score for hit in hits])
    lowest = min(0.0, float(scores.min()))
    return np.round((scores - lowest) / max(float(scores.max()) - lowest, 1e-12), 6)


def _chosen(relevance: np.ndarray, vectors: np.ndarray, limit: int, diversity: float) -> list[int]:
    """Return the rows of the hits to show. relevance: (n,), of the best hit first; vectors: (n, dimension)"""
    nearest = np.zeros(len(relevance))  # cosine to the most similar clip that was chosen
    left, chosen = list(range(len(relevance))), list[int]()
    while left and len(chosen) < limit:
        gains = (1 - diversity) * relevance[left] - diversity * nearest[left]
        row = left.pop(int(np.argmax(gains)))
        similar = vectors @ vectors[row]
        nearest = np.maximum(nearest, similar) if chosen else similar
        chosen.append(row)
    return chosen
