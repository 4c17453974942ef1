"""Long files: parts that show what a player shows at their times, each in its own right."""

import itertools
import sys
from collections.abc import Sequence
from pathlib import Path

import av
import numpy as np
import pytest

from clipdex.config import Sampling, Settings, Split, VideoLimits
from clipdex.errors import ClipRejected, ConfigurationError, Reason
from clipdex.video import ClipFile, Part, Prepared, RejectedPart, prepare, probe, read_proxy
from clipdex.video.budget import Budget
from clipdex.video.cutting import Begin, Cut, SkippedPart, prepare_parts, windows
from clipdex.video.shots import require_shots
from tests.support.clips import mark_keyframes, number_above, number_of, numbered, scenes, write_clip
from tests.support.presented import LIES, lied
from tests.support.stamps import jump, restamp, stray, with_edits

FPS, SIZE = 10, (160, 96)
GROUPS = {"preset": "ultrafast", "g": "10", "bf": "2"}
LIMITS = VideoLimits(max_duration_s=20.0, split=Split.FIXED, part_s=10.0, min_part_s=2.0, max_file_s=200.0)
SHOTS = LIMITS.model_copy(update={"split": Split.SHOTS})


def _write(path: Path, seconds: float = 45.0, times: Sequence[float] | None = None, **how) -> Path:
    return write_clip(path, **{"fps": FPS, "size": SIZE, "options": GROUPS, "seconds": seconds, "times": times, **how})


def _all(path: Path, limits: VideoLimits = LIMITS, first: int = 0, start_s: float | None = None, **sampling) -> list:
    with ClipFile.open(path) as file:
        return list(prepare_parts(file, limits, Sampling(**sampling), Begin(first, first, start_s), Budget(limits)))


def _parts(path: Path, limits: VideoLimits = LIMITS, first: int = 0, start_s: float | None = None, **sampling) -> list:
    """Return the parts of a file that is cut."""
    cut, *parts = _all(path, limits, first, start_s, **sampling)
    assert isinstance(cut, Cut)
    return [one for one in parts if not isinstance(one, SkippedPart)]


def _spans(parts: Sequence[Prepared | RejectedPart]) -> list[tuple[float, float]]:
    """Return (start, end) of each part on the player's clock [s], rounded."""
    spans = [
        (one.info.start_s, one.info.end_s) if isinstance(one, Prepared) else (one.start_s, one.end_s) for one in parts
    ]
    return [(round(start_s, 3), round(end_s, 3)) for start_s, end_s in spans]


def _seen(part: Prepared, number=number_of) -> list[int]:
    return [number(picture) for window in part.windows for picture in read_proxy(window.proxy)]


def _numbers(part: Prepared, late_s: float = 0.0) -> list[int]:
    """Return the numbers of an even film at the times of the part."""
    return [int((time_s - late_s) * FPS + 1e-4) for time_s in part.times]


def _assert_in_order(parts: Sequence[Prepared | RejectedPart]) -> None:
    assert [one.part for one in parts] == [Part(n, n == len(parts) - 1) for n in range(len(parts))]
    assert all(before[1] == after[0] for before, after in itertools.pairwise(_spans(parts)))


# Fixed parts


def test_fixed_parts_have_equal_lengths_and_show_the_frames_at_their_times(tmp_path: Path) -> None:
    parts = _parts(_write(tmp_path / "a.mp4"))
    _assert_in_order(parts)
    assert _spans(parts) == [(0.0, 9.0), (9.0, 18.0), (18.0, 27.0), (27.0, 36.0), (36.0, 45.0)]
    assert [one.times for one in parts[:2]] == [
        tuple(n / 2 for n in range(18)),
        tuple(9 + n / 2 for n in range(18)),
    ]
    assert [_seen(one) for one in parts] == [_numbers(one) for one in parts]
    assert {one.proxy_fps for one in parts} == {2.0}
    assert all(one.poster.startswith(b"\xff\xd8") for one in parts)


def test_the_bytes_of_the_parts_are_those_of_the_packets(tmp_path: Path) -> None:
    path = _write(tmp_path / "a.mp4")
    with av.open(path) as container:
        assert sum(one.info.bytes for one in _parts(path)) == sum(one.size for one in container.demux(video=0))


