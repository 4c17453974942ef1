"""Test the decoding of clips in many formats, and the frames an engine gets."""

import io
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.stream import Disposition
from av.video.frame import VideoFrame

from clipdex.config import Sampling, VideoLimits
from clipdex.errors import ClipRejected, Reason
from clipdex.video import Prepared, prepare, probe, read_proxy, schedule, stills
from tests.support.clips import (
    BT601,
    BT709,
    BT2020,
    FULL,
    LIMITED,
    film,
    noise,
    number_of,
    numbered,
    plain,
    write_clip,
)

LIMITS = VideoLimits()
GREEN = (40, 200, 60)  # read with the wrong matrix, it is off by 26; by rounding alone, by up to 4
VP9 = {"deadline": "realtime", "cpu-used": "8"}
QUIET = {"x265-params": "log-level=none:open-gop=1:keyint=20"}


def _prepare(path: Path, **sampling: float) -> Prepared:
    return prepare(path, LIMITS, Sampling(**sampling))


def _proxy(clip: Prepared) -> bytes:
    (window,) = clip.windows
    return window.proxy


def _seen(clip: Prepared) -> list[int]:
    return [number_of(picture) for window in clip.windows for picture in read_proxy(window.proxy)]


def _refused(path: Path, limits: VideoLimits = LIMITS) -> ClipRejected:
    with pytest.raises(ClipRejected) as caught:
        prepare(path, limits, Sampling())
    return caught.value


def _cut(path: Path, share: float) -> Path:
    data = path.read_bytes()
    cut = path.with_name(f"cut{path.suffix}")
    cut.write_bytes(data[: int(len(data) * share)])
    return cut


# Sampling


@pytest.mark.parametrize(
    ("name", "codec", "options", "pix_fmt"),
    [
        ("b-pyramid.mp4", "libx264", {"g": "25"}, "yuv420p"),
        ("open-groups.mp4", "libx264", {"x264-params": "open-gop=1:keyint=12:bframes=3"}, "yuv420p"),
        ("h264.mkv", "libx264", {}, "yuv420p"),
        ("h264.ts", "libx264", {}, "yuv420p"),
        ("h264.avi", "libx264", {"bf": "2"}, "yuv420p"),
        ("hevc.mov", "libx265", QUIET, "yuv420p"),
        ("vp9.webm", "libvpx-vp9", VP9, "yuv420p"),
        ("vp8.webm", "libvpx", {"deadline": "realtime"}, "yuv420p"),
        ("vp8.ogv", "libvpx", {"deadline": "realtime"}, "yuv420p"),
        ("mpeg4.mp4", "mpeg4", {"bf": "2"}, "yuv420p"),
        ("mpeg4.avi", "mpeg4", {"bf": "2"}, "yuv420p"),
        ("mpeg2.mpg", "mpeg2video", {"bf": "2", "g": "12"}, "yuv420p"),
        ("prores.mov", "prores_ks", {}, "yuv422p10le"),
        ("mjpeg.avi", "mjpeg", {}, "yuvj420p"),
        ("ffv1.mkv", "ffv1", {}, "yuv444p"),
        ("animation.gif", "gif", {}, "rgb8"),
    ],
)
def test_pictures_are_those_on_screen_at_their_times(
    tmp_path: Path, name: str, codec: str, options: dict[str, str], pix_fmt: str
) -> None:
    clip = _prepare(write_clip(tmp_path / name, seconds=3, codec=codec, options=options, pix_fmt=pix_fmt))
    assert clip.times == (0.0, 0.5, 1.0, 1.5, 2.0, 2.5)
    assert _seen(clip) == [0, 12, 25, 37, 50, 62]


