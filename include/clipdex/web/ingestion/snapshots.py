"""Snapshots: values that take longer than a page may, read in a thread of their own and kept for a while.

A request waits for a short time, then takes the last value, or none. The page is therefore never late, however slow the
store is, and however many summaries are missing.
"""

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from clipdex.errors import ClipdexError

log = logging.getLogger(__name__)

T = TypeVar("T")

_THREADS = ThreadPoolExecutor(4, thread_name_prefix="clipdex-snapshot")


@dataclass(frozen=True, slots=True)
class Held(Generic[T]):
    """Hold a value, None if there is none yet. loading: whether a newer one is being read; problem: or why it is not"""

    value: T | None
    loading: bool
    problem: str = ""


@dataclass(slots=True)
class Snapshot(Generic[T]):
    """Read a value at most every fresh_s seconds, one read at a time.

    read: called with the last value, or None, in a thread
    """

    read: Callable[[T | None], T]
    fresh_s: float
    clock: Callable[[], float] = time.monotonic
    _value: T | None = None
    _problem: str = ""
    _due: float = float("-inf")
    _loading: threading.Event | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def get(self, wait_s: float) -> Held[T]:
        """Return the value. Wait up to wait_s for a newer one if it is due [s]."""
        with self._lock:
            if self._loading is None and self.clock() >= self._due:
                self._loading = threading.Event()
                _THREADS.submit(self._load, self._loading)
            loading = self._loading
        if loading is not None:
            loading.wait(wait_s)
        with self._lock:
            return Held(self._value, self._loading is not None, self._problem)

    def _load(self, done: threading.Event) -> None:
        value, problem = self._value, ""
        try:
            value = self.read(self._value)
        except (ClipdexError, OSError) as error:
            problem = str(error)
            log.warning("not read: %s", error)
        except Exception as error:  # clients of object stores have their own exceptions
            problem = type(error).__name__
            log.exception("not read")
        with self._lock:
            self._value, self._problem = value, problem
            self._due, self._loading = self.clock() + self.fresh_s, None
        done.set()
