"""Budget: the CPU time that decoding may take. Wall time would reject clips on a busy machine."""

from __future__ import annotations

import time
from collections.abc import Callable

from clipdex.config import VideoLimits
from clipdex.errors import ClipRejected, Reason

_FEW_S = 1.0  # of CPU time, before a speed is known
_READING_SHARE = 0.02  # CPU time to read one second of film; a camera's 60 pictures and its sound need 0.001


class Budget:
    """CPU time for a clip, or for each part of a file that is cut. What a header declares gives no more.

    passed: called with each part_s of film that was read or decoded
    """

    def __init__(self, limits: VideoLimits, passed: Callable[[], None] = lambda: None) -> None:
        self._limit_s = limits.decode_timeout_s
        self._step_s = limits.part_s
        self._most_s = limits.max_file_s if limits.split else 0.0
        self._passed = passed
        self._per_part = False
        self._read_s = self._reported_s = 0.0
        self._granted_s = self._limit_s
        self._end = time.thread_time() + self._limit_s

    def check(self) -> None:
        """Raise ClipRejected if the time is used up."""
        if time.thread_time() > self._end:
            raise ClipRejected(Reason.DECODE_LIMIT, f"more than {self._granted_s:g} s of CPU time to decode")

    def read(self, film_s: float) -> None:
        """Grant time to read on. film_s: what was read so far [s]."""
        more_s = min(film_s, self._most_s) - self._read_s
        if more_s > 0:
            self._read_s += more_s
            self._granted_s += more_s * _READING_SHARE
            self._end += more_s * _READING_SHARE
            self._report(self._read_s)

    def spares_half(self, film_s: float = 0.0, of_s: float = 0.0) -> bool:
        """Return whether half of the time is left, and will be at the end of the film, at the speed until now.

        film_s: position in the film; of_s: its length [s]; a file that is cut gets time with each part
        """
        now = time.thread_time()
        if self._end - now < self._granted_s / 2:
            return False
        used_s = now - (self._end - self._granted_s)
        if self._per_part or film_s <= 0 or used_s < _FEW_S:
            return True
        return used_s * of_s / film_s < self._granted_s / 2

    def start_parts(self) -> None:
        """Grant the time of one part from here on, and of another one with each part_s of film that is decoded."""
        self._per_part = True
        self._reported_s = 0.0
        self._renew()

    def decoded(self, film_s: float) -> None:
        """Note how far decoding is. film_s: position in the film [s]."""
        if self._per_part and self._report(film_s):
            self._renew()

    def _report(self, film_s: float) -> bool:
        if film_s < self._reported_s + self._step_s:
            return False
        self._reported_s = film_s
        self._passed()
        return True

    def _renew(self) -> None:
        self._granted_s = self._limit_s
        self._end = time.thread_time() + self._limit_s
