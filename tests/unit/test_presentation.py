"""A clip is what a player shows: edit lists, clock jumps, stray stamps, wrong headers, video that starts late."""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from clipdex.config import Sampling, VideoLimits
from clipdex.errors import ClipRejected, Reason
from clipdex.video import Prepared, prepare, probe, read_proxy
from clipdex.video.timeline import Sound, Stamps, timeline
from tests.support.clips import mark_keyframes, number_of, write_clip
from tests.support.presented import LIES, lied
from tests.support.screens import screen_recording
from tests.support.stamps import Change, Edit, jump, restamp, stray, with_edits

FPS, FRAME_S = 10, 0.1
LIMITS = VideoLimits()
SIZE = (160, 96)
GROUPS = {"g": "10", "bf": "0"}
FRAGMENTS = {"movflags": "+frag_every_frame+empty_moov+default_base_moof"}
# Per container: its options, and the time of the first frame, which gives Matroska's stamps three bytes.
CONTAINERS: dict[str, tuple[dict[str, str], float]] = {
    "ts": ({}, 0.0),
    "mkv": ({"cluster_time_limit": "1"}, 3600.0),
    "flv": ({}, 0.0),
    "mp4": (FRAGMENTS, 0.0),
}


def _prepare(path: Path, **sampling: float) -> Prepared:
    return prepare(path, LIMITS, Sampling(**sampling))


def _seen(clip: Prepared) -> list[int]:
    return [number_of(picture) for window in clip.windows for picture in read_proxy(window.proxy)]


def _shown(path: Path) -> list[tuple[float, int]]:
    """Return (time, number) of the frames that PyAV decodes, as a player does; times from the start of the file [s]."""
    with av.open(path) as container:
        start_s = (container.start_time or 0) / 1e6
        return [
            (float(frame.pts * frame.time_base) - start_s, number_of(frame.to_ndarray(format="rgb24")))
            for frame in container.decode(video=0)
        ]


def _assert_like_a_player(path: Path) -> None:
    clip, shown = _prepare(path), _shown(path)
    assert clip.info.duration_s == pytest.approx(shown[-1][0] + FRAME_S - shown[0][0], abs=FRAME_S)
    assert clip.info.start_s == pytest.approx(shown[0][0], abs=FRAME_S)
    assert _seen(clip) == [[number for start, number in shown if start <= time + 1e-3][-1] for time in clip.times]


def _numbers(clip: Prepared) -> list[int]:
    """Return the numbers of an even film at the times of the clip."""
    return [int((time - clip.info.start_s) * FPS + 1e-6) for time in clip.times]


def _write(path: Path, times: Sequence[float] | None = None, seconds: float = 10.0, **how) -> Path:
    return write_clip(path, **{"fps": FPS, "size": SIZE, "options": GROUPS, "seconds": seconds, "times": times, **how})


# Edit lists


EDITS: dict[str, list[Edit]] = {
    "head cut": [(5.0, 3.0)],
    "tail cut": [(0.0, 3.0)],
    "both cut": [(2.0, 3.0)],
    "a moment at the end": [(7.6, 0.4)],
    "two spans": [(1.0, 1.5), (5.0, 2.0)],
    "two spans, swapped": [(5.0, 2.0), (1.0, 1.5)],
    "the same span twice": [(2.0, 1.5), (2.0, 1.5)],
    "five spans": [(0.5, 0.7), (2.0, 0.5), (3.0, 1.2), (5.5, 0.3), (7.0, 0.9)],
    "an empty start": [(None, 1.5), (0.0, 3.0)],
    "an empty start and a cut": [(None, 2.0), (4.0, 3.0)],
    "an empty middle": [(0.0, 2.0), (None, 2.0), (4.0, 2.0)],
    "longer than the film": [(7.0, 5.0)],
    "twice as fast": [(0.0, 4.0, 2.0)],
    "dwelling": [(2.0, 3.0, 0.0)],
}


