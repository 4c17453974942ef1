"""Video: probe a clip, sample it by time, make the proxy that an engine sees, and a poster. PyAV only."""

import io
from collections.abc import Iterator
from dataclasses import dataclass

import av
import numpy as np


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


def read_proxy(proxy: bytes) -> Iterator[np.ndarray]:
    """The frames of a proxy that we made ourselves, RGB uint8 (height, width, 3), in order."""
    with av.open(io.BytesIO(proxy), "r") as container:
        for frame in container.decode(video=0):
            yield frame.to_ndarray(format="rgb24")
