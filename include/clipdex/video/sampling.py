"""Sampling: probe a clip, sample frames by time, and encode its proxies and poster."""

import io
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TypeVar

import av
import numpy as np
from av.video.frame import VideoFrame

from clipdex.config import Playback, Sampling, VideoLimits
from clipdex.errors import ClipRejected, Reason
from clipdex.families import DEFAULT, FAMILIES
from clipdex.video.clip_file import ClipFile
from clipdex.video.decoding import VideoReader, opened
from clipdex.video.encoding import FrameConverter, encode_poster, encode_proxy, encode_stills, fitted
from clipdex.video.parts import Part
from clipdex.video.playback import Recorder, of_proxies

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class VideoInfo:
    """Metadata of a clip. width, height [pixels]: as displayed, with rotation and sample aspect ratio applied.

    duration_s: from the first picture to the end of the last one, with clock jumps closed up [s]
    fps: average frame rate [1/s]
    bytes: file size
    start_s: of the first picture on a player's clock, which starts with the sound if that begins earlier [s]
    film: which of several films of the file this is, or ""
    recorded_at: the time in the container, ISO 8601 in UTC, or ""
    """

    duration_s: float
    width: int
    height: int
    fps: float
    codec: str
    bytes: int
    start_s: float = 0.0
    film: str = ""
    recorded_at: str = ""

    @property
    def end_s(self) -> float:
        """Return the end of the last picture on a player's clock [s]."""
        return self.start_s + self.duration_s


@dataclass(frozen=True, slots=True)
class Window:
    """The part of a clip in one request; most clips have one window.

    start_s, end_s [s on a player's clock of the file]
    times: of the sampled frames [s on the same clock]
    proxy: H.264 mp4 of these frames
    """

    start_s: float
    end_s: float
    times: tuple[float, ...]
    proxy: bytes


@dataclass(frozen=True, slots=True)
class Prepared:
    """An engine's input for one clip, small enough for memory and network.

    windows: consecutive, without gaps
    proxy_fps: frame k of a proxy is at k / proxy_fps [1/s]
    width, height: of a proxy, even [pixels]
    poster: JPEG, or b"" if none could be made
    playback: mp4 for browsers, or b"" (playback.py)
    part: which part of a long file this is; info and times are those of the part, on a player's clock of the file
    """

    info: VideoInfo
    windows: tuple[Window, ...]
    proxy_fps: float
    width: int
    height: int
    poster: bytes
    part: Part | None = None
    playback: bytes = b""

    @property
    def times(self) -> tuple[float, ...]:
        """Return the time of each sampled frame [s on a player's clock of the file]."""
        return tuple(time_s for window in self.windows for time_s in window.times)


@dataclass(frozen=True, slots=True)
class Schedule:
    """Sampling times: count frames at fps [1/s] in each of several windows of equal length."""

    fps: Fraction
    count: int
    windows: int


def probe(path: str | Path, limits: VideoLimits) -> VideoInfo:
    """Return the clip's metadata; decodes its first frame. Raises ClipRejected, or OSError for a disk error."""

    def first_frame(reader: VideoReader) -> VideoInfo:
        first = next(reader.pictures([0.0]))
        return info_of(reader, FrameConverter(first, reader.pixel_aspect, 2))

    with ClipFile.open(Path(path)) as file:
        return _of_film(file, limits, first_frame)


def prepare(path: str | Path, limits: VideoLimits, sampling: Sampling, playback: Playback = Playback.OFF) -> Prepared:
    """Sample the clip and encode its proxies and poster; cut no long file.

    Raises ClipRejected, or OSError for a disk error.
    """
    with ClipFile.open(Path(path)) as file:
        return prepare_file(file, limits, sampling, playback)


def prepare_file(
    file: ClipFile, limits: VideoLimits, sampling: Sampling, playback: Playback = Playback.OFF
) -> Prepared:
    """Do the same for a file that is open already."""
    limits = limits.model_copy(update={"split": None})
    return _of_film(file, limits, lambda reader: sampled(reader, sampling, playback))


