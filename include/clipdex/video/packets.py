"""Tracks and PacketIndex: a clip's packets, read without decoding: its timeline, and the packets required for the
frames at given times.

Not decoded are groups of pictures without a wanted frame, packets after the last wanted frame of a group, and
non-reference frames in codecs that mark them.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from fractions import Fraction
from itertools import pairwise

import av
from av.container import InputContainer
from av.packet import Packet
from av.stream import Stream
from av.video.stream import VideoStream

from clipdex.video.budget import Budget
from clipdex.video.timeline import Sound, Stamps, timeline

ROUNDING_S = 1e-6  # less than one tick of any common clock
_LIKELY_RATE = Fraction(25)
_FEW, _MOST_STEP_S = 64, 1.0  # packets between two looks at the film's length, and film that one can stand for


class Step(Enum):
    """Action for a packet: skip it, decode it as a reference only, or decode and show it."""

    DROP = auto()
    REFER = auto()
    SHOW = auto()


@dataclass(slots=True)
class Track:
    """The packets of one video stream, in file order.

    groups: packet numbers where a group of pictures starts
    first: seek target for the first packet
    bytes: total size of the packets
    encrypted: a packet needs a key
    lead: number of packets at the start that give no picture
    sizes: of the packets [bytes]
    read_s: film that was read so far, a second per packet at most [s]
    latest_s: stamp where read_s was counted [s]
    """

    stream: VideoStream
    stamps: Stamps
    groups: list[int] = field(default_factory=list)
    first: int = 0
    bytes: int = 0
    encrypted: bool = False
    lead: int = 0
    sizes: array[int] = field(default_factory=lambda: array("I"))
    read_s: float = 0.0
    latest_s: float = 0.0

    @property
    def pictures(self) -> int:
        """Return how many packets are shown."""
        return len(self.stamps.pts) - len(self.stamps.hidden)


@dataclass(frozen=True, slots=True)
class Tracks:
    """The packets of a file.

    video: per stream
    covered_s: end of the data of all streams [s]
    """

    video: tuple[Track, ...]
    sound: Sound
    covered_s: float

    @classmethod
    def read(cls, container: InputContainer, streams: Sequence[VideoStream], budget: Budget) -> Tracks:
        """Read every packet of the file. Raises ClipRejected if that takes too long."""
        check = budget.check
        tracks = {one.index: Track(one, Stamps(one.time_base or Fraction(1))) for one in streams}
        clocks = {one.index: float(one.time_base or 0) for one in container.streams}
        sounds = {one.index for one in container.streams.audio}
        heard: list[float] = []
        start_s = end_s = 0.0
        for packet in packets(container):
            check()
            index = packet.stream_index
            pts, dts, duration = packet.pts, packet.dts, packet.duration or 0
            stamp = pts if pts is not None else dts
            if stamp is not None:
                clock = clocks.get(index, 0.0)
                now_s = stamp * clock
                start_s = min(start_s, now_s)
                end_s = max(end_s, now_s + duration * clock)
                if index in sounds:
                    heard.append(now_s)
            track = tracks.get(index)
            if track is None:
                continue
            stamps = track.stamps
            number = len(stamps.pts)
            if number == 0:
                track.first = first_stamp(packet)
                track.latest_s = now_s if stamp is not None else 0.0
            elif not number % _FEW and stamp is not None:
                track.read_s += min(max(0.0, now_s - track.latest_s), _FEW * _MOST_STEP_S)
                track.latest_s = now_s
                budget.read(track.read_s)
            if packet.is_keyframe:
                track.groups.append(number)
            if packet.is_discard:
                stamps.hidden.add(number)
            stamps.pts.append(pts)
            stamps.dts.append(dts)
            stamps.durations.append(duration)
            track.bytes += packet.size
            track.sizes.append(packet.size)
            track.encrypted = track.encrypted or packet.has_sidedata("encryption_info")
        return cls(tuple(tracks.values()), Sound(heard), end_s - start_s)


@dataclass(frozen=True, slots=True)
class PacketIndex:
    """The packets of the decoded stream on their timeline. Times are in units of clock, from the first picture.

    stamps: pts per packet in file order; None if the file has none
    times: per packet, None if it is hidden; () if counted
    shown: times in display order
    groups: packet numbers where a group of pictures starts
    step: display time of the last frame
    first: seek target for the first packet
    bytes: total size of the packets
    counted: only the decoder knows the order of the frames, so all are decoded and counted
    start_s: stamp of the first picture [s on the file's clock]
    places: place among the shown packets by pts, if counted
    lead: number of packets at the start that give no picture
    sizes: of the packets [bytes]
    ordered: the decoder gives the pictures in the order of their pts, although they are counted
    """

    stamps: tuple[int | None, ...]
    times: tuple[int | None, ...]
    shown: tuple[int, ...]
    groups: tuple[int, ...]
    clock: Fraction
    step: int
    first: int
    bytes: int
    counted: bool
    start_s: float
    places: Mapping[int | None, int]
    ordered: bool
    lead: int
    sizes: array[int]
    _by_stamp: Mapping[int, int]

    @classmethod
    def of(cls, track: Track, container: str, sound: Sound) -> PacketIndex:
        """Index one track with at least one picture. container: name of its format."""
        stamps = track.stamps
        likely_step = max(1, round(1 / (_rate(track.stream) * stamps.clock)))
        line = timeline(stamps, container, likely_step, sound)
        shown = [n for n in range(len(stamps.pts)) if n not in stamps.hidden]
        # AVI stores no pts, and derived ones are wrong if frames are reordered.
        clock = stamps.dts if container == "avi" else stamps.pts
        begins = [stamp for n in shown if (stamp := clock[n]) is not None]
        pts = [stamps.pts[n] for n in shown]
        rises = None not in pts and all((after or 0) > (before or 0) for before, after in pairwise(pts))
        start = min(begins, default=0) if line.times else (begins or [0])[0]
        return cls(
            stamps=tuple(stamps.pts),
            times=line.times,
            shown=line.shown,
            groups=tuple(track.groups),
            clock=stamps.clock,
            step=line.last,
            first=track.first,
            bytes=track.bytes,
            counted=not line.times,
            start_s=float(start * stamps.clock),
            places={} if line.times else {stamp: place for place, stamp in enumerate(pts) if stamp is not None},
            lead=track.lead,
            sizes=track.sizes,
            ordered=rises and not track.stream.codec_context.has_b_frames,
            _by_stamp={
                stamp: time
                for stamp, time in zip(stamps.pts, line.times, strict=bool(line.times))
                if stamp is not None and time is not None
            },
        )

    @property
    def duration_s(self) -> float:
        return float((self.shown[-1] + self.step) * self.clock)

    def seconds(self, time: int) -> float:
        """Return a time of this index in seconds from the first picture."""
        return float(time * self.clock)

    def time_of(self, stamp: int | None) -> int | None:
        """Return the time of the frame with this pts, None if there is none."""
        return self._by_stamp.get(stamp) if stamp is not None else None

    def shown_at(self, time_s: float, back: int = 0) -> int:
        """Return the time of the frame on screen at that second, or of the one so many frames before it."""
        return self.shown[max(0, bisect_right(self.shown, (time_s + ROUNDING_S) / self.clock) - 1 - back)]

    def bytes_between(self, start_s: float, end_s: float) -> int:
        """Return the size of the packets of the pictures that begin in this range [bytes]."""
        first, end = (bisect_left(self.shown, (time_s - ROUNDING_S) / self.clock) for time_s in (start_s, end_s))
        return sum(self.sizes[self.lead + first : self.lead + end])

    def position_s(self, number: int) -> float:
        """Return about where in the film the packet of this number is [s]."""
        return self.seconds(self.shown[min(max(0, number - self.lead), len(self.shown) - 1)])

    def plan_on(self, start_s: float, times: Sequence[float] | None) -> list[Step]:
        """Return a step per packet to decode the film in one go, from the frame on screen at start_s.

        times: of the frames that are needed [s], None for all
        """
        plan = [Step.SHOW] * len(self.stamps)
        if self.counted:
            return plan
        if times is not None:
            wanted = {self.shown_at(time_s) for time_s in times}
            plan = [Step.SHOW if time in wanted else Step.REFER for time in self.times]
        first = next((n for n, step in enumerate(self.plan([start_s])) if step is not Step.DROP), 0)
        plan[:first] = [Step.DROP] * first
        return plan

    def plan(self, times: Sequence[float]) -> list[Step]:
        """Return a step per packet, so that the frames on screen at these times [s] decode correctly."""
        if self.counted:
            return [Step.SHOW] * len(self.stamps)
        wanted = {self.shown_at(time_s) for time_s in times}
        plan = [Step.DROP] * len(self.stamps)
        referenced = False  # the next group refers to frames of this one
        for first, end in reversed(self._groups()):
            shown = [n for n in range(first, end) if self.times[n] in wanted]
            last = end - 1 if referenced else max(shown, default=first - 1)
            for n in range(first, last + 1):
                plan[n] = Step.SHOW if self.times[n] in wanted else Step.REFER
            # A frame shown before its group's keyframe refers to the previous group.
            start = self.stamps[first]
            referenced = start is not None and any((self.stamps[n] or 0) < start for n in shown)
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
