"""Footage: a file that may be anything, opened with care, and the pictures it shows at given times.

A first pass reads the packets without decoding them: what the clip really lasts, and which packets the wanted
pictures need. The second pass decodes those alone: groups of pictures that hold no wanted one are dropped, so is
what follows the last wanted one of a group, and pictures that no other refers to are skipped unless wanted. What is
picked is exactly what a player shows at that time, the last picture that starts at or before it.
"""

import time
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from clipdex.config import VideoLimits
from clipdex.errors import ClipRejected, Reason

# Formats that hold their pictures themselves; a playlist or a concat script would open other files.
_FORMATS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,ogg,flv,asf"
_OPTIONS = {"format_whitelist": _FORMATS, "protocol_whitelist": "file", "max_streams": "64"}
# Decoders that know, before decoding, which pictures no other refers to.
_SKIPS = frozenset({"h264", "hevc", "mpeg1video", "mpeg2video"})
_EDGE_S = 1e-6


class Footage:
    """One opened clip. Times are seconds from its first picture.

    duration_s [s]; fps: average pictures a second; width, height: as coded [pixels]; pixel_aspect: width of a pixel
    over its height; bytes: the file's size.
    """

    def __init__(self, path: Path, container: InputContainer, stream: VideoStream, limits: VideoLimits) -> None:
        self.path = path
        self.bytes = path.stat().st_size
        self.codec = stream.codec_context.name
        self.width = stream.codec_context.width
        self.height = stream.codec_context.height
        self.pixel_aspect = _pixel_aspect(stream)
        self._container = container
        self._stream = stream
        self._budget = _Budget(limits.decode_timeout_s)
        self._refuse_large(limits)
        self._refuse_long(_declared_s(container, stream), limits)
        self._timeline = _Timeline.read(container, stream, self._budget)
        self.duration_s = self._timeline.duration_s
        self.fps = len(self._timeline.packets) / self.duration_s
        self._refuse_long(self.duration_s, limits)
        self._refuse_cut()

    def pictures(self, times: Sequence[float]) -> Iterator[VideoFrame]:
        """The picture shown at each of the times, which ascend."""
        yield from _shown(self._decoded(times), times)

    def _decoded(self, times: Sequence[float]) -> Iterator[tuple[float, VideoFrame]]:
        """Pictures in the order of their times, among them every one that is shown at one of these times."""
        timeline = self._timeline
        container, stream = self._rewound()
        plan = timeline.plan(times)
        context = stream.codec_context
        fed = False
        for number, packet in enumerate(container.demux(stream)):
            self._budget.check()
            step = plan[number] if number < len(plan) else _DECODE
            if packet.size == 0:
                continue
            if step == _DROP:
                if fed:
                    yield from timeline.timed(_decode(context, None))
                    context.flush_buffers()
                    fed = False
                continue
            if self.codec in _SKIPS:
                context.skip_frame = "DEFAULT" if step == _DECODE else "NONREF"
            fed = True
            yield from timeline.timed(_decode(context, packet))
        if fed:
            yield from timeline.timed(_decode(context, None))

    def _rewound(self) -> tuple[InputContainer, VideoStream]:
        first = self._timeline.first_dts
        self._container.seek(first, stream=self._stream, backward=True)
        return self._container, self._stream

    def _refuse_large(self, limits: VideoLimits) -> None:
        if self.width * self.height > limits.max_pixels:
            raise ClipRejected(
                Reason.TOO_LARGE,
                f"a picture of at most {limits.max_pixels} pixels expected, found {self.width}x{self.height}",
            )

    def _refuse_long(self, duration_s: float, limits: VideoLimits) -> None:
        if duration_s > limits.max_duration_s:
            raise ClipRejected(
                Reason.TOO_LONG, f"at most {limits.max_duration_s:g} s expected, found {duration_s:.1f} s"
            )

    def _refuse_cut(self) -> None:
        declared_s, end_s = _declared_s(self._container, self._stream), self._timeline.end_s
        if declared_s - end_s > max(0.3, 0.05 * declared_s, 2 / self.fps):
            raise ClipRejected(
                Reason.TRUNCATED_FILE, f"{declared_s:.2f} s declared, but the data end after {end_s:.2f} s"
            )


@contextmanager
def opened(path: Path, limits: VideoLimits) -> Iterator[Footage]:
    """The clip at path. Raises ClipRejected for whatever is no clip, or is more than the limits allow."""
    size = path.stat().st_size
    if size == 0:
        raise ClipRejected(Reason.EMPTY_FILE, "a clip expected, found 0 bytes")
    if size > limits.max_bytes:
        raise ClipRejected(Reason.TOO_LARGE, f"at most {limits.max_bytes} bytes expected, found {size}")
    try:
        with av.open(f"file:{path}", "r", options=_OPTIONS, metadata_errors="replace") as container:
            stream = _video_stream(container)
            stream.codec_context.thread_count = 1
            stream.codec_context.options = {"skip_loop_filter": "all", "max_pixels": str(limits.max_pixels)}
            yield Footage(path, container, stream, limits)
    except av.FFmpegError as error:
        raise _unreadable(path, error) from error


_DROP, _SKIM, _DECODE = range(3)


@dataclass(frozen=True, slots=True)
class _Packet:
    pts: int | None
    keyframe: bool


