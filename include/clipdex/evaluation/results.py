"""The results of an evaluation: figures of the default and of each variant, as JSON."""

from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, field
from typing import Any, Self

import numpy as np

from clipdex.evaluation.metrics import MEASURES, Answer, Difference, Figure, calibration, differences, figures
from clipdex.index.relevance import Calibration


@dataclass(frozen=True, slots=True)
class Result:
    """Hold the figures of one configuration.

    queries: with a clip that answers them; unanswerable: without
    clips: with a text in the file, or of the file in the served index; chunks: in the collection that was searched
    figures: by measure; None if no query counts in it
    p50_ms, p95_ms: latency of one query, embedding included [ms]
    calibration: the relevance fitted to these queries; None without unanswerable ones
    against_default: differences from the default, of a variant
    answers: to the queries, in the order of the file
    """

    queries: int
    unanswerable: int
    clips: int
    chunks: int
    figures: Mapping[str, Figure | None]
    p50_ms: float
    p95_ms: float
    calibration: Calibration | None = None
    against_default: Mapping[str, Difference | None] = field(default_factory=dict)
    answers: tuple[Answer, ...] = field(default=(), repr=False)

    @classmethod
    def of(
        cls,
        answers: Sequence[Answer],
        seconds: Sequence[float],
        clips: int,
        chunks: int,
        default: Sequence[Answer] | None = None,
    ) -> Self:
        """Return the figures of these answers. seconds: of single queries; default: the answers to compare with"""
        queries = sum(bool(answer.clip_id) for answer in answers)
        compared = differences(default, answers) if default is not None else {}
        p50_ms, p95_ms = np.percentile(1000 * np.array(seconds), [50, 95])
        return cls(
            queries=queries,
            unanswerable=len(answers) - queries,
            clips=clips,
            chunks=chunks,
            figures=figures(answers),
            p50_ms=float(p50_ms),
            p95_ms=float(p95_ms),
            calibration=calibration(answers),
            against_default=compared,
            answers=tuple(answers),
        )

    def to_json(self) -> dict[str, Any]:
        """Return ratios and differences in per cent, rounded to 0.01."""
        measured = {name: self.figures[name] for name in MEASURES}
        record: dict[str, Any] = {name: _rounded(one.value) if one else None for name, one in measured.items()}
        record |= {
            "p50_ms": _rounded(self.p50_ms),
            "p95_ms": _rounded(self.p95_ms),
            "queries": self.queries,
            "unanswerable": self.unanswerable,
            "clips": self.clips,
            "chunks": self.chunks,
            "intervals": {
                name: [_rounded(one.low), _rounded(one.high)] if one else None for name, one in measured.items()
            },
        }
        if self.calibration:
            record["calibration"] = list(astuple(self.calibration))
        if self.against_default:
            record["against_default"] = {
                name: one
                and {
                    "difference": _rounded(one.value),
                    "interval": [_rounded(one.low), _rounded(one.high)],
                    "p": round(one.p, 4),
                }
                for name, one in self.against_default.items()
            }
        return record


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Hold the results of the default and, by name, of each variant.

    served: the name of the judged collection if it is the served one, or ""
    missing: clips of the file that a served index lacks; queries for them count as not found there
    ignored: unknown fields of the file, and the number of lines with each
    """

    default: Result
    variants: Mapping[str, Result]
    served: str = ""
    missing: tuple[str, ...] = ()
    ignored: Mapping[str, int] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        record: dict[str, Any] = {
            "default": self.default.to_json(),
            "variants": {name: result.to_json() for name, result in self.variants.items()},
        }
        return {**record, "served": self.served, "missing": list(self.missing)} if self.served else record


def _rounded(number: float) -> float:
    return round(number, 2)
