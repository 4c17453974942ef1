"""Evidence that a file lost its end, from its container alone: declared bytes, and pictures in its index."""

from pathlib import Path

import av

_EBML = b"\x1a\x45\xdf\xa3"
_ROOTS = (b"ftyp", b"styp", b"moov", b"mdat", b"free", b"skip", b"wide", b"pnot")
_INDEXED = frozenset({"mov", "matroska", "avi", "flv"})  # FFmpeg reads their index with the header


def declared_bytes(path: Path) -> int:
    """Return where the container's parts should end, 0 if it does not declare that [bytes]."""
    with path.open("rb") as file:
        head = file.read(64)
        if head[4:8] in _ROOTS:
            end, size = 0, path.stat().st_size
            while end < size:
                file.seek(end)
                box = file.read(16)
                if len(box) < 8:
                    break
                length = int.from_bytes(box[:4], "big")
                length = int.from_bytes(box[8:16], "big") if length == 1 else length or size - end
                end += max(8, length)
            return end
    if head[:4] == b"RIFF":
        return 8 + int.from_bytes(head[4:8], "little")
    if head[:4] == _EBML:
        start, length = _element(head, 4)
        segment, length = _element(head, start + (length or 0) + 4)
        return segment + length if length is not None else 0
    return 0


def _element(head: bytes, at: int) -> tuple[int, int | None]:
    """Return the start and the length of a Matroska element's content, by the length at this place; None if unknown."""
    width = 9 - head[at].bit_length() if at < len(head) and head[at] else 8
    value = int.from_bytes(head[at : at + width], "big") & ((1 << 7 * width) - 1)
    return at + width, None if value == (1 << 7 * width) - 1 else value


def indexed_s(path: Path, stream: int) -> float:
    """Return the time of the last picture in the container's index, 0 if there is none [s]."""
    with av.open(path, metadata_errors="replace") as container:
        if _INDEXED.isdisjoint(container.format.name.split(",")):
            return 0.0
        film = container.streams[stream]
        entries = film.index_entries
        last = max((entries[number].timestamp for number in range(len(entries))), default=0)
        return float(last * (film.time_base or 0))
