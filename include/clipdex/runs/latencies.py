"""Latencies: durations as counts per bucket, so that the quantiles of several runs and days can be computed together.

Bucket n holds durations from 2**(n / 8) to 2**((n + 1) / 8) ms: a quantile is exact to about 5 %.
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Self

_PER_OCTAVE = 8
_LAST = 24 * _PER_OCTAVE  # 4.7 hours


class Latencies:
    """Count durations per bucket."""

    def __init__(self, counts: Mapping[int, int] | None = None) -> None:
        self._counts: Counter[int] = Counter(counts or {})

    @classmethod
    def of(cls, seconds: Iterable[float]) -> Self:
        """Count durations [s]."""
        return cls(Counter(map(_bucket, seconds)))

    @classmethod
    def from_json(cls, record: Mapping[str, int]) -> Self:
        return cls({int(bucket): int(count) for bucket, count in record.items()})

    def to_json(self) -> dict[str, int]:
        return {str(bucket): count for bucket, count in sorted(self._counts.items())}

    def add(self, other: "Latencies") -> None:
        """Add the counts of another one."""
        self._counts.update(other._counts)

    def quantile(self, share: float) -> float:
        """Return the duration that this share of all is at most [s], 0 if none is counted."""
        wanted = max(1.0, share * self._counts.total())
        seen = 0
        for bucket, count in sorted(self._counts.items()):
            if seen + count >= wanted:
                within = (wanted - seen) / count
                return round(float(2 ** ((bucket + within) / _PER_OCTAVE)) / 1000, 3)
            seen += count
        return 0.0

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Latencies) and self._counts == other._counts

    __hash__ = None  # type: ignore[assignment]


def _bucket(seconds: float) -> int:
    milliseconds = max(1.0, 1000 * seconds)
    return min(_LAST, int(_PER_OCTAVE * math.log2(milliseconds)))
