"""Long films: one minute's packets repeated, and files that only claim to be long; cut in the sandbox and judged.

The minute has shots of known lengths, and its second as a number above the picture.
"""

import asyncio
import resource
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import accumulate
from pathlib import Path

import av
import numpy as np
from av.video.frame import VideoFrame

from clipdex.config import Sampling, Split, VideoLimits
from clipdex.errors import ClipRejected
from clipdex.video import Prepared, RejectedPart, read_proxy
from clipdex.video.sandbox.pool import DecoderPool
from tests.support.clips import film, number_above, numbered
from tests.support.judge import most_resident, peak_memory

MINUTE_S = 60
SHOTS_S = (4, 7, 20, 9, 12, 8)
ENDS = {Split.FIXED: (15, 30, 45, 60), Split.SHOTS: (4, 11, 26, 31, 40, 52, 60)}
"""Ends of the parts of each minute, of at most 15 s: the shot of 20 s is cut [s]."""

_TINTS = ((1.0, 0.3, 0.3), (0.2, 0.4, 1.0), (0.3, 1.0, 0.4), (1.0, 0.9, 0.2), (0.8, 0.2, 1.0), (0.2, 1.0, 1.0))
_DRAWN = (240, 136)  # scaled to the size of the film


@dataclass(frozen=True, slots=True)
class LongVerdict:
    """The result of one file.

    parts: of them, how many are prepared
    wrong: the defect of this result, "" for none
    cpu_s: of the decoders, with their start [s]; wall_s [s]
    memory: peak resident memory of the decoders [bytes]
    """

    result: str
    parts: int
    wrong: str
    cpu_s: float
    wall_s: float
    memory: int


def write_minute(path: Path, size: tuple[int, int], fps: int) -> Path:
    """Write the minute that repeat() repeats."""
    starts = [0, *accumulate(SHOTS_S)]
    with av.open(path, "w") as container:
        stream = container.add_stream("libx264", rate=fps)
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        stream.codec_context.options = {"preset": "superfast", "g": str(2 * fps), "crf": "30"}
        for number in range(MINUTE_S * fps):
            second = number // fps
            shot = sum(start <= second for start in starts) - 1
            picture = (film(number // 3, _DRAWN) * np.array(_TINTS[shot])).astype(np.uint8)
            picture[: _DRAWN[1] // 8] = numbered(second, (_DRAWN[0], _DRAWN[1] // 8))
            frame = VideoFrame.from_ndarray(picture, format="rgb24").reformat(*size, "yuv420p", threads=1)
            frame.pts, frame.time_base = number, Fraction(1, fps)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def repeat(minute: Path, path: Path, minutes: int) -> Path:
    """Write a film of that many minutes with the packets of one."""
    with av.open(minute) as old, av.open(path, "w") as new:
        source = old.streams.video[0]
        stream = new.add_stream_from_template(source)
        packets = [(bytes(one), one.pts, one.dts, one.is_keyframe) for one in old.demux(source) if one.size]
        length = round(MINUTE_S / source.time_base)
        for number in range(minutes):
            for data, pts, dts, is_keyframe in packets:
                packet = av.Packet(data)
                packet.stream, packet.time_base = stream, source.time_base
                packet.pts, packet.dts = pts + number * length, dts + number * length
                packet.is_keyframe = is_keyframe
                new.mux(packet)
    return path


def write_tiny_packets(path: Path, count: int, length_s: float) -> Path:
    """Write a Matroska file of so many packets without a picture, that span this time."""
    with av.open(path, "w", format="matroska") as container:
        stream = container.add_stream("libvpx", rate=25)
        stream.width, stream.height, stream.pix_fmt = 160, 96, "yuv420p"
        for number in range(count):
            packet = av.Packet(b"\0")
            packet.stream, packet.time_base = stream, Fraction(1, 1000)
            packet.pts = packet.dts = round(1000 * number * length_s / count)
            packet.is_keyframe = number == 0
            container.mux(packet)
    return path


def judge_parts(path: Path, limits: VideoLimits, wrong: Callable[[list[Prepared | RejectedPart]], str]) -> LongVerdict:
    """Cut a file in the sandbox. wrong: returns the defect of the parts, "" for none."""
    return asyncio.run(_judged(path, limits, wrong))


def wrong_minutes(limits: VideoLimits, minutes: int) -> Callable[[list[Prepared | RejectedPart]], str]:
    """Return a check that the parts are those of so many minutes, with their pictures."""
    assert limits.split is not None
    ends = [60.0 * minute + end for minute in range(minutes) for end in ENDS[limits.split]]

    def wrong(parts: list[Prepared | RejectedPart]) -> str:
        if rejected := [one for one in parts if isinstance(one, RejectedPart)]:
            return f"rejected: {rejected[0]}"
        prepared = [one for one in parts if isinstance(one, Prepared)]
        found = [one.info.end_s for one in prepared]
        if len(found) != len(ends) or max(abs(a - b) for a, b in zip(found, ends, strict=True)) > 1e-5:
            return f"expected ends {ends[:8]}, ..., found {found[:8]}, ..."
        return next(_wrong_pictures(prepared), "")

    return wrong


def _wrong_pictures(parts: list[Prepared]) -> Iterator[str]:
    for one in parts:
        seconds = [number_above(picture) for window in one.windows for picture in read_proxy(window.proxy)]
        expected = [int(time_s + 1e-4) % MINUTE_S for time_s in one.times]
        if seconds != expected:
            yield f"part {one.part}: expected the pictures of {expected}, found {seconds}"


async def _judged(
    path: Path, limits: VideoLimits, wrong: Callable[[list[Prepared | RejectedPart]], str]
) -> LongVerdict:
    used_s, began = _children_cpu_s(), time.monotonic()
    parts: list[Prepared | RejectedPart] = []
    result = "prepared"
    async with DecoderPool(limits, Sampling(), size=1) as decoders:
        watch = asyncio.create_task(peak_memory())
        try:
            parts = [one async for one in decoders.parts(path)]
        except ClipRejected as refusal:
            result = f"{refusal.reason}: {refusal.detail}"
        watch.cancel()
        memory = max(most_resident(), await watch)
    seconds = time.monotonic() - began
    prepared = sum(isinstance(one, Prepared) for one in parts)
    cpu_s = _children_cpu_s() - used_s
    return LongVerdict(result, prepared, wrong(parts), round(cpu_s, 1), round(seconds, 1), memory)


def _children_cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime
