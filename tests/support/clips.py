"""Generate clips whose pictures carry their own number, so that a test can identify each picture."""

import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.video.frame import VideoFrame

BT601, BT709, BT2020 = 5, 1, 9  # values of libswscale
LIMITED, FULL = 1, 2

_BITS = 10
_RATE = 16000
# Display matrices as phones write them, clockwise: a, b, u, c, d, v, x, y, w in 16.16 and 2.30 bits.
_TURNS = {
    90: (0, 65536, 0, -65536, 0, 0, 0, 0, 1 << 30),
    180: (-65536, 0, 0, 0, -65536, 0, 0, 0, 1 << 30),
    270: (0, -65536, 0, 65536, 0, 0, 0, 0, 1 << 30),
}

_COLOURS = ((200, 30, 30), (20, 60, 200), (30, 160, 40), (230, 220, 60))

Picture = Callable[[int, tuple[int, int]], np.ndarray]


def numbered(number: int, size: tuple[int, int]) -> np.ndarray:
    """Draw a number as ten bars over the whole height, black for 0 and white for 1."""
    width, height = size
    edges = np.linspace(0, width, _BITS + 1).astype(int)
    picture = np.full((height, width, 3), 16, np.uint8)
    for bit in range(_BITS):
        if number >> (_BITS - 1 - bit) & 1:
            picture[:, edges[bit] : edges[bit + 1]] = 235
    return picture


def number_of(picture: np.ndarray) -> int:
    """Return the number in a picture of numbered(), at any size."""
    grey = picture[..., :3].mean(axis=(0, 2))
    centres = ((np.arange(_BITS) + 0.5) * len(grey) / _BITS).astype(int)
    return int("".join("1" if grey[centre] > 128 else "0" for centre in centres), 2)


def plain(colour: tuple[int, int, int]) -> Picture:
    """Return a picture function for a single colour."""
    return lambda _, size: np.full((size[1], size[0], 3), colour, np.uint8)


def scenes(*starts: int) -> Picture:
    """Return a picture function for shots of different colours, that begin with these numbers, below numbered()."""

    def picture(number: int, size: tuple[int, int]) -> np.ndarray:
        drawn = numbered(number, size)
        shot = sum(start <= number for start in starts)
        drawn[size[1] // 8 :] = _COLOURS[shot % len(_COLOURS)]
        return drawn

    return picture


def number_above(picture: np.ndarray) -> int:
    """Return the number in a picture of scenes()."""
    return number_of(picture[: len(picture) // 10])


def film(number: int, size: tuple[int, int]) -> np.ndarray:
    """Draw soft shapes with grain that drift to the right, similar to camera footage."""
    y, x = np.mgrid[0 : size[1], 0 : size[0]].astype(np.float32)
    x = x - 3 * number
    waves = np.stack([np.sin(x / 23 + y / 31), np.sin(x / 17 - y / 13), np.sin((x + y) / 41)], axis=-1)
    grain = np.random.default_rng(0).normal(0, 12, (size[1], size[0], 1))
    return np.clip(128 + 70 * waves + np.roll(grain, 3 * number, axis=1), 0, 255).astype(np.uint8)


def noise(number: int, size: tuple[int, int]) -> np.ndarray:
    """Draw random pixels, which no encoder can compress."""
    return np.random.default_rng(number).integers(0, 256, (size[1], size[0], 3), np.uint8)


@contextmanager
def _own_priority() -> Iterator[None]:
    """Restore the thread's scheduling: as root, the AV1 encoder gives its caller real-time priority for good."""
    if sys.platform != "linux":
        yield
        return
    policy, priority = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        yield
    finally:
        os.sched_setscheduler(0, policy, priority)


def write_clip(
    path: Path,
    *,
    seconds: float = 2.0,
    fps: int = 25,
    times: Iterable[float] | None = None,
    size: tuple[int, int] = (320, 240),
    picture: Picture = numbered,
    codec: str = "libx264",
    options: dict[str, str] | None = None,
    container_options: dict[str, str] | None = None,
    audio_seconds: float = 0.0,
    audio_from_s: float = 0.0,
    turned: int = 0,
    pixel_aspect: Fraction | None = None,
    pix_fmt: str = "yuv420p",
    colorspace: int = BT601,
    color_range: int = LIMITED,
    tags: dict[str, int] | None = None,
) -> Path:
    """Write a clip in the format of the path's suffix.

    times: start of each picture [s], for a variable frame rate; default: seconds * fps pictures
    turned: clockwise rotation in the display matrix [degrees]
    colorspace, color_range: conversion of the pictures
    tags: colour metadata of the file; default: the actual values, {} for none
    """
    moments = list(times) if times is not None else [k / fps for k in range(round(seconds * fps))]
    clock = Fraction(1, 90000) if times is not None else Fraction(1, fps)
    with _own_priority(), av.open(path, "w", options=container_options or {}) as container:
        stream = container.add_stream(codec, rate=fps) if moments else None
        sound = container.add_stream("aac", rate=_RATE) if audio_seconds else None
        if stream:
            context = stream.codec_context
            context.width, context.height, context.pix_fmt = *size, pix_fmt
            context.time_base, context.options = clock, options or {}
            context.sample_aspect_ratio = pixel_aspect or Fraction(1)
            truth = {"colorspace": 6 if colorspace == BT601 else colorspace, "color_range": color_range}
            for name, value in (truth if tags is None else tags).items():
                setattr(context, name, value)
            if turned:
                stream.set_display_matrix(_TURNS[turned])
            for number, moment in enumerate(moments):
                frame = VideoFrame.from_ndarray(picture(number, size), format="rgb24").reformat(
                    format=pix_fmt, dst_colorspace=colorspace, dst_color_range=color_range
                )
                frame.pts, frame.time_base = round(moment / clock), clock
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
        if sound:
            container.mux(_silence(sound, audio_seconds, audio_from_s))
    return path


def mark_keyframes(whole: Path, path: Path, every: int = 10) -> Path:
    """Copy a film to path; mark every so many packets as a keyframe, and no other."""
    with av.open(whole) as old, av.open(path, "w") as new:
        stream = new.add_stream_from_template(old.streams.video[0])
        for number, packet in enumerate(old.demux(video=0)):
            if packet.size:
                packet.stream = stream
                packet.is_keyframe = number % every == 0
                new.mux(packet)
    return path


def _silence(stream: Any, seconds: float, from_s: float) -> list[av.Packet]:
    packets = []
    first = round(from_s * _RATE)
    for start in range(0, round(seconds * _RATE), 1024):
        frame = AudioFrame(format="fltp", layout="mono", samples=1024)
        frame.planes[0].update(bytes(frame.planes[0].buffer_size))
        frame.sample_rate, frame.pts, frame.time_base = _RATE, first + start, Fraction(1, _RATE)
        packets += stream.encode(frame)
    return packets + stream.encode(None)