def test_a_file_that_is_short_enough_is_prepared_as_without_cutting(tmp_path: Path) -> None:
    path = _write(tmp_path / "a.mp4", seconds=20)
    (clip,) = _all(path)
    assert clip == prepare(path, LIMITS, Sampling())
    assert clip.part is None


def test_without_cutting_a_long_file_is_refused(tmp_path: Path) -> None:
    path = _write(tmp_path / "a.mp4")
    limits = LIMITS.model_copy(update={"split": None})
    for use in (lambda: _all(path, limits), lambda: prepare(path, LIMITS, Sampling()), lambda: probe(path, limits)):
        with pytest.raises(ClipRejected) as caught:
            use()
        assert (caught.value.reason, caught.value.limit) == (Reason.TOO_LONG, "max_duration_s")


def test_a_file_that_is_too_long_to_cut_is_refused_with_its_limit(tmp_path: Path) -> None:
    with pytest.raises(ClipRejected) as caught:
        _all(_write(tmp_path / "a.mp4"), LIMITS.model_copy(update={"max_file_s": 40.0}))
    refusal = caught.value
    assert (refusal.reason, refusal.limit, refusal.found) == (Reason.TOO_LONG, "max_file_s", pytest.approx(45.0))


@pytest.mark.parametrize(
    ("sampling", "counts", "fps"),
    [
        ({}, [[18]], 2.0),
        ({"fps": 3.0}, [[26]], 3.0),  # 27 times: SGLang drops an odd last frame
        ({"max_frames": 12}, [[12]], 1.333),
        ({"max_frames": 4}, [[4, 4]], 1.0),  # 9 times at min_fps, in windows of 4
        ({"max_frames": 4, "min_fps": 0.1}, [[4]], 0.444),
        ({"fps": 0.1}, [[2]], 2 / 9),
    ],
)
def test_a_part_has_as_many_frames_as_a_request_takes(tmp_path: Path, sampling: dict, counts: list, fps: float) -> None:
    parts = _parts(_write(tmp_path / "a.mp4"), **sampling)
    assert [[len(window.times) for window in one.windows] for one in parts] == counts * 5
    assert all(one.proxy_fps == pytest.approx(fps, rel=0.01) for one in parts)
    assert [_seen(one) for one in parts] == [_numbers(one) for one in parts]
    for one in parts:
        assert (one.windows[0].start_s, one.windows[-1].end_s) == (one.info.start_s, pytest.approx(one.info.end_s))
        assert all(before.end_s == after.start_s for before, after in itertools.pairwise(one.windows))


@pytest.mark.parametrize(
    ("count", "most", "expected"),
    [
        (1, 32, [(0, 1)]),
        (2, 32, [(0, 2)]),
        (3, 32, [(0, 2)]),
        (30, 32, [(0, 30)]),
        (33, 32, [(0, 18), (18, 32)]),
        (65, 32, [(0, 22), (22, 44), (44, 64)]),
        (5, 2, [(0, 2), (2, 4)]),
        (3, 1, [(0, 1), (1, 2), (2, 3)]),
    ],
)
def test_windows_have_even_numbers_of_pictures(count: int, most: int, expected: list[tuple[int, int]]) -> None:
    assert [(one.start, one.stop) for one in windows(count, most)] == expected


# Shots


def test_parts_between_shots_begin_with_the_first_frame_of_a_shot(tmp_path: Path) -> None:
    path = _write(tmp_path / "a.mp4", seconds=40, picture=scenes(53, 120, 187, 250, 333))
    parts = _parts(path, SHOTS)
    _assert_in_order(parts)
    assert _spans(parts) == [(0.0, 5.3), (5.3, 12.0), (12.0, 18.7), (18.7, 25.0), (25.0, 33.3), (33.3, 40.0)]
    assert parts[1].times[:3] == (5.3, 5.8, 6.3)
    assert [_seen(one, number_above) for one in parts] == [_numbers(one) for one in parts]


