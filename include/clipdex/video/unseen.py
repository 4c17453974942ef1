"""Unseen packets: those at the start and at the end of a film for which the decoder gives no picture.

A recorder or a segmenter cuts a stream in mid-group: the first packets refer to pictures that the file does not hold. A
player starts with the first picture that it can decode. Such a cut shows in the packets, so that nothing is decoded in
other files: the first packet is no keyframe, or a picture of its group is shown before it.

A damaged last picture of a GIF may have any delay. Only its last packets are decoded here, behind the first one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator

import av
from av.packet import Packet
from av.stream import Stream
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame

from clipdex.video.packets import Track

_MOST_TRAILING = 16


def is_cut(track: Track) -> bool:
    """Return whether the film may begin with packets that give no picture."""
    pts = track.stamps.pts
    if not pts or pts[0] is None or 0 in track.stamps.hidden:
        return False
    if not track.groups or track.groups[0] > 0:
        return True
    end = track.groups[1] if len(track.groups) > 1 else len(pts)
    return any(stamp is not None and stamp < pts[0] for stamp in pts[:end])


def leading(
    track: Track, packets: Iterator[Packet[Stream]], context: VideoCodecContext, check: Callable[[], None]
) -> set[int]:
    """Return the numbers of the packets before the first picture; none if no packet gives a picture.

    packets: of the film, from the first one
    check() is called per packet and may raise.
    """
    read = 0
    for packet in packets:
        check()
        read += 1
        if frames := decoded(context, packet):
            break
    else:
        frames = decoded(context, None)
    first = frames[0].pts if frames else None
    if first is None or first not in track.stamps.pts[:read]:
        return set()
    return {n for n, stamp in enumerate(track.stamps.pts[:read]) if stamp is not None and stamp < first}


def trailing(track: Track, packets: Iterator[Packet[Stream]], context: VideoCodecContext) -> set[int]:
    """Return the numbers of the packets of a GIF after the last picture; none if no packet gives a picture.

    packets: of the film, from the first one
    """
    first = next(packets, None)
    if first is None:
        return set()
    end = len(track.stamps.pts)
    images = [first, *deque(packets, maxlen=_MOST_TRAILING)]
    for back, image in enumerate(reversed(images)):
        if image is not first:  # the decoder needs the first picture for any other
            decoded(context, first)
        frames = decoded(context, image)
        context.flush_buffers()
        if frames:
            return set(range(end - back, end)) if image is not first else set(range(1, end))
    return set()


def decoded(context: VideoCodecContext, packet: Packet[Stream] | None) -> list[VideoFrame]:
    """Decode a packet; return no pictures if it is broken."""
    try:
        return context.decode(packet)
    except MemoryError:
        raise
    except av.FFmpegError:
        return []
