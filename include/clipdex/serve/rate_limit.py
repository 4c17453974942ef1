"""Rate limit: token buckets by key, in bounded memory."""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable

_MOST_KEYS = 10_000


class RateLimit:
    """Admit `per_minute` requests of each key at once, and as many again per minute, evenly. Thread-safe.

    The key that was used longest ago is forgotten if there are more than 10,000.
    """

    def __init__(self, per_minute: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._burst, self._per_s, self._clock = float(per_minute), per_minute / 60, clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()  # what is left, and when that was so
        self._lock = threading.Lock()

    def wait_s(self, key: str) -> float:
        """Take one request from the bucket of a key and return 0; or take nothing and return when to try again [s]."""
        with self._lock:
            now = self._clock()
            left, since = self._buckets.get(key, (self._burst, now))
            left = min(self._burst, left + (now - since) * self._per_s)
            admitted = left >= 1
            self._buckets[key] = left - admitted, now
            self._buckets.move_to_end(key)
            if len(self._buckets) > _MOST_KEYS:
                self._buckets.popitem(last=False)
        return 0.0 if admitted else (1 - left) / self._per_s
