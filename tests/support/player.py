"""Decode whole files with a plain player, in its own process with limits, to verify rejections.

    python -m tests.support.player

Read one path per line, as JSON. Write one line of JSON per path: the findings of a player without our limits.
"""

import json
import resource
import subprocess
import sys
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Self

import av
from av.stream import Disposition

_MEMORY_BYTES = 3 * 2**30
# Containers with video and time stamps; no raw streams, single pictures or playlists.
_CONTAINERS = {
    "mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm", "avi", "mpegts", "mpeg", "ogg", "flv", "live_flv", "asf", "gif", "mxf",
    "nut", "rm", "wtv",
}  # fmt: skip
_MOST_PACKETS = 200_000
_MOST_PIXELS = 7680 * 4320


@dataclass(frozen=True, slots=True)
class Shown:
    """The player's findings. Packets, pictures and pixels are those of the largest video stream.

    opens: the format is known
    films: decodable video streams without covers
    packets, pictures: packets read, pictures decoded
    declared_s, start_s: duration and start as declared in the file [s]
    ends_s: end of the last packet after the first one's start [s]
    shown_s: time of the last picture after the first packet's start [s]
    pixels: as declared
    plays_s: from the first picture to the end of the last one, of the usual step [s]
    tail: packets after the last one that gave a picture
    promised, promised_s: pictures in the index, and time of its last shown one after the first packet's start [s]
    """

    opens: bool = False
    films: int = 0
    packets: int = 0
    pictures: int = 0
    declared_s: float = 0.0
    start_s: float = 0.0
    ends_s: float = 0.0
    shown_s: float = 0.0
    pixels: int = 0
    plays_s: float = 0.0
    tail: int = 0
    promised: int = 0
    promised_s: float = 0.0


class Player:
    """Own the player process; restart it after a file that killed it."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None

    def show(self, path: Path) -> Shown | None:
        """Return the findings, or None if the player process died on this file."""
        if self._process is None or self._process.poll() is not None:
            command = [sys.executable, "-m", "tests.support.player"]
            self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps(str(path)) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            self.close()
            return None
        return Shown(**json.loads(answer))

    def close(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def main() -> None:
    av.logging.set_level(None)
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))
    for line in sys.stdin:
        used = resource.getrusage(resource.RUSAGE_SELF)
        resource.setrlimit(resource.RLIMIT_CPU, (int(used.ru_utime + used.ru_stime) + 60, resource.RLIM_INFINITY))
        print(json.dumps(asdict(_show(json.loads(line)))), flush=True)


def _show(path: str) -> Shown:
    try:
        container = av.open(f"file:{path}", metadata_errors="replace")
    except av.FFmpegError:
        return Shown()
    with container:
        if container.format.name not in _CONTAINERS:
            return Shown()
        declared_s, start_s = (container.duration or 0) / 1e6, (container.start_time or 0) / 1e6
        covers = Disposition.attached_pic
        films = [s for s in container.streams.video if s.codec_context and not s.disposition & covers]
        if not films:
            return Shown(True, declared_s=declared_s, start_s=start_s)
        film = max(films, key=lambda s: s.codec_context.width * s.codec_context.height)
        pixels = film.codec_context.width * film.codec_context.height
        packets = pictures = tail = 0
        starts, ends, seen = [], [], []
        if pixels <= _MOST_PIXELS:
            for packet in _packets(container, film):
                packets += bool(packet.size)
                clock = float(packet.time_base or 0)
                if packet.pts is not None:
                    starts.append(packet.pts * clock)
                    ends.append((packet.pts + (packet.duration or 0)) * clock)
                found = _pictures(packet)
                tail = 0 if found else tail + bool(packet.size)
                for frame in found:
                    pictures += 1
                    if frame.time is not None:
                        seen.append(frame.time)
                if packets > _MOST_PACKETS:
                    break
        first = min(starts, default=0.0)
        ends_s, shown_s = max(ends, default=first) - first, max(seen, default=first) - first
        steps = sorted(after - before for before, after in pairwise(sorted(seen)))
        plays_s = max(seen, default=0.0) - min(seen, default=0.0) + (steps[len(steps) // 2] if steps else 0.0)
        index = [one.timestamp for one in film.index_entries if not one.is_discard]
        promised_s = float(max(index) * (film.time_base or 0)) - first if index else 0.0
        return Shown(
            True, len(films), packets, pictures, declared_s, start_s, ends_s, shown_s, pixels, plays_s, tail,
            film.frames, promised_s,
        )  # fmt: skip


def _packets(container, film):
    read = container.demux(film)
    while True:
        try:
            yield next(read)
        except (StopIteration, av.FFmpegError, IndexError):
            return


def _pictures(packet):
    try:
        return packet.decode()
    except (av.FFmpegError, ValueError):
        return []


if __name__ == "__main__":
    main()
