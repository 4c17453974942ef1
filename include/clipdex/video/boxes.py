"""Boxes: whether an mp4 from a decoder process has the form of a playback, before a browser may get it."""

from __future__ import annotations

from collections.abc import Iterator

_FORM = (b"ftyp", b"moov", b"mdat")  # at the top, in this order; padding between them
_PADDING = frozenset({b"free"})
_SAMPLES = {b"avc1", b"mp4a"}
_HEADER = 8


def is_playback(data: bytes) -> bool:
    """Return whether this is an mp4 with its index first, of one H.264 stream and at most one AAC stream.

    A hostile file may control the process that made it; what is in the streams is not decoded here.
    """
    try:
        top = [(kind, start, end) for kind, start, end in _boxes(data, 0, len(data)) if kind not in _PADDING]
        if tuple(kind for kind, _, _ in top) != _FORM:
            return False
        kinds = [_sample_kind(data, *track) for track in _inside(data, top[1][1:], b"trak")]
    except ValueError:
        return False
    return kinds.count(b"avc1") == 1 and set(kinds) <= _SAMPLES and len(kinds) <= len(_SAMPLES)


def _sample_kind(data: bytes, start: int, end: int) -> bytes:
    """Return the kind of the samples of a track. Raises ValueError if they are of several kinds."""
    span = start, end
    for name in (b"mdia", b"minf", b"stbl", b"stsd"):
        spans = _inside(data, span, name)
        if len(spans) != 1:
            raise ValueError(f"one {name!r} expected")
        span = spans[0]
    entries = list(_boxes(data, span[0] + _HEADER, span[1]))  # behind its version and its number of entries
    if len(entries) != 1:
        raise ValueError("one kind of samples expected")
    return entries[0][0]


def _inside(data: bytes, span: tuple[int, int], name: bytes) -> list[tuple[int, int]]:
    return [(start, end) for kind, start, end in _boxes(data, *span) if kind == name]


def _boxes(data: bytes, start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Yield (kind, start of its content, end) of the boxes in a range. Raises ValueError for a wrong size."""
    while start < end:
        size = int.from_bytes(data[start : start + 4], "big")
        if size < _HEADER or start + size > end:
            raise ValueError("the size of a box expected")
        yield data[start + 4 : start + 8], start + _HEADER, start + size
        start += size
