"""A recording of a page: the frames of the browser's screencast, encoded as WebM."""

import base64
import io
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
from av.video.frame import PictureType
from av.video.reformatter import ColorRange
from playwright.sync_api import Page

WIDTH, HEIGHT, FPS = 1088, 680, 12
QUALITY = {"crf": "36", "b": "0", "cpu-used": "4", "g": "240"}


@contextmanager
def recorded(page: Page, path: Path) -> Iterator[None]:
    """Record a page until the end of the block, and write the recording."""
    frames: list[tuple[float, bytes]] = []
    session = page.context.new_cdp_session(page)

    def keep(frame: dict[str, Any]) -> None:
        frames.append((frame["metadata"]["timestamp"], base64.b64decode(frame["data"])))
        session.send("Page.screencastFrameAck", {"sessionId": frame["sessionId"]})

    session.on("Page.screencastFrame", keep)
    session.send("Page.startScreencast", {"format": "jpeg", "quality": 85, "maxWidth": WIDTH, "maxHeight": HEIGHT})
    try:
        yield
    finally:
        session.send("Page.stopScreencast")
        session.detach()
    _encode(frames, path)


def _encode(frames: list[tuple[float, bytes]], path: Path) -> None:
    """Write one frame per change, at most FPS per second. The browser sends none while nothing changes."""
    began, last = frames[0][0], -1
    with av.open(path, "w", format="webm") as container:
        video = container.add_stream("libvpx-vp9", rate=FPS, options=QUALITY)
        video.bit_rate = 0  # constant quality
        video.width, video.height, video.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for at, data in [*frames, (frames[-1][0] + 1, frames[-1][1])]:
            step = round((at - began) * FPS)
            if step <= last:
                continue
            with av.open(io.BytesIO(data), format="image2pipe", options={"c:v": "mjpeg"}) as image:
                frame = next(image.decode(video=0)).reformat(WIDTH, HEIGHT, "yuv420p", dst_color_range=ColorRange.MPEG)
            frame.pts, frame.time_base, last = step, Fraction(1, FPS), step
            frame.pict_type = PictureType.NONE  # a JPEG is a key frame, and would stay one
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
