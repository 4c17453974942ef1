"""Course: how far the parts of one file are, and where a fresh process goes on after a failure.

A decoder that dies at a part is replaced, and the part is tried once more in a fresh process; then it is rejected, and
the next process goes on behind it. The third part that is rejected so takes the rest of the file with it.
"""

from __future__ import annotations

import math
from dataclasses import replace

from clipdex.config import VideoLimits
from clipdex.errors import ClipRejected, Reason
from clipdex.video import Part, Prepared, RejectedPart
from clipdex.video.cutting import Begin, Cut
from clipdex.video.sandbox.messages import Answer

_TRIES = 2  # of a part
_MOST_REJECTED = 3  # parts of a file: with the last of them, what is behind it is rejected, too
_PASSES = 3  # a file is read, decoded, and decoded again from its start if a packet is wrongly marked as a keyframe
_ROUNDING_S = 1e-5


class Course:
    """The state of DecoderPool.parts() for one file. Answers come from a process that the file may control.

    begin: where a process has to begin
    is_done: nothing is left to do
    """

    def __init__(self, limits: VideoLimits, first: int, start_s: float | None) -> None:
        self.begin = Begin(first, first, start_s)
        self.is_done = False
        self._limits = limits
        self._cut: Cut | None = None
        self._is_untouched = True
        self._tries = self._failures = self._rejected = self._passed = 0

    def take(self, answer: Answer, blobs: list[bytes]) -> Prepared | RejectedPart | None:
        """Return the clip or part in this answer; None if there is none.

        Raises ClipRejected, OSError for a disk error, ValueError for an invalid answer.
        """
        if answer.passed:
            self._count_passed()
            return None
        if answer.cut is not None:
            self._start(Cut(**dict(answer.cut)))
            return None
        if answer.part is None:
            one = answer.prepared(blobs)
            if self._cut is not None:
                raise ValueError("a part expected, found a clip")
            self.is_done = True
            return one
        return self._part(answer, blobs)

    def fail(self, refusal: ClipRejected) -> RejectedPart | None:
        """Note that a process failed; return the part that is rejected for it, if any. Raises ClipRejected."""
        self._tries += 1
        self._failures += 1
        is_file = self._cut is None or (refusal.reason is not Reason.DECODE_LIMIT and self._is_untouched)
        if refusal.reason is Reason.DECODE_LIMIT and self._tries == _TRIES:
            detail = f"{refusal.detail}; confirmed in a fresh process"
            refusal = ClipRejected(refusal.reason, detail, limit=refusal.limit, found=refusal.found)
        if is_file and (refusal.reason is not Reason.DECODE_LIMIT or self._tries == _TRIES):
            raise refusal
        if self._tries < _TRIES or self._cut is None:
            return None
        start_s = self._start_s
        end_s = round(start_s + self._cut.part_s, 6)
        self._rejected += 1
        if self._rejected == _MOST_REJECTED or end_s > self._cut.end_s - self._limits.min_part_s:
            end_s = self._cut.end_s
        part = Part(self.begin.number, end_s == self._cut.end_s)
        self._go_on(end_s, part.last)
        return RejectedPart(part, start_s, end_s, refusal) if part.number >= self.begin.first or part.last else None

    @property
    def _start_s(self) -> float:
        assert self._cut is not None
        return self._cut.start_s if self.begin.start_s is None else self.begin.start_s

    def _start(self, cut: Cut) -> None:
        most_s = self._limits.max_file_s + _ROUNDING_S
        if self._limits.split is None or not 0 < cut.end_s - cut.start_s <= most_s:
            raise ValueError(f"a film of at most {most_s:g} s to cut expected, found {cut}")
        if cut.part_s > self._limits.part_s + _ROUNDING_S or cut.number > self.begin.number:
            raise ValueError(f"part {self.begin.number} at {self.begin.start_s} s expected, found {cut}")
        if not self._is_untouched:
            same = replace(self._cut or cut, number=self.begin.number, from_s=cut.from_s)
            if cut != same or abs(cut.from_s - self._start_s) > _ROUNDING_S:
                raise ValueError(f"part {self.begin.number} at {self._start_s} s expected, found {cut}")
        if not cut.start_s <= cut.from_s < cut.end_s:
            raise ValueError(f"a start in the film expected, found {cut}")
        self._cut = cut
        self.begin = Begin(self.begin.first, cut.number, cut.from_s, cut.place)

    def _part(self, answer: Answer, blobs: list[bytes]) -> Prepared | RejectedPart | None:
        cut, part = self._cut, answer.part
        if cut is None or part is None:
            raise ValueError("a file that is cut expected, found a part")
        if part.number != self.begin.number or abs(part.start_s - self._start_s) > _ROUNDING_S:
            raise ValueError(f"part {self.begin.number} at {self._start_s} s expected, found {part}")
        if not self._limits.min_part_s / 2 <= part.end_s - part.start_s <= self._limits.part_s + _ROUNDING_S:
            raise ValueError(f"a part of at most {self._limits.part_s} s expected, found {part}")
        if part.end_s > cut.end_s or part.last != (part.end_s == cut.end_s):
            raise ValueError(f"the last part up to {cut.end_s} s expected, found {part}")
        one: Prepared | RejectedPart | None = None
        if answer.rejection is not None:
            if answer.rejection.reason is Reason.DECODE_LIMIT:
                raise answer.rejection
            one = RejectedPart(Part(part.number, part.last), part.start_s, part.end_s, answer.rejection)
        elif answer.clip is not None:
            one = answer.prepared(blobs)
            if abs(one.info.start_s - part.start_s) + abs(one.info.end_s - part.end_s) > _ROUNDING_S:
                raise ValueError(f"a clip from {part.start_s} to {part.end_s} s expected, found {one.info}")
        elif part.last or part.number >= self.begin.first:
            raise ValueError(f"part {part.number} expected, found that it is skipped")
        self._go_on(part.end_s, part.last)
        return one

    def _go_on(self, start_s: float, was_last: bool) -> None:
        assert self._cut is not None
        self.begin = Begin(self.begin.first, self.begin.number + 1, start_s, self._cut.place)
        self.is_done, self._is_untouched, self._tries = was_last, False, 0

    def _count_passed(self) -> None:
        self._passed += 1
        most = _PASSES * math.ceil(self._limits.max_file_s / self._limits.part_s) * (1 + self._failures)
        if self._limits.split is None or self._passed > most:
            raise ValueError("an answer expected, found none after the longest file")
