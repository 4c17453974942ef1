"""Metrics of retrieval: recall, MRR and nDCG at 10, with bootstrap intervals and a paired permutation test.

Queries of one clip are not independent. Intervals and tests draw clips, not queries: a clip is drawn with all its
queries. Random draws have a fixed seed, so that the same answers give the same figures.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from clipdex.index.relevance import Calibration, Evidence, fit

CUT = 10
"""Number of clips per query that are judged."""

MEASURES = ("recall@1", "recall@5", "recall@10", "mrr@10", "ndcg@10", "kept", "empty")

_SEED = 20261128
_RESAMPLES = 2_000
_PERMUTATIONS = 10_000
_AT_ONCE = 500  # permutations in memory at once


@dataclass(frozen=True, slots=True)
class Answer:
    """Hold the result of one query.

    clip_id: of the clip that answers the query; "" if none does
    ranking: clip_ids before the cut by relevance, best first
    shown: those that a user gets
    evidence: of each hit of the ranking; empty if meaning does not count
    """

    clip_id: str
    ranking: tuple[str, ...]
    shown: tuple[str, ...]
    evidence: tuple[Evidence, ...] = ()

    @property
    def rank(self) -> int:
        """Return the rank of the clip among the first ten, from 1; 0 if it is not among them."""
        first = self.ranking[:CUT]
        return first.index(self.clip_id) + 1 if self.clip_id in first else 0


@dataclass(frozen=True, slots=True)
class Figure:
    """Hold one measure [%] with its 95 % interval; None if no query counts in it."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Difference:
    """Hold the difference of a variant from the default [percentage points].

    low, high: 95 % interval, paired bootstrap
    p: two-sided, paired permutation test: how often a difference as large occurs if both are alike
    """

    value: float
    low: float
    high: float
    p: float


def figures(answers: Sequence[Answer]) -> dict[str, Figure | None]:
    """Return each measure with its interval."""
    sums = _sums(answers)
    values, draws = _ratio(sums.sum(axis=-1)), _resampled(sums)
    return {
        name: None if np.isnan(value) else Figure(float(value), *_interval(drawn))
        for name, value, drawn in zip(MEASURES, values, draws.T, strict=True)
    }


def differences(default: Sequence[Answer], variant: Sequence[Answer]) -> dict[str, Difference | None]:
    """Return the difference of each measure. Both answer the same queries in the same order."""
    before, after = _sums(default), _sums(variant)
    values = _ratio(after.sum(axis=-1)) - _ratio(before.sum(axis=-1))
    draws = _resampled(after) - _resampled(before)  # the same draws, because the seed is the same
    ps = _permutation_test(before, after, values)
    return {
        name: None if np.isnan(value) else Difference(float(value), *_interval(drawn), float(p))
        for name, value, drawn, p in zip(MEASURES, values, draws.T, ps, strict=True)
    }


def calibration(answers: Sequence[Answer]) -> Calibration | None:
    """Return the relevance fitted to these answers: of right clips, and of the hits of unanswerable queries.

    None without both kinds, or if meaning does not count.
    """
    right, wrong = evidence(answers)
    return fit([(right, wrong)]) if right and wrong else None


def evidence(answers: Sequence[Answer]) -> tuple[list[Evidence], list[tuple[Evidence, ...]]]:
    """Return the evidence of the right clips, and of the hits of each query that no clip answers."""
    right = [one.evidence[one.rank - 1] for one in answers if one.evidence and one.rank]
    return right, [one.evidence for one in answers if one.evidence and not one.clip_id]


def _scores(answer: Answer) -> list[tuple[float, float]]:
    """Return numerator and denominator that one query adds to each measure."""
    rank = answer.rank
    if not answer.clip_id:
        return [(0.0, 0.0)] * (len(MEASURES) - 1) + [(float(not answer.shown), 1.0)]
    recalls = [(float(0 < rank <= cut), 1.0) for cut in (1, 5, 10)]
    reciprocal = 1 / rank if rank else 0.0
    gain = 1 / np.log2(1 + rank) if rank else 0.0  # one clip is relevant, so the ideal gain is 1
    kept = (float(rank > 0 and answer.clip_id in answer.shown), float(rank > 0))
    return [*recalls, (reciprocal, 1.0), (float(gain), 1.0), kept, (0.0, 0.0)]


def _sums(answers: Sequence[Answer]) -> np.ndarray:
    """Return numerators and denominators summed per clip: (2, measures, clips). A query without a clip is its own."""
    clips: dict[str | int, int] = {}
    of_query = [clips.setdefault(answer.clip_id or number, len(clips)) for number, answer in enumerate(answers)]
    sums = np.zeros((len(clips), len(MEASURES), 2))
    np.add.at(sums, of_query, np.array([_scores(answer) for answer in answers]))
    return sums.transpose(2, 1, 0)


def _ratio(sums: np.ndarray) -> np.ndarray:
    """Return 100 * numerator / denominator; NaN where nothing counts. sums: (2, …)"""
    with np.errstate(invalid="ignore"):
        ratio: np.ndarray = 100 * sums[0] / sums[1]
    return ratio


def _resampled(sums: np.ndarray) -> np.ndarray:
    """Return the measures of bootstrap samples of the clips: (samples, measures)."""
    generator, clips = np.random.default_rng(_SEED), sums.shape[-1]
    drawn = (np.bincount(generator.integers(clips, size=clips), minlength=clips) for _ in range(_RESAMPLES))
    return np.array([_ratio(sums @ counts) for counts in drawn])


def _interval(draws: np.ndarray) -> tuple[float, float]:
    """Return the 95 % percentile interval of the samples in which something counts."""
    low, high = np.nanpercentile(draws, [2.5, 97.5])
    return float(low), float(high)


def _permutation_test(before: np.ndarray, after: np.ndarray, observed: np.ndarray) -> np.ndarray:
    """Return p per measure: how often a random swap of before and after per clip gives a difference as large."""
    difference = after - before
    changed = difference[..., difference.any(axis=(0, 1))]
    generator, as_large = np.random.default_rng(_SEED), np.zeros(len(observed))
    totals = before.sum(axis=-1), after.sum(axis=-1)
    for _ in range(_PERMUTATIONS // _AT_ONCE):
        swapped = generator.random((changed.shape[-1], _AT_ONCE)) < 0.5
        moved = changed @ swapped  # (2, measures, permutations)
        found = _ratio(totals[1][..., None] - moved) - _ratio(totals[0][..., None] + moved)
        as_large += (np.abs(found) >= np.abs(observed)[:, None] - 1e-9).sum(axis=-1)
    return (1 + as_large) / (1 + _PERMUTATIONS)