def sampled(reader: VideoReader, sampling: Sampling, playback: Playback) -> Prepared:
    """Do the same for a film that is open already."""
    plan = schedule(reader.duration_s, reader.size, sampling)
    length_s = reader.duration_s / plan.windows
    times = tuple(window * length_s + float(k / plan.fps) for window in range(plan.windows) for k in range(plan.count))
    converter: FrameConverter | None = None
    recorder = Recorder(reader) if playback is Playback.P480 else None
    pictures = []
    for frame in reader.pictures(times, recorder.add if recorder else None):
        converter = converter or FrameConverter(frame, reader.pixel_aspect, sampling.short_side, sampling.multiple_of)
        pictures.append(converter.picture(frame))
    assert converter is not None
    start_s = reader.start_s
    shown = tuple(start_s + time_s for time_s in times)
    spans = [slice(first, first + plan.count) for first in range(0, len(times), plan.count)]
    windows = tuple(
        Window(
            start_s + n * length_s,
            start_s + (n + 1) * length_s,
            shown[span],
            encode_proxy(pictures[span], plan.fps),
        )
        for n, span in enumerate(spans)
    )
    played = recorder.take(0.0, reader.duration_s, start_s) if recorder else b""
    if not played and playback is not Playback.OFF:
        played = of_proxies(windows, 0.0, start_s + reader.duration_s)
    return Prepared(
        info=info_of(reader, converter),
        poster=poster_of(pictures),
        windows=windows,
        proxy_fps=float(plan.fps),
        width=converter.size[0],
        height=converter.size[1],
        playback=played,
    )


def schedule(duration_s: float, size: tuple[float, float], sampling: Sampling) -> Schedule:
    """Reduce the configured rate, down to min_fps, until one window spans the clip; else use several windows.

    size: of the clip [pixels]; it determines how many frames fit into a window. The count is even: Qwen-VL merges two
    frames, and SGLang drops an odd last frame and rejects a video of one frame.
    """
    most = most_frames(size, sampling)
    slowest = min(sampling.fps, sampling.min_fps)
    windows = max(1, math.ceil(duration_s * slowest / most - 1e-6))
    length_s = duration_s / windows
    fps = Fraction(sampling.fps).limit_denominator(1000)
    desired = max(1, math.ceil(length_s * float(fps) - 1e-6))
    count = min(desired, most)
    if count % 2 and most > 1:
        count += 1 if count < _FEW and count < most else -1
    if count != desired:
        fps = Fraction(count / length_s).limit_denominator(1000)
    return Schedule(fps, count, windows)


def most_frames(size: tuple[float, float], sampling: Sampling) -> int:
    """Return how many frames of a clip of this size fit into a request."""
    return min(sampling.max_frames, max(1, int(sampling.visual_tokens / visual_tokens(size, sampling))))


def visual_tokens(size: tuple[float, float], sampling: Sampling) -> float:
    """Return the visual tokens per frame of a clip of this size, as the family of the model counts them."""
    family = FAMILIES[sampling.family] if sampling.family else DEFAULT
    return family.counting.per_frame(fitted(*size, sampling.short_side, sampling.multiple_of))


def read_proxy(proxy: bytes) -> Iterator[np.ndarray]:
    """Yield the frames of a trusted proxy in order, RGB uint8 (height, width, 3)."""
    for frame in _frames(proxy):
        yield frame.to_ndarray(format="rgb24")


def stills(proxy: bytes) -> list[bytes]:
    """Return the frames of a trusted proxy in order, as JPEGs."""
    return encode_stills(_frames(proxy))


# A decoder that a hostile file controls chooses the bytes of its proxy: only what encode_proxy() writes is read.
_PROXY_OPTIONS = {"codec_whitelist": "h264", "protocol_whitelist": ""}
_FEW = 4  # frames: below it an odd count is rounded up, else down


def _frames(proxy: bytes) -> Iterator[VideoFrame]:
    with av.open(io.BytesIO(proxy), "r", format="mp4", options=_PROXY_OPTIONS) as container:
        yield from container.decode(video=0)


def _of_film(file: ClipFile, limits: VideoLimits, use: Callable[[VideoReader], T]) -> T:
    """Return use() of the film, or of the next candidate if no frame of it can be decoded."""
    for place in itertools.count():
        with opened(file, limits, place) as reader:
            try:
                return use(reader)
            except ClipRejected as refusal:
                if refusal.reason is not Reason.UNDECODABLE or place + 1 == reader.films:
                    raise
    raise AssertionError("a file has at least one candidate")


def poster_of(pictures: Sequence[VideoFrame]) -> bytes:
    """Return the poster, or b"": a clip without one is described all the same."""
    try:
        return encode_poster(pictures)
    except MemoryError:
        raise
    except Exception:  # whatever the encoder or the conversion raises
        return b""


def info_of(reader: VideoReader, converter: FrameConverter) -> VideoInfo:
    width, height = converter.shown
    return VideoInfo(
        reader.duration_s, width, height, reader.fps, reader.codec, reader.bytes, reader.start_s, reader.film,
        reader.recorded_at,
    )  # fmt: skip
