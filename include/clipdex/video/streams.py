"""Streams: the film among the video streams of a file.

A film is not: cover art, a still beside the film (motion photos), thumbnails, an alpha or depth track, a short or slow
preview. Their marks decide, where a file has marks; then the number of pictures and the length; then the default flag;
then the area; then the order in the file. So two equal films, as of a dual camera, give the first one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from av.stream import Disposition
from av.video.stream import VideoStream

from clipdex.video.clip_file import ClipFile, ClipReader
from clipdex.video.packets import PacketIndex

_ACCESSORY = Disposition.timed_thumbnails | Disposition.still_image | Disposition.dependent | Disposition.non_diegetic
_PICTURES, _LENGTH = 1 / 4, 1 / 2  # a film has at least this share of the most pictures and of the longest length
_AUXILIARY = (b"auxv", b"auxl", b"vdep", b"thmb")  # handler, or reference to the track that it belongs to
_PARENTS = (b"moov", b"trak", b"mdia", b"tref")
_MOST_BOXES = 10_000


@dataclass(frozen=True, slots=True)
class Film:
    """One candidate. note: which of several films this is, or ""."""

    stream: VideoStream
    index: PacketIndex
    note: str = ""


def is_picture(stream: VideoStream) -> bool:
    """Return whether the stream is cover art, which is never a film."""
    return bool(int(stream.disposition) & int(Disposition.attached_pic))


def ranked(candidates: Sequence[tuple[VideoStream, PacketIndex]], file: ClipFile) -> list[Film]:
    """Return the candidates, the film first."""
    if len(candidates) == 1:
        return [Film(*candidates[0])]
    auxiliary = auxiliary_tracks(file)
    marked = {
        stream.index for stream, _ in candidates if int(stream.disposition) & _ACCESSORY or stream.id in auxiliary
    }
    films = [one for one in candidates if one[0].index not in marked] or list(candidates)
    most = max(len(index.shown) for _, index in films)
    longest_s = max(index.duration_s for _, index in films)
    films = [
        (stream, index)
        for stream, index in films
        if len(index.shown) >= _PICTURES * most and index.duration_s >= _LENGTH * longest_s
    ] or films
    chosen = {stream.index for stream, _ in films}

    def rank(one: tuple[VideoStream, PacketIndex]) -> tuple[bool, bool, int, bool, int, int]:
        stream, index = one
        is_film = stream.index in chosen
        is_default = bool(int(stream.disposition) & int(Disposition.default))
        pictures = 0 if is_film else -len(index.shown)
        return not is_film, stream.index in marked, pictures, not is_default, -_area(stream), stream.index

    order = sorted(candidates, key=rank)
    return [Film(stream, index, _note(stream, films)) for stream, index in order]


def auxiliary_tracks(file: ClipFile) -> set[int]:
    """Return the track ids of alpha, depth and thumbnail tracks in an MP4 or MOV file; FFmpeg does not mark them."""
    found = set[int]()
    track = 0
    for kind, content in _boxes(file.reader(), 0, file.bytes):
        if kind == b"tkhd" and len(content) >= 24:
            place = 20 if content[0] == 1 else 12
            track = int.from_bytes(content[place : place + 4], "big")
        elif kind in _AUXILIARY or (kind == b"hdlr" and content[8:12] in _AUXILIARY):
            found.add(track)
    return found


def _boxes(file: ClipReader, start: int, end: int) -> Iterator[tuple[bytes, bytes]]:
    """Yield (kind, first 24 bytes of the content) of the boxes that may describe a track, with those inside."""
    pending = [(start, end)]
    for _ in range(_MOST_BOXES):
        while pending and pending[-1][0] + 8 > pending[-1][1]:
            pending.pop()
        if not pending:
            return
        start, end = pending.pop()
        file.seek(start)
        head = file.read(40)
        length, kind, content = int.from_bytes(head[:4], "big"), head[4:8], head[8:32]
        if length == 1:
            length, content = int.from_bytes(head[8:16], "big"), head[16:40]
        if length < 8:
            return
        pending.append((start + length, end))
        if kind in _PARENTS:
            pending.append((start + 8, min(start + length, end)))
        else:
            yield kind, content


def _note(stream: VideoStream, films: Sequence[tuple[VideoStream, PacketIndex]]) -> str:
    if len(films) < 2:
        return ""
    others = ", ".join(f"{one.index} ({_size(one)})" for one, _ in films if one.index != stream.index)
    return f"video stream {stream.index} ({_size(stream)}) of several films; not described: stream {others}"


def _size(stream: VideoStream) -> str:
    return f"{stream.codec_context.width}x{stream.codec_context.height}"


def _area(stream: VideoStream) -> int:
    return stream.codec_context.width * stream.codec_context.height