@pytest.mark.parametrize(
    ("cuts", "expected"),
    [
        # A flash is no shot: what is shorter than min_part_s belongs to the part before.
        ([50, 55, 100, 200], [5.0, 10.0, 20.0, 30.0]),
        # A long shot: each part as long as allowed, a rest that is long enough for itself.
        ([30, 260], [3.0, 13.0, 23.0, 26.0, 35.0]),
        # Its rest is shorter than min_part_s: the last two parts share.
        ([30, 245], [3.0, 13.0, 18.5, 24.5, 34.5]),
        ([30, 140], [3.0, 8.5, 14.0, 24.0]),
        # The film ends too soon for another part.
        ([60, 120, 180, 209], [6.0, 12.0, 18.0, 22.0]),
    ],
)
def test_short_and_long_shots_give_parts_within_the_limits(
    tmp_path: Path, cuts: list[int], expected: list[float]
) -> None:
    path = _write(tmp_path / "a.mp4", seconds=expected[-1], picture=scenes(*cuts))
    parts = _parts(path, SHOTS)
    assert _spans(parts) == list(itertools.pairwise([0.0, *expected]))
    assert [_seen(one, number_above) for one in parts] == [_numbers(one) for one in parts]
    assert all(SHOTS.min_part_s <= one.info.duration_s <= SHOTS.part_s + 1e-6 for one in parts)