@pytest.mark.parametrize("options", [GROUPS, {"g": "250", "bf": "0"}, {"g": "250", "bf": "3"}, {"g": "25", "bf": "2"}])
@pytest.mark.parametrize("edits", EDITS.values(), ids=EDITS)
def test_an_edited_clip_is_what_a_player_shows(tmp_path: Path, edits: list[Edit], options: dict[str, str]) -> None:
    path = _write(tmp_path / "a.mp4", seconds=8, options=options)
    delay_s = 0.0 if options["bf"] == "0" else 0.2  # of B-frames
    shifted = [(None if start is None else start + delay_s, *rest) for start, *rest in edits]
    path.write_bytes(with_edits(path.read_bytes(), shifted))
    _assert_like_a_player(path)


def test_an_edited_clip_is_as_long_and_as_fast_as_it_plays(tmp_path: Path) -> None:
    path = _write(tmp_path / "a.mp4", seconds=20, options={"g": "1000", "bf": "0"})
    path.write_bytes(with_edits(path.read_bytes(), [(12.0, 4.0)]))
    info = probe(path, LIMITS)
    assert (info.duration_s, info.fps) == (pytest.approx(4.0), pytest.approx(FPS))


def test_hidden_frames_make_no_clip_too_long(tmp_path: Path) -> None:
    path = _write(tmp_path / "a.mp4", seconds=30)
    path.write_bytes(with_edits(path.read_bytes(), [(5.0, 10.0)]))
    assert prepare(path, VideoLimits(max_duration_s=12), Sampling()).info.duration_s == pytest.approx(10.0)


def test_an_edit_list_that_hides_every_frame_is_named(tmp_path: Path) -> None:
    path = _write(tmp_path / "a.mp4", seconds=4)
    path.write_bytes(with_edits(path.read_bytes(), [(20.0, 3.0)]))
    refusal = _refused(path)
    assert refusal.reason is Reason.UNDECODABLE
    assert "all hidden by an edit list" in refusal.detail


# Jumps of the clock and stray stamps

JUMPS: dict[str, Change] = {
    "forward by a second": jump(5, 1),
    "forward by a minute": jump(5, 60),
    "forward by an hour": jump(5, 3600),
    "back by three seconds": jump(5, -3),
    "back to the start": jump(5, -5),
    "several forward": lambda time_s: time_s + 7 * int(time_s / 2.5 + 1e-6),
    "forward and back": lambda time_s: time_s + 50 * (3 <= time_s + 1e-6 < 6),
    "back and forward": lambda time_s: time_s - 2 * (3 <= time_s + 1e-6 < 6) + 30 * (time_s + 1e-6 >= 6),
    "a stray stamp far ahead": stray(5, 1000),
    "a stray stamp ahead": stray(3.3, 20),
    "a stray stamp behind": stray(5.2, -3),
    "the last stamp far ahead": stray(9.9, 500),
    "the first stamp far behind": jump(0.1, 700),
}


# Of fragments of MP4 that go back, FFmpeg hides what overlaps: the next test.
JUMPING = {
    f"{name}-{ending}": (change, ending)
    for name, change in JUMPS.items()
    for ending in CONTAINERS
    if (name, ending) not in {("back by three seconds", "mp4"), ("back to the start", "mp4")}
}


@pytest.mark.parametrize("b_frames", ["0", "2"])
@pytest.mark.parametrize(("change", "ending"), JUMPING.values(), ids=JUMPING)
def test_a_clock_that_jumps_is_closed_up(tmp_path: Path, change: Change, ending: str, b_frames: str) -> None:
    options, first_s = CONTAINERS[ending]
    times = [first_s + number / FPS for number in range(100)]
    path = _write(tmp_path / f"a.{ending}", times, options={**GROUPS, "bf": b_frames}, container_options=options)
    with av.open(path) as container:
        first_s = min(float(one.pts * one.time_base) for one in container.demux(video=0) if one.pts is not None)
    clip = _prepare(restamp(path, lambda time_s: first_s + change(time_s - first_s)))
    assert clip.info.duration_s == pytest.approx(10.0, abs=FRAME_S + 1e-3)
    assert np.abs(np.subtract(_seen(clip), _numbers(clip))).max() <= 1