@dataclass(frozen=True, slots=True)
class _Timeline:
    """The packets of a stream in decoding order, and the times of their pictures in showing order."""

    packets: tuple[_Packet, ...]
    shown: tuple[int, ...]
    time_base: Fraction
    first_dts: int
    duration_s: float
    end_s: float
    rate: Fraction

    @classmethod
    def read(cls, container: InputContainer, stream: VideoStream, budget: "_Budget") -> "_Timeline":
        packets: list[_Packet] = []
        first_dts, last_duration, end_s = None, 0, 0.0
        for packet in container.demux():
            budget.check()
            if packet.size == 0 or (packet.dts is None and packet.pts is None):
                continue
            stamp = packet.pts if packet.pts is not None else packet.dts
            end_s = max(end_s, float((stamp + (packet.duration or 0)) * packet.time_base))
            if packet.stream_index != stream.index:
                continue
            if first_dts is None:
                first_dts = packet.dts if packet.dts is not None else packet.pts
            last_duration = packet.duration or last_duration
            packets.append(_Packet(packet.pts, packet.is_keyframe))
        if not packets:
            raise ClipRejected(Reason.UNDECODABLE, "a video stream is declared, but it holds no picture")
        rate = stream.average_rate or stream.guessed_rate or Fraction(25)
        step = last_duration or round(1 / (rate * stream.time_base))
        shown = tuple(sorted(p.pts for p in packets if p.pts is not None))
        if len(shown) < len(packets):
            shown = tuple(first_dts + number * step for number in range(len(packets)))
            packets = [_Packet(None, packet.keyframe) for packet in packets]
        duration_s = float((shown[-1] + step - shown[0]) * stream.time_base)
        return cls(
            tuple(packets),
            shown,
            stream.time_base,
            first_dts,
            max(duration_s, _EDGE_S),
            end_s - float(min(shown[0] * stream.time_base, 0)),
            Fraction(rate),
        )

    def plan(self, times: Sequence[float]) -> list[int]:
        """What to do with each packet so that the pictures shown at these times come out."""
        if self.packets[0].pts is None:
            return [_DECODE] * len(self.packets)
        starts = [self.seconds(pts) for pts in self.shown]
        wanted = {self.shown[max(0, bisect_right(starts, t + _EDGE_S) - 1)] for t in times}
        plan = [_DROP] * len(self.packets)
        groups = [n for n, packet in enumerate(self.packets) if packet.keyframe and n > 0]
        whole = False
        for first, end in reversed(list(zip([0, *groups], [*groups, len(self.packets)], strict=True))):
            needed = [n for n in range(first, end) if self.packets[n].pts in wanted]
            last = end - 1 if whole else max(needed, default=first - 1)
            for number in range(first, last + 1):
                plan[number] = _DECODE if self.packets[number].pts in wanted else _SKIM
            # A picture that is shown before its group's keyframe refers to the group before.
            key = self.packets[first].pts
            whole = any(self.packets[n].pts < key for n in needed)
        return plan

    def timed(self, frames: list[VideoFrame]) -> Iterator[tuple[float, VideoFrame]]:
        for frame in frames:
            if frame.pts is not None:
                yield self.seconds(frame.pts), frame

    def seconds(self, pts: int) -> float:
        return float((pts - self.shown[0]) * self.time_base)


class _Budget:
    """CPU seconds that reading one clip may take; the wall clock would blame the clip for a busy machine."""

    def __init__(self, limit_s: float) -> None:
        self._limit_s = limit_s
        self._end = time.thread_time() + limit_s

    def check(self) -> None:
        if time.thread_time() > self._end:
            raise ClipRejected(Reason.DECODE_LIMIT, f"more than {self._limit_s:g} s of CPU time to decode")


def _shown(decoded: Iterator[tuple[float, VideoFrame]], times: Sequence[float]) -> Iterator[VideoFrame]:
    last: VideoFrame | None = None
    waiting = list(times)
    for start, frame in decoded:
        while waiting and last is not None and waiting[0] + _EDGE_S < start:
            yield last
            waiting.pop(0)
        last = frame
    if last is None:
        raise ClipRejected(Reason.UNDECODABLE, "no picture could be decoded")
    for _ in waiting:
        yield last


def _decode(context: av.VideoCodecContext, packet: av.Packet | None) -> list[VideoFrame]:
    """A broken packet costs its own picture, not the clip."""
    try:
        return context.decode(packet)
    except av.error.InvalidDataError:
        return []


def _video_stream(container: InputContainer) -> VideoStream:
    films = [s for s in container.streams.video if not s.disposition & av.stream.Disposition.attached_pic]
    if not films:
        kinds = ", ".join(sorted({s.type for s in container.streams})) or "nothing"
        raise ClipRejected(Reason.NO_VIDEO, f"a video stream expected, found {kinds} only")
    return max(films, key=lambda s: s.codec_context.width * s.codec_context.height)


def _declared_s(container: InputContainer, stream: VideoStream) -> float:
    if container.duration is not None:
        return container.duration / av.time_base
    return float(stream.duration * stream.time_base) if stream.duration is not None else 0.0


def _pixel_aspect(stream: VideoStream) -> float:
    aspect = stream.sample_aspect_ratio
    return float(aspect) if aspect and 1 / 16 <= aspect <= 16 else 1.0


def _unreadable(path: Path, error: av.FFmpegError) -> ClipRejected:
    return ClipRejected(Reason.UNDECODABLE, f"a video expected, found something else: {error.strerror}")
