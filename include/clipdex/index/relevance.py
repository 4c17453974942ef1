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

    def probability(self, cosine: float, words: float) -> float:
        log_odds = self.cosine * cosine + self.words * words + self.bias
        return 1 / (1 + math.exp(-max(-50.0, min(50.0, log_odds))))


CALIBRATIONS = {
    "all-MiniLM-L6-v2@53aa51172d142c89": Calibration(20.0, 4.0, -9.2),
}
"""Fitted coefficients by the identity of the embedding model; docs/search.md has the method."""


class Judge:
    """Judge the hits of one query.

    query: its dense vector; words: its terms; language: of the captions
    """

    def __init__(self, query: Sequence[float], embedder: str, words: Sparse, language: str, how: Search) -> None:
        self._calibration = Calibration(*how.calibration) if how.calibration else CALIBRATIONS.get(embedder)
        self._query, self._words, self._language = np.asarray(query, np.float32), words, language

    def relevance(self, hits: Sequence[Hit]) -> float | None:
        """Return the probability that the best of these chunks answers the query, or None without a calibration."""
        if self._calibration is None or not len(self._query):
            return None
        return max(self._calibration.probability(*self.evidence(hit)) for hit in hits)

    def evidence(self, hit: Hit) -> tuple[float, float]:
        """Return the cosine, and the share of the query's words that the chunk has."""
        document = sparse_document(hit.payload["text"], self._language)
        return float(np.asarray(hit.vector, np.float32) @ self._query), _share(self._words, document)


def _share(query: Sparse, document: Sparse) -> float:
    there = set(document.indices)
    found = sum(value for index, value in zip(query.indices, query.values, strict=True) if index in there)
    return found / (sum(query.values) or 1.0)
