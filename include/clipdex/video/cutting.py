"""Cutting: a long file as parts, each sampled like a clip, in one decoding pass.

Fixed parts have equal lengths. Between shots, a part ends where a shot ends. A shot that is longer than part_s is cut
at part_s; if the rest is shorter than min_part_s, the last two parts share its length. A shot that is shorter than
min_part_s belongs to the part before.

Where a shot ends is not known while its frames are decoded. So the frames on screen at the times of a grid, from the
start of the part, are converted and kept until the part ends. Memory holds one part's pictures and the packet index.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

from av.video.frame import VideoFrame

from clipdex.config import Playback, Sampling, Split, VideoLimits
from clipdex.errors import ClipRejected, Reason
from clipdex.video import shots
from clipdex.video.budget import Budget
from clipdex.video.clip_file import ClipFile
from clipdex.video.decoding import VideoReader, opened, too_many_bytes
from clipdex.video.encoding import FrameConverter, encode_proxy
from clipdex.video.packets import ROUNDING_S
from clipdex.video.parts import Part, RejectedPart
from clipdex.video.playback import Recorder, of_proxies
from clipdex.video.sampling import Prepared, Window, info_of, most_frames, poster_of, sampled
from clipdex.video.truncation import is_lost

_FEWEST = 4  # times of the grid in the shortest part
_NEAR_S = 0.001  # between two times that are one
_DIGITS = 6  # of the seconds where parts begin and end: another pass must find the same


@dataclass(frozen=True, slots=True)
class Cut:
    """A file that is cut.

    start_s, end_s: of its film [s on a player's clock of the file]
    part_s: usual length of a part [s]
    number, from_s: of the part that comes first, and its start [s on the same clock]
    place: which candidate for the film this is
    """

    start_s: float
    end_s: float
    part_s: float
    number: int
    from_s: float
    place: int


@dataclass(frozen=True, slots=True)
class SkippedPart:
    """A part before the first one that is wanted. start_s, end_s [s on a player's clock of the file]."""

    part: Part
    start_s: float
    end_s: float


@dataclass(frozen=True, slots=True)
class Begin:
    """Where to begin.

    first: number of the first part that is wanted
    number, start_s: of the part to begin with, and its start [s on a player's clock of the file]; None if it is unknown
    place: see Cut
    """

    first: int = 0
    number: int = 0
    start_s: float | None = None
    place: int = 0


def prepare_parts(
    file: ClipFile,
    limits: VideoLimits,
    sampling: Sampling,
    begin: Begin,
    budget: Budget,
    playback: Playback = Playback.OFF,
) -> Iterator[Prepared | Cut | SkippedPart | RejectedPart]:
    """Yield the clip of a file that is not cut; else a Cut, then its parts, from the wanted one on and always the last.

    Raises ClipRejected for the file, or OSError for a disk error.
    """
    for place in itertools.count(begin.place):
        with opened(file, limits, place, budget) as reader:
            try:
                if not reader.is_long:
                    yield sampled(reader, sampling, playback)
                else:
                    cutter = _Cutter(reader, limits, sampling, replace(begin, place=place), budget, playback)
                    yield from cutter.parts()
                return
            except ClipRejected as refusal:
                if refusal.reason is not Reason.UNDECODABLE or place + 1 == reader.films:
                    raise


@dataclass(frozen=True, slots=True)
class _Picture:
    """The frame on screen at a time of the grid.

    start_s: of the frame; found_s: see VideoReader.frames [s from the first picture]
    picture: None if it is not needed, or could not be converted: then there is a failure
    """

    start_s: float
    found_s: float
    picture: VideoFrame | None = None
    converter: FrameConverter | None = None
    failure: ClipRejected | None = None


class _Cutter:
    """Cuts one film. Times are seconds from its first picture."""

    def __init__(
        self,
        reader: VideoReader,
        limits: VideoLimits,
        sampling: Sampling,
        begin: Begin,
        budget: Budget,
        playback: Playback,
    ) -> None:
        self._playback = playback
        self._recorder = Recorder(reader) if playback is Playback.P480 else None
        self._reader, self._limits, self._sampling, self._budget = reader, limits, sampling, budget
        self._film_s, self._late_s = round(reader.duration_s, _DIGITS), round(reader.start_s, _DIGITS)
        self._place = begin.place
        count = math.ceil(self._film_s / limits.part_s - ROUNDING_S)
        self._ends = (
            [round(n * self._film_s / count, _DIGITS) for n in range(1, count)] if limits.split is Split.FIXED else None
        )
        self._part_s = self._film_s / count if self._ends is not None else limits.part_s
        self._first, self._number, self._start_s = begin.first, 0, 0.0
        self._go_on(begin, limits)
        self._is_new = self._start_s == 0.0
        most = most_frames(reader.size, sampling)
        slowest = min(sampling.fps, sampling.min_fps)
        self._most = most
        self._fps = _fraction(min(sampling.fps, max(slowest, most / self._part_s)))
        self._stride = max(1, math.ceil(_FEWEST / limits.min_part_s / self._fps - ROUNDING_S))
        self._grid = self._fps * self._stride
        # A long shot is cut where the grid is, so that the pictures behind the cut are those of the next part.
        self._usual = max(1, int(limits.part_s * self._grid + ROUNDING_S))
        self._longest = math.ceil((limits.part_s + limits.min_part_s) * self._grid - ROUNDING_S)
        self._pictures: list[_Picture] = []
        self._frame: VideoFrame | None = None
        self._frame_s = self._found_s = 0.0
        self._converter: FrameConverter | None = None

    def parts(self) -> Iterator[Prepared | Cut | SkippedPart | RejectedPart]:
        """Yield the cut and the parts. Raises ClipRejected if no frame of the film can be decoded."""
        part_s = self._part_s if self._ends is not None else float(self._usual / self._grid)
        yield Cut(
            self._late_s,
            self._on_clock(self._film_s),
            part_s,
            self._number,
            self._on_clock(self._start_s),
            self._place,
        )
        self._budget.start_parts()
        for start_s, frame, found_s, is_cut in self._frames():
            if self._frame is None:  # as in a clip, the first picture is shown from the start
                self._frame, self._frame_s, self._found_s = frame, start_s, found_s
            yield from self._advance(start_s)
            if is_cut:
                yield from self._end_shot(round(start_s, _DIGITS))
            self._record(start_s, frame, is_cut)
            self._frame, self._frame_s, self._found_s = frame, start_s, found_s
        if self._frame is None and self._is_new:
            raise ClipRejected(Reason.UNDECODABLE, "none of its frames could be decoded")
        yield from self._advance(self._film_s)
        yield from self._end_shot(self._film_s)

    def _go_on(self, begin: Begin, limits: VideoLimits) -> None:
        """Set the number and the start of the first part to decode."""
        if self._ends is not None:
            self._number = min(begin.number, len(self._ends))
            self._start_s = [0.0, *self._ends][self._number]
        elif begin.start_s is not None and 0 < begin.start_s - self._late_s < self._film_s - limits.min_part_s / 2:
            self._number, self._start_s = begin.number, round(begin.start_s - self._late_s, _DIGITS)

    def _frames(self) -> Iterator[tuple[float, VideoFrame, float, bool]]:
        """Yield (start [s], frame, found [s], whether a shot begins)."""
        if self._ends is not None:
            frames = self._reader.frames(self._start_s, None if self._recorder else self._times())
            return ((*one, False) for one in frames)
        from_s = self._reader.shown_at(self._start_s, shots.WARM_UP)
        return shots.with_cuts(self._reader.frames(from_s, None), self._reader.pixel_aspect)

    def _times(self) -> list[float]:
        """Return the times of the grid in all fixed parts from the first one on."""
        edges = [self._start_s, *(self._ends or [])[self._number :], self._film_s]
        return [
            start_s + float(k / self._grid)
            for start_s, end_s in itertools.pairwise(edges)
            for k in range(math.ceil((end_s - start_s) * float(self._grid) - ROUNDING_S))
        ]

    def _advance(self, to_s: float) -> Iterator[Prepared | SkippedPart | RejectedPart]:
        """Keep the frame on screen at the times of the grid before to_s; end the parts that reach their length."""
        while True:
            time_s = self._start_s + float(len(self._pictures) / self._grid)
            if self._ends is not None:
                end_s = self._ends[self._number] if self._number < len(self._ends) else math.inf
                if time_s + ROUNDING_S >= end_s:
                    if self._recorder and to_s + ROUNDING_S < end_s:
                        return  # frames of this part are still to be recorded
                    yield self._part(end_s, len(self._pictures))
                    continue
            elif len(self._pictures) > self._longest:
                yield self._part(round(self._start_s + float(self._usual / self._grid), _DIGITS), self._usual)
                continue
            if time_s + ROUNDING_S >= to_s:
                return
            if self._recorder:
                self._recorder.begin_at(time_s)
            self._pictures.append(self._picture())

    def _record(self, start_s: float, frame: VideoFrame, is_cut: bool) -> None:
        """Record a frame. A part may begin with a shot, and at each time of the grid."""
        if self._recorder is not None and self._number + 1 >= self._first:
            due_s = self._start_s + float(len(self._pictures) / self._grid)
            self._recorder.add(start_s, frame, key=is_cut or abs(start_s - due_s) < _NEAR_S)

    def _end_shot(self, end_s: float) -> Iterator[Prepared | SkippedPart | RejectedPart]:
        """End the part with this shot, as two if it is too long for one. A short rest stays with it."""
        if end_s != self._film_s and min(end_s - self._start_s, self._film_s - end_s) < self._limits.min_part_s:
            return
        if self._ends is None and end_s - self._start_s > self._limits.part_s + ROUNDING_S:
            half = len(self._pictures) // 2
            yield self._part(round(self._start_s + float(half / self._grid), _DIGITS), half)
        yield self._part(end_s, len(self._pictures))

    def _picture(self) -> _Picture:
        frame = self._frame
        # The picture may be one of the next part, and that may be the last.
        is_last = self._film_s - self._start_s <= 2 * (self._limits.part_s + self._limits.min_part_s)
        if frame is None or not (self._number + 1 >= self._first or is_last):
            return _Picture(self._frame_s, self._found_s)
        try:
            if self._converter is None or not (self._pictures or self._converter.fits(frame)):
                self._converter = FrameConverter(
                    frame, self._reader.pixel_aspect, self._sampling.short_side, self._sampling.multiple_of
                )
            return _Picture(self._frame_s, self._found_s, self._converter.picture(frame), self._converter)
        except ClipRejected as refusal:
            return _Picture(self._frame_s, self._found_s, failure=refusal)

    def _part(self, end_s: float, count: int) -> Prepared | SkippedPart | RejectedPart:
        """End the part, with so many of the pictures; the others are those of the next one."""
        pictures, self._pictures = self._pictures[:count], self._pictures[count:]
        start_s, self._start_s = self._start_s, end_s
        part = Part(self._number, last=end_s == self._film_s)
        self._number += 1
        if part.number < self._first and not part.last:
            return SkippedPart(part, self._on_clock(start_s), self._on_clock(end_s))
        try:
            return self._prepared(part, start_s, end_s, pictures)
        except ClipRejected as refusal:
            return RejectedPart(part, self._on_clock(start_s), self._on_clock(end_s), refusal)

    def _prepared(self, part: Part, start_s: float, end_s: float, pictures: Sequence[_Picture]) -> Prepared:
        self._refuse_damage(part, start_s, end_s, pictures)
        size = self._reader.bytes_between(start_s, end_s)
        if size > self._limits.max_bytes:
            raise too_many_bytes(self._limits.max_bytes, size)
        stride = self._stride
        if len(pictures) <= stride and self._most > 1:  # one picture is no video: two, half a part apart
            stride = (len(pictures) + 1) // 2
        chosen = [self._converted(one) for one in pictures[::stride]]
        times = [round(self._late_s + start_s + float(k * stride / self._grid), _DIGITS) for k in range(len(chosen))]
        spans = windows(len(chosen), self._most)
        edges = [self._on_clock(start_s), *(times[span.start] for span in spans[1:]), self._on_clock(end_s)]
        converter = next(one.converter for one in pictures if one.converter is not None)
        fps = self._grid / stride
        in_windows = tuple(
            Window(edges[n], edges[n + 1], tuple(times[span]), encode_proxy(chosen[span], fps))
            for n, span in enumerate(spans)
        )
        playback = self._recorder.take(start_s, end_s) if self._recorder else b""
        if not playback and self._playback is not Playback.OFF:
            playback = of_proxies(in_windows, self._on_clock(start_s), self._on_clock(end_s))
        return Prepared(
            info=replace(
                info_of(self._reader, converter),
                duration_s=round(end_s - start_s, _DIGITS),
                start_s=self._on_clock(start_s),
                bytes=size,
            ),
            windows=in_windows,
            proxy_fps=float(fps),
            width=converter.size[0],
            height=converter.size[1],
            poster=poster_of([picture for span in spans for picture in chosen[span]]),
            part=part,
            playback=playback,
        )

    def _refuse_damage(self, part: Part, start_s: float, end_s: float, pictures: Sequence[_Picture]) -> None:
        """Raise ClipRejected if frames at the end of the part are missing, by the rule for clips."""
        reason = Reason.TRUNCATED_FILE if part.last else Reason.UNDECODABLE
        if part.last and self._reader.lost:
            raise ClipRejected(reason, self._reader.lost)
        expected_s = self._reader.shown_at(start_s + float((len(pictures) - 1) / self._grid))
        found_s = pictures[-1].found_s
        if pictures[0].start_s + ROUNDING_S >= end_s or is_lost(
            expected_s - start_s, found_s - start_s, self._reader.fps
        ):
            expected = f"frames from {self._on_clock(start_s):.2f} to {self._on_clock(expected_s):.2f} s expected"
            found = f"none after {self._on_clock(found_s):.2f} s" if start_s <= found_s < end_s else "none"
            raise ClipRejected(reason, f"{expected}, found {found}")

    def _converted(self, one: _Picture) -> VideoFrame:
        if one.picture is None:
            raise one.failure or ClipRejected(Reason.UNDECODABLE, "none of its frames could be decoded")
        return one.picture

    def _on_clock(self, time_s: float) -> float:
        """Return the time on a player's clock of the file [s]."""
        return round(self._late_s + time_s, _DIGITS)


def windows(count: int, most: int) -> list[slice]:
    """Return which of count pictures go into each window of at most most pictures.

    A window has an even number of pictures, as those of a clip (sampling.schedule): the last one may be left out.
    """
    number = math.ceil(count / most)
    each = math.ceil(count / number)
    if number > 1 and each % 2 and each > 1:
        each += 1 if each < most else -1
    spans = []
    for first in range(0, count, each):
        length = min(each, count - first)
        if length == 1 and first > 0 and most > 1:
            break
        spans.append(slice(first, first + length - (length % 2 if length > 2 else 0)))
    return spans


def _fraction(fps: float) -> Fraction:
    """Return the rate in thousandths, rounded down: a full window holds no picture more."""
    return Fraction(max(1, math.floor(1000 * fps + ROUNDING_S)), 1000)
