"""Rewrite the time stamps and edit lists of finished files, which no muxer would write, as broken recorders do."""

import struct
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

Change = Callable[[float], float]  # from the time that a file has to the time that it gets [s]
Edit = tuple[float | None, float] | tuple[float | None, float, float]  # media time or None [s], length [s], rate

_PARENTS = {b"moov", b"trak", b"mdia", b"minf", b"stbl", b"edts", b"moof", b"traf"}
_WRAP = 1 << 33


def with_edits(data: bytes, edits: Sequence[Edit], track: int = 0) -> bytes:
    """Return an MP4 whose index is at the end, with this edit list in one track."""
    out = bytearray()
    movie = int.from_bytes(_content(data, b"mvhd")[12:16], "big")
    for kind, box in _boxes(data, 0, len(data)):
        out += _with_edits_in_movie(box, edits, track, movie) if kind == b"moov" else box
    return bytes(out)


def restamped(data: bytes, change: Change, streams: str = "all") -> bytes:
    """Return a TS, FLV, Matroska or fragmented MP4 file with other stamps.

    streams: all, video or sound. Matroska: as many clusters as frames, and stamps of three bytes (4.7 hours).
    """
    out = bytearray(data)
    if data[:1] == b"\x47":
        _restamp_ts(out, change, streams)
    elif data[:3] == b"FLV":
        _restamp_flv(out, change, streams)
    elif data[:4] == b"\x1a\x45\xdf\xa3":
        _restamp_matroska(out, change)
    else:
        _restamp_fragments(out, change, streams)
    return bytes(out)


def jump(at_s: float, by_s: float) -> Change:
    """Return a change: from at_s on, the clock is off by by_s."""
    return lambda time_s: time_s + by_s if time_s >= at_s - 1e-6 else time_s


def stray(at_s: float, by_s: float) -> Change:
    """Return a change: only the packet at at_s is off by by_s."""
    return lambda time_s: time_s + by_s if abs(time_s - at_s) < 0.011 else time_s


def _boxes(data: bytes, start: int, end: int) -> Iterator[tuple[bytes, bytes]]:
    while start + 8 <= end:
        length = int.from_bytes(data[start : start + 4], "big")
        yield data[start + 4 : start + 8], data[start : start + length]
        start += length


def _places(data: bytes, start: int, end: int) -> Iterator[tuple[bytes, int]]:
    """Yield (kind, start of the content) of every box, in file order."""
    while start + 8 <= end:
        length, kind = int.from_bytes(data[start : start + 4], "big"), data[start + 4 : start + 8]
        yield bytes(kind), start + 8
        if kind in _PARENTS:
            yield from _places(data, start + 8, start + length)
        start += length


def _content(data: bytes, kind: bytes) -> bytes:
    return data[data.index(kind) + 4 :]


def _box(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(content), kind) + content


def _with_edits_in_movie(movie_box: bytes, edits: Sequence[Edit], track: int, movie: int) -> bytes:
    content = bytearray()
    number = 0
    for kind, box in _boxes(movie_box, 8, len(movie_box)):
        if kind == b"trak":
            if number == track:
                media = int.from_bytes(_content(box, b"mdhd")[12:16], "big")
                inner = b"".join(
                    one + (_edit_box(edits, movie, media) if name == b"tkhd" else b"")
                    for name, one in _boxes(box, 8, len(box))
                    if name != b"edts"
                )
                box = _box(b"trak", inner)
            number += 1
        content += box
    return _box(b"moov", bytes(content))


def _edit_box(edits: Sequence[Edit], movie: int, media: int) -> bytes:
    entries = b"".join(
        struct.pack(
            ">Iii", round(edit[1] * movie), -1 if edit[0] is None else round(edit[0] * media), round(65536 * rate)
        )
        for edit in edits
        for rate in [edit[2] if len(edit) == 3 else 1.0]
    )
    return _box(b"edts", _box(b"elst", struct.pack(">II", 0, len(edits)) + entries))


