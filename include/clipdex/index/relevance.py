"""Relevance: the probability that a chunk answers a query, so that a search can have no hit.

Rank alone has no such limit: the best of a thousand wrong clips is still the first. Logistic regression weighs two
signals: the cosine of query and chunk, and the share of the query's words that the chunk has, whatever their endings.

    log odds = cosine_weight · cosine + words_weight · words + bias - ln(chunks) / 2

chunks: number that were searched. The nearest wrong chunk of a large collection is nearer than that of a small one. If
    chunks were independent, the term would be - ln(chunks); half of it suits collections of 16 to 2,500 chunks

The weights belong to one embedding model, since each spreads its cosines differently. `clipdex eval` fits them to
queries with and without an answer.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from clipdex.config import Search
from clipdex.index.lexical import Sparse, sparse_document
from clipdex.index.points import Hit

# Other collections were not measured. With an ever lower prior, a large one might have no hit at all.
_LEAST_CHUNKS, _MOST_CHUNKS = 16, 10_000
_ROUNDS, _RIDGE = 3, 1e-4


@dataclass(frozen=True, slots=True)
class Calibration:
    """Hold the log odds of relevance per unit of cosine, per share of the query's words, and at 0 of both."""

    cosine: float
    words: float
    bias: float

    def log_odds(self, evidence: "Evidence") -> float:
        return self.cosine * evidence.cosine + self.words * evidence.words + self.bias + evidence.prior

    def probability(self, evidence: "Evidence") -> float:
        return 1 / (1 + math.exp(-max(-50.0, min(50.0, self.log_odds(evidence)))))


CALIBRATIONS = {
    "all-MiniLM-L6-v2@53aa51172d142c89": Calibration(14.19, 6.54, -3.12),
    "multilingual-e5-small-q4@1571fc9827503943": Calibration(31.41, 9.8, -25.7),
}
"""Fitted coefficients by the identity of the embedding model; docs/search.md has the method."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """Hold what speaks for a match.

    cosine: of query and chunk; words: share of the query's words that the chunk has; chunks: that were searched
    """

    cosine: float
    words: float
    chunks: int = 1

    @property
    def prior(self) -> float:
        """Return the log odds without any signal."""
        return -math.log(min(max(self.chunks, _LEAST_CHUNKS), _MOST_CHUNKS)) / 2


class Judge:
    """Judge the hits of one query.

    query: its dense vector; embedder: the identity of its model; words: the terms of each; language: of the captions
    chunks: number that were searched
    """

    def __init__(
        self,
        query: Sequence[float],
        embedder: str,
        words: Sequence[tuple[int, ...]],
        language: str,
        chunks: int,
        how: Search,
    ) -> None:
        self._calibration = Calibration(*how.calibration) if how.calibration else CALIBRATIONS.get(embedder)
        self._query, self._words, self._language = np.asarray(query, np.float32), words, language
        self._chunks = chunks

    def evidence(self, hits: Sequence[Hit]) -> Evidence | None:
        """Return the evidence of the most relevant of these chunks; None if meaning does not count."""
        if not len(self._query):
            return None
        weights = self._calibration or Calibration(1.0, 0.0, 0.0)
        return max(map(self._of, hits), key=weights.log_odds)

    def relevance(self, evidence: Evidence | None) -> float | None:
        """Return the probability of a match, or None without evidence or calibration."""
        return self._calibration.probability(evidence) if self._calibration and evidence else None

    def _of(self, hit: Hit) -> Evidence:
        document = sparse_document(hit.payload["text"], self._language)
        cosine = float(hit.vector @ self._query)
        return Evidence(cosine, _share(self._words, document), self._chunks)


Answers = tuple[Sequence[Evidence], Sequence[Sequence[Evidence]]]
"""Evidence of the right clips, and of the hits of each query without one. Neither is empty."""


def fit(sets: Sequence[Answers]) -> Calibration:
    """Return the coefficients of a logistic regression in which all sets, and both sides of a set, weigh the same.

    A query without an answer counts by its most relevant hit, so the regression is repeated with its own coefficients.
    """
    found = Calibration(10.0, 5.0, 0.0)
    for _ in range(_ROUNDS):
        found = _regression([(right, [max(hits, key=found.log_odds) for hits in wrong]) for right, wrong in sets])
    return found


def _regression(sets: Sequence[tuple[Sequence[Evidence], Sequence[Evidence]]]) -> Calibration:
    from scipy.optimize import minimize  # type: ignore[import-untyped]

    sides = [(side, sign) for pair in sets for side, sign in zip(pair, (1, -1), strict=True)]
    signals = np.array([(one.cosine, one.words, 1.0) for side, _ in sides for one in side])
    prior = np.array([one.prior for side, _ in sides for one in side])
    signs = np.array([sign for side, sign in sides for _ in side])
    weights = np.array([1 / len(side) for side, _ in sides for _ in side])

    def loss(values: np.ndarray) -> float:
        errors = weights * np.logaddexp(0, -signs * (signals @ values + prior))
        return float(errors.sum() + _RIDGE * values[:2] @ values[:2])

    return Calibration(*(round(float(value), 2) for value in minimize(loss, np.zeros(3)).x))


def _share(words: Sequence[tuple[int, ...]], document: Sparse) -> float:
    there = set(document.indices)
    return sum(not there.isdisjoint(word) for word in words) / (len(words) or 1)
