"""Files that play well and declare something else: edit lists, clock jumps, wrong headers, late video, side data,
several streams. Each is generated from its kind and a seed, and is judged by the duration that a player shows.
"""

import random
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.stream import Disposition
from av.video.frame import VideoFrame

from tests.support.clips import write_clip
from tests.support.odd import PREPARED, SIZE, Clips, Specimen
from tests.support.stamps import Change, Edit, jump, restamp, stray, with_edits
from tests.support.videos import FPS, Video, write_videos

LENGTH_S = 4.0
_SMALL = {"preset": "ultrafast", "g": "10"}
_FRAGMENTS = {"movflags": "+frag_every_frame+empty_moov+default_base_moof"}
_OTHER_SIZES = ((320, 240), (80, 60), SIZE)


@dataclass(frozen=True, slots=True)
class Kind:
    """Write files of one kind. lasts: their duration [s], None for that of a plain player"""

    write: Callable[[Path, random.Random], Path]
    lasts: float | None = LENGTH_S


def presented(each: int) -> Iterator[Specimen]:
    """Yield this many files of every kind."""
    for kind in KINDS:
        for number in range(each):
            yield presented_specimen(kind, number)


def presented_specimen(kind: str, number: int) -> Specimen:
    name = f"{kind}/{number}"
    of_kind = KINDS[kind]

    def make(_: Clips, folder: Path) -> Path:
        return of_kind.write(folder, random.Random(zlib.crc32(name.encode())))

    return Specimen(name, frozenset({PREPARED}), make, lasts=of_kind.lasts, as_played=of_kind.lasts is None)


def exif(orientation: int, more: bytes = b"") -> bytes:
    """Return an EXIF segment of a JPEG."""
    entry = struct.pack("<HHIHH", 0x0112, 3, 1, orientation, 0)
    body = b"Exif\0\0II*\0" + struct.pack("<IH", 8, 1) + entry + struct.pack("<I", 0) + more
    return b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body


def motion_jpeg(path: Path, segment: bytes, frames: int = 20) -> Path:
    """Write Motion-JPEG at 10 frames per second, white at the top left, with this segment in each frame."""
    picture = np.zeros((96, 160, 3), np.uint8)
    picture[:32, :48] = 255
    encoder = av.CodecContext.create("mjpeg", "w")
    encoder.width, encoder.height, encoder.pix_fmt = 160, 96, "yuvj420p"
    encoder.time_base, encoder.color_range = Fraction(1, FPS), 2
    with av.open(path, "w") as container:
        stream = container.add_stream("mjpeg", rate=FPS)
        stream.width, stream.height, stream.pix_fmt = 160, 96, "yuvj420p"
        stream.codec_context.color_range = 2
        for number in range(frames):
            frame = VideoFrame.from_ndarray(picture).reformat(format="yuvj420p", dst_color_range=2)
            frame.pts, frame.time_base = number, Fraction(1, FPS)
            for jpeg in map(bytes, encoder.encode(frame)):
                packet = av.Packet(jpeg[:2] + segment + jpeg[2:])
                packet.stream, packet.time_base = stream, Fraction(1, FPS)
                packet.pts = packet.dts = number
                packet.is_keyframe = True
                container.mux(packet)
    return path


def poked(path: Path, mark: bytes, offset: int, value: bytes) -> Path:
    """Overwrite bytes of a file, offset bytes behind the first mark."""
    data = bytearray(path.read_bytes())
    place = data.index(mark) + len(mark) + offset
    data[place : place + len(value)] = value
    path.write_bytes(data)
    return path


def lied(path: Path, field: str, declared_s: float) -> Path:
    """Declare another duration in a header of a file with 10 frames per second."""
    mark, offset, encoded = LIES[field]
    return poked(path, mark, offset, encoded(declared_s))


LIES: dict[str, tuple[bytes, int, Callable[[float], bytes]]] = {
    "mvhd.mp4": (b"mvhd", 16, lambda seconds: round(1000 * seconds).to_bytes(4, "big")),
    "mdhd.mp4": (b"mdhd", 16, lambda seconds: round(10240 * seconds).to_bytes(4, "big")),
    "tkhd.mp4": (b"tkhd", 20, lambda seconds: round(1000 * seconds).to_bytes(4, "big")),
    "info.mkv": (b"\x44\x89\x88", 0, lambda seconds: struct.pack(">d", 1000 * seconds)),
    "onMetaData.flv": (b"duration", 1, lambda seconds: struct.pack(">d", seconds)),
    "frames.avi": (b"strh", 4 + 32, lambda seconds: round(FPS * seconds).to_bytes(4, "little")),
}


