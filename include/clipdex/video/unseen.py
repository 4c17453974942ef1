"""Unseen packets: those at the start and at the end of a film for which the decoder gives no picture.

A recorder or a segmenter cuts a stream in mid-group: the first packets refer to pictures that the file does not hold. A
player starts with the first picture that it can decode. Such a cut shows in the packets, so that nothing is decoded in
other files: the first packet is no keyframe, or a picture of its group is shown before it.

A damaged last picture of a GIF may have any delay. Only its last packets are decoded here, behind the first one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import replace

from av.container import InputContainer
from av.packet import Packet
from av.stream import Stream
from av.video.codeccontext import VideoCodecContext

from clipdex.config import VideoLimits
from clipdex.video.budget import Budget
from clipdex.video.clip_file import ClipFile
from clipdex.video.container import decode, open_container
from clipdex.video.packets import PacketIndex, Track, Tracks, packets
from clipdex.video.streams import Film

_MOST_TRAILING = 16


def without_unseen(
    film: Film,
    tracks: Tracks,
    container: InputContainer,
    file: ClipFile,
    limits: VideoLimits,
    budget: Budget,
) -> Film:
    """Return the film without the packets at its start and its end that give no picture."""
    (track,) = (one for one in tracks.video if one.stream.index == film.stream.index)
    name = container.format.name
    is_cut = _is_cut(track)
    if track.encrypted or not (is_cut or name == "gif"):
        return film
    context = film.stream.codec_context
    if context.width * context.height > limits.max_pixels:
        return film
    with open_container(file) as again:
        stream = again.streams.video[[one.index for one in again.streams.video].index(film.stream.index)]
        stream.codec_context.thread_count = 1
        source = packets(again, stream)
        if is_cut:
            hidden = _leading(track, source, stream.codec_context, budget)
            track.lead = len(hidden)
        else:
            hidden = _trailing(track, source, stream.codec_context)
    if not hidden:
        return film
    track.stamps.hidden |= hidden
    return replace(film, index=PacketIndex.of(track, name, tracks.sound))


def _is_cut(track: Track) -> bool:
    """Return whether the film may begin with packets that give no picture."""
    pts = track.stamps.pts
    if not pts or pts[0] is None or 0 in track.stamps.hidden:
        return False
    if not track.groups or track.groups[0] > 0:
        return True
    end = track.groups[1] if len(track.groups) > 1 else len(pts)
    return any(stamp is not None and stamp < pts[0] for stamp in pts[:end])


def _leading(track: Track, source: Iterator[Packet[Stream]], context: VideoCodecContext, budget: Budget) -> set[int]:
    """Return the numbers of the packets before the first picture; none if no packet gives a picture.

    source: packets of the film, from the first one
    """
    read = 0
    for packet in source:
        budget.check()
        read += 1
        if frames := decode(context, packet):
            break
    else:
        frames = decode(context, None)
    first = frames[0].pts if frames else None
    if first is None or first not in track.stamps.pts[:read]:
        return set()
    return {n for n, stamp in enumerate(track.stamps.pts[:read]) if stamp is not None and stamp < first}


def _trailing(track: Track, source: Iterator[Packet[Stream]], context: VideoCodecContext) -> set[int]:
    """Return the numbers of the packets of a GIF after the last picture; none if no packet gives a picture.

    source: packets of the film, from the first one
    """
    first = next(source, None)
    if first is None:
        return set()
    end = len(track.stamps.pts)
    images = [first, *deque(source, maxlen=_MOST_TRAILING)]
    for back, image in enumerate(reversed(images)):
        if image is not first:  # the decoder needs the first picture for any other
            decode(context, first)
        frames = decode(context, image)
        context.flush_buffers()
        if frames:
            return set(range(end - back, end)) if image is not first else set(range(1, end))
    return set()