@pytest.mark.parametrize("by_s", [-3, -5])
def test_fragments_that_go_back_keep_all_that_a_player_shows(tmp_path: Path, by_s: float) -> None:
    path = restamp(_write(tmp_path / "a.mp4", container_options=FRAGMENTS), jump(5, by_s))
    clip = _prepare(path)
    assert clip.info.duration_s == pytest.approx(len(_shown(path)) * FRAME_S, abs=FRAME_S)
    assert sorted(_seen(clip)) == _seen(clip)


@pytest.mark.parametrize("ending", ["mp4", "mkv", "ts", "flv"])
@pytest.mark.parametrize("b_frames", ["0", "2"])
def test_an_encoder_whose_clock_jumps_writes_one_film(tmp_path: Path, ending: str, b_frames: str) -> None:
    times = [k / FPS for k in range(50)] + [65 + k / FPS for k in range(50)]
    clip = _prepare(_write(tmp_path / f"a.{ending}", times, options={**GROUPS, "bf": b_frames}))
    assert clip.info.duration_s == pytest.approx(10.0, abs=FRAME_S + 1e-3)
    assert np.abs(np.subtract(_seen(clip), _numbers(clip))).max() <= 1


@pytest.mark.parametrize("by_s", [60, -4])
def test_a_clock_that_moves_picture_and_sound_is_closed_up(tmp_path: Path, by_s: float) -> None:
    path = _write(tmp_path / "a.ts", audio_seconds=10)
    clip = _prepare(restamp(path, jump(6.46, by_s)))
    assert clip.info.duration_s == pytest.approx(10.0, abs=FRAME_S)
    assert _seen(clip) == _numbers(clip)


@pytest.mark.parametrize("gap_s", [5, 60])
def test_a_clock_that_moves_the_picture_alone_is_closed_up(tmp_path: Path, gap_s: float) -> None:
    times = [k / FPS for k in range(50)] + [5 + gap_s + k / FPS for k in range(50)]
    assert probe(_write(tmp_path / "a.mp4", times, audio_seconds=10), LIMITS).duration_s == pytest.approx(10.0)


@pytest.mark.parametrize("first_s", [2**33 / 90000 - 5, 2**33 / 90000 - 1.45, 2**33 / 90000 - 70])
def test_the_clock_of_a_transport_stream_wraps(tmp_path: Path, first_s: float) -> None:
    path = restamp(_write(tmp_path / "a.ts", audio_seconds=10), lambda time_s: time_s + first_s)
    clip = _prepare(path)
    assert clip.info.duration_s == pytest.approx(10.0, abs=FRAME_S)
    assert _seen(clip) == _numbers(clip)


def test_a_jump_by_a_day_in_a_film_of_varying_rate_is_closed_up(tmp_path: Path) -> None:
    steps = [0.04, 0.04, 0.3, 0.05, 0.04, 0.25, 0.04, 0.1] * 6
    times = [sum(steps[:k]) + 93_600 * (k >= 20) for k in range(len(steps))]
    duration_s = probe(_write(tmp_path / "a.mkv", times), LIMITS).duration_s
    assert duration_s == pytest.approx(sum(steps), abs=0.3)


# Real long steps

SCREEN = [
    0, .1, .2, .7, 3, 3.1, 3.9, 20, 20.1, 20.2, 21, 23, 24.5, 24.6, 50, 50.4, 50.5, 51, 55, 55.1, 55.2,
]  # fmt: skip


