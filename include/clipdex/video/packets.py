"""The timeline of a clip, read from its packets without decoding: how long it lasts, and which packets it takes to see
the pictures of given times.

Three things need no decoding: groups of pictures that hold no wanted one, what follows the last wanted one of a group,
and, in codecs that mark them, pictures that no other refers to.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from fractions import Fraction

import av
from av.container import InputContainer
from av.packet import Packet
from av.stream import Stream
from av.video.stream import VideoStream

from clipdex.errors import ClipRejected, Reason

ROUNDING_S = 1e-6  # less than any clock's tick that matters
_LIKELY_RATE = Fraction(25)
_SLIP_S = 0.2  # a clock that goes back by more is broken, or was started anew


class Step(Enum):
    """What to do with a packet: leave it out, decode it for the pictures that refer to it, or decode it to be seen."""

    DROP = auto()
    REFER = auto()
    SHOW = auto()


@dataclass(frozen=True, slots=True)
class PacketIndex:
    """The packets of one stream.

    stamps: the pts of each in decoding order, in units of clock [s]; shown: the same in showing order; groups: where
    each group of pictures starts among the packets; step: how long the last picture stands; first: where to seek for
    the first packet; bytes: of all packets; covered_s: up to where any stream of the file has data [s].
    counted: the file does not tell when its pictures are shown, or its clock goes back; they are taken to follow each
    other evenly.
    """

    stamps: tuple[int, ...]
    shown: tuple[int, ...]
    groups: tuple[int, ...]
    clock: Fraction
    step: int
    first: int
    bytes: int
    covered_s: float
    counted: bool

    @classmethod
    def read(cls, container: InputContainer, stream: VideoStream, check: Callable[[], None]) -> PacketIndex:
        """Read every packet of the file; check is called at each, and may raise."""
        stamps: list[int | None] = []
        groups: list[int] = []
        first = size = step = 0
        start_s = end_s = 0.0
        clock_s, slipped = -math.inf, False
        for packet in packets(container):
            check()
            moment = packet.pts if packet.pts is not None else packet.dts
            if moment is not None:
                start_s = min(start_s, float(moment * packet.time_base))
                end_s = max(end_s, float((moment + (packet.duration or 0)) * packet.time_base))
            if packet.stream_index != stream.index:
                continue
            if not stamps:
                first = first_stamp(packet)
            if packet.is_keyframe:
                groups.append(len(stamps))
            stamps.append(packet.pts)
            if packet.dts is not None:
                now_s = float(packet.dts * packet.time_base)
                slipped = slipped or now_s < clock_s - _SLIP_S
                clock_s = now_s
            size += packet.size
            step = packet.duration or step
        if not stamps or stream.time_base is None:
            raise ClipRejected(Reason.UNDECODABLE, "a video stream is declared, but it holds no picture")
        step = max(1, step or round(1 / (_rate(stream) * stream.time_base)))
        # An AVI stores no pts, and what is derived from its order is wrong where pictures are reordered.
        counted = slipped or None in stamps or container.format.name == "avi"
        times = [number * step for number in range(len(stamps))] if counted else [s for s in stamps if s is not None]
        return cls(
            stamps=tuple(times),
            shown=tuple(sorted(times)),
            groups=tuple(groups),
            clock=stream.time_base,
            step=step,
            first=first,
            bytes=size,
            covered_s=end_s - start_s,
            counted=counted,
        )

    @property
    def duration_s(self) -> float:
        return float((self.shown[-1] + self.step - self.shown[0]) * self.clock)

    def start_s(self, stamp: int) -> float:
        """Seconds from the first picture."""
        return float((stamp - self.shown[0]) * self.clock)

    def shown_at(self, time_s: float) -> int:
        """The stamp of the picture on screen at that time: the last one that has started."""
        limit = self.shown[0] + (time_s + ROUNDING_S) / self.clock
        return self.shown[max(0, bisect_right(self.shown, limit) - 1)]

    def plan(self, times: Sequence[float]) -> list[Step]:
        """A step for each packet, so that the pictures on screen at these times come out whole."""
        if self.counted:
            return [Step.SHOW] * len(self.stamps)
        wanted = {self.shown_at(time_s) for time_s in times}
        plan = [Step.DROP] * len(self.stamps)
        whole = False  # a group whose pictures the next one refers to
        for first, end in reversed(self._groups()):
            shown = [n for n in range(first, end) if self.stamps[n] in wanted]
            last = end - 1 if whole else max(shown, default=first - 1)
            for n in range(first, last + 1):
                plan[n] = Step.SHOW if self.stamps[n] in wanted else Step.REFER
            # A picture on screen before its group's keyframe refers to the group before.
            whole = any(self.stamps[n] < self.stamps[first] for n in shown)
        return plan

    def _groups(self) -> list[tuple[int, int]]:
        starts = [0, *(n for n in self.groups if n > 0)]
        return list(zip(starts, [*starts[1:], len(self.stamps)], strict=True))


def packets(container: InputContainer, *streams: Stream) -> Iterator[Packet[Stream]]:
    """Up to where the file breaks off: what is missing shows in the times of the rest.

    FFmpeg calls it a lack of memory when a broken file announces a packet of some gigabytes; PyAV raises IndexError at
    the end, after a stream began in mid-file.
    """
    read = container.demux(*streams)
    while True:
        try:
            packet = next(read, None)
        except (av.FFmpegError, IndexError):
            return
        if packet is None:
            return
        if packet.size:
            yield packet


def first_stamp(packet: Packet[Stream]) -> int:
    """Where to seek for a stream's first packet."""
    return packet.dts if packet.dts is not None else packet.pts or 0


def _rate(stream: VideoStream) -> Fraction:
    return stream.average_rate or stream.guessed_rate or _LIKELY_RATE
