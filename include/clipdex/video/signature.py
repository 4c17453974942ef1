"""Signatures: distinguish a damaged film from a file that never was one.

An archive collects litter under the names of clips: attributes of a Mac, error pages, thumbnails, zeros. A decoder
refuses both. Litter has no signature of a video format, neither at its start nor where damage leaves one: in the boxes,
packets and chunks of its body. Files that a decoder opens are not looked at.
"""

import re
from collections.abc import Iterator

from clipdex.video.clip_file import ClipFile

_HEAD, _BODY, _SAMPLES = 256 * 1024, 64 * 1024, 14  # bytes, bytes, places between start and end

# Other formats, by their first bytes.
_OTHERS = {
    b"\x00\x05\x16\x07": "attributes that a Mac stores beside a file (AppleDouble)",
    b"\x00\x05\x16\x00": "attributes that a Mac stores with a file (AppleSingle)",
    b"\xff\xd8\xff": "a JPEG picture",
    b"\x89PNG\r\n\x1a\n": "a PNG picture",
    b"II*\x00": "a TIFF picture",
    b"MM\x00*": "a TIFF picture",
    b"8BPS": "a Photoshop picture",
    b"ID3": "an MP3 sound file",
    b"fLaC": "a FLAC sound file",
    b"#!AMR": "an AMR sound file",
    b"PK\x03\x04": "a ZIP archive",
    b"\x1f\x8b\x08": "a gzip archive",
    b"7z\xbc\xaf\x27\x1c": "a 7z archive",
    b"Rar!\x1a\x07": "a RAR archive",
    b"%PDF-": "a PDF document",
    b"\x7fELF": "a program",
    b"SQLite format 3\x00": "an SQLite database",
    b"bplist00": "a property list of a Mac",
    b"Bud1": "a folder's settings on a Mac",
    b"\x00\x00\x00\x01Bud1": "a folder's settings on a Mac",
}
_STILL_BRANDS = frozenset({b"heic", b"heix", b"heim", b"heis", b"mif1", b"avif", b"crx "})

# Formats with their signature at the start.
_ASF = bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c")
_MXF = bytes.fromhex("060e2b34")
_STARTS = (b"\x1a\x45\xdf\xa3", b"OggS", b"GIF87a", b"GIF89a", b"DHAV", b"dhav", b"DAHUA", _ASF, _MXF)
_RIFFS = frozenset({b"AVI ", b"AVIX", b"AVI\x19", b"AMV ", b"ON2f"})
_BOXES = frozenset(
    {b"ftyp", b"styp", b"moov", b"moof", b"mdat", b"pnot", b"sidx", b"jP  ", b"ediw", b"free", b"skip", b"wide",
     b"junk", b"pict", b"udta", b"uuid", b"prfl", b"emsg"}
)  # fmt: skip

# What damage leaves of one, anywhere in the file.
_INNER_BOXES = (b"ftyp", b"moov", b"mdat", b"moof", b"mvhd", b"trak", b"mdia", b"minf", b"stbl", b"stsd", b"stsz",
                b"stco", b"co64", b"traf", b"trun")  # fmt: skip
_CHUNKS = re.compile(
    rb"(?s)hdrlavih|LIST.{4}movi|LIST.{4}hdrl|strhvids|0[0-9]d[bc].{3}\x00"  # AVI
    rb"|\x1f\x43\xb6\x75.{1,8}?\xe7|\x16\x54\xae\x6b.{1,8}?\xae"  # Matroska: a cluster with its time, a track,
    rb"|\x1c\x53\xbb\x6b.{1,8}?\xbb|\x86.[VA]_[A-Z]{2}"  # cue points, the name of a codec
    rb"|\xa6\xd9\x00\xaa\x00\x62\xce\x6c|\x8e\xe4\x00\xc0\x0c\x20\x53\x65"  # ASF: the end of most of its GUIDs
    rb"|OggS\x00[\x00-\x07]"
    rb"|\x00\x00\x01\xba[\x21\x31\x44-\x7f]|\x00\x00\x01\xb3.{3}[\x11-\x8f]|\x00\x00\x01[\xe0-\xef].{2}[\x80-\x8f]"
    rb"|\x06\x0e\x2b\x34[\x01\x02]"  # MXF
    rb"|DHAV[\xf0-\xff]"
    rb"|\x09.{3}.{4}\x00\x00\x00[\x10-\x5f][\x00\x01]"  # FLV: a video tag
    rb"|FLV[\x01-\x04]"
)
_SYNC = b"\x47"
_PACKETS = (188, 192, 204)  # bytes of a packet of a transport stream
_IN_STEP = 5  # packets that begin with the sync byte, one after the other
_TEXT = re.compile(rb"[^\x00-\x08\x0e-\x1a\x1c-\x1f\x7f]*")