@pytest.mark.parametrize("ending", ["mp4", "mkv", "ts"])
@pytest.mark.parametrize(
    ("times", "expected_s"),
    [
        ([5.0 * k for k in range(20)], 95),
        ([0.0, 55.0, 110.0], 110),
        (SCREEN, 55.3),
        ([burst + k / FPS for burst in (0, 30, 60, 90) for k in range(4)], 90.4),
        ([k / FPS + 0.5 * (k >= 20) + 2.0 * (k >= 50) for k in range(100)], 12.5),
    ],
    ids=["time lapse", "a picture a minute", "frozen screen", "bursts", "pauses"],
)
def test_a_real_still_stays(tmp_path: Path, times: list[float], expected_s: float, ending: str) -> None:
    duration_s = probe(_write(tmp_path / f"a.{ending}", times), LIMITS).duration_s
    assert duration_s == pytest.approx(expected_s, abs=0.06 * expected_s)


def test_pictures_that_are_reordered_by_32_places_keep_their_stamps() -> None:
    """As VVC does. The first packet is the last picture of its group."""
    order = [32, *range(32), *range(33, 60)]
    stamps = Stamps(Fraction(1, 25), pts=list(order), dts=[n - 32 for n in range(60)], durations=[1] * 60)
    line = timeline(stamps, "mov,mp4,m4a,3gp,3g2,mj2", 1, Sound())
    assert line.times == tuple(order)


@pytest.mark.parametrize("ending", ["mp4", "mkv", "ts"])
@pytest.mark.parametrize("gap_s", [5, 60])
def test_a_still_through_which_the_sound_goes_on_stays(tmp_path: Path, ending: str, gap_s: float) -> None:
    times = [k / FPS for k in range(50)] + [5 + gap_s + k / FPS for k in range(50)]
    path = _write(tmp_path / f"a.{ending}", times, audio_seconds=10 + gap_s)
    assert probe(path, LIMITS).duration_s == pytest.approx(10 + gap_s, abs=FRAME_S)


@pytest.mark.parametrize(("name", "codec", "pix_fmt"), [("a.gif", "gif", "rgb8")])
def test_a_format_that_stores_how_long_a_picture_is_shown_is_followed(
    tmp_path: Path, name: str, codec: str, pix_fmt: str
) -> None:
    times = [k / FPS for k in range(20)] + [32 + k / FPS for k in range(20)]
    path = _write(tmp_path / name, times, codec=codec, pix_fmt=pix_fmt, options={})
    assert probe(path, LIMITS).duration_s == pytest.approx(34.0, abs=0.2)


def test_a_real_hour_is_too_long(tmp_path: Path) -> None:
    assert _refused(_write(tmp_path / "a.mkv", [0.0, 1800.0, 3600.0])).reason is Reason.TOO_LONG


# Headers


def _refused(path: Path) -> ClipRejected:
    with pytest.raises(ClipRejected) as caught:
        _prepare(path)
    return caught.value


@pytest.mark.parametrize("declared_s", [4.0, 60.0, 7200.0])
@pytest.mark.parametrize("name", LIES)
def test_a_wrong_duration_in_a_header_condemns_no_clip(tmp_path: Path, name: str, declared_s: float) -> None:
    codec = {"codec": "mpeg4", "options": {}} if name.endswith("avi") else {}
    path = lied(_write(tmp_path / name, **codec), name, declared_s)
    clip = _prepare(path)
    assert clip.info.duration_s == pytest.approx(10.0)
    assert _seen(clip) == _numbers(clip)


