"""Decode whole files plainly, in a process of its own with limits: every picture with its time and a thumbnail.

    python -m benchmarks.plain

Read one request per line as JSON: the path of a file, and where to write the pictures. Write one line of JSON per file,
a Plain. The pictures are arrays of numpy, per video stream: times_N [s], NaN for a picture without one, and thumbs_N,
grey and upright. No option of clipdex is used: PyAV opens the file as it does by default, and FFmpeg chooses the film.
"""

from __future__ import annotations

import hashlib
import json
import math
import resource
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

import av
import numpy as np
from av.container import InputContainer
from av.packet import Packet
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.reformatter import ColorTrc, Interpolation, VideoReformatter
from av.video.stream import VideoStream

SIDE = 16  # of a thumbnail [pixels]
_MEMORY_BYTES = 4 * 2**30
_CPU_S = 40
_WALL_S = 900.0
_ENDED = "plain decoding was ended"
_MOST_PICTURES = 60_000
_HDR = (ColorTrc.SMPTE2084, ColorTrc.ARIB_STD_B67)
_COVERS = Disposition.attached_pic | Disposition.timed_thumbnails | Disposition.still_image


@dataclass(frozen=True, slots=True)
class Film:
    """One video stream as plain decoding gives it.

    promised: pictures that the container's tables declare, 0 for none
    packets, discarded, encrypted: read packets; those of them that a player must not show; those that need a key
    last_s: display time of the last picture, 0 if unknown [s]
    cover: a picture beside the film, by its disposition
    """

    stream: int
    codec: str
    width: int
    height: int
    promised: int
    packets: int = 0
    discarded: int = 0
    pictures: int = 0
    errors: int = 0
    encrypted: int = 0
    last_s: float = 0.0
    cover: bool = False
    hdr: bool = False


@dataclass(frozen=True, slots=True)
class Plain:
    """What plain decoding finds in one file.

    failed: why the file does not open, "" if it does
    best: the stream that FFmpeg takes for the film, -1 for none
    declared_s: the container's duration, 0 if there is none [s]
    start_s: where a player's clock starts: with the earliest stream [s]
    """

    failed: str = ""
    format: str = ""
    best: int = -1
    declared_s: float = 0.0
    start_s: float | None = None
    films: tuple[Film, ...] = ()
    others: tuple[str, ...] = field(default=())

    @property
    def is_too_slow(self) -> bool:
        return self.failed.startswith(_ENDED)


