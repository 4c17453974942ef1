"""Draw title cards with Pillow, and encode frames with PyAV."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.video.frame import PictureType
from av.video.reformatter import VideoReformatter
from PIL import Image, ImageDraw, ImageFont

SIZE = (640, 360)
RATE = Fraction(20)

_ENCODERS = {
    ".mp4": ("mp4", "libx264", {"preset": "ultrafast", "crf": "24"}),
    ".avi": ("avi", "mpeg4", {"b": "1500k"}),
    ".webm": ("webm", "libvpx-vp9", {"deadline": "realtime", "cpu-used": "8", "b": "600k"}),
}


@dataclass(frozen=True, slots=True)
class Card:
    """A title card: large centred words in the colour ink, for some seconds."""

    seconds: float
    background: tuple[int, int, int]
    words: str
    ink: tuple[int, int, int] = (255, 255, 255)


def draw(card: Card) -> Iterator[av.VideoFrame]:
    """Yield the frames of the card, at RATE frames per second."""
    picture = Image.new("RGB", SIZE, card.background)
    font = ImageFont.load_default(size=min(110, 800 // len(card.words)))
    ImageDraw.Draw(picture).text((SIZE[0] / 2, SIZE[1] / 2), card.words, fill=card.ink, font=font, anchor="mm")
    for _ in range(round(card.seconds * RATE)):
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