@pytest.mark.parametrize("share", [0.3, 0.6, 0.8])
@pytest.mark.parametrize(
    ("name", "how"),
    [
        ("index first.mp4", {"container_options": {"movflags": "+faststart"}}),
        ("edited.mp4", {"container_options": {"movflags": "+faststart"}, "options": {"g": "10", "bf": "2"}}),
        (
            "last fragment.mp4",
            {"container_options": {"movflags": "+frag_keyframe+empty_moov"}, "options": {"g": "500"}},
        ),
        ("segment index.mp4", {"container_options": {"movflags": "+dash+global_sidx+frag_keyframe"}}),
        ("segment.mkv", {}),
        ("riff.avi", {"codec": "mpeg4", "options": {}}),
        ("index first.flv", {"container_options": {"flvflags": "add_keyframe_index"}}),
    ],
)
def test_missing_pictures_that_the_file_promises_make_it_truncated(
    tmp_path: Path, name: str, how: dict, share: float
) -> None:
    path = _write(tmp_path / name, **how)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    assert _refused(path).reason is Reason.TRUNCATED_FILE


# Pictures that are repeated without a picture of their own

REPEATED = [0, 1, 2, 7, 8, 20, 21, 22, 30, 38]


@pytest.mark.parametrize("unchanged", ["packets without a picture", "empty chunks", "both"])
def test_what_holds_no_picture_repeats_the_picture_before(tmp_path: Path, unchanged: str) -> None:
    left_out = {
        "packets without a picture": set[int](),
        "empty chunks": set(range(39)) - set(REPEATED),
        "both": set(range(3, 30, 2)) - set(REPEATED),
    }[unchanged]
    path = screen_recording(tmp_path / "a.avi", REPEATED, 40, SIZE, left_out)
    assert len(_shown(path)) == len(REPEATED)
    clip = _prepare(path)
    assert clip.info.duration_s == pytest.approx(4.0)
    assert _seen(clip) == [max(n for n in REPEATED if n <= time * FPS + 1e-6) for time in clip.times]


def test_a_screen_that_stays_still_at_the_end_is_not_truncated(tmp_path: Path) -> None:
    clip = _prepare(screen_recording(tmp_path / "a.avi", [0, 1, 2], 60, SIZE))
    assert clip.info.duration_s == pytest.approx(6.0)
    assert _seen(clip)[-1] == 2


@pytest.mark.parametrize("b_frames", ["1", "2"])
def test_reordered_pictures_of_avi_are_counted(tmp_path: Path, b_frames: str) -> None:
    clip = _prepare(_write(tmp_path / "a.avi", codec="mpeg4", options={"g": "10", "bf": b_frames}, seconds=6))
    assert np.abs(np.subtract(_seen(clip), _numbers(clip))).max() <= 1


# Packets at the start and the end that give no picture


def _remuxed(path: Path, source: Path, first: int) -> Path:
    """Copy a transport stream without its first packets."""
    with av.open(source) as old, av.open(path, "w") as new:
        stream = new.add_stream_from_template(old.streams.video[0])
        for number, packet in enumerate(old.demux(video=0)):
            if packet.size and number >= first:
                packet.stream = stream
                new.mux(packet)
    return path


@pytest.mark.parametrize(
    ("codec", "options"),
    [
        ("libx264", {"g": "30", "bf": "0"}),
        ("libx264", {"g": "30", "bf": "2"}),
        ("libx265", {"g": "30", "x265-params": "open-gop=1:log-level=none"}),
        ("mpeg2video", {"g": "30", "bf": "2"}),
    ],
    ids=["no B-frames", "B-frames", "RASL", "MPEG-2"],
)
@pytest.mark.parametrize("first", [0, 15, 30])
def test_a_stream_cut_in_mid_group_begins_at_its_first_picture(
    tmp_path: Path, codec: str, options: dict[str, str], first: int
) -> None:
    whole = write_clip(tmp_path / "whole.ts", fps=25, size=SIZE, codec=codec, options=options, seconds=4)
    path = _remuxed(tmp_path / "a.ts", whole, first)
    clip, shown = _prepare(path), _shown(path)
    assert clip.info.duration_s == pytest.approx(shown[-1][0] + 0.04 - shown[0][0], abs=0.041)
    assert clip.info.start_s == pytest.approx(shown[0][0] if shown[0][0] >= 0.04 else 0.0, abs=0.001)
    assert _seen(clip) == [[number for start, number in shown if start <= time + 1e-3][-1] for time in clip.times]


