"""VideoReader: decode the frames of an untrusted file that are on screen at given times.

Only the required packets are decoded (packets.py). At a high bit rate the loop filter runs on keyframes only. At a low
bit rate it stays on: without it, artifacts accumulate from frame to frame, and decoding is cheap anyway.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Iterator, Sequence

import av
from av.container import InputContainer
from av.packet import Packet
from av.stream import Stream
from av.video.codeccontext import VideoCodecContext
from av.video.frame import PictureType, VideoFrame
from av.video.stream import VideoStream

from clipdex.config import VideoLimits
from clipdex.errors import ClipRejected, Reason
from clipdex.video.budget import Budget
from clipdex.video.clip_file import ClipFile
from clipdex.video.container import decode, open_container
from clipdex.video.packets import ROUNDING_S, PacketIndex, Step, Tracks, first_stamp, packets
from clipdex.video.recorded import recorded_at
from clipdex.video.signature import not_a_video
from clipdex.video.sound import Sound
from clipdex.video.streams import Film, is_picture, ranked
from clipdex.video.truncation import is_lost, lost_end, missing_end
from clipdex.video.unseen import without_unseen

Record = Callable[[float, VideoFrame], bool]

# Decoders that can skip non-reference frames.
_MARKED = frozenset({"h264", "hevc", "mpeg1video", "mpeg2video"})
_ENCRYPTED = "a clip that plays without a key expected, found an encrypted one: decrypt it first"
_REFERRING = frozenset({PictureType.P, PictureType.B})
_SHORT_WAIT_S = 1.0
_FEW = 16  # packets between two looks at the position in the film
_RICH_BITS = 0.04  # bits per pixel; measured: SSIM stays above 0.95 (benchmarks/results/decode.json)


class _WrongMark(Exception):
    """A packet is marked as a keyframe, and its picture refers to others."""


class VideoReader:
    """One film of an open clip. Times are seconds from its first picture.

    start_s: of the first picture on the clock of a player of the file, which also plays the sound before it [s]
    duration_s [s]
    fps: average frame rate [1/s]
    pixel_aspect: pixel width / pixel height
    size: (width, height) in square pixels, before rotation
    bytes: file size
    recorded_at: the time in the container, ISO 8601 in UTC, or ""
    film: which of several films of the file this is, or ""
    films: number of candidates
    is_long: the file is to be cut into parts
    lost: evidence that the end of a file that is to be cut is missing, or ""
    """

    def __init__(
        self, file: ClipFile, container: InputContainer, film: Film, limits: VideoLimits, budget: Budget
    ) -> None:
        stream = film.stream
        self.bytes = file.bytes
        self.film = film.note
        self.codec = stream.codec_context.codec.canonical_name
        self.pixel_aspect = _pixel_aspect(stream)
        self.size = max(1.0, stream.codec_context.width * self.pixel_aspect), max(1.0, stream.codec_context.height)
        self._file = file
        self._container = container
        self._stream = stream
        self.budget = budget
        self._index = film.index
        self._refuse_large(limits)
        self.recorded_at = recorded_at(container, stream)
        self.duration_s = self._index.duration_s
        self.fps = len(self._index.shown) / self.duration_s
        self.start_s = 0.0
        self.films = 1
        self.lost = ""
        self._reached_s = 0.0  # start of the last packet that produced a frame
        self._refuse_long(limits)
        self.is_long = self.duration_s > limits.max_duration_s

    def pictures(self, times: Sequence[float], record: Record | None = None) -> Iterator[VideoFrame]:
        """Yield the frame on screen at each of the times, which must be sorted. Raises ClipRejected.

        record: called with each frame of the film, which are all decoded then, until it returns False
        """
        waiting = deque(times)
        on_screen: VideoFrame | None = None
        on_screen_s = 0.0
        for start_s, frame in self._seen(times, record):
            while waiting and on_screen is not None and waiting[0] + ROUNDING_S < start_s:
                waiting.popleft()
                yield on_screen
            on_screen, on_screen_s = frame, start_s
        if on_screen is None:
            raise ClipRejected(Reason.UNDECODABLE, f"none of {len(self._index.shown)} frames could be decoded")
        self._refuse_cut(self._expected_s(times), self._reached_s if self._index.counted else on_screen_s)
        for _ in waiting:
            yield on_screen

    def frames(self, from_s: float, times: Sequence[float] | None) -> Iterator[tuple[float, VideoFrame, float]]:
        """Yield (start [s], frame, start of the last packet with a frame [s]) in order, decoding in one go.

        from_s: begin with the frame on screen at this time, or before it
        times: of the frames that are needed, among others [s]; None for all
        """
        latest_s = -1.0
        try:
            for start_s, frame in self._decoded(self._index.plan_on(from_s, times), self._packets_again()):
                if start_s >= latest_s:
                    latest_s = start_s
                    yield start_s, frame, self._found_s(start_s)
        except _WrongMark:
            self._stream.codec_context.flush_buffers()
            latest_s = max(latest_s, self.shown_at(from_s) - ROUNDING_S)
            for start_s, frame in self._decoded([Step.SHOW] * len(self._index.stamps), self._packets_anew()):
                if start_s > latest_s:
                    latest_s = start_s
                    yield start_s, frame, self._found_s(start_s)

    def shown_at(self, time_s: float, back: int = 0) -> float:
        """Return the start of the frame on screen at that time, or of the one so many frames before it [s]."""
        return self._index.seconds(self._index.shown_at(time_s, back))

    def sound(self, from_s: float) -> Sound:
        """Return the sound, on the clock of the frames, from from_s on [s]. Raises LookupError if there is none."""
        return Sound(self._file, self._index.start_s, from_s)

    def bytes_between(self, start_s: float, end_s: float) -> int:
        """Return the size of the packets of this range [bytes]."""
        return self._index.bytes_between(start_s, end_s)

    def _found_s(self, start_s: float) -> float:
        return self._reached_s if self._index.counted else start_s

    def _seen(self, times: Sequence[float], record: Record | None) -> Iterator[tuple[float, VideoFrame]]:
        """Yield (start [s], frame) in order, including all frames on screen at these times.

        If planned frames at the end are damaged, decode the rest too: the file is truncated only if no frame follows.
        If a packet is wrongly marked as a keyframe, decode in one go what follows the last right frame.
        """
        latest_s = -1.0
        wrong_marks = False
        plan = self._index.plan(times) if record is None else [Step.SHOW] * len(self._index.stamps)
        try:
            for start_s, frame in self._decoded(plan, self._packets_again()):
                if start_s >= latest_s:  # a frame of a damaged group may come late: a player drops it
                    latest_s = start_s
                    if record is not None and not record(start_s, frame):
                        record, plan[:] = None, self._index.plan(times)
                    yield start_s, frame
        except _WrongMark:
            wrong_marks = True
        if wrong_marks or (self._cut(self._expected_s(times), latest_s) and not self._index.counted):
            self._stream.codec_context.flush_buffers()
            for start_s, frame in self._decoded([Step.SHOW] * len(self._index.stamps), self._packets_anew()):
                if start_s > latest_s:
                    latest_s = start_s
                    if record is not None and not record(start_s, frame):
                        record = None
                    yield start_s, frame

    def _expected_s(self, times: Sequence[float]) -> float:
        """Return the start of the frame on screen at the last of these times [s]."""
        return self._index.seconds(self._index.shown_at(times[-1]))

    def _decoded(self, plan: list[Step], source: Iterator[Packet[Stream]]) -> Iterator[tuple[float, VideoFrame]]:
        index, context = self._index, self._stream.codec_context
        frames = self._frames(context, plan, source)
        if index.counted:
            last, ordered, latest = len(index.shown) - 1, index.ordered, -1
            for number, frame in enumerate(frames):
                place = index.places.get(frame.pts)
                if place is not None:
                    self._reached_s = max(self._reached_s, index.seconds(index.shown[place]))
                # A packet may repeat the picture before, without one of its own. If the codec reorders, the pts of AVI,
                # which FFmpeg derives, are wrong and unsorted here.
                ordered = ordered and place is not None and place > latest
                latest = place if ordered and place is not None else min(number, last)
                yield index.seconds(index.shown[latest]), frame
            return
        for frame in frames:
            if (time := index.time_of(frame.pts)) is not None:
                yield index.seconds(time), frame

    def _frames(
        self, context: VideoCodecContext, plan: list[Step], source: Iterator[Packet[Stream]]
    ) -> Iterator[VideoFrame]:
        self._open_decoder(context)
        repeats = not context.codec.reorder  # without a picture, the one before stays
        lead = self._index.lead
        start: int | None = None  # pts of the packet where decoding went on after dropped ones
        dropped = False
        pending = False  # the decoder buffers frames until it is drained
        for number, (packet, step) in enumerate(zip(source, plan, strict=False)):
            self.budget.check()
            if not number % _FEW:
                self.budget.decoded(self._index.position_s(number))
            if step is not Step.DROP:
                if context.codec.canonical_name in _MARKED:
                    context.skip_frame = "DEFAULT" if step is Step.SHOW else "NONREF"
                if dropped:
                    start, dropped = packet.pts, False
                frames = decode(context, packet)
                _refuse_wrong_mark(frames, start)
                if (frames or (frames is not None and repeats)) and 0 <= number - lead < len(self._index.shown):
                    self._reached_s = self._index.seconds(self._index.shown[number - lead])
                yield from frames or ()
                pending = True
                continue
            if pending:
                yield from _drained(context, start)
                context.flush_buffers()
                pending = False
            dropped = True
        if pending:
            yield from _drained(context, start)

    def _packets_again(self) -> Iterator[Packet[Stream]]:
        """Yield the packets again: seek, or reopen the file if seeking does not reach the first packet."""
        # If the clock goes back, two packets may have the same stamp. In FLV, it continues to count from the end.
        if not self._index.counted and self._container.format.name != "flv":
            with contextlib.suppress(av.FFmpegError):
                self._container.seek(self._index.first, stream=self._stream)
            again = packets(self._container, self._stream)
            first = next(again, None)
            if first is not None and first_stamp(first) == self._index.first:
                yield first
                yield from again
                return
        yield from self._packets_anew()

    def _packets_anew(self) -> Iterator[Packet[Stream]]:
        with open_container(self._file) as container:
            yield from packets(container, container.streams[self._stream.index])

    def _open_decoder(self, context: VideoCodecContext) -> None:
        pixels = context.width * context.height * len(self._index.stamps)
        if 8 * self._index.bytes > _RICH_BITS * pixels:
            context.options = {**context.options, "skip_loop_filter": "nokey"}

    def _refuse_large(self, limits: VideoLimits) -> None:
        width, height = self._stream.codec_context.width, self._stream.codec_context.height
        if width * height > limits.max_pixels:
            raise ClipRejected(
                Reason.TOO_LARGE,
                f"frames of at most {limits.max_pixels} pixels expected, found {width}x{height}",
                limit="max_pixels",
                found=width * height,
            )

    def _refuse_long(self, limits: VideoLimits) -> None:
        limit = "max_file_s" if limits.split else "max_duration_s"
        most_s = limits.max_file_s if limits.split else limits.max_duration_s
        if self.duration_s > most_s:
            raise ClipRejected(
                Reason.TOO_LONG,
                f"at most {most_s:g} s expected, found {self.duration_s:.1f} s",
                limit=limit,
                found=self.duration_s,
            )

    def _refuse_cut(self, expected_s: float, found_s: float) -> None:
        if self._cut(expected_s, found_s):
            raise ClipRejected(
                Reason.TRUNCATED_FILE, f"frames up to {expected_s:.2f} s expected, found none after {found_s:.2f} s"
            )

    def _cut(self, expected_s: float, found_s: float) -> bool:
        return is_lost(expected_s, found_s, self.fps)


@contextlib.contextmanager
def opened(file: ClipFile, limits: VideoLimits, place: int = 0, budget: Budget | None = None) -> Iterator[VideoReader]:
    """Read the clip's packets. Raises ClipRejected if it is no clip or exceeds the limits, OSError for a disk error.

    place: 0 for the film, 1 and so on for the next candidates, of which reader.films counts all
    """
    if file.bytes == 0:
        raise ClipRejected(Reason.EMPTY_FILE, "a clip expected, found 0 bytes")
    if file.bytes > limits.file_bytes:
        raise too_many_bytes(limits.file_bytes, file.bytes)
    try:
        with open_container(file) as container:
            budget = budget or Budget(limits)
            tracks = Tracks.read(container, _video_streams(container), budget)
            films = _films(tracks, container, file)
            film = without_unseen(films[place], tracks, container, file, limits, budget)
            if any(track.encrypted for track in tracks.video if track.stream.index == film.stream.index):
                raise ClipRejected(Reason.UNDECODABLE, _ENCRYPTED)
            film.stream.codec_context.thread_count = 1
            film.stream.codec_context.options = {"max_pixels": str(limits.max_pixels)}
            reader = VideoReader(file, container, film, limits, budget)
            reader.films = len(films)
            reader.start_s = _late_s(container, tracks, film)
            if not reader.is_long and file.bytes > limits.max_bytes:
                raise too_many_bytes(limits.max_bytes, file.bytes)
            reader.lost = lost_end(file, container, tracks, film)
            if reader.lost and not reader.is_long:
                raise ClipRejected(Reason.TRUNCATED_FILE, reader.lost)
            del tracks, films, film  # of a long file, their memory is better used for decoding
            yield reader
    except ClipRejected as refusal:
        if refusal.reason in (Reason.UNDECODABLE, Reason.NO_VIDEO) and refusal.detail != _ENCRYPTED:
            if other := not_a_video(file):
                raise ClipRejected(Reason.NOT_A_VIDEO, other) from refusal
            if cut := missing_end(file):
                raise ClipRejected(Reason.TRUNCATED_FILE, cut) from refusal
        raise


def too_many_bytes(most: int, found: int) -> ClipRejected:
    """Return the rejection of a file or a part that is too large [bytes]."""
    return ClipRejected(
        Reason.TOO_LARGE, f"at most {most} bytes expected, found {found}", limit="max_bytes", found=found
    )


def _video_streams(container: InputContainer) -> list[VideoStream]:
    streams = [stream for stream in container.streams.video if _decodable(stream) and not is_picture(stream)]
    if not streams:
        kinds = sorted({str(s.type) for s in container.streams}) or ["no stream"]
        raise ClipRejected(Reason.NO_VIDEO, f"a video stream expected, found only {', '.join(kinds)}")
    return streams


def _films(tracks: Tracks, container: InputContainer, file: ClipFile) -> list[Film]:
    with_pictures = [track for track in tracks.video if track.pictures]
    if not with_pictures:
        hidden = sum(len(track.stamps.hidden) for track in tracks.video)
        found = f"{hidden} frames, all hidden by an edit list" if hidden else "one without frames"
        raise ClipRejected(Reason.UNDECODABLE, f"a video stream expected, found {found}")
    name = container.format.name
    return ranked([(track.stream, PacketIndex.of(track, name, tracks.sound)) for track in with_pictures], file)


def _late_s(container: InputContainer, tracks: Tracks, film: Film) -> float:
    """Return the seconds that a player plays before the first picture.

    A player's clock starts with the first stream. A longer wait counts only if something plays meanwhile: otherwise the
    first stamps are wrong.
    """
    if container.start_time is None:
        return 0.0
    begin_s, first_s = container.start_time / 1e6, film.index.start_s
    late_s = first_s - begin_s
    if late_s < film.index.seconds(film.index.step):
        return 0.0
    is_played = len(tracks.video) > 1 or film.index.lead > 0 or tracks.sound.covered_s(begin_s, first_s) >= late_s / 2
    return late_s if late_s <= _SHORT_WAIT_S or is_played else 0.0


def _decodable(stream: VideoStream) -> bool:
    context: VideoCodecContext | None = stream.codec_context  # None if FFmpeg has no decoder
    return context is not None


def _drained(context: VideoCodecContext, start: int | None) -> list[VideoFrame]:
    frames = decode(context, None)
    _refuse_wrong_mark(frames, start)
    return frames or []


def _refuse_wrong_mark(frames: Sequence[VideoFrame] | None, start: int | None) -> None:
    """Raise _WrongMark if the frame of the packet where decoding started refers to others."""
    for frame in frames or ():
        if start is not None and frame.pts == start and not frame.key_frame and frame.pict_type in _REFERRING:
            raise _WrongMark


def _pixel_aspect(stream: VideoStream) -> float:
    aspect = stream.sample_aspect_ratio
    return float(aspect) if aspect and 1 / 16 <= aspect <= 16 else 1.0
