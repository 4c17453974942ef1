"""Sound: that of an untrusted file, decoded again for its playback: one or two channels, in order, on the film's clock.

Channels are mixed and rates converted here, not by FFmpeg's filters: these start as many threads as the machine has
cores, which a process with a limit of its memory cannot afford.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.container import InputContainer

from clipdex.video.clip_file import ClipFile
from clipdex.video.container import open_container
from clipdex.video.packets import packets

BLOCK = 1024  # samples per frame of AAC
_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)  # of AAC, that browsers play [1/s]
_USUAL_RATE = 48000
_JUMP_S = 0.1  # shorter gaps and overlaps are rounding
_BEFORE_S = 1.0
_CENTRE = 0.7071

Samples = np.ndarray[Any, np.dtype[np.float32]]


class Sound:
    """The sound of one file. Ranges must be taken in order.

    zero_s: time on the file's clock that is 0 here [s]
    rate: samples per second
    channels: 1 or 2
    """

    def __init__(self, file: ClipFile, zero_s: float, from_s: float) -> None:
        """Open the sound, from from_s on. Raises LookupError if there is none."""
        self._zero_s = zero_s
        self._decoded = self._frames(file, from_s)
        first = next(self._decoded, None)
        if first is None:
            raise LookupError("a sound expected, found none that can be decoded")
        self.rate = first.sample_rate if first.sample_rate in _RATES else _USUAL_RATE
        self.channels = 1 if len(first.layout.channels) == 1 else 2
        self._waiting: tuple[float, Samples] | None = (self._time_of(first, 0.0), self._converted(first))

    def blocks(self, from_s: float, to_s: float) -> Iterator[Samples]:
        """Yield the samples of a range, a block after the other. Gaps are silent."""
        total = round((to_s - from_s) * self.rate)
        kept = [np.zeros((self.channels, 0), np.float32)]
        held = done = 0
        while done + held < total:
            piece = self._next(from_s, done + held, total)
            kept.append(piece)
            held += piece.shape[1]
            if held >= BLOCK:
                joined = np.concatenate(kept, axis=1)
                whole = held - held % BLOCK
                for first in range(0, whole, BLOCK):
                    yield joined[:, first : first + BLOCK]
                kept, done, held = [joined[:, whole:]], done + whole, held - whole
        if held:
            yield np.concatenate(kept, axis=1)

    def _next(self, from_s: float, position: int, total: int) -> Samples:
        """Return the samples at this position of a range, at least one and none behind its end."""
        while (waiting := self._waiting) is not None:
            start_s, samples = waiting
            late = round((start_s - from_s) * self.rate) - position
            if abs(late) < _JUMP_S * self.rate and position:
                late = 0
            if late > 0:
                return self._silence(min(late, total - position, _USUAL_RATE))
            samples = samples[:, -late:]
            if samples.shape[1] > total - position:  # the rest is of the next range
                cut = total - position
                begun_s = from_s + total / self.rate
                self._waiting = begun_s, samples[:, cut:]
                return samples[:, :cut]
            self._advance(start_s, waiting[1].shape[1])
            if samples.shape[1]:
                return samples
        return self._silence(min(total - position, _USUAL_RATE))

    def _advance(self, start_s: float, length: int) -> None:
        frame = next(self._decoded, None)
        expected_s = start_s + length / self.rate
        self._waiting = None if frame is None else (self._time_of(frame, expected_s), self._converted(frame))

    def _time_of(self, frame: AudioFrame, expected_s: float) -> float:
        if frame.pts is None or not frame.time_base:
            return expected_s
        return float(frame.pts * frame.time_base) - self._zero_s

    def _silence(self, length: int) -> Samples:
        return np.zeros((self.channels, max(1, length)), np.float32)

    def _frames(self, file: ClipFile, from_s: float) -> Iterator[AudioFrame]:
        with open_container(file) as container:
            streams = [one for one in container.streams.audio if one.codec_context is not None]
            if not streams:
                return
            stream = _default(container, streams)
            stream.codec_context.thread_count = 1
            if from_s > _BEFORE_S:
                with contextlib.suppress(av.FFmpegError):
                    container.seek(round((self._zero_s + from_s - _BEFORE_S) * av.time_base))
            for packet in packets(container, stream):
                yield from _decoded(stream, packet)
            yield from _decoded(stream, None)

    def _converted(self, frame: AudioFrame) -> Samples:
        samples = _mixed(_as_float(frame), self.channels)
        rate = frame.sample_rate
        if rate == self.rate or not rate or not samples.shape[1]:
            return samples
        length = max(1, round(samples.shape[1] * self.rate / rate))
        places = np.arange(length) * (rate / self.rate)
        return np.stack([np.interp(places, np.arange(samples.shape[1]), row) for row in samples]).astype(np.float32)


def _default(container: InputContainer, streams: list[AudioStream]) -> AudioStream:
    best = container.streams.best("audio")
    return next((one for one in streams if best is not None and one.index == best.index), streams[0])


def _decoded(stream: AudioStream, packet: Any) -> list[AudioFrame]:
    try:
        return [frame for frame in stream.codec_context.decode(packet) if frame.samples]
    except MemoryError:
        raise
    except (av.FFmpegError, ValueError):  # a broken packet is a gap
        return []


def _as_float(frame: AudioFrame) -> Samples:
    """Return the samples from -1 to 1, a row per channel."""
    values: Any = frame.to_ndarray()
    if not frame.format.is_planar:
        values = values.reshape(-1, len(frame.layout.channels)).T
    if values.dtype == np.uint8:
        values = (values.astype(np.float32) - 128) / 128
    elif values.dtype.kind == "i":
        values = values / -float(np.iinfo(values.dtype).min)
    samples: Samples = np.clip(np.nan_to_num(values), -1, 1).astype(np.float32)
    return samples


def _mixed(samples: Samples, channels: int) -> Samples:
    """Return as many channels, of a layout that begins with left, right and centre."""
    if samples.shape[0] == channels:
        return samples
    if samples.shape[0] == 1:
        return np.repeat(samples, channels, axis=0)
    if channels == 1:
        mean: Samples = samples.mean(axis=0, keepdims=True, dtype=np.float32)
        return mean
    mixed: Samples = samples[:2] + np.float32(_CENTRE) * samples[2:3]
    for number in range(4, samples.shape[0]):  # the fourth is that of low frequencies
        mixed[number % 2] += np.float32(_CENTRE) * samples[number]
    mixed /= np.float32(max(1.0, float(np.abs(mixed).max(initial=0.0))))
    return mixed
