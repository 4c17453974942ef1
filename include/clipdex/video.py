"""Video: probe a clip, sample it by time, make the proxy that an engine sees, and a poster. PyAV only."""

import io
import math
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from clipdex.config import Sampling, VideoLimits
from clipdex.footage import Footage, opened
from clipdex.pictures import Studio, encode_poster, encode_proxy


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
class Prepared:
    """What an engine needs of a clip, small enough to be held and sent.

    proxy: an H.264 mp4 of just the sampled frames, frame k at k / proxy_fps; times: where each lies in the clip
    [s from its start]; width, height: of the proxy, even [pixels]; poster: a JPEG.
    """

    info: VideoInfo
    proxy: bytes
    proxy_fps: float
    times: tuple[float, ...]
    width: int
    height: int
    poster: bytes


def probe(path: str | Path, limits: VideoLimits) -> VideoInfo:
    """What the clip is, with its first picture decoded. Raises ClipRejected."""
    with opened(Path(path), limits) as footage:
        first = next(footage.pictures([0.0]))
        return _info(footage, Studio(first, footage.pixel_aspect, 2))


def prepare(path: str | Path, limits: VideoLimits, sampling: Sampling) -> Prepared:
    """Sample the clip, and make its proxy and poster. Raises ClipRejected."""
    with opened(Path(path), limits) as footage:
        fps, count = sampled_rate(footage.duration_s, sampling)
        times = tuple(float(k / fps) for k in range(count))
        studio: Studio | None = None
        pictures = []
        for frame in footage.pictures(times):
            studio = studio or Studio(frame, footage.pixel_aspect, sampling.short_side)
            pictures.append(studio.picture(frame))
        assert studio is not None
        return Prepared(
            info=_info(footage, studio),
            poster=encode_poster(pictures),
            proxy=encode_proxy(pictures, fps),
            proxy_fps=float(fps),
            times=times,
            width=studio.size[0],
            height=studio.size[1],
        )


def sampled_rate(duration_s: float, sampling: Sampling) -> tuple[Fraction, int]:
    """Frames a second and how many: the rate that is asked for, or less, so that max_frames span the whole clip."""
    fps = Fraction(sampling.fps).limit_denominator(1000)
    count = max(1, math.ceil(duration_s * float(fps) - 1e-6))
    if count <= sampling.max_frames:
        return fps, count
    return Fraction(sampling.max_frames / duration_s).limit_denominator(1000), sampling.max_frames


def read_proxy(proxy: bytes) -> Iterator[np.ndarray]:
    """The frames of a proxy that we made ourselves, RGB uint8 (height, width, 3), in order."""
    with av.open(io.BytesIO(proxy), "r") as container:
        for frame in container.decode(video=0):
            yield frame.to_ndarray(format="rgb24")


def _info(footage: Footage, studio: Studio) -> VideoInfo:
    width, height = studio.shown
    return VideoInfo(footage.duration_s, width, height, footage.fps, footage.codec, footage.bytes)
