"""PacketIndex: a clip's timeline, read from its packets without decoding: its duration, and the packets required for
the frames at given times.

Not decoded are groups of pictures without a wanted frame, packets after the last wanted frame of a group, and
non-reference frames in codecs that mark them.
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

ROUNDING_S = 1e-6  # less than one tick of any common clock
_LIKELY_RATE = Fraction(25)
_SLIP_S = 0.2  # a clock that goes back by more is broken or was restarted


class Step(Enum):
    """Action for a packet: skip it, decode it as a reference only, or decode and show it."""

    DROP = auto()
    REFER = auto()
    SHOW = auto()


@dataclass(frozen=True, slots=True)
class PacketIndex:
    """The packets of one stream.

    stamps: pts per packet in decoding order, in units of clock [s]
    shown: the same in display order
    groups: packet numbers where a group of pictures starts
    step: display time of the last frame, in units of clock
    first: seek target for the first packet
    bytes: total size of the packets
    covered_s: end of the data of all streams of the file [s]
    counted: stamps are missing or the clock goes back, so frames are spaced evenly
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
        """Read every packet of the file. check() is called per packet and may raise."""
        stamps: list[int | None] = []
        groups: list[int] = []
        first = size = step = 0
        start_s = end_s = 0.0
        clock_s, slipped = -math.inf, False
        for packet in packets(container):
            check()
            stamp = packet.pts if packet.pts is not None else packet.dts
            if stamp is not None:
                start_s = min(start_s, float(stamp * packet.time_base))
                end_s = max(end_s, float((stamp + (packet.duration or 0)) * packet.time_base))
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
            raise ClipRejected(Reason.UNDECODABLE, "a video stream expected, found one without frames")
        step = max(1, step or round(1 / (_rate(stream) * stream.time_base)))
        # AVI stores no pts, and derived ones are wrong if frames are reordered.
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
        """Return the seconds from the first frame."""
        return float((stamp - self.shown[0]) * self.clock)

    def shown_at(self, time_s: float) -> int:
        """Return the stamp of the frame on screen at that time: the last one that has started."""
        limit = self.shown[0] + (time_s + ROUNDING_S) / self.clock
        return self.shown[max(0, bisect_right(self.shown, limit) - 1)]

    def plan(self, times: Sequence[float]) -> list[Step]:
        """Return a step per packet, so that the frames on screen at these times decode correctly."""
        if self.counted:
            return [Step.SHOW] * len(self.stamps)
        wanted = {self.shown_at(time_s) for time_s in times}
        plan = [Step.DROP] * len(self.stamps)
        referenced = False  # the next group refers to frames of this one
        for first, end in reversed(self._groups()):
            shown = [n for n in range(first, end) if self.stamps[n] in wanted]
            last = end - 1 if referenced else max(shown, default=first - 1)
            for n in range(first, last + 1):
                plan[n] = Step.SHOW if self.stamps[n] in wanted else Step.REFER
            # A frame shown before its group's keyframe refers to the previous group.
            referenced = any(self.stamps[n] < self.stamps[first] for n in shown)
        return plan

    def _groups(self) -> list[tuple[int, int]]:
        starts = [0, *(n for n in self.groups if n > 0)]
        return list(zip(starts, [*starts[1:], len(self.stamps)], strict=True))


def packets(container: InputContainer, *streams: Stream) -> Iterator[Packet[Stream]]:
    """Yield packets until the end or the first damage; missing packets are detected by their times.

    FFmpeg reports out of memory if a broken file declares a packet of gigabytes. PyAV raises IndexError at the end if a
    stream started in mid-file.
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
    """Return the seek target for a stream's first packet."""
    return packet.dts if packet.dts is not None else packet.pts or 0


def _rate(stream: VideoStream) -> Fraction:
    return stream.average_rate or stream.guessed_rate or _LIKELY_RATE
