"""Truncation: distinguish an unreadable file that lost its end from one that is no clip.

Declared sizes are compared with the file size: boxes in MP4 and MOV, with those that a segment index lists; the segment
in Matroska and WebM; the RIFF chunk in AVI. Transport streams declare no size.
"""

from clipdex.video.clip_file import ClipFile, ClipReader

_FIRST_BOXES = frozenset({b"ftyp", b"styp", b"moov", b"moof", b"mdat", b"free", b"skip", b"wide", b"pnot"})
_EBML, _SEGMENT = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"
_MOST_BOXES = 100_000
_MOST_INDEX_BYTES = 2**20


def missing_end(clip: ClipFile, readable: bool = False) -> str | None:
    """Return the evidence that the file's end is missing, or None. Raises OSError for a disk error.

    readable: the file has pictures, so that extra bytes after its last box are no evidence
    """
    file, size = clip.reader(), clip.bytes
    head = file.read(12)
    if head[4:8] in _FIRST_BOXES:
        return _boxes(file, size, readable)
    if head[:4] == _EBML:
        return _matroska(file, size)
    if head[:4] == b"RIFF" and head[8:12] == b"AVI ":
        return _short("RIFF", 8 + int.from_bytes(head[4:8], "little"), size)
    return None


def _boxes(file: ClipReader, size: int, readable: bool) -> str | None:
    position, kinds = 0, set[bytes]()
    for _ in range(_MOST_BOXES):
        if position >= size:
            break
        file.seek(position)
        head = file.read(16)
        kind, length = head[4:8], int.from_bytes(head[:4], "big")
        if len(head) < 8 or not kind.isascii() or not kind.decode().isprintable():
            return None if readable else f"no box at byte {position} of {size}"
        if length == 1:
            length = int.from_bytes(head[8:16], "big")
        position += length if length >= 8 else size - position  # 0: to the end of the file
        kinds.add(kind)
        end = position + _referenced_bytes(file, position - length, length) if kind == b"sidx" else position
        if end > size:
            return _short(f"box {kind.decode()}" if kind != b"sidx" else "the last segment", end, size)
    return None if b"moov" in kinds else "no moov box: the recording was not finalized"


def _referenced_bytes(file: ClipReader, start: int, length: int) -> int:
    """Return the total size of the segments that a segment index (sidx) lists."""
    file.seek(start)
    box = file.read(min(length, _MOST_INDEX_BYTES))
    at = 28 if box[8:9] == b"\0" else 36  # after the 32 or 64 bits of the earliest time and the first offset
    offset = int.from_bytes(box[24:28] if at == 28 else box[28:36], "big")
    entries = range(at + 4, min(len(box), at + 4 + 12 * int.from_bytes(box[at + 2 : at + 4], "big")), 12)
    return offset + sum(int.from_bytes(box[n : n + 4], "big") & 0x7FFFFFFF for n in entries)


def _matroska(file: ClipReader, size: int) -> str | None:
    position = 4
    for name in ("EBML header", "segment"):
        file.seek(position)
        head = file.read(8)
        width = 9 - head[0].bit_length() if head and head[0] else 0
        if not 0 < width <= len(head):
            return f"the {name} is truncated at byte {size}"
        length = int.from_bytes(head[:width], "big") & ((1 << 7 * width) - 1)
        if length == (1 << 7 * width) - 1:
            return None  # unknown size: a live recording
        position += width + length
        if position > size:
            return _short(name, position, size)
        if name == "EBML header":
            file.seek(position)
            if (found := file.read(4)) != _SEGMENT:
                return None if len(found) == 4 else f"no segment before byte {size}"
            position += 4
    return None


def _short(name: str, end: int, size: int) -> str | None:
    return f"{name} should end at byte {end}, the file ends at {size}" if end > size else None
