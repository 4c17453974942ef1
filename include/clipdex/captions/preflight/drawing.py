"""Drawing: short videos of known content. The same arguments draw the same bytes.

A node that lost the frame times may still keep the frames of a video in a cache whose key has no times, so videos of
other rates have other pictures.
"""

from collections.abc import Iterator, Sequence
from fractions import Fraction
from functools import lru_cache

import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange, Colorspace

from clipdex.families.counting import Size
from clipdex.video.encoding import encode_proxy

COLOURS = {
    "red": (205, 35, 35), "blue": (35, 60, 205), "green": (30, 150, 60), "yellow": (235, 215, 40),
    "purple": (130, 40, 160), "orange": (240, 130, 20),
}  # fmt: skip
SIZE: Size = (448, 224)
"""In multiples of 28 and 32, and of as many pixels as SGLang's least: no node resizes it."""

_GREY = (190, 190, 190)
_STRIPES = np.array([(120, 200, 90), (170, 160, 150), (220, 120, 210)], np.uint8)


@lru_cache(maxsize=8)
def counted(frames: int, size: Size, fps: float) -> bytes:
    """Return a video whose every frame differs from the others: stripes that drift over a bright ground."""
    width, height = size
    rows, columns = np.mgrid[0:height, 0:width].astype(np.int16)
    ground, step = columns + rows // 2, max(8, width // 16)
    pictures = []
    for number in range(frames):
        stripes = ((ground + 11 * number) // step % 3).astype(np.uint8)
        pictures.append(_STRIPES[stripes])
    return _encoded(pictures, fps)


@lru_cache(maxsize=64)
def filled(colour: str, frames: int, fps: float) -> bytes:
    """Return a video of one colour."""
    return _encoded([_plain(COLOURS[colour])] * frames, fps)


@lru_cache(maxsize=64)
def moving(colour: str, direction: str, frames: int, fps: float, backwards: bool = False) -> bytes:
    """Return a video of a square that moves right, left, up or down. backwards: the frames in the other order"""
    pictures = list(_moving(COLOURS[colour], direction, frames))
    return _encoded(pictures[::-1] if backwards else pictures, fps)


@lru_cache(maxsize=64)
def changing(first: str, second: str, change: int, frames: int, fps: float, backwards: bool = False) -> bytes:
    """Return a video of one colour that is another from frame `change` on. backwards: in the other order"""
    pictures = [_plain(COLOURS[first if number < change else second]) for number in range(frames)]
    return _encoded(pictures[::-1] if backwards else pictures, fps)


def _moving(colour: tuple[int, int, int], direction: str, frames: int) -> Iterator[np.ndarray]:
    width, height = SIZE
    half = height // 8
    for number in range(frames):
        share = number / max(1, frames - 1)
        share = 1 - share if direction in ("left", "up") else share
        across = direction in ("left", "right")
        x = round(half + share * (width - 2 * half)) if across else width // 2
        y = height // 2 if across else round(half + share * (height - 2 * half))
        picture = _plain(_GREY)
        picture[y - half : y + half, x - half : x + half] = colour
        yield picture


def _plain(colour: tuple[int, int, int]) -> np.ndarray:
    picture = np.empty((SIZE[1], SIZE[0], 3), np.uint8)
    picture[:] = colour
    return picture


def _encoded(pictures: Sequence[np.ndarray], fps: float) -> bytes:
    rate = Fraction(fps).limit_denominator(1000)
    frames = [
        VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24").reformat(
            format="yuv420p", dst_colorspace=Colorspace.ITU601, dst_color_range=ColorRange.MPEG
        )
        for picture in pictures
    ]
    return encode_proxy(frames, rate)