def _film(path: Path, chance: random.Random, first_s: float = 0.0, **how) -> Path:
    options = {**_SMALL, "bf": str(chance.choice((0, 0, 2, 3)))}
    times = [first_s + k / FPS for k in range(round(LENGTH_S * FPS))] if first_s else None
    return write_clip(
        path, **{"times": times, "seconds": LENGTH_S, "fps": FPS, "size": SIZE, "options": options, **how}
    )


def _edit_list(folder: Path, chance: random.Random) -> Path:
    path = _film(folder / "a.mp4", chance)
    edits: list[Edit] = [(None, chance.uniform(0, 5))] if chance.random() < 0.3 else []
    for _ in range(chance.choice((1, 1, 1, 2, 3, 6))):
        start_s = chance.uniform(0.2, LENGTH_S - 0.8)
        edits.append((start_s, chance.uniform(0.3, LENGTH_S - start_s)))
    path.write_bytes(with_edits(path.read_bytes(), edits))
    return path


def _clock_jump(folder: Path, chance: random.Random) -> Path:
    ending = chance.choice(("ts", "mkv", "flv", "mp4"))
    options = {"mkv": {"cluster_time_limit": "1"}, "mp4": _FRAGMENTS}.get(ending, {})
    first_s = 3600.0 if ending == "mkv" else 0.0
    path = _film(folder / f"a.{ending}", chance, first_s, container_options=options)
    with av.open(path) as container:
        first_s = min(float(one.pts * one.time_base) for one in container.demux(video=0) if one.pts is not None)
    place = chance.randrange(15, 35) / FPS
    far_s = chance.choice((1.5, 5.0, 60.0, 3600.0, 10_000.0))
    # FFmpeg hides fragments that overlap.
    others = () if ending == "mp4" else (stray(place, far_s), jump(place, -1.5), stray(place, -1.5))
    change: Change = chance.choice((jump(place, far_s), *others))
    return restamp(path, lambda time_s: first_s + max(0.0, change(time_s - first_s)))


def _lying_header(folder: Path, chance: random.Random) -> Path:
    field = chance.choice(list(LIES))
    codec = {"codec": "mpeg4", "options": {}} if field.endswith("avi") else {}
    return lied(_film(folder / field, chance, **codec), field, 10 ** chance.uniform(-1, 5))


def _late_video(folder: Path, chance: random.Random) -> Path:
    late_s = chance.uniform(0.5, 20)
    ending = chance.choice(("mp4", "mkv", "ts"))
    return _film(folder / f"a.{ending}", chance, late_s, audio_seconds=late_s + LENGTH_S)


def _side_data(folder: Path, chance: random.Random) -> Path:
    segment = exif(chance.randrange(12), chance.randbytes(chance.randrange(40)))
    if chance.random() < 0.5:  # invalid entries and offsets
        spot = chance.randrange(10, len(segment))
        segment = segment[:spot] + chance.randbytes(1) + segment[spot + 1 :]
    return motion_jpeg(folder / f"a.{chance.choice(('avi', 'mov', 'mkv'))}", segment, round(LENGTH_S * FPS))


def _several_streams(folder: Path, chance: random.Random) -> Path:
    frames = round(LENGTH_S * FPS)
    size = chance.choice(_OTHER_SIZES)
    other = chance.choice(
        (
            Video(size, [chance.randrange(frames)]),
            Video(size, range(0, frames, 10)),
            Video(size, range(8)),
            Video(size, range(frames)),
            Video(size, range(frames), disposition=Disposition.default),
        )
    )
    streams = [Video(SIZE, range(frames)), other]
    chance.shuffle(streams)
    return write_videos(folder / f"a.{chance.choice(('mp4', 'mov', 'mkv'))}", streams)


KINDS: dict[str, Kind] = {
    "edit-list": Kind(_edit_list, None),
    "clock-jump": Kind(_clock_jump),
    "lying-header": Kind(_lying_header),
    "late-video": Kind(_late_video),
    "side-data": Kind(_side_data),
    "several-streams": Kind(_several_streams),
}