def test_a_still_film_is_cut_at_the_longest_part(tmp_path: Path) -> None:
    path = _write(tmp_path / "a.mkv", times=[0.0, 40.0, 40.1, 45.0], picture=lambda n, size: numbered(n // 3, size))
    parts = _parts(path, SHOTS)
    _assert_in_order(parts)
    assert [end_s for _, end_s in _spans(parts)][:4] == [10.0, 20.0, 30.0, 40.0]
    assert {number for one in parts[:4] for number in _seen(one)} == {0}


# What a player shows


_OPEN = "log-level=none:keyint=20:open-gop=1"
FILMS = {
    "late video": ("a.mp4", {"times": [3 + k / FPS for k in range(450)], "audio_seconds": 48}),
    "AVI counts pictures": ("a.avi", {"codec": "mpeg4", "options": {"bf": "2"}}),
    "AVI with H.264": ("a.avi", {"options": {"bf": "0", "g": "50"}}),
    "one group of pictures": ("a.mkv", {"options": {"g": "1000", "bf": "2"}}),
    "keyframes alone": ("a.mov", {"codec": "mjpeg", "options": {}, "pix_fmt": "yuvj420p", "color_range": 2}),
    "open groups": ("a.mp4", {"codec": "libx265", "options": {"preset": "ultrafast", "x265-params": _OPEN}}),
}  # fmt: skip


CUTS = {Split.FIXED: [9.0, 18.0, 27.0, 36.0, 45.0], Split.SHOTS: [6.0, 12.0, 18.0, 24.0, 33.3, 39.3, 45.0]}


@pytest.mark.parametrize("limits", [LIMITS, SHOTS], ids=["fixed", "shots"])
@pytest.mark.parametrize(("name", "how"), FILMS.values(), ids=FILMS)
def test_parts_count_on_the_clock_of_a_player_of_the_file(
    tmp_path: Path, name: str, how: dict, limits: VideoLimits
) -> None:
    """The first two shots and the last one are longer than a part, by less than the shortest one."""
    parts = _parts(_write(tmp_path / name, **how, picture=scenes(120, 240, 333)), limits)
    late_s = parts[0].info.start_s
    assert late_s == pytest.approx(3.0 if "times" in how else 0.0, abs=0.03)
    _assert_in_order(parts)
    assert limits.split is not None
    assert [end_s - late_s for _, end_s in _spans(parts)] == pytest.approx(CUTS[limits.split], abs=0.01)
    assert [_seen(one, number_above) for one in parts] == [_numbers(one, late_s) for one in parts]


@pytest.mark.parametrize("limits", [LIMITS, SHOTS], ids=["fixed", "shots"])
@pytest.mark.parametrize(
    ("edits", "duration_s"),
    [([(5.0, 30.0)], 30.0), ([(2.0, 15.0), (20.0, 12.0)], 27.0), ([(None, 4.0), (1.0, 25.0)], 25.0)],
    ids=["both ends cut", "two spans", "an empty start"],
)
def test_parts_of_an_edited_film_show_what_a_player_shows(
    tmp_path: Path, edits: list, duration_s: float, limits: VideoLimits
) -> None:
    path = _write(tmp_path / "a.mp4", seconds=40, picture=scenes(100, 250))
    shifted = [(None if start is None else start + 0.2, length_s) for start, length_s in edits]
    path.write_bytes(with_edits(path.read_bytes(), shifted))
    with av.open(path) as container:
        shown = [
            (
                float(frame.pts * frame.time_base) - (container.start_time or 0) / 1e6,
                number_above(frame.to_ndarray(format="rgb24")),
            )
            for frame in container.decode(video=0)
        ]
    parts = _parts(path, limits)
    _assert_in_order(parts)
    assert (parts[0].info.start_s, parts[-1].info.end_s) == pytest.approx((0.0, duration_s), abs=0.11)
    for one in parts:
        expected = [[number for at_s, number in shown if at_s <= time_s + 1e-3][-1] for time_s in one.times]
        assert _seen(one, number_above) == expected


@pytest.mark.parametrize("change", [jump(20.0, 500.0), stray(20.0, 90.0), jump(20.0, -5.0)])
def test_a_clock_that_jumps_makes_no_film_longer(tmp_path: Path, change) -> None:
    path = _write(tmp_path / "a.ts", seconds=40, options={"g": "10", "bf": "0"})
    with av.open(path) as container:
        first_s = min(float(one.pts * one.time_base) for one in container.demux(video=0) if one.pts is not None)
    restamp(path, lambda time_s: first_s + max(0.0, change(time_s - first_s)))
    parts = _parts(path)
    assert _spans(parts) == [(0.0, 10.0), (10.0, 20.0), (20.0, 30.0), (30.0, 40.0)]
    assert [_seen(one) for one in parts] == [_numbers(one) for one in parts]


@pytest.mark.parametrize("name", LIES)
def test_a_declared_length_cuts_nothing_and_adds_nothing(tmp_path: Path, name: str) -> None:
    codec = {"codec": "mpeg4", "options": {}} if name.endswith("avi") else {}
    (clip,) = _all(lied(_write(tmp_path / name, seconds=8, **codec), name, 7200.0))
    assert (clip.part, clip.info.duration_s) == (None, pytest.approx(8.0, abs=0.05))
    parts = _parts(lied(_write(tmp_path / name, seconds=24, **codec), name, 2.0))
    assert [end_s for _, end_s in _spans(parts)] == pytest.approx([8.0, 16.0, 24.0], abs=0.05)


# Going on in mid-file


@pytest.mark.parametrize("limits", [LIMITS, SHOTS], ids=["fixed", "shots"])
@pytest.mark.parametrize(
    ("name", "cuts"), [("a.mp4", [120, 240, 333]), ("a.avi", [120, 240, 333]), ("still.mp4", [])], ids=str
)
def test_going_on_at_a_part_gives_the_same_parts(
    tmp_path: Path, limits: VideoLimits, name: str, cuts: list[int]
) -> None:
    how = {"codec": "mpeg4", "options": {}} if name.endswith("avi") else {}
    path = _write(tmp_path / name, **how, picture=scenes(*cuts))
    parts = _parts(path, limits)
    for first in range(1, len(parts)):
        assert _parts(path, limits, first) == parts[first:]
        assert _parts(path, limits, first, parts[first].info.start_s) == parts[first:]
    assert _parts(path, limits, 99) == parts[-1:]


def test_what_is_before_the_first_part_is_not_decoded(tmp_path: Path) -> None:
    path = _write(tmp_path / "a.mp4", picture=scenes(120, 240, 333))
    parts = _parts(path, SHOTS)
    data = bytearray(path.read_bytes())
    with av.open(path) as container:
        early = [one for one in container.demux(video=0) if one.size and one.pts * one.time_base < 20]
    for packet in early:
        data[packet.pos : packet.pos + packet.size] = bytes(packet.size)
    path.write_bytes(data)
    assert parts[4].info.start_s == 24.0
    assert _parts(path, SHOTS, 4, 24.0) == parts[4:]


@pytest.mark.parametrize("codec", ["h263", "mpeg4"])
def test_wrong_keyframe_marks_are_not_trusted_where_decoding_goes_on(tmp_path: Path, codec: str) -> None:
    whole = write_clip(tmp_path / "whole.mov", fps=25, size=(176, 144), codec=codec, options={"g": "600"}, seconds=30)
    path = mark_keyframes(whole, tmp_path / "a.mov")
    for first in (0, 2):
        parts = _parts(path, LIMITS, first)
        assert [one.part.number for one in parts] == list(range(first, 3))
        assert [_seen(one) for one in parts] == [[int(time_s * 25 + 1e-4) for time_s in one.times] for one in parts]


# Damage


def _damaged(path: Path, start_s: float, end_s: float) -> Path:
    """Erase the packets between two times."""
    data = bytearray(path.read_bytes())
    with av.open(path) as container:
        for packet in container.demux(video=0):
            if packet.size and start_s <= packet.pts * packet.time_base < end_s:
                data[packet.pos : packet.pos + packet.size] = bytes(packet.size)
    path.write_bytes(data)
    return path


def test_a_damaged_part_costs_only_itself(tmp_path: Path) -> None:
    path = _write(tmp_path / "a.mp4")
    whole = _parts(path)
    parts = _parts(_damaged(path, 19, 27))
    _assert_in_order(parts)
    assert [isinstance(one, Prepared) for one in parts] == [True, True, False, True, True]
    assert isinstance(parts[2], RejectedPart)
    assert (parts[2].rejection.reason, _spans(parts)) == (Reason.UNDECODABLE, _spans(whole))
    assert "frames from 18.00 to 26.50 s expected, found none after 18.90 s" in parts[2].rejection.detail
    assert [*parts[:2], *parts[3:]] == [*whole[:2], *whole[3:]]


def test_a_film_whose_first_pictures_are_damaged_starts_later_as_a_clip_does(tmp_path: Path) -> None:
    parts = _parts(_damaged(_write(tmp_path / "a.mp4", options={"g": "10", "bf": "0"}), 0, 9))
    _assert_in_order(parts)
    assert _spans(parts) == [(9.0, 18.0), (18.0, 27.0), (27.0, 36.0), (36.0, 45.0)]
    assert [_seen(one) for one in parts] == [_numbers(one) for one in parts]


@pytest.mark.parametrize("limits", [LIMITS, SHOTS], ids=["fixed", "shots"])
def test_a_film_that_cannot_be_decoded_to_its_end_keeps_the_parts_before(tmp_path: Path, limits: VideoLimits) -> None:
    path = _write(tmp_path / "a.mp4")
    parts = _parts(_damaged(path, 19, 50), limits)
    _assert_in_order(parts)
    assert isinstance(parts[0], Prepared) and not isinstance(parts[-1], Prepared)
    late = [one for one in parts if _spans([one])[0][0] >= 19]
    assert late and all(isinstance(one, RejectedPart) for one in late)
    assert _spans(parts)[-1][1] == 45.0


def test_a_file_without_a_frame_that_can_be_decoded_is_refused_as_a_whole(tmp_path: Path) -> None:
    with pytest.raises(ClipRejected) as caught:
        _parts(_damaged(_write(tmp_path / "a.mp4"), 0, 50))
    assert caught.value.reason is Reason.UNDECODABLE


def test_a_truncated_file_loses_only_its_last_part(tmp_path: Path) -> None:
    path = _write(tmp_path / "a.mp4", container_options={"movflags": "+faststart"})
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * 0.7)])
    *parts, last = _parts(path)
    assert len(parts) >= 2 and all(isinstance(one, Prepared) for one in parts)
    assert isinstance(last, RejectedPart) and last.part.last
    assert (last.rejection.reason, last.end_s < 36) == (Reason.TRUNCATED_FILE, True)
    assert "the index has frames up to" in last.rejection.detail


