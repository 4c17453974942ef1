"""Relevance: the probability that a chunk answers a query, so that a search can have no hit.

Rank alone has no such limit: the best of a thousand wrong clips is still the first. The two signals are the cosine of
query and chunk, and the share of the query's words that the chunk has, whatever their endings; logistic regression
weighs them. Its coefficients belong to one embedding model, since each spreads its cosines differently. `clipdex eval`
fits them to queries with and without an answer.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from clipdex.config import Search
from clipdex.index.lexical import Sparse, sparse_document
from clipdex.index.points import Hit


@dataclass(frozen=True, slots=True)
class Calibration:
    """Hold the log odds of relevance per unit of cosine, per share of the query's words, and at 0 of both."""

    cosine: float
    words: float
    bias: float

    def log_odds(self, evidence: "Evidence") -> float:
        return self.cosine * evidence.cosine + self.words * evidence.words + self.bias

    def probability(self, evidence: "Evidence") -> float:
        return 1 / (1 + math.exp(-max(-50.0, min(50.0, self.log_odds(evidence)))))


CALIBRATIONS = {
    "all-MiniLM-L6-v2@53aa51172d142c89": Calibration(17.6, 6.2, -8.9),
}
"""Fitted coefficients by the identity of the embedding model; docs/search.md has the method."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """Hold what speaks for a match: the cosine of query and chunk, and the share of the query's words in the chunk."""

    cosine: float
    words: float


class Judge:
    """Judge the hits of one query.

    query: its dense vector; embedder: the identity of its model; words: its terms; language: of the captions
    """

    def __init__(self, query: Sequence[float], embedder: str, words: Sparse, language: str, how: Search) -> None:
        self._calibration = Calibration(*how.calibration) if how.calibration else CALIBRATIONS.get(embedder)
        self._query, self._words, self._language = np.asarray(query, np.float32), words, language

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
        return Evidence(float(np.asarray(hit.vector, np.float32) @ self._query), _share(self._words, document))


def fit(matches: Sequence[Evidence], others: Sequence[Evidence]) -> Calibration:
    """Return the coefficients of a logistic regression in which both groups weigh the same.

    matches: of clips that answer their query; others: of the hits of queries without an answer. None is empty.
    """
    from sklearn.linear_model import LogisticRegression  # type: ignore[import-untyped]

    evidence = np.array([(one.cosine, one.words) for one in (*matches, *others)])
    model = LogisticRegression(C=100.0, class_weight="balanced")
    model.fit(evidence, [True] * len(matches) + [False] * len(others))
    cosine, words = model.coef_[0]
    return Calibration(*(round(float(value), 2) for value in (cosine, words, model.intercept_[0])))


def _share(query: Sparse, document: Sparse) -> float:
    there = set(document.indices)
    found = sum(value for index, value in zip(query.indices, query.values, strict=True) if index in there)
    return found / (sum(query.values) or 1.0)
