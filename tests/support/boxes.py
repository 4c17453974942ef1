"""Find the parts of a video file: boxes, elements, chunks, packets or pages, depending on the format."""

from collections.abc import Iterator

_BOXES_OF_BOXES = {b"moov", b"trak", b"mdia", b"minf", b"stbl", b"dinf", b"edts", b"udta", b"mvex", b"moof", b"traf"}
_ELEMENTS_OF_ELEMENTS = {0x18538067, 0x1654AE6B, 0xAE, 0xE0, 0x1F43B675, 0x1C53BB6B, 0xBB, 0xA0}
_HEADER_BYTES = 600
_PART_HEADER_BYTES = 16


def boundaries(data: bytes) -> list[int]:
    """Return the sorted start offsets of all parts and nested parts, without the start and end of the file."""
    found = {position for position in _parts(data, 0, len(data)) if 0 < position < len(data)}
    return sorted(found)


def header_spots(data: bytes) -> list[int]:
    """Return the offsets of header bytes, which describe the layout of the other bytes."""
    if data[4:8] == b"ftyp" or data[4:8] == b"wide":
        start = data.find(b"mdat")
        length = int.from_bytes(data[start - 4 : start], "big") if start > 0 else 0
        return [spot for spot in range(len(data)) if not start + 4 <= spot < start - 4 + length]
    begins = [0, *boundaries(data)]
    inside = {spot for begin in begins for spot in range(begin, min(begin + _PART_HEADER_BYTES, len(data)))}
    return sorted(inside | set(range(min(_HEADER_BYTES, len(data)))))


def _parts(data: bytes, start: int, end: int) -> Iterator[int]:
    if data[4:8] in (b"ftyp", b"wide"):
        yield from _boxes(data, start, end)
    elif data[:4] == b"\x1a\x45\xdf\xa3":
        yield from _elements(data, start, end)
    elif data[:4] == b"RIFF":
        yield from _chunks(data, start, end)
    elif data[:4] == b"OggS":
        yield from _marked(data, b"OggS")
    elif data[:4] == b"\x00\x00\x01\xba":
        yield from _marked(data, b"\x00\x00\x01")
    elif data[:1] == b"\x47" and data[188:189] == b"\x47":
        yield from range(start, end, 188)
    elif data[:3] == b"FLV":
        yield from _tags(data)
    else:
        yield from range(start, end, max(1, len(data) // 64))


def _boxes(data: bytes, start: int, end: int) -> Iterator[int]:
    while start + 8 <= end:
        yield start
        length, kind = int.from_bytes(data[start : start + 4], "big"), data[start + 4 : start + 8]
        if length < 8:
            return
        if kind in _BOXES_OF_BOXES:
            yield from _boxes(data, start + 8, min(start + length, end))
        start += length


def _elements(data: bytes, start: int, end: int) -> Iterator[int]:
    while start < end:
        yield start
        width = 9 - data[start].bit_length()
        kind = int.from_bytes(data[start : start + width], "big")
        start += width
        if start >= end or not data[start]:
            return
        width = 9 - data[start].bit_length()
        length = int.from_bytes(data[start : start + width], "big") & ((1 << 7 * width) - 1)
        start += width
        if kind in _ELEMENTS_OF_ELEMENTS:
            yield from _elements(data, start, min(start + length, end))
        start += length


def _chunks(data: bytes, start: int, end: int) -> Iterator[int]:
    while start + 8 <= end:
        yield start
        kind, length = data[start : start + 4], int.from_bytes(data[start + 4 : start + 8], "little")
        if kind in (b"RIFF", b"LIST"):
            yield from _chunks(data, start + 12, min(start + 8 + length, end))
        start += 8 + length + length % 2


def _tags(data: bytes) -> Iterator[int]:
    start = 13
    while start + 11 <= len(data):
        yield start
        start += 15 + int.from_bytes(data[start + 1 : start + 4], "big")


def _marked(data: bytes, mark: bytes) -> Iterator[int]:
    position = data.find(mark)
    while position >= 0:
        yield position
        position = data.find(mark, position + 1)