def test_a_long_clip_is_sampled_to_its_end_at_a_lower_rate(tmp_path: Path) -> None:
    clip = _prepare(write_clip(tmp_path / "a.mp4", seconds=20, size=(160, 120)), max_frames=8, min_fps=0.1)
    assert clip.proxy_fps == pytest.approx(0.4)
    assert clip.times == pytest.approx([2.5 * k for k in range(8)])
    assert _seen(clip) == [62 * k + k // 2 for k in range(8)]


def test_a_group_of_pictures_without_a_sample_is_skipped(tmp_path: Path) -> None:
    clip = _prepare(write_clip(tmp_path / "a.mp4", seconds=8, options={"g": "5"}), fps=0.5)
    assert _seen(clip) == [0, 50, 100, 150]


def test_a_clip_of_one_picture_is_shown_as_a_pair(tmp_path: Path) -> None:
    clip = _prepare(write_clip(tmp_path / "a.mp4", seconds=0.04))
    assert (clip.times, _seen(clip)) == (pytest.approx((0.0, 0.02)), [0, 0])


@pytest.mark.parametrize(
    ("seconds", "count", "fps"), [(10, 20, 2), (7.3, 14, 1.918), (1.5, 4, 2.667), (1, 2, 2), (0.2, 2, 10), (16, 32, 2)]
)
def test_the_number_of_frames_is_even(seconds: float, count: int, fps: float) -> None:
    plan = schedule(seconds, (1280, 720), Sampling())
    assert (plan.count, plan.windows) == (count, 1)
    assert float(plan.fps) == pytest.approx(fps, abs=1e-3)


@pytest.mark.parametrize(
    ("seconds", "sampling", "windows", "count"),
    [
        (30, {}, 1, 32),
        (45, {}, 2, 32),
        (120, {}, 4, 32),
        (45, {"min_fps": 0.5}, 1, 32),
        (45, {"min_fps": 2.0}, 3, 30),
        (10, {"visual_tokens": 2240}, 1, 10),
        (45, {"visual_tokens": 2240}, 5, 10),
        (10, {"visual_tokens": 1}, 10, 1),
        (10, {"visual_tokens": 2240, "short_side": 224}, 1, 20),
    ],
)
def test_a_clip_that_costs_more_than_the_budget_loses_frames_and_is_then_split(
    seconds: float, sampling: dict[str, float], windows: int, count: int
) -> None:
    plan = schedule(seconds, (1280, 720), Sampling(**sampling))
    assert (plan.windows, plan.count) == (windows, count)


def test_windows_follow_one_another_and_are_sampled_alike(tmp_path: Path) -> None:
    clip = _prepare(write_clip(tmp_path / "a.mp4", seconds=8), max_frames=4)
    assert [(window.start_s, window.end_s) for window in clip.windows] == [(0, 4), (4, 8)]
    assert clip.times == tuple(float(second) for second in range(8))
    assert _seen(clip) == [25 * second for second in range(8)]


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
def test_with_a_variable_frame_rate_a_picture_stays_until_the_next(tmp_path: Path, name: str) -> None:
    clip = _prepare(write_clip(tmp_path / name, times=[0, 0.1, 0.2, 0.9, 1.0, 1.9, 3.0, 3.6]))
    assert _seen(clip) == [0, 2, 4, 4, 5, 5, 6, 6]


@pytest.mark.parametrize(("name", "start_s"), [("a.mkv", -0.5), ("a.mkv", 5.0), ("a.ts", 5.0)])
def test_a_clip_starts_with_its_first_picture_whatever_its_start_time(
    tmp_path: Path, name: str, start_s: float
) -> None:
    clip = _prepare(write_clip(tmp_path / name, times=[start_s + k / 25 for k in range(50)]))
    assert clip.info.duration_s == pytest.approx(2.0, abs=0.01)
    assert _seen(clip) == [0, 12, 25, 37]


def test_a_clip_cut_out_of_an_hour_is_as_long_as_itself(tmp_path: Path) -> None:
    clip = _prepare(write_clip(tmp_path / "a.mkv", times=[3600 + k / 25 for k in range(50)]))
    assert clip.info.duration_s == pytest.approx(2.0, abs=0.01)
    assert _seen(clip) == [0, 12, 25, 37]


@pytest.mark.parametrize(("name", "codec"), [("a.ts", "libx264"), ("a.webm", "libvpx")])
def test_pictures_stay_in_order_where_the_clock_restarts(tmp_path: Path, name: str, codec: str) -> None:
    options = {"bf": "0"} if codec == "libx264" else {"deadline": "realtime"}
    data = write_clip(tmp_path / name, seconds=2, codec=codec, options=options).read_bytes()
    path = tmp_path / f"twice-{name}"
    path.write_bytes(data + data)
    clip = _prepare(path)
    assert clip.info.duration_s == pytest.approx(4.0, abs=0.1)
    assert _seen(clip) == [0, 12, 25, 37] * 2


def test_longer_sound_does_not_lengthen_the_clip(tmp_path: Path) -> None:
    clip = _prepare(write_clip(tmp_path / "a.mkv", seconds=2, audio_seconds=5))
    assert clip.info.duration_s == pytest.approx(2.0)


# Pictures


def test_info_describes_the_clip_as_a_player_shows_it(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", size=(320, 240), pixel_aspect=Fraction(4, 3), turned=90)
    info = probe(path, LIMITS)
    assert (info.width, info.height, info.codec) == (240, 427, "h264")
    assert (info.duration_s, info.fps) == (pytest.approx(2.0), pytest.approx(25.0))
    assert info.bytes == path.stat().st_size
    assert _prepare(path).info == info


@pytest.mark.parametrize(
    ("turned", "corner"),
    [(0, (0, 0)), (90, (0, -1)), (180, (-1, -1)), (270, (-1, 0))],
    ids=["upright", "clockwise", "head down", "anticlockwise"],
)
def test_a_turned_clip_is_turned_upright(tmp_path: Path, turned: int, corner: tuple[int, int]) -> None:
    def lit_top_left(_: int, size: tuple[int, int]) -> np.ndarray:
        picture = np.zeros((size[1], size[0], 3), np.uint8)
        picture[: size[1] // 4, : size[0] // 4] = 255
        return picture

    clip = _prepare(write_clip(tmp_path / "a.mp4", size=(320, 160), picture=lit_top_left, turned=turned))
    assert (clip.width, clip.height) == ((160, 320) if turned in (90, 270) else (320, 160))
    picture = next(read_proxy(_proxy(clip)))
    lit = {spot: int(picture[spot].mean()) > 128 for spot in [(0, 0), (0, -1), (-1, 0), (-1, -1)]}
    assert lit == {spot: spot == corner for spot in lit}


@pytest.mark.parametrize(
    ("size", "aspect", "expected"),
    [
        ((1280, 720), None, (796, 448)),
        ((720, 1280), None, (448, 796)),
        ((320, 240), None, (320, 240)),
        ((320, 240), Fraction(4, 3), (426, 240)),
        ((642, 362), None, (642, 362)),
        ((4000, 32), None, (1792, 14)),
        ((16, 16), None, (16, 16)),
    ],
)
def test_the_proxy_is_small_even_and_never_larger_than_the_clip(
    tmp_path: Path, size: tuple[int, int], aspect: Fraction | None, expected: tuple[int, int]
) -> None:
    clip = _prepare(write_clip(tmp_path / "a.mp4", seconds=0.2, size=size, pixel_aspect=aspect))
    assert (clip.width, clip.height) == expected
    assert next(read_proxy(_proxy(clip))).shape == (expected[1], expected[0], 3)


@pytest.mark.parametrize(
    ("size", "expected"),
    [((1280, 720), (784, 448)), ((720, 1280), (448, 784)), ((320, 240), (308, 252)), ((16, 16), (28, 28))],
)
def test_the_size_of_the_proxy_is_a_multiple_of_the_setting(
    tmp_path: Path, size: tuple[int, int], expected: tuple[int, int]
) -> None:
    clip = _prepare(write_clip(tmp_path / "a.mp4", seconds=0.2, size=size), multiple_of=28)
    assert (clip.width, clip.height) == expected
    assert next(read_proxy(_proxy(clip))).shape == (expected[1], expected[0], 3)


@pytest.mark.parametrize(
    ("codec", "pix_fmt", "colorspace", "color_range", "tags"),
    [
        ("libx264", "yuv420p", BT601, LIMITED, None),
        ("libx264", "yuv420p", BT601, LIMITED, {}),
        ("libx264", "yuv420p", BT709, LIMITED, None),
        ("libx264", "yuv420p", BT601, FULL, None),
        ("libx264", "yuv420p", BT709, FULL, None),
        ("libx264", "yuvj420p", BT601, FULL, None),
        ("libx264", "yuv420p10le", BT709, LIMITED, None),
        ("libx264", "yuv420p10le", BT2020, LIMITED, None),
        ("libx264", "yuv422p", BT709, LIMITED, None),
        ("libx264", "yuv444p", BT709, LIMITED, None),
        ("ffv1", "bgr0", BT601, FULL, {}),
    ],
)
def test_colours_are_preserved(
    tmp_path: Path, codec: str, pix_fmt: str, colorspace: int, color_range: int, tags: dict[str, int] | None
) -> None:
    path = write_clip(
        tmp_path / "a.mkv",
        seconds=0.4,
        picture=plain(GREEN),
        codec=codec,
        options={"crf": "10"} if codec == "libx264" else {},
        pix_fmt=pix_fmt,
        colorspace=colorspace,
        color_range=color_range,
        tags=tags,
    )
    for picture in (next(read_proxy(_proxy(_prepare(path)))), _still(_prepare(path).poster)):
        assert picture.mean(axis=(0, 1)) == pytest.approx(GREEN, abs=6)


def test_a_high_definition_clip_without_colour_tags_is_read_as_bt709(tmp_path: Path) -> None:
    path = write_clip(
        tmp_path / "a.mp4", seconds=0.2, size=(1280, 720), picture=plain(GREEN), colorspace=BT709, tags={}
    )
    assert next(read_proxy(_proxy(_prepare(path)))).mean(axis=(0, 1)) == pytest.approx(GREEN, abs=6)


def test_colours_are_right_in_a_reader_that_ignores_tags(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", seconds=0.2, picture=plain(GREEN), colorspace=BT709)
    with av.open(io.BytesIO(_proxy(_prepare(path)))) as container:
        frame = next(container.decode(video=0))
    seen = frame.to_ndarray(format="rgb24", src_colorspace=BT601, src_color_range=LIMITED)
    assert seen.mean(axis=(0, 1)) == pytest.approx(GREEN, abs=6)


def test_hdr_white_is_white(tmp_path: Path) -> None:
    path = write_clip(
        tmp_path / "a.mp4",
        seconds=0.2,
        size=(64, 64),
        picture=plain((148, 148, 148)),  # 203 cd/m2, where HDR10 puts the white of a page
        pix_fmt="yuv420p10le",
        colorspace=BT2020,
        tags={"colorspace": 9, "color_range": 1, "color_primaries": 9, "color_trc": 16},
    )
    assert next(read_proxy(_proxy(_prepare(path)))).mean() > 240


# The proxy and the poster


def test_each_picture_of_the_proxy_keeps_its_time(tmp_path: Path) -> None:
    clip = _prepare(write_clip(tmp_path / "a.mp4", seconds=20, size=(160, 120)), max_frames=6, min_fps=0.1)
    with av.open(io.BytesIO(_proxy(clip))) as container:
        frames = list(container.decode(video=0))
        assert container.streams.video[0].duration * container.streams.video[0].time_base == pytest.approx(20, rel=0.01)
    assert [frame.time for frame in frames] == pytest.approx([k / clip.proxy_fps for k in range(6)], abs=1e-3)
    assert [frame.time for frame in frames] == pytest.approx(clip.times, abs=1e-3)


def test_the_proxy_starts_with_its_index_and_has_colour_tags(tmp_path: Path) -> None:
    proxy = _proxy(_prepare(write_clip(tmp_path / "a.mp4")))
    assert proxy.index(b"moov") < proxy.index(b"mdat")
    with av.open(io.BytesIO(proxy)) as container:
        context = container.streams.video[0].codec_context
        assert (context.name, context.pix_fmt) == ("h264", "yuv420p")
        assert (context.colorspace, context.color_range, context.color_trc) == (6, LIMITED, 1)


def test_the_proxy_of_pure_noise_stays_within_two_mebibytes(tmp_path: Path) -> None:
    path = write_clip(
        tmp_path / "a.mkv", seconds=8, fps=2, size=(800, 448), picture=noise, codec="mjpeg", pix_fmt="yuvj420p"
    )
    assert len(_proxy(_prepare(path, max_frames=16))) < 2**20 * 1.1


def test_the_proxy_looks_like_the_clip(tmp_path: Path) -> None:
    clip = _prepare(write_clip(tmp_path / "a.mp4", seconds=1, picture=film, options={"crf": "10"}))
    difference = next(read_proxy(_proxy(clip))).astype(float) - film(0, (320, 240))
    assert np.abs(difference).mean() < 6


def test_stills_are_jpegs_of_the_frames_of_a_proxy_in_their_colours(tmp_path: Path) -> None:
    clip = _prepare(write_clip(tmp_path / "a.mp4", seconds=2))
    pictures = [_still(jpeg) for jpeg in stills(_proxy(clip))]
    assert [number_of(picture) for picture in pictures] == _seen(clip)
    green = _prepare(write_clip(tmp_path / "b.mp4", seconds=1, picture=plain(GREEN)))
    assert _still(stills(_proxy(green))[0]).mean(axis=(0, 1)) == pytest.approx(GREEN, abs=6)


def test_the_poster_is_a_small_jpeg_of_the_middle(tmp_path: Path) -> None:
    poster = _prepare(write_clip(tmp_path / "a.mp4", seconds=3, size=(1280, 720))).poster
    assert poster[:2] == b"\xff\xd8"
    picture = _still(poster)
    assert picture.shape == (360, 638, 3)
    assert number_of(picture) == 25


def test_the_poster_shows_something_where_the_middle_is_black(tmp_path: Path) -> None:
    def lit_at_the_end(number: int, size: tuple[int, int]) -> np.ndarray:
        return numbered(number if number >= 45 else 0, size)

    poster = _prepare(write_clip(tmp_path / "a.mp4", seconds=3, picture=lit_at_the_end)).poster
    assert number_of(_still(poster)) == 50


# Rejections


def test_a_file_that_is_not_there_is_missing(tmp_path: Path) -> None:
    assert _refused(tmp_path / "a.mp4").reason is Reason.MISSING


def test_a_folder_is_no_clip(tmp_path: Path) -> None:
    assert _refused(tmp_path).reason is Reason.UNDECODABLE


def test_an_empty_file_is_rejected_as_empty(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    path.touch()
    assert _refused(path).reason is Reason.EMPTY_FILE


def test_sound_alone_is_no_video(tmp_path: Path) -> None:
    refusal = _refused(write_clip(tmp_path / "a.mp4", seconds=0, audio_seconds=2))
    assert (refusal.reason, refusal.detail) == (Reason.NO_VIDEO, "a video stream expected, found only audio")


def test_sound_with_a_cover_picture_is_no_video(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    with av.open(path, "w") as container:
        sound = container.add_stream("aac", rate=16000)
        cover = container.add_stream("mjpeg", rate=1)
        cover.width, cover.height, cover.pix_fmt = 64, 64, "yuvj420p"
        cover.disposition = Disposition.attached_pic
        cover.codec_context.color_range = FULL
        silence = av.AudioFrame(format="fltp", layout="mono", samples=1024)
        silence.planes[0].update(bytes(silence.planes[0].buffer_size))
        silence.sample_rate, silence.pts = 16000, 0
        container.mux(cover.encode(VideoFrame(64, 64, "yuvj420p")) + cover.encode(None))
        container.mux(sound.encode(silence) + sound.encode(None))
    assert _refused(path).reason is Reason.NO_VIDEO


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(np.random.default_rng(1).bytes(100_000), id="noise"),
        pytest.param(b"<html><body>404 Not Found</body></html>" * 50, id="web page"),
        pytest.param(b"\x89PNG\r\n\x1a\n" + bytes(1000), id="picture"),
        pytest.param(bytes(100_000), id="zeros"),
    ],
)
def test_a_file_that_is_no_clip_is_not_a_video(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(content)
    assert _refused(path).reason is Reason.NOT_A_VIDEO


@pytest.mark.parametrize(
    "playlist",
    [
        "#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:2,\n{target}\n#EXT-X-ENDLIST\n",
        "ffconcat version 1.0\nfile '{target}'\n",
        '<?xml version="1.0"?><MPD><Period><AdaptationSet><BaseURL>{target}</BaseURL></AdaptationSet></Period></MPD>',
    ],
    ids=["hls", "concat", "dash"],
)
def test_a_playlist_that_poses_as_a_clip_opens_nothing(tmp_path: Path, playlist: str) -> None:
    target = write_clip(tmp_path / "private.ts")
    path = tmp_path / "a.mp4"
    path.write_text(playlist.format(target=target))
    assert _refused(path).reason is Reason.NOT_A_VIDEO


@pytest.mark.parametrize("share", [0.001, 0.01, 0.1, 0.5, 0.9])
def test_a_recording_that_was_never_finished_is_truncated(tmp_path: Path, share: float) -> None:
    path = write_clip(tmp_path / "a.mp4", seconds=4, audio_seconds=4)
    assert _refused(_cut(path, share)).reason is Reason.TRUNCATED_FILE


@pytest.mark.parametrize("share", [0.01, 0.3, 0.5, 0.8])
@pytest.mark.parametrize(
    ("name", "codec"), [("a.mp4", "libx264"), ("a.mkv", "libx264"), ("a.webm", "libvpx-vp9"), ("a.avi", "mpeg4")]
)
def test_a_clip_that_lost_its_end_is_truncated(tmp_path: Path, name: str, codec: str, share: float) -> None:
    options = {"movflags": "+faststart"} if name == "a.mp4" else {}
    path = write_clip(
        tmp_path / name,
        seconds=4,
        picture=film,
        size=(160, 120),
        codec=codec,
        options=VP9 if codec == "libvpx-vp9" else {},
        container_options=options,
    )
    assert _refused(_cut(path, share)).reason is Reason.TRUNCATED_FILE


def test_a_download_that_left_zeros_is_truncated(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", seconds=4, container_options={"movflags": "+faststart"})
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2] + bytes(len(data) - len(data) // 2))
    assert _refused(path).reason is Reason.TRUNCATED_FILE


def test_a_clip_that_misses_its_last_picture_is_good_enough(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", seconds=4, container_options={"movflags": "+faststart"})
    assert _seen(_prepare(_cut(path, 0.995))) == [0, 12, 25, 37, 50, 62, 75, 87]


def test_a_damaged_spot_costs_its_pictures_not_the_clip(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", seconds=4, options={"g": "25", "bf": "0"})
    with av.open(path) as container:
        spot = [packet.pos for packet in container.demux(video=0)][30]
    data = bytearray(path.read_bytes())
    data[spot : spot + 8] = bytes(8)
    path.write_bytes(data)
    assert _seen(_prepare(path))[4:] == [50, 62, 75, 87]


def test_damage_at_the_last_picture_that_is_sampled_is_no_lost_end(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", seconds=4, options={"g": "25", "bf": "0"})
    with av.open(path) as container:
        spots = [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.size]
    data = bytearray(path.read_bytes())
    for position, size in spots[60:90]:
        data[position : position + size] = bytes(size)
    path.write_bytes(data)
    clip = _prepare(path)
    assert clip.info.duration_s == pytest.approx(4.0)
    assert _seen(clip)[:5] == [0, 12, 25, 37, 50]


def test_an_index_that_announces_gigabytes_is_damage_not_a_lack_of_memory(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", seconds=4, options={"bf": "0"})
    data = bytearray(path.read_bytes())
    sizes = data.index(b"stsz") + 4 + 12
    data[sizes + 4 * 50 : sizes + 4 * 51] = (0x7FFFFFF0).to_bytes(4, "big")
    path.write_bytes(data)
    assert _refused(path).reason is Reason.TRUNCATED_FILE


def test_a_clip_that_is_too_long_is_rejected_with_the_limit_and_the_duration(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", seconds=5, size=(64, 64))
    refusal = _refused(path, VideoLimits(max_duration_s=4))
    assert (refusal.reason, refusal.detail) == (Reason.TOO_LONG, "at most 4 s expected, found 5.0 s")


def test_a_clip_that_is_too_long_is_rejected_if_its_header_has_no_duration(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mkv", seconds=5, size=(64, 64), container_options={"live": "1"})
    assert _refused(path, VideoLimits(max_duration_s=4)).reason is Reason.TOO_LONG


def test_too_many_pixels_are_rejected(tmp_path: Path) -> None:
    refusal = _refused(write_clip(tmp_path / "a.mp4", seconds=0.2), VideoLimits(max_pixels=320 * 239))
    assert refusal.reason is Reason.TOO_LARGE
    assert "found 320x240" in refusal.detail


def test_too_many_bytes_are_rejected(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", seconds=0.2)
    assert _refused(path, VideoLimits(max_bytes=path.stat().st_size - 1)).reason is Reason.TOO_LARGE


def test_a_clip_that_takes_too_much_time_is_rejected(tmp_path: Path) -> None:
    refusal = _refused(write_clip(tmp_path / "a.mp4"), VideoLimits(decode_timeout_s=0.001))
    assert refusal.reason is Reason.DECODE_LIMIT


def _still(jpeg: bytes) -> np.ndarray:
    with av.open(io.BytesIO(jpeg)) as container:
        return next(container.decode(video=0)).to_ndarray(format="rgb24")
