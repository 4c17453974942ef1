"""Playback: an mp4 for browsers, on the clock of its clip, with its index at the front.

of_proxies()  the pictures that the engine sees, each at its time; nothing is encoded again
Recorder      the pictures that are decoded anyway, up to 30 per second and 480 pixels on the shorter side, with the
              sound of the file

Second 0 of a playback is second 0 of a player of the file; of a part of a long file, it is the part's beginning. If
the first picture comes later, as behind a sound, it is shown from second 0 on.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.container import OutputContainer
from av.video.frame import PictureType, VideoFrame
from av.video.stream import VideoStream

from clipdex.errors import ClipRejected
from clipdex.video.encoding import FrameConverter, describe
from clipdex.video.sound import BLOCK, Samples, Sound

if TYPE_CHECKING:
    from clipdex.video.decoding import VideoReader
    from clipdex.video.sampling import Window

MOST_BYTES = 32 * 2**20
_SHORT_SIDE = 480
_MOST_FPS = 30
_STEP_S = 1 / _MOST_FPS
_NEAR_S = 0.002  # between two times that are one
_KEY_S = 2.0  # between two keyframes: a player decodes from the one before
_CLOCK = Fraction(1, 90_000)
_BITS = 1_500_000  # most per second, also for noise
_SOUND_BITS = 48_000  # per second and channel, at 16 kHz and above
_PLAYED = {"preset": "superfast", "tune": "zerolatency", "crf": "25", "forced-idr": "1", "keyint": "250"}
_SAMPLE_RATE = 16_000  # of with_silence()
_PROXY_OPTIONS = {"codec_whitelist": "h264", "protocol_whitelist": ""}


@dataclass(frozen=True, slots=True)
class _Packet:
    """An encoded picture. start_s: when it is shown [s]; key: decoding can begin here."""

    start_s: float
    data: bytes
    key: bool


def of_proxies(windows: Sequence[Window], from_s: float, to_s: float) -> bytes:
    """Return the pictures of the proxies as one playback; b"" if they cannot be joined.

    from_s, to_s: what is second 0, and the end [s on a player's clock of the file]
    """
    try:
        with _opened(windows[0].proxy) as first:
            stream = first.streams.video[0]
            shown: list[_Packet] = []
            for window in windows:
                shown += _of_proxy(window, from_s, bytes(stream.codec_context.extradata or b""))
            return _joined(stream, shown, to_s - from_s, None, ())
    except (av.FFmpegError, ValueError, LookupError):
        return b""


def with_silence(proxy: bytes, length_s: float) -> bytes:
    """Return a proxy with a silent sound, a sample for a process that is to decode films with one."""
    out = io.BytesIO()
    with _opened(proxy) as film, av.open(out, "w", format="mp4") as container:
        stream = container.add_stream_from_template(film.streams.video[0])
        sound = container.add_stream("aac", rate=_SAMPLE_RATE, layout="mono")
        for packet in (one for one in film.demux(video=0) if one.size):
            packet.stream = stream
            container.mux(packet)
        for number in range(int(length_s * _SAMPLE_RATE / BLOCK)):
            frame = AudioFrame.from_ndarray(np.zeros((1, BLOCK), np.float32), format="fltp", layout="mono")
            frame.sample_rate, frame.pts, frame.time_base = _SAMPLE_RATE, number * BLOCK, Fraction(1, _SAMPLE_RATE)
            container.mux(sound.encode(frame))
        container.mux(sound.encode(None))
    return out.getvalue()


class Recorder:
    """Encodes the pictures of one film while they are decoded. Times are seconds from its first picture.

    It gives up if half of the CPU time for the clip is used, or would be: the clip comes before its playback.
    """

    def __init__(self, reader: VideoReader) -> None:
        self._reader = reader
        self._encoder = _Encoder(reader.pixel_aspect)
        self._packets: list[_Packet] = []
        self._sound: Sound | None = None
        self._has_sound = True
        self._waiting: tuple[float, VideoFrame] | None = None  # too soon after the one before
        self._shown: VideoFrame | None = None
        self._latest_s = self._key_s = -1.0
        self._paced_s = -1.0  # of the latest frame that is none shown again
        self.is_on = True

    def add(self, start_s: float, frame: VideoFrame, key: bool = False) -> bool:
        """Encode a frame, of the film's frames in order; return whether more are wanted.

        key: a part may begin with it
        """
        if self.is_on and not self._reader.budget.spares_half(start_s, self._reader.duration_s):
            self._stop()
        if not self.is_on or start_s <= self._latest_s:
            return self.is_on
        try:
            self._emit_waiting(start_s)
            if key or not self._packets or start_s >= self._paced_s + _STEP_S - _NEAR_S:
                self._emit(start_s, frame, key)
            else:
                self._waiting = start_s, frame
        except (av.FFmpegError, ClipRejected, ValueError):
            self._stop()
        return self.is_on

    def begin_at(self, time_s: float) -> None:
        """Make sure that a part can begin at this time, with the frame that is on screen."""
        if not self.is_on or abs(self._key_s - time_s) <= _NEAR_S or time_s <= self._latest_s:
            return
        try:
            if self._waiting is not None:
                self._emit(time_s, self._waiting[1], key=True)
            elif self._shown is not None:
                self._encode(time_s, self._shown, key=True)
        except (av.FFmpegError, ClipRejected, ValueError):
            self._stop()

    def take(self, from_s: float, to_s: float, lead_s: float = 0.0) -> bytes:
        """Return the playback of a range; b"" if there is none. Ranges must be taken in order.

        lead_s: how long the first picture is shown before from_s [s]
        """
        if self.is_on and self._waiting is not None and self._waiting[0] < to_s - _NEAR_S:
            try:
                self._emit_waiting(to_s)
            except (av.FFmpegError, ClipRejected, ValueError):
                self._stop()
        before = [one for one in self._packets if one.start_s < to_s - _NEAR_S]
        self._packets = self._packets[len(before) :]
        shown = [one for one in before if one.start_s >= from_s - _NEAR_S]
        if not self.is_on or not shown or not shown[0].key or (shown[0].start_s > from_s + _NEAR_S and from_s > 0):
            return b""
        moved = [_Packet(max(0.0, one.start_s - from_s + lead_s), one.data, one.key) for one in shown]
        moved[0] = _Packet(0.0, moved[0].data, True)
        try:
            sound, blocks = self._sound_of(from_s - lead_s, to_s)
            return _joined(self._encoder.stream, moved, to_s - from_s + lead_s, sound, blocks)
        except (av.FFmpegError, ValueError, _TooLong):
            self._stop()
            return b""

    def _stop(self) -> None:
        self.is_on = False
        self._packets, self._waiting, self._shown = [], None, None

    def _emit_waiting(self, before_s: float) -> None:
        """Encode the waiting frame if it stays on screen when its turn comes."""
        if self._waiting is None:
            return
        start_s, frame = self._waiting
        self._waiting = None
        turn_s = max(start_s, self._paced_s + _STEP_S)
        if turn_s < before_s - _NEAR_S:
            self._emit(turn_s, frame, key=False)

    def _emit(self, start_s: float, frame: VideoFrame, key: bool) -> None:
        self._encode(start_s, self._encoder.picture(frame), key)
        self._paced_s = start_s

    def _encode(self, start_s: float, picture: VideoFrame, key: bool) -> None:
        key = key or self._key_s < 0 or start_s >= self._key_s + _KEY_S - _NEAR_S
        self._packets += self._encoder.encode(start_s, picture, key)
        self._latest_s, self._shown, self._waiting = start_s, picture, None
        if key:
            self._key_s = start_s

    def _sound_of(self, from_s: float, to_s: float) -> tuple[Sound | None, Iterable[Samples]]:
        if self._sound is None and self._has_sound:
            try:
                self._sound = self._reader.sound(from_s)
            except (LookupError, ClipRejected, av.FFmpegError, ValueError):
                self._has_sound = False
        if self._sound is None:
            return None, ()
        return self._sound, self._in_time(self._sound.blocks(from_s, to_s))

    def _in_time(self, blocks: Iterator[Samples]) -> Iterator[Samples]:
        for block in blocks:
            if not self._reader.budget.spares_half():
                raise _TooLong
            yield block


class _TooLong(Exception):
    """The sound takes too much CPU time."""


class _Encoder:
    """Encodes pictures without delay. stream: the template of the streams that hold its packets."""

    def __init__(self, pixel_aspect: float) -> None:
        self._pixel_aspect = pixel_aspect
        self._converter: FrameConverter | None = None
        self._container = av.open(io.BytesIO(), "w", format="mp4")  # only holds the stream, nothing is written to it
        self.stream: VideoStream = self._container.add_stream("libx264", rate=_MOST_FPS)

    def picture(self, frame: VideoFrame) -> VideoFrame:
        """Convert a frame. Raises ClipRejected if its format is not supported."""
        if self._converter is None:
            self._converter = FrameConverter(frame, self._pixel_aspect, _SHORT_SIDE)
        return self._converter.picture(frame)

    def encode(self, start_s: float, picture: VideoFrame, key: bool) -> list[_Packet]:
        context = self.stream.codec_context
        if not context.is_open:
            describe(context, picture, Fraction(_MOST_FPS))
            context.time_base = _CLOCK
            context.options = {**_PLAYED, "maxrate": str(_BITS), "bufsize": str(_BITS)}
            self._container.start_encoding()
        picture.pts, picture.time_base = round(start_s / _CLOCK), _CLOCK
        picture.pict_type = PictureType.I if key else PictureType.NONE
        return [_Packet(start_s, bytes(one), one.is_keyframe) for one in self.stream.encode(picture)]


def _of_proxy(window: Window, from_s: float, setup: bytes) -> Iterator[_Packet]:
    """Yield the pictures of a proxy at their times. Raises ValueError if a decoder needs another set-up for them."""
    with _opened(window.proxy) as container:
        if bytes(container.streams.video[0].codec_context.extradata or b"") != setup:
            raise ValueError("proxies of one set-up expected, found several")
        packets = [one for one in container.demux(video=0) if one.size]
        for packet, time_s in zip(packets, window.times, strict=True):
            yield _Packet(max(0.0, time_s - from_s), bytes(packet), packet.is_keyframe)


def _opened(proxy: bytes) -> Any:
    return av.open(io.BytesIO(proxy), "r", format="mp4", options=_PROXY_OPTIONS)


def _joined(
    template: VideoStream, shown: Sequence[_Packet], length_s: float, sound: Sound | None, blocks: Iterable[Samples]
) -> bytes:
    """Return an mp4 of these pictures, the first one from second 0 on, with the sound; b"" if it is too large."""
    out = io.BytesIO()
    options = {"movflags": "+faststart"}  # reads the output back to move the index
    starts = [0.0, *(one.start_s for one in shown[1:])]
    ends = [*starts[1:], length_s]
    with av.open(out, "w", format="mp4", options=options, io_open=lambda *_: io.BytesIO(out.getvalue())) as container:
        stream = container.add_stream_from_template(template)
        stream.time_base = _CLOCK
        heard = _Heard(container, sound, blocks) if sound is not None else None
        stamp = -1
        for one, start_s, end_s in zip(shown, starts, ends, strict=True):
            if heard is not None:
                heard.write_until(start_s)
            packet = av.Packet(one.data)
            stamp = max(stamp + 1, round(start_s / _CLOCK))
            packet.stream, packet.time_base, packet.is_keyframe = stream, _CLOCK, one.key
            packet.pts = packet.dts = stamp
            packet.duration = max(1, round(end_s / _CLOCK) - stamp)
            container.mux(packet)
        if heard is not None:
            heard.close()
    return out.getvalue() if out.tell() <= MOST_BYTES else b""


class _Heard:
    """Encodes a sound into a container, so far as its pictures are written."""

    def __init__(self, container: OutputContainer, sound: Sound, blocks: Iterable[Samples]) -> None:
        self._container, self._blocks, self._samples, self._rate = container, iter(blocks), 0, sound.rate
        self._layout = "mono" if sound.channels == 1 else "stereo"
        self._stream = container.add_stream("aac", rate=sound.rate, layout=self._layout)
        self._stream.codec_context.bit_rate = sound.channels * min(_SOUND_BITS, 3 * sound.rate)
        self._stream.codec_context.thread_count = 1

    def write_until(self, time_s: float) -> None:
        """Encode the sound up to this time."""
        while self._samples < time_s * self._rate and (block := next(self._blocks, None)) is not None:
            frame = AudioFrame.from_ndarray(block.copy(), format="fltp", layout=self._layout)
            frame.sample_rate, frame.pts, frame.time_base = self._rate, self._samples, Fraction(1, self._rate)
            self._samples += block.shape[1]
            self._container.mux(self._stream.encode(frame))

    def close(self) -> None:
        """Encode the rest."""
        self.write_until(float("inf"))
        self._container.mux(self._stream.encode(None))