class PlainDecoder:
    """Own the decoding process; restart it after a file that killed it. Results stay in a folder for the next run."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._process: subprocess.Popen[str] | None = None

    def decode(self, path: Path) -> tuple[Plain, dict[str, np.ndarray]]:
        """Decode the file; return the findings and the pictures. Plain.failed is set if the process died."""
        key = hashlib.sha256(f"{path} {path.stat().st_size}".encode()).hexdigest()[:32]
        pictures, found = self._folder / f"{key}.npz", self._folder / f"{key}.json"
        if not found.exists():
            found.write_text(self._request(path, pictures))
        values = json.loads(found.read_text())
        films = tuple(Film(**one) for one in values.pop("films", ()))
        plain = Plain(**{**values, "films": films, "others": tuple(values.pop("others", ()))})
        return plain, {} if plain.failed else dict(np.load(pictures))

    def _request(self, path: Path, pictures: Path) -> str:
        if self._process is None or self._process.poll() is not None:
            command = [sys.executable, "-m", "benchmarks.plain"]
            self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        process = self._process
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write(json.dumps([str(path), str(pictures)]) + "\n")
        process.stdin.flush()
        watch = threading.Timer(_WALL_S, process.kill)
        watch.start()
        answer = process.stdout.readline()
        watch.cancel()
        if not answer:
            self.close()
            return json.dumps({"failed": f"{_ENDED}: exit status {process.returncode}"})
        return answer

    def close(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def thumbnail(frame: VideoFrame, scaler: VideoReformatter) -> np.ndarray:
    """Return the picture in grey, upright, uint8 (SIDE, SIDE)."""
    small = scaler.reformat(frame, SIDE, SIDE, "gray", interpolation=Interpolation.AREA, threads=1).to_ndarray()
    try:
        sides: Any = frame.side_data
        matrix = sides.get("DISPLAYMATRIX")
    except ValueError:  # a kind that PyAV does not know
        return small
    if matrix is None:
        return small
    a, b, _, c, d = np.frombuffer(bytes(matrix), "<i4")[:5].astype(float)
    lengths = np.hypot(a, b), np.hypot(c, d)
    if not all(lengths):
        return small  # it shows nothing; players ignore it
    down, right = np.indices(small.shape) - (SIDE - 1) / 2
    # Each point comes from the inverse of (right, down) -> (a right + c down, b right + d down), without its scale.
    turn = np.array([[a, c], [b, d]]) / lengths
    x, y = np.einsum("ij,j...->i...", np.linalg.inv(turn), np.array([right, down]))
    near = [np.clip(np.rint(axis + (SIDE - 1) / 2), 0, SIDE - 1).astype(int) for axis in (y, x)]
    return small[near[0], near[1]]


def main() -> None:
    av.logging.set_level(None)
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))
    for line in sys.stdin:
        used = resource.getrusage(resource.RUSAGE_SELF)
        resource.setrlimit(resource.RLIMIT_CPU, (int(used.ru_utime + used.ru_stime) + _CPU_S, resource.RLIM_INFINITY))
        path, pictures = json.loads(line)
        print(json.dumps(asdict(_plain(path, pictures))), flush=True)


def _plain(path: str, pictures: str) -> Plain:
    try:
        container = av.open(f"file:{path}", metadata_errors="replace")
    except (av.FFmpegError, ValueError) as error:
        return Plain(failed=str(error))
    with container:
        streams = [s for s in container.streams.video if s.codec_context is not None]
        best = container.streams.best("video")
        counts: dict[int, Counter[str]] = {s.index: Counter() for s in streams}
        times: dict[int, list[float]] = {s.index: [] for s in streams}
        thumbs: dict[int, list[np.ndarray]] = {s.index: [] for s in streams}
        last_s: dict[int, float] = dict.fromkeys(times, 0.0)
        hdr: dict[int, bool] = dict.fromkeys(times, False)
        scaler = VideoReformatter()
        for index, frame in _frames(container, streams, counts):
            try:
                thumbs[index].append(thumbnail(frame, scaler))
            except (av.FFmpegError, ValueError):
                counts[index]["errors"] += 1
                continue
            times[index].append(math.nan if frame.time is None else frame.time)
            last_s[index] = float((frame.duration or 0) * (frame.time_base or 0))
            hdr[index] = frame.color_trc in _HDR
            if len(times[index]) >= _MOST_PICTURES:
                break
        np.savez(
            pictures,
            **{f"times_{n}": np.array(values) for n, values in times.items()},
            **{f"thumbs_{n}": np.array(values, np.uint8).reshape(-1, SIDE, SIDE) for n, values in thumbs.items()},
        )
        return Plain(
            format=container.format.name,
            best=-1 if best is None or best.index not in times else best.index,
            declared_s=(container.duration or 0) / 1e6,
            start_s=None if container.start_time is None else container.start_time / 1e6,
            films=tuple(
                Film(
                    stream=s.index,
                    codec=s.codec_context.codec.canonical_name,
                    width=s.codec_context.width,
                    height=s.codec_context.height,
                    promised=s.frames,
                    pictures=len(times[s.index]),
                    last_s=last_s[s.index],
                    cover=bool(s.disposition & _COVERS),
                    hdr=hdr[s.index],
                    **counts[s.index],
                )
                for s in streams
            ),
            others=tuple(str(s.type) for s in container.streams if s.index not in times),
        )


def _frames(
    container: InputContainer, streams: list[VideoStream], counts: dict[int, Counter[str]]
) -> Iterator[tuple[int, VideoFrame]]:
    """Yield the pictures of all streams with their stream's number, up to the end or the first damage of the container.

    A picture that cannot be decoded is counted as an error, as a player goes on after it.
    """
    read = container.demux(streams) if streams else iter(())
    open_streams = {s.index: s for s in streams}
    while True:
        try:
            packet = next(read, None)
        except (av.FFmpegError, IndexError):
            packet = None
        if packet is None:
            break
        stream = open_streams.get(packet.stream_index)
        if stream is None:
            continue
        count = counts[packet.stream_index]
        if packet.size:
            count["packets"] += 1
            count["discarded"] += packet.is_discard
            count["encrypted"] += packet.has_sidedata("encryption_info")
        else:
            del open_streams[packet.stream_index]  # an empty packet drains the decoder
        yield from _decoded(stream, packet, count)
    for index, stream in open_streams.items():
        yield from _decoded(stream, None, counts[index])


def _decoded(
    stream: VideoStream, packet: Packet[VideoStream] | None, count: Counter[str]
) -> Iterator[tuple[int, VideoFrame]]:
    try:
        frames = stream.codec_context.decode(packet)
    except (av.FFmpegError, ValueError, EOFError):
        count["errors"] += 1
        return
    for frame in frames:
        yield stream.index, frame


if __name__ == "__main__":
    main()
