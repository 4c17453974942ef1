"""Fit the slope of samples over time, and compare it with a bound.

The fit is Theil–Sen (the median slope over all pairs of samples), which is robust to outliers such as a garbage
collection or a large batch.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from scipy.stats import theilslopes

HOUR = 3600.0


@dataclass(frozen=True, slots=True)
class Slope:
    """A fitted slope.

    an_hour: growth per hour; low, high: its 95 % confidence interval
    first, last: medians of the first and last tenth of the samples
    """

    an_hour: float
    low: float
    high: float
    first: float
    last: float

    def breaks(self, bound: float) -> bool:
        """Return whether the growth per hour exceeds the bound and is significant."""
        return self.an_hour > bound and self.low > 0


def slope(times: Sequence[float], values: Sequence[float], warm_up_s: float) -> Slope:
    """Fit the samples after warm_up_s. times: seconds since the start. Raise ValueError below ten samples."""
    kept = [(at, value) for at, value in zip(times, values, strict=True) if at >= warm_up_s]
    if len(kept) < 10:
        raise ValueError(f"{len(kept)} samples after the first {warm_up_s:.0f} s; expected at least ten")
    at, value = zip(*kept, strict=True)
    fit = theilslopes(value, at, 0.95)
    end = max(1, len(kept) // 10)
    return Slope(
        fit.slope * HOUR, fit.low_slope * HOUR, fit.high_slope * HOUR, median(value[:end]), median(value[-end:])
    )