def not_a_video(clip: ClipFile) -> str | None:
    """Return what a file is instead of a video, or None if it has a signature of one. Raises OSError for a disk error.

    Reads at most 1.5 MB.
    """
    head = _read(clip, 0, _HEAD)
    if other := _other_format(head):
        return f"a video expected, found {other}"
    if _starts_as_video(head):
        return None
    zeros = True
    for part in _parts(clip, head):
        if zeros and part.strip(b"\0"):
            zeros = False
        if not zeros and _has_traces(part, clip.bytes):
            return None
    found = "only zeros" if zeros else "no signature of a video format"
    return f"a video expected, found {found} in {clip.bytes} bytes"


def _other_format(head: bytes) -> str | None:
    for signature, name in _OTHERS.items():
        if head.startswith(signature) and len(head) > len(signature):
            return name
    if head[4:8] == b"ftyp" and head[8:12] in _STILL_BRANDS:
        return f"a picture ({head[8:12].decode().strip()})"
    if head[:2] == b"BM" and head[6:10] == bytes(4):
        return "a BMP picture"
    if head[:4] == b"RIFF" and head[8:12] in (b"WEBP", b"WAVE"):
        return "a WebP picture" if head[8:12] == b"WEBP" else "a WAVE sound file"
    if head.strip() and _is_text(head[:4096]):
        start = head.lstrip(b"\xef\xbb\xbf \t\r\n")[:64].lower()
        return "a web page" if start.startswith((b"<!doctype html", b"<html", b"<head", b"<body")) else "text"
    return None


def _is_text(data: bytes) -> bool:
    """Return whether bytes are text: UTF-8, perhaps cut within a character, or UTF-16 with its mark."""
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        decoded = data[: len(data) // 2 * 2].decode("utf-16", "replace")
        return "\0" not in decoded and "\ufffd" not in decoded[:-1]
    if not _TEXT.fullmatch(data):
        return False
    try:
        data.decode()
    except UnicodeDecodeError as error:
        return error.start >= len(data) - 3 > 0
    return True


def _starts_as_video(head: bytes) -> bool:
    if head.startswith(_STARTS) or (head[:3] == b"FLV" and head[3:4] < b"\x05"):
        return True
    if head[8:12] in _RIFFS:
        return True
    if head[4:8] in _BOXES:
        return True
    begins = [head[start::length][:_IN_STEP] for length in _PACKETS for start in (0, 4)]
    return any(len(syncs) > 1 and not syncs.strip(_SYNC) for syncs in begins)


def _has_traces(part: bytes, size: int) -> bool:
    if _CHUNKS.search(part) or _in_step(part):
        return True
    return any(8 <= length <= size for kind in _INNER_BOXES for length in _lengths(part, kind))


def _lengths(part: bytes, kind: bytes) -> Iterator[int]:
    """Yield the length before each name of a box [bytes]."""
    place = part.find(kind, 4)
    while place >= 0:
        yield int.from_bytes(part[place - 4 : place], "big")
        place = part.find(kind, place + 1)


def _in_step(part: bytes) -> bool:
    """Return whether consecutive packets of a transport stream begin with the sync byte."""
    run = _SYNC * _IN_STEP
    return any(run in part[start::length] for length in _PACKETS for start in range(length))


def _parts(clip: ClipFile, head: bytes) -> Iterator[bytes]:
    """Yield the start, the end, and some places between."""
    yield head
    if clip.bytes <= len(head):
        return
    yield _read(clip, max(len(head), clip.bytes - _HEAD), _HEAD)
    between = clip.bytes - 2 * _HEAD
    for number in range(min(_SAMPLES, max(0, between) // _BODY)):
        yield _read(clip, _HEAD + between * number // _SAMPLES, _BODY)


def _read(clip: ClipFile, start: int, size: int) -> bytes:
    reader = clip.reader()
    reader.seek(start)
    data = b""
    while len(data) < size and (more := reader.read(size - len(data))):
        data += more
    return data