# Limits


def test_a_part_that_is_too_large_costs_only_itself(tmp_path: Path) -> None:
    noise = np.random.default_rng(0)

    def picture(number: int, size: tuple[int, int]) -> np.ndarray:
        if 200 <= number < 260:
            return noise.integers(0, 256, (size[1], size[0], 3), np.uint8)
        return numbered(number, size)

    path = _write(tmp_path / "a.mp4", picture=picture)
    limits = LIMITS.model_copy(update={"max_bytes": 200_000})
    assert path.stat().st_size > limits.max_bytes
    parts = _parts(path, limits)
    assert [isinstance(one, Prepared) for one in parts] == [True, True, False, True, True]
    refusal = parts[2].rejection
    assert (refusal.reason, refusal.limit) == (Reason.TOO_LARGE, "max_bytes")
    assert refusal.found > limits.max_bytes


def test_a_file_may_have_the_bytes_of_as_many_clips_as_it_may_be_long(tmp_path: Path) -> None:
    path = _write(tmp_path / "a.mp4", seconds=5)
    limits = LIMITS.model_copy(update={"max_bytes": path.stat().st_size - 1})
    assert limits.file_bytes == 10 * limits.max_bytes
    with path.open("ab") as file:  # a short film in a large file is too large, as without cutting
        file.write(b"\0\0\0\x08free")
    with pytest.raises(ClipRejected) as caught:
        _all(path, limits)
    assert (caught.value.reason, caught.value.found) == (Reason.TOO_LARGE, path.stat().st_size)
    with path.open("ab") as file:
        file.truncate(limits.file_bytes + 1)
    with pytest.raises(ClipRejected) as caught:
        _all(path, limits)
    assert (caught.value.reason, caught.value.found) == (Reason.TOO_LARGE, limits.file_bytes + 1)


