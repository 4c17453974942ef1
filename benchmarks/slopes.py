"""Whether something grows: the slope of samples over time, and what may be said of it against a bound.

Theil–Sen (the median of the slopes between all pairs of samples): a garbage collection, or a batch that is larger than
others, moves it little.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from scipy.stats import theilslopes

HOUR = 3600.0


@dataclass(frozen=True, slots=True)
class Slope:
    """an_hour: growth [units an hour], between low and high with 95 % confidence; first, last: medians of the tenth of
    the samples at either end."""

    an_hour: float
    low: float
    high: float
    first: float
    last: float

    def breaks(self, bound: float) -> bool:
        """Whether it grows by more than bound [units an hour], beyond what chance would do."""
        return self.an_hour > bound and self.low > 0


def slope(times: Sequence[float], values: Sequence[float], warm_up_s: float) -> Slope:
    """times: seconds since the start; what came before warm_up_s is left out. Raises ValueError below ten samples."""
    kept = [(at, value) for at, value in zip(times, values, strict=True) if at >= warm_up_s]
    if len(kept) < 10:
        raise ValueError(f"{len(kept)} samples after the first {warm_up_s:.0f} s; a slope needs ten")
    at, value = zip(*kept, strict=True)
    fit = theilslopes(value, at, 0.95)
    end = max(1, len(kept) // 10)
    return Slope(
        fit.slope * HOUR, fit.low_slope * HOUR, fit.high_slope * HOUR, median(value[:end]), median(value[-end:])
    )
