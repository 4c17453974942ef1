"""Draw simple moving scenes with Pillow, and encode them with PyAV."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Literal

import av
import numpy as np
from av.video.frame import PictureType
from av.video.reformatter import VideoReformatter
from PIL import Image, ImageDraw, ImageFont

SIZE = (640, 360)
RATE = Fraction(20)

Point = tuple[float, float]
Colour = tuple[int, int, int]

_ENCODERS = {
    ".mp4": ("mp4", "libx264", {"preset": "ultrafast", "crf": "24"}),
    ".avi": ("avi", "mpeg4", {"b": "1500k"}),
    ".webm": ("webm", "libvpx-vp9", {"deadline": "realtime", "cpu-used": "8", "b": "600k"}),
}


@dataclass(frozen=True, slots=True)
class Shape:
    """A coloured shape whose centre moves in straight lines from point to point.

    path: fractions of the picture's width and height, (0, 0) at the upper left
    side: fraction of the height
    """

    kind: Literal["circle", "square", "triangle"]
    colour: Colour
    path: tuple[Point, ...]
    side: float = 0.3


@dataclass(frozen=True, slots=True)
class Scene:
    """The content of one shot. words: large centred text in the colour ink."""

    seconds: float
    background: Colour
    shapes: tuple[Shape, ...] = ()
    words: str = ""
    ink: Colour = (255, 255, 255)


def draw(scenes: Iterable[Scene]) -> Iterator[av.VideoFrame]:
    """Yield the frames of the scenes with hard cuts, at RATE frames per second."""
    for scene in scenes:
        still = _still(scene)
        count = round(scene.seconds * RATE)
        for number in range(count):
            picture = still.copy()
            pen = ImageDraw.Draw(picture)
            for shape in scene.shapes:
                _draw_shape(pen, shape, number / (count - 1))
            yield av.VideoFrame.from_ndarray(np.asarray(picture), format="rgb24")


def encode(path: Path, suffix: str, frames: Iterable[av.VideoFrame], size: tuple[int, int], rate: Fraction) -> None:
    """Write the frames in the format of a suffix: .mp4 (H.264), .avi (MPEG-4), .webm (VP9)."""
    container_format, codec, options = _ENCODERS[suffix]
    with av.open(str(path), "w", format=container_format) as container:
        stream = container.add_stream(codec, rate=rate, options=options)
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height = size
        stream.pix_fmt = "yuv420p"
        stream.thread_count = 1
        reformatter = VideoReformatter()
        for number, frame in enumerate(frames):
            shown = reformatter.reformat(frame, *size, format="yuv420p")
            shown.pts, shown.time_base = number, 1 / rate
            shown.pict_type = PictureType.NONE  # do not copy the frame type of the source
            container.mux(stream.encode(shown))
        container.mux(stream.encode())


def _still(scene: Scene) -> Image.Image:
    picture = Image.new("RGB", SIZE, scene.background)
    if scene.words:
        font = ImageFont.load_default(size=min(110, 800 // len(scene.words)))
        centre = (SIZE[0] / 2, SIZE[1] / 2)
        ImageDraw.Draw(picture).text(centre, scene.words, fill=scene.ink, font=font, anchor="mm")
    return picture


def _draw_shape(pen: ImageDraw.ImageDraw, shape: Shape, share: float) -> None:
    x, y = _along(shape.path, share)
    x, y, half = x * SIZE[0], y * SIZE[1], shape.side * SIZE[1] / 2
    box = (x - half, y - half, x + half, y + half)
    if shape.kind == "circle":
        pen.ellipse(box, fill=shape.colour)
    elif shape.kind == "square":
        pen.rectangle(box, fill=shape.colour)
    else:
        pen.polygon([(x, y - half), (x - half, y + half), (x + half, y + half)], fill=shape.colour)


def _along(path: tuple[Point, ...], share: float) -> Point:
    legs = list(pairwise(path))
    leg = min(int(share * len(legs)), len(legs) - 1)
    (x0, y0), (x1, y1) = legs[leg]
    rest = share * len(legs) - leg
    return x0 + (x1 - x0) * rest, y0 + (y1 - y0) * rest