def _restamp_ts(data: bytearray, change: Change, streams: str) -> None:
    for start in range(0, len(data), 188):
        if not data[start + 1] & 0x40:
            continue
        place = start + 4 + (1 + data[start + 4] if data[start + 3] & 0x20 else 0)
        if data[place : place + 3] != b"\0\0\1" or not _is_meant(data[place + 3] & 0xF0 == 0xE0, streams):
            continue
        if data[place + 3] & 0xF0 not in (0xC0, 0xE0, 0xD0):
            continue
        flags = data[place + 7] >> 6
        for field in range({2: 1, 3: 2}.get(flags, 0)):
            spot = place + 9 + 5 * field
            old = data[spot : spot + 5]
            ticks = (old[0] >> 1 & 7) << 30 | old[1] << 22 | (old[2] >> 1) << 15 | old[3] << 7 | old[4] >> 1
            ticks = round(change(ticks / 90000) * 90000) % _WRAP
            data[spot : spot + 5] = bytes(
                (
                    old[0] & 0xF0 | (ticks >> 30) << 1 | 1,
                    ticks >> 22 & 0xFF,
                    (ticks >> 15 & 0x7F) << 1 | 1,
                    ticks >> 7 & 0xFF,
                    (ticks & 0x7F) << 1 | 1,
                )
            )
        if data[start + 3] & 0x20 and data[start + 4] and data[start + 5] & 0x10:
            data[start + 5] &= ~0x10  # the program clock, which players of files do not need


def _restamp_flv(data: bytearray, change: Change, streams: str) -> None:
    start = 13
    while start + 11 <= len(data):
        if data[start] in (8, 9) and _is_meant(data[start] == 9, streams):
            ms = data[start + 7] << 24 | int.from_bytes(data[start + 4 : start + 7], "big")
            ms = round(change(ms / 1000) * 1000) & 0xFFFFFFFF
            data[start + 4 : start + 8] = (ms & 0xFFFFFF).to_bytes(3, "big") + bytes([ms >> 24])
        start += 15 + int.from_bytes(data[start + 1 : start + 4], "big")


def _restamp_matroska(data: bytearray, change: Change) -> None:
    place = data.find(b"\x1f\x43\xb6\x75")
    while place >= 0:
        spot = data.index(b"\xe7\x83", place, place + 32)  # behind the size and a checksum
        ms = int.from_bytes(data[spot + 2 : spot + 5], "big")
        data[spot + 2 : spot + 5] = round(change(ms / 1000) * 1000).to_bytes(3, "big")
        place = data.find(b"\x1f\x43\xb6\x75", place + 4)


def _restamp_fragments(data: bytearray, change: Change, streams: str) -> None:
    scales: dict[int, tuple[int, bool]] = {}
    track, scale, is_video = 0, 1, True
    for kind, place in list(_places(bytes(data), 0, len(data))):
        if kind == b"tkhd":
            track = int.from_bytes(data[place + 12 : place + 16], "big")
        elif kind == b"mdhd":
            scale = int.from_bytes(data[place + 12 : place + 16], "big")
        elif kind == b"hdlr":
            scales[track] = scale, data[place + 8 : place + 12] == b"vide"
        elif kind == b"tfhd":
            scale, is_video = scales[int.from_bytes(data[place + 4 : place + 8], "big")]
        elif kind == b"tfdt" and _is_meant(is_video, streams):
            size = 8 if data[place] else 4
            old = int.from_bytes(data[place + 4 : place + 4 + size], "big")
            data[place + 4 : place + 4 + size] = round(change(old / scale) * scale).to_bytes(size, "big")


def _is_meant(is_video: bool, streams: str) -> bool:
    return streams == "all" or is_video == (streams == "video")


def restamp(path: Path, change: Change, streams: str = "all") -> Path:
    path.write_bytes(restamped(path.read_bytes(), change, streams))
    return path


def renamed_handler(data: bytes, track: int, kind: bytes) -> bytes:
    """Return an MP4 file in which the handler of one track is of another kind."""
    out, seen = bytearray(data), -1
    for name, place in _places(data, 0, len(data)):
        seen += name == b"trak"
        if name == b"hdlr" and seen == track:
            out[place + 8 : place + 12] = kind
    return bytes(out)