class _Spent:
    """A budget that is used up, and what it grants."""

    def __init__(self, limits: VideoLimits) -> None:
        self.passed = 0
        self.budget = Budget(limits.model_copy(update={"decode_timeout_s": -1e6}), self._count)

    def _count(self) -> None:
        self.passed += 1

    def granted(self) -> float:
        """Return the time in all [s], as the error gives it."""
        with pytest.raises(ClipRejected, match="CPU time") as caught:
            self.budget.check()
        return float(caught.value.detail.split()[2]) + 1e6


def test_reading_gets_time_for_the_film_that_was_read_up_to_the_longest_file() -> None:
    spent = _Spent(LIMITS)
    spent.budget.read(100.0)
    assert (spent.granted(), spent.passed) == (pytest.approx(2.0), 1)
    spent.budget.read(50.0)  # never back
    spent.budget.read(1e9)
    assert (spent.granted(), spent.passed) == (pytest.approx(4.0), 2)
    spent.budget.read(2e9)
    assert (spent.granted(), spent.passed) == (pytest.approx(4.0), 2)


def test_without_cutting_reading_gets_no_more_time() -> None:
    spent = _Spent(LIMITS.model_copy(update={"split": None}))
    spent.budget.read(100.0)
    spent.budget.decoded(100.0)
    assert (spent.granted(), spent.passed) == (0.0, 0)


def test_a_stamp_far_ahead_is_no_film_that_was_read(tmp_path: Path) -> None:
    """64 packets stand for 64 seconds at most, and a header for none."""
    path = restamp(_write(tmp_path / "a.ts", seconds=40), lambda time_s: time_s + 80_000 * (time_s > 20))
    granted = []

    class Watched(Budget):
        def read(self, film_s: float) -> None:
            granted.append(film_s)
            super().read(film_s)

    with ClipFile.open(path) as file:
        list(prepare_parts(file, LIMITS, Sampling(), Begin(), Watched(LIMITS)))
    assert len(granted) == 6 and max(granted) < 40 + 64


# Settings


@pytest.mark.parametrize(
    ("video", "error"),
    [
        ({"part_s": 30.0, "max_duration_s": 20.0}, "part_s 30 must be at most max_duration_s 20"),
        ({"part_s": 3.0}, "min_part_s 2 must be at most half of part_s 3"),
        ({"max_file_s": 60.0}, "max_file_s 60 must be at least max_duration_s 120"),
        ({"split": "scenes"}, "'shots' or 'fixed'"),
    ],
)
def test_settings_that_do_not_fit_are_named(video: dict, error: str) -> None:
    with pytest.raises(ConfigurationError, match=error):
        Settings.load(video={"split": "shots", **video})


@pytest.mark.parametrize("nothing", ["", "null"])
def test_an_empty_variable_cuts_no_file(monkeypatch, nothing: str) -> None:
    monkeypatch.setenv("CLIPDEX_VIDEO__SPLIT", nothing)
    assert Settings.load().video.split is None


def test_cutting_between_shots_without_its_packages_is_an_error_before_the_work(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "scenedetect", None)
    require_shots(LIMITS)
    with pytest.raises(ConfigurationError, match=r"pip install 'clipdex\[shots\]'"):
        require_shots(SHOTS)
