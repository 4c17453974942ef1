"""Truncation: whether a file lost its end; also for an unreadable one, to distinguish it from one that is no clip.

Declared sizes are compared with the file size: boxes in MP4 and MOV, with those that a segment index lists; the segment
in Matroska and WebM; the RIFF chunk in AVI. Transport streams declare no size.
"""

from av.container import InputContainer
from av.video.stream import VideoStream

from clipdex.video.clip_file import ClipFile, ClipReader
from clipdex.video.packets import Tracks
from clipdex.video.streams import Film

# Formats with an index of pictures that is read with their header.
_MOV = "mov,mp4,m4a,3gp,3g2,mj2"
_INDEXED = frozenset({_MOV, "matroska,webm", "avi", "flv"})

_FIRST_BOXES = frozenset({b"ftyp", b"styp", b"moov", b"moof", b"mdat", b"free", b"skip", b"wide", b"pnot"})
_EBML, _SEGMENT = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"
_MOST_BOXES = 100_000
_MOST_INDEX_BYTES = 2**20


def lost_end(file: ClipFile, container: InputContainer, tracks: Tracks, film: Film) -> str:
    """Return the evidence that the file's end, with pictures, is missing; "" if there is none.

    Evidence is a picture in the container's index (the sample tables of MP4, the indexes of AVI and FLV, the cues of
    Matroska) behind the last packet, or a declared size beyond the end of the file together with a declared duration
    beyond the last packet. A duration alone is none: many recorders and cutters write a wrong one.
    """
    index, name = film.index, container.format.name
    fps = len(index.shown) / index.duration_s
    read = [stamp for stamp in index.stamps if stamp is not None]
    if name in _INDEXED and read:
        first_s, found_s = float(min(read) * index.clock), float(max(read) * index.clock)
        promised_s = _promised_s(film.stream)
        if promised_s is not None and is_lost(promised_s - first_s, found_s - first_s, fps):
            return f"the index has frames up to {promised_s:.2f} s, found none after {found_s:.2f} s"
    if name == _MOV and None not in index.times:  # the sample table counts hidden frames, too
        counted_s = film.stream.frames / fps
        if is_lost(counted_s, len(index.shown) / fps, fps):
            return f"the index has {film.stream.frames} frames, found {len(index.shown)}"
    declared_s = (container.duration or 0) / 1e6
    if name == "avi":  # FFmpeg shortens the duration of a short file, and keeps the number of frames
        declared_s = max(declared_s, film.stream.frames / fps)
    if is_lost(declared_s, tracks.covered_s, fps):
        return missing_end(file, readable=True) or ""
    return ""


def _promised_s(stream: VideoStream) -> float | None:
    """Return the time of the last shown picture in the container's index [s]."""
    entries = stream.index_entries
    for number in range(len(entries) - 1, -1, -1):
        if not entries[number].is_discard:
            return float(entries[number].timestamp * (stream.time_base or 0))
    return None


def is_lost(expected_s: float, found_s: float, fps: float) -> bool:
    """Return whether more than a few frames are missing at the end."""
    return expected_s - found_s > max(0.3, 0.05 * expected_s, 2 / fps)


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
