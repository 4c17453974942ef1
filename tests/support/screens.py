"""Write screen recordings: AVI whose unchanged pictures are packets that give no picture."""

import zlib
from collections.abc import Collection
from fractions import Fraction
from pathlib import Path

import av

from tests.support.clips import numbered

FPS = 10


def screen_recording(
    path: Path, changes: Collection[int], length: int, size: tuple[int, int], left_out: Collection[int] = ()
) -> Path:
    """Write this many packets of TechSmith's codec; only those that change the screen hold a picture, their number.

    left_out: packets that FFmpeg replaces by empty chunks
    """
    with av.open(path, "w") as container:
        stream = container.add_mux_stream("camtasia", rate=FPS, width=size[0], height=size[1])
        for number in sorted(set(range(length)) - set(left_out)):
            packet = av.Packet(_picture(number, size) if number in changes else bytes(8))
            packet.stream, packet.time_base = stream, Fraction(1, FPS)
            packet.pts = packet.dts = number
            packet.is_keyframe = number == 0
            container.mux(packet)
    return path


def _picture(number: int, size: tuple[int, int]) -> bytes:
    """Return a picture in runs of one colour, from the bottom line up: run length, blue, green, red."""
    lines = bytearray()
    for line in numbered(number, size)[::-1]:
        for red, green, blue in line:
            lines += bytes((1, blue, green, red))
        lines += b"\0\0"
    return zlib.compress(bytes(lines) + b"\0\1")