def test_a_damaged_last_picture_of_a_gif_lengthens_nothing(tmp_path: Path) -> None:
    times = [k / FPS for k in range(20)] + [300.0]
    path = _write(tmp_path / "a.gif", times, codec="gif", pix_fmt="rgb8", options={})
    data = bytearray(path.read_bytes())
    with av.open(path) as container:
        damaged = [bytes(packet) for packet in container.demux(video=0) if packet.size][-2:]
    for packet in damaged:
        place = data.index(packet) + packet.index(b"\x2c")
        data[place + 1 : place + 9] = b"\xff" * 8  # outside of the screen
    path.write_bytes(data)
    clip = _prepare(path)
    assert clip.info.duration_s == pytest.approx(1.9, abs=0.01)


# Wrong keyframe marks


@pytest.mark.parametrize("codec", ["h263", "mpeg4"])
def test_sync_samples_that_are_no_intra_pictures_are_not_trusted(tmp_path: Path, codec: str) -> None:
    options = {"g": "600"}
    whole = write_clip(tmp_path / "whole.mov", fps=25, size=(176, 144), codec=codec, options=options, seconds=20)
    path = mark_keyframes(whole, tmp_path / "a.mov")
    clip = prepare(path, LIMITS, Sampling(fps=0.5))
    assert _seen(clip) == [round(time * 25) for time in clip.times]


# Encryption

CENC = {
    "encryption_scheme": "cenc-aes-ctr",
    "encryption_key": "76a6c65c5ea762046bd749a2e632ccbb",
    "encryption_kid": "a7e61c373e219033c21091fa607bf3b8",
}


@pytest.mark.parametrize(
    ("flags", "share"),
    [("+faststart", 1.0), ("+faststart", 0.7), ("+frag_keyframe+empty_moov+default_base_moof", 1.0)],
    ids=["whole", "truncated", "fragments"],
)
def test_an_encrypted_film_is_named_whatever_else_is_wrong(tmp_path: Path, flags: str, share: float) -> None:
    path = _write(tmp_path / "a.mp4", container_options={"movflags": flags, **CENC})
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    refusal = _refused(path)
    assert refusal.reason is Reason.UNDECODABLE
    assert "encrypted one: decrypt it first" in refusal.detail


# Video that starts after the sound


@pytest.mark.parametrize("ending", ["mp4", "mkv", "ts"])
def test_times_count_on_the_clock_of_a_player_that_plays_the_sound_first(tmp_path: Path, ending: str) -> None:
    path = _write(tmp_path / f"a.{ending}", [3 + k / FPS for k in range(100)], audio_seconds=13)
    clip, shown = _prepare(path), _shown(path)
    assert clip.info.start_s == pytest.approx(shown[0][0], abs=1e-3)
    assert clip.info.duration_s == pytest.approx(10.0, abs=1e-3)
    assert (clip.windows[0].start_s, clip.windows[-1].end_s) == pytest.approx((clip.info.start_s, clip.info.end_s))
    _assert_like_a_player(path)


def test_sound_that_starts_after_the_video_shifts_nothing(tmp_path: Path) -> None:
    path = _write(tmp_path / "a.mkv", [k / FPS for k in range(50)], audio_seconds=5, audio_from_s=2.0)
    assert _prepare(path).times[0] == 0.0


def test_a_first_stamp_of_the_sound_that_is_wrong_shifts_nothing(tmp_path: Path) -> None:
    path = _write(tmp_path / "a.ts", audio_seconds=10)
    restamp(path, lambda time_s: time_s + 3000)
    restamp(path, lambda time_s: time_s if time_s > 3001.45 else 1.4, streams="sound")
    clip = _prepare(path)
    assert clip.info.start_s == 0.0
    assert _seen(clip) == _numbers(clip)
