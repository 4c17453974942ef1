"""Video: probe a clip, sample it by time, make the proxy that an engine sees, and a poster. PyAV only."""

import io
import math
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.video.frame import VideoFrame

from clipdex.config import Sampling, VideoLimits
from clipdex.video.decoding import VideoReader, opened
from clipdex.video.encoding import FrameConverter, encode_poster, encode_proxy, encode_stills, fitted


@dataclass(frozen=True, slots=True)
class VideoInfo:
    """A clip as shown: rotation and sample aspect ratio applied to width and height [pixels].

    duration_s [s]; fps: average frames a second; bytes: the file's size.
    """

    duration_s: float
    width: int
    height: int
    fps: float
    codec: str
    bytes: int


@dataclass(frozen=True, slots=True)
class Window:
    """A part of a clip that an engine sees at once, mostly the whole of it.

    start_s, end_s, times: of each sampled frame [s from the clip's start]; proxy: an H.264 mp4 of just these frames.
    """

    start_s: float
    end_s: float
    times: tuple[float, ...]
    proxy: bytes


@dataclass(frozen=True, slots=True)
class Prepared:
    """What an engine needs of a clip, small enough to be held and sent.

    windows: one after the other, without a gap; proxy_fps: frame k of a proxy stands at k / proxy_fps [1/s]; width,
    height: of a proxy, even [pixels]; poster: a JPEG.
    """

    info: VideoInfo
    windows: tuple[Window, ...]
    proxy_fps: float
    width: int
    height: int
    poster: bytes

    @property
    def times(self) -> tuple[float, ...]:
        """Where each sampled frame lies in the clip [s from its start]."""
        return tuple(time_s for window in self.windows for time_s in window.times)


@dataclass(frozen=True, slots=True)
class Schedule:
    """When a clip is looked at: at fps [1/s], count frames in each of so many windows of equal length."""

    fps: Fraction
    count: int
    windows: int


def probe(path: str | Path, limits: VideoLimits) -> VideoInfo:
    """What the clip is, with its first picture decoded. Raises ClipRejected."""
    with opened(Path(path), limits) as reader:
        first = next(reader.pictures([0.0]))
        return _info(reader, FrameConverter(first, reader.pixel_aspect, 2))


def prepare(path: str | Path, limits: VideoLimits, sampling: Sampling) -> Prepared:
    """Sample the clip, and make its proxies and poster. Raises ClipRejected."""
    with opened(Path(path), limits) as reader:
        plan = schedule(reader.duration_s, reader.size, sampling)
        length_s = reader.duration_s / plan.windows
        times = tuple(
            window * length_s + float(k / plan.fps) for window in range(plan.windows) for k in range(plan.count)
        )
        converter: FrameConverter | None = None
        pictures = []
        for frame in reader.pictures(times):
            converter = converter or FrameConverter(
                frame, reader.pixel_aspect, sampling.short_side, sampling.multiple_of
            )
            pictures.append(converter.picture(frame))
        assert converter is not None
        spans = [slice(first, first + plan.count) for first in range(0, len(times), plan.count)]
        return Prepared(
            info=_info(reader, converter),
            poster=encode_poster(pictures),
            windows=tuple(
                Window(n * length_s, (n + 1) * length_s, times[span], encode_proxy(pictures[span], plan.fps))
                for n, span in enumerate(spans)
            ),
            proxy_fps=float(plan.fps),
            width=converter.size[0],
            height=converter.size[1],
        )


def schedule(duration_s: float, size: tuple[float, float], sampling: Sampling) -> Schedule:
    """The rate that is asked for, or less, down to min_fps, so that one window spans the clip; else several windows.

    size: of the clip [pixels]; how many frames fit into a window depends on how large they are shown. Frames come in
    pairs: Qwen-VL looks at two at once, and SGLang leaves an odd one out, or refuses a video of one.
    """
    most = min(sampling.max_frames, max(1, int(sampling.visual_tokens / visual_tokens(size, sampling))))
    slowest = min(sampling.fps, sampling.min_fps)
    windows = max(1, math.ceil(duration_s * slowest / most - 1e-6))
    length_s = duration_s / windows
    fps = Fraction(sampling.fps).limit_denominator(1000)
    asked = max(1, math.ceil(length_s * float(fps) - 1e-6))
    count = min(asked, most)
    if count % 2 and most > 1:
        count += 1 if count < _FEW and count < most else -1
    if count != asked:
        fps = Fraction(count / length_s).limit_denominator(1000)
    return Schedule(fps, count, windows)


def visual_tokens(size: tuple[float, float], sampling: Sampling) -> float:
    """What a frame of a clip of this size costs, as Qwen2.5-VL counts: a token a square of 28 pixels in two frames."""
    width, height = fitted(*size, sampling.short_side, sampling.multiple_of)
    return max(1, round(width / _SQUARE)) * max(1, round(height / _SQUARE)) / 2


def read_proxy(proxy: bytes) -> Iterator[np.ndarray]:
    """The frames of a proxy that we made ourselves, RGB uint8 (height, width, 3), in order."""
    for frame in _frames(proxy):
        yield frame.to_ndarray(format="rgb24")


def stills(proxy: bytes) -> list[bytes]:
    """The frames of a proxy that we made ourselves, each as a JPEG, in order."""
    return encode_stills(_frames(proxy))


_SQUARE = 28
_FEW = 4  # frames: below it a pair is filled, above it an odd one is not missed


def _frames(proxy: bytes) -> Iterator[VideoFrame]:
    with av.open(io.BytesIO(proxy), "r") as container:
        yield from container.decode(video=0)


def _info(reader: VideoReader, converter: FrameConverter) -> VideoInfo:
    width, height = converter.shown
    return VideoInfo(reader.duration_s, width, height, reader.fps, reader.codec, reader.bytes)
