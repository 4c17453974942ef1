"""Test the sample archive of the demo, clip by clip."""

import hashlib
import re
from collections import Counter
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest
from rapidocr import RapidOCR

from clipdex.config import Settings, VideoLimits
from clipdex.errors import ClipRejected
from clipdex.storage.source import Source
from clipdex.video import probe
from demo.samples import CAPTIONED, DAYS, Sample, write_samples, write_tiny_clips


@pytest.fixture(scope="module")
def archive(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("archive")


@pytest.fixture(scope="module")
def samples(archive) -> list[Sample]:
    return write_samples(archive)


@pytest.mark.slow
def test_three_days_hold_at_least_sixteen_good_clips_and_one_of_each_broken_kind(samples):
    counts = Counter(sample.expected for sample in samples)
    assert counts.pop(CAPTIONED) >= 16
    assert counts == {"empty_file": 1, "no_video": 1, "truncated_file": 1}
    assert {sample.day for sample in samples} == set(DAYS)


def test_each_file_is_accepted_or_rejected_for_the_expected_reason(samples):
    assert {s.path: _seen(s.path) for s in samples} == {s.path: s.expected for s in samples}


def test_discovery_finds_every_sample_on_its_day(archive, samples):
    source = Source(Settings.load(source={"url": str(archive)}))
    found = {(day, archive / clip.path) for day in DAYS for clip in source.day(day)}
    assert found == {(sample.day, sample.path) for sample in samples}


def test_good_clips_last_two_to_twelve_seconds(samples):
    durations = [probe(s.path, VideoLimits()).duration_s for s in samples if s.expected == CAPTIONED]
    assert min(durations) == pytest.approx(2, abs=0.1)
    assert max(durations) == pytest.approx(12, abs=0.1)


def test_the_archive_mixes_codecs(samples):
    codecs = {probe(s.path, VideoLimits()).codec for s in samples if s.expected == CAPTIONED}
    assert {"h264", "mpeg4", "vp9"} <= codecs


def test_one_file_is_an_exact_copy_under_another_name_on_another_day(samples):
    by_content: dict[str, list[Sample]] = {}
    for sample in samples:
        by_content.setdefault(_digest(sample.path), []).append(sample)
    [(one, two)] = [same for same in by_content.values() if len(same) > 1]
    assert one.path.name != two.path.name
    assert one.day != two.day


@pytest.mark.slow
def test_most_clips_are_real_footage(samples):
    """Count clips without a dominant colour: title cards are mostly of their background's colour."""
    assert sum(_commonest_colour(s.path) < 0.3 for s in samples if s.expected == CAPTIONED) >= 14


@pytest.mark.parametrize("words", ["EXIT", "PLATFORM 9", "SALE 50%", "OPEN", "STOP"])
def test_words_on_screen_can_be_read(samples, words, reader):
    pictures = _pictures(_showing(samples, words).path)
    read = reader(pictures[len(pictures) // 2]).txts
    assert words.replace(" ", "") in "".join(read or ()).replace(" ", "")


def test_shots_are_separated_by_hard_cuts(samples):
    pictures = _pictures(_showing(samples, "three shots").path)
    changes = [np.abs(b.astype(int) - a).mean() for a, b in pairwise(pictures)]
    assert sum(change > 40 for change in changes) == 2


def test_file_names_do_not_reveal_the_content(samples):
    assert all(re.fullmatch(r"cam-[a-z]-\d{4}\.\w+", sample.path.name) for sample in samples)


def test_writing_again_keeps_existing_clips_and_adds_missing_ones(archive, samples):
    missing, *kept = samples
    before = {s.path: s.path.stat().st_mtime_ns for s in kept}
    missing.path.unlink()
    assert write_samples(archive) == samples
    assert {s.path: s.path.stat().st_mtime_ns for s in kept} == before
    assert _seen(missing.path) == missing.expected


@pytest.mark.slow
def test_an_interrupted_write_leaves_no_clip(tmp_path, samples):
    """Check that discovery ignores the part file of a killed writer, and that the next writer replaces it."""
    folder = tmp_path / "2026" / "11" / "02"
    folder.mkdir(parents=True)
    (folder / "cam-a-0001.mp4.part").write_bytes(b"half a clip")
    assert list(Source(Settings.load(source={"url": str(tmp_path)})).day("2026-11-02")) == []
    write_samples(tmp_path)
    assert list(tmp_path.rglob("*.part")) == []


def test_tiny_clips_are_good_clips_of_two_seconds_and_no_two_alike(tmp_path):
    paths = write_tiny_clips(tmp_path, 40, "2026-11-05")
    assert len({_digest(path) for path in paths}) == 40
    assert len({_pictures(path)[0].tobytes() for path in paths}) == 40
    assert {probe(path, VideoLimits()).duration_s for path in paths} == {2.0}
    assert {path.parent for path in paths} == {tmp_path / "2026" / "11" / "05"}


@pytest.fixture(scope="module")
def reader() -> RapidOCR:
    return RapidOCR()


def _seen(path: Path) -> str:
    try:
        probe(path, VideoLimits())
    except ClipRejected as refusal:
        return str(refusal.reason)
    return CAPTIONED


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _showing(samples: list[Sample], words: str) -> Sample:
    return next(sample for sample in samples if words in sample.shows)


def _pictures(path: Path) -> list[np.ndarray]:
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def _commonest_colour(path: Path) -> float:
    """Return the share of the most common colour in a clip's first picture, at 5 bits per channel."""
    with av.open(str(path)) as container:
        picture = next(container.decode(video=0)).to_ndarray(format="rgb24")
    _, counts = np.unique(picture.reshape(-1, 3) // 8, axis=0, return_counts=True)
    return float(counts.max() / counts.sum())
