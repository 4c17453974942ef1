"""Container: FFmpeg's formats and decoders, opened for untrusted files."""

from __future__ import annotations

import av
from av.container import InputContainer
from av.packet import Packet
from av.stream import Stream
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame

from clipdex.errors import ClipRejected, Reason
from clipdex.video.clip_file import ClipFile

# Self-contained formats only: a playlist or a concat script would open other files.
_OPTIONS = {
    "format_whitelist": "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,ogg,flv,asf,mxf,dhav,gif",
    "protocol_whitelist": "",  # no protocol: FFmpeg opens nothing, it reads through ClipReader
    "max_streams": "64",
}


def open_container(file: ClipFile) -> InputContainer:
    """Open a clip. Raises ClipRejected for a format that is not on the list, OSError for a disk error."""
    try:
        return av.open(file.reader(), "r", options=_OPTIONS, metadata_errors="replace")
    except MemoryError:
        raise
    except av.FFmpegError as error:
        raise ClipRejected(
            Reason.UNDECODABLE, f"a clip expected, found an unsupported format ({error.strerror})"
        ) from error


def decode(context: VideoCodecContext, packet: Packet[Stream] | None) -> list[VideoFrame] | None:
    """Decode a packet; return None if it is broken."""
    try:
        return context.decode(packet)
    except MemoryError:
        raise
    except av.FFmpegError:
        return None
