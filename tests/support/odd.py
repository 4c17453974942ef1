"""Generate unusual valid video, and files that are no video, each with its expected result.

The name of a specimen defines it. The encoded bytes may differ between encoder versions.
"""

import os
import struct
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from io import BytesIO
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.stream import Disposition
from av.video.frame import VideoFrame

from clipdex.errors import Reason
from tests.support.clips import BT709, BT2020, FULL, noise, numbered, write_clip

PREPARED = "prepared"
SIZE = (160, 120)
SECONDS = 2.0

_SMALL = {"preset": "ultrafast", "g": "25"}
_VP8, _VP9 = {"deadline": "realtime"}, {"deadline": "realtime", "cpu-used": "8"}
_X265 = {"preset": "ultrafast", "x265-params": "log-level=none"}
_SVT = {"preset": "12", "svtav1-params": "lp=1"}
_FRAGMENTS = {"movflags": "+frag_keyframe+empty_moov+default_base_moof"}

# Small good clips: file name and arguments of write_clip.
GOOD: dict[str, tuple[str, dict[str, Any]]] = {
    "mp4": ("a.mp4", {"options": _SMALL, "audio_seconds": SECONDS}),
    "faststart": ("a.mp4", {"options": {"g": "12"}, "container_options": {"movflags": "+faststart"}}),
    "fragments": ("a.mp4", {"options": {"g": "12", "bf": "0"}, "container_options": _FRAGMENTS}),
    "hevc": ("a.mp4", {"codec": "libx265", "options": _X265}),
    "av1": ("a.mp4", {"codec": "libsvtav1", "options": _SVT}),
    "mov": ("a.mov", {"codec": "mjpeg", "pix_fmt": "yuvj420p", "color_range": FULL, "audio_seconds": SECONDS}),
    "prores": ("a.mov", {"codec": "prores_ks", "pix_fmt": "yuv422p10le"}),
    "mkv": ("a.mkv", {"options": _SMALL, "audio_seconds": SECONDS}),
    "webm": ("a.webm", {"codec": "libvpx-vp9", "options": _VP9}),
    "vp8": ("a.webm", {"codec": "libvpx", "options": _VP8}),
    "avi": ("a.avi", {"codec": "mpeg4", "options": {"bf": "2"}}),
    "ts": ("a.ts", {"options": _SMALL, "audio_seconds": SECONDS}),
    "mpg": ("a.mpg", {"codec": "mpeg2video", "options": {"bf": "2", "g": "12"}}),
    "ogv": ("a.ogv", {"codec": "libvpx", "options": _VP8}),
    "flv": ("a.flv", {"codec": "flv"}),
    "wmv": ("a.wmv", {"codec": "wmv2"}),
    "3gp": ("a.3gp", {"codec": "h263", "size": (176, 144)}),
    "gif": ("a.gif", {"codec": "gif", "pix_fmt": "rgb8", "fps": 10}),
}

NAMES = (
    "two words.mp4", "'single' \"double\".mp4", "two\nlines.mp4", "-rf.mp4", "--help.mp4", "Straße 東京 🎬.mp4",
    "e\u0301.mp4", "100%25 #1?a=b&c;d|e.mp4", "$(touch x)`y`.mp4", "file:http:a.mp4", "a%03d.mp4", "*[?].mp4",
    "\udcff\udcfe.mp4", ".hidden.mp4", "MP4.MP4", "tab\tbell\a.mp4", "back\\slash.mp4", "x" * 250 + ".mp4",
)  # fmt: skip


class Clips:
    """Encode each good clip on first use, and cache it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def path(self, name: str) -> Path:
        file, how = GOOD[name]
        path = self._folder / name / file
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            whole = write_clip(path.with_stem(f"unfinished-{os.getpid()}"), **{"seconds": SECONDS, "size": SIZE, **how})
            whole.rename(path)
        return path

    def bytes(self, name: str) -> bytes:
        return self.path(name).read_bytes()


Make = Callable[[Clips, Path], Path]


@dataclass(frozen=True, slots=True)
class Specimen:
    """One file to generate in its own folder.

    right: accepted results: PREPARED or reasons of rejection
    shown: display size if known [pixels]
    lasts: duration if known [s]
    as_played: the duration is that of a plain player
    """

    name: str
    right: frozenset[str]
    make: Make
    shown: tuple[int, int] | None = None
    lasts: float | None = None
    as_played: bool = False

    @property
    def kind(self) -> str:
        return self.name.partition("/")[0]


def odd() -> list[Specimen]:
    """Return all specimens."""
    return [
        *(_good(f"good/{name}", name) for name in GOOD),
        *(_good(f"wrong-extension/{name}-as-{ending}", name, f"a.{ending}") for name, ending in _WRONG_ENDINGS),
        *(_good(f"names/{number}", "mp4", name) for number, name in enumerate(NAMES)),
        *(Specimen(f"odd/{name}", frozenset({PREPARED}), _written(*how), shown) for name, (how, shown) in _ODD.items()),
        *(Specimen(f"odd/{name}", frozenset({PREPARED}), make) for name, make in _ODD_BY_HAND.items()),
        *(Specimen(f"no-clip/{name}", frozenset({reason}), make) for name, (reason, make) in _NO_CLIP.items()),
        *(Specimen(f"past-limits/{name}", frozenset({reason}), make) for name, (reason, make) in _PAST_LIMITS.items()),
    ]


def put(folder: Path, name: str, data: bytes) -> Path:
    path = folder / name
    path.write_bytes(data)
    return path


def _good(name: str, clip: str, file: str = "") -> Specimen:
    def make(clips: Clips, folder: Path) -> Path:
        return put(folder, file or clips.path(clip).name, clips.bytes(clip))

    return Specimen(name, frozenset({PREPARED}), make, GOOD[clip][1].get("size", SIZE))


def _written(file: str, how: dict[str, Any]) -> Make:
    return lambda _, folder: write_clip(folder / file, **{"seconds": 1.0, "size": SIZE, **how})


_WRONG_ENDINGS = [
    ("mp4", "avi"), ("mkv", "mp4"), ("avi", "mov"), ("ts", "mp4"), ("webm", "ogv"), ("gif", "mp4"), ("mpg", "mkv"),
    ("flv", "mp4"), ("wmv", "mp4"), ("ogv", "webm"), ("mov", "m3u8"), ("mp4", "txt"), ("mp4", "jpg"),
    ("mkv", "ffconcat"),
]  # fmt: skip

_HDR10 = {"colorspace": 9, "color_range": 1, "color_primaries": 9, "color_trc": 16}
_HLG = {**_HDR10, "color_trc": 18}
_TINY = {"picture": lambda *_: np.zeros((16, 16, 3), np.uint8), "size": (16, 16)}

_ODD: dict[str, tuple[tuple[str, dict[str, Any]], tuple[int, int] | None]] = {
    "one-picture.mp4": (("a.mp4", {"seconds": 0.04}), SIZE),
    "one-picture.gif": (("a.gif", {"seconds": 0.1, "fps": 10, "codec": "gif", "pix_fmt": "rgb8"}), SIZE),
    "one-picture.avi": (("a.avi", {"seconds": 0.04, "codec": "mpeg4"}), SIZE),
    "one-picture.ts": (("a.ts", {"seconds": 0.04}), SIZE),
    "two-pictures.mp4": (("a.mp4", {"seconds": 0.08}), SIZE),
    "variable-rate.mp4": (("a.mp4", {"times": [0, 0.01, 0.02, 1.5, 1.51, 1.9]}), SIZE),
    "variable-rate.mkv": (("a.mkv", {"times": [0, 0.1, 0.2, 1.5, 1.6, 1.9]}), SIZE),
    "a-picture-a-minute.mp4": (("a.mp4", {"times": [0.0, 55.0, 110.0]}), SIZE),
    "negative-times.mkv": (("a.mkv", {"times": [k / 25 - 0.5 for k in range(25)]}), SIZE),
    "late-start.mkv": (("a.mkv", {"times": [3600 + k / 25 for k in range(25)]}), SIZE),
    "late-start.ts": (("a.ts", {"times": [5000 + k / 25 for k in range(25)]}), SIZE),
    "late-start.mp4": (("a.mp4", {"times": [30 + k / 25 for k in range(25)]}), SIZE),
    "no-times.avi": (("a.avi", {"codec": "mpeg4", "options": {"bf": "2"}}), SIZE),
    "no-times-h264.avi": (("a.avi", {"options": {"bf": "2"}}), SIZE),
    "live.mkv": (("a.mkv", {"container_options": {"live": "1"}}), SIZE),
    "turned-90.mp4": (("a.mp4", {"turned": 90}), (120, 160)),
    "turned-180.mov": (("a.mov", {"turned": 180}), SIZE),
    "turned-270.mkv": (("a.mkv", {"turned": 270}), (120, 160)),
    "anamorphic.mp4": (("a.mp4", {"pixel_aspect": Fraction(4, 3)}), (213, 120)),
    "anamorphic.mkv": (("a.mkv", {"pixel_aspect": Fraction(8, 9)}), (142, 120)),
    "10-bit.mp4": (("a.mp4", {"pix_fmt": "yuv420p10le", "colorspace": BT709}), SIZE),
    "10-bit-hevc.mp4": (("a.mp4", {"codec": "libx265", "options": _X265, "pix_fmt": "yuv420p10le"}), SIZE),
    "12-bit-ffv1.mkv": (("a.mkv", {"codec": "ffv1", "pix_fmt": "yuv422p12le"}), SIZE),
    "16-bit-ffv1.mkv": (("a.mkv", {"codec": "ffv1", "pix_fmt": "yuv444p16le"}), SIZE),
    "hdr10.mp4": (("a.mp4", {"pix_fmt": "yuv420p10le", "colorspace": BT2020, "tags": _HDR10}), SIZE),
    "hlg.mp4": (("a.mp4", {"pix_fmt": "yuv420p10le", "colorspace": BT2020, "tags": _HLG}), SIZE),
    "hdr-in-8-bit.mp4": (("a.mp4", {"colorspace": BT2020, "tags": _HDR10}), SIZE),
    "tags-that-are-nonsense.mp4": (("a.mp4", {"tags": {"colorspace": 3, "color_primaries": 3, "color_trc": 3}}), SIZE),
    "tagged-rgb.mp4": (("a.mp4", {"pix_fmt": "yuv444p", "tags": {"colorspace": 14, "color_trc": 17}}), SIZE),
    "alpha-vp9.webm": (("a.webm", {"codec": "libvpx-vp9", "options": _VP9, "pix_fmt": "yuva420p"}), SIZE),
    "alpha-prores.mov": (("a.mov", {"codec": "prores_ks", "pix_fmt": "yuva444p10le"}), SIZE),
    "alpha-png.mov": (("a.mov", {"codec": "png", "pix_fmt": "rgba"}), SIZE),
    "alpha-qtrle.mov": (("a.mov", {"codec": "qtrle", "pix_fmt": "argb"}), SIZE),
    "interlaced-h264.mp4": (("a.mp4", {"options": {"flags": "+ildct+ilme", "x264-params": "tff=1"}}), SIZE),
    "interlaced-mpeg2.mpg": (("a.mpg", {"codec": "mpeg2video", "options": {"flags": "+ildct+ilme"}}), SIZE),
    "interlaced-dv.avi": (("a.avi", {"codec": "dvvideo", "size": (720, 576), "seconds": 0.4}), (768, 576)),
    "grey.mkv": (("a.mkv", {"codec": "ffv1", "pix_fmt": "gray"}), SIZE),
    "grey-10-bit.mkv": (("a.mkv", {"codec": "ffv1", "pix_fmt": "gray10le"}), SIZE),
    "palette.gif": (("a.gif", {"codec": "gif", "pix_fmt": "rgb8", "fps": 10}), SIZE),
    "palette-png.mov": (("a.mov", {"codec": "png", "pix_fmt": "gray"}), SIZE),
    "raw.avi": (("a.avi", {"codec": "rawvideo", "pix_fmt": "bgr24", "seconds": 0.4}), SIZE),
    "raw-yuyv.avi": (("a.avi", {"codec": "rawvideo", "pix_fmt": "yuyv422", "seconds": 0.4}), SIZE),
    "raw.mov": (("a.mov", {"codec": "rawvideo", "pix_fmt": "rgb24", "seconds": 0.4}), SIZE),
    "huffyuv.avi": (("a.avi", {"codec": "huffyuv", "pix_fmt": "yuv422p", "seconds": 0.4}), SIZE),
    "utvideo.avi": (("a.avi", {"codec": "utvideo", "pix_fmt": "gbrp", "seconds": 0.4}), SIZE),
    "cinepak.mov": (("a.mov", {"codec": "cinepak", "pix_fmt": "rgb24", "seconds": 0.4}), SIZE),
    "msvideo1.avi": (("a.avi", {"codec": "msvideo1", "pix_fmt": "rgb555le", "seconds": 0.4}), SIZE),
    "zmbv.avi": (("a.avi", {"codec": "zmbv", "pix_fmt": "bgr0", "seconds": 0.4}), SIZE),
    "magicyuv.avi": (("a.avi", {"codec": "magicyuv", "pix_fmt": "gbrap", "seconds": 0.4}), SIZE),
    "msmpeg4.avi": (("a.avi", {"codec": "msmpeg4"}), SIZE),
    "mpeg1.mpg": (("a.mpg", {"codec": "mpeg1video"}), SIZE),
    "mpeg2.ts": (("a.ts", {"codec": "mpeg2video", "options": {"bf": "2"}}), SIZE),
    "mpeg2-422.mkv": (("a.mkv", {"codec": "mpeg2video", "pix_fmt": "yuv422p"}), SIZE),
    "jpeg2000.mov": (("a.mov", {"codec": "jpeg2000", "seconds": 0.2}), SIZE),
    "dnxhd.mov": (
        ("a.mov", {"codec": "dnxhd", "options": {"profile": "dnxhr_lb"}, "pix_fmt": "yuv422p", "size": (256, 120)}),
        (256, 120),
    ),
    "vp9-lossless-444.webm": (
        ("a.webm", {"codec": "libvpx-vp9", "options": {**_VP9, "lossless": "1"}, "pix_fmt": "yuv444p"}), SIZE,
    ),
    "odd-sides.mp4": (("a.mp4", {"size": (161, 121), "pix_fmt": "yuv444p"}), (161, 121)),
    "odd-sides.avi": (("a.avi", {"size": (33, 17), "codec": "mpeg4"}), (33, 17)),
    "two-by-two.mp4": (("a.mp4", {"size": (2, 2)}), (2, 2)),
    "one-pixel.mkv": (("a.mkv", {"size": (1, 1), "codec": "ffv1", "pix_fmt": "yuv444p"}), (1, 1)),
    "one-pixel.gif": (("a.gif", {"size": (1, 1), "codec": "gif", "pix_fmt": "rgb8", "fps": 10}), (1, 1)),
    "a-line-wide.mkv": (("a.mkv", {"size": (4096, 2), "codec": "ffv1", "seconds": 0.2}), (4096, 2)),
    "a-line-high.mkv": (("a.mkv", {"size": (2, 2304), "codec": "rawvideo", "seconds": 0.2}), (2, 2304)),
    "4k.mp4": (("a.mp4", {"size": (3840, 2160), "seconds": 0.2, "options": _SMALL}), (3840, 2160)),
    "noise.mkv": (("a.mkv", {"picture": noise, "codec": "mjpeg", "pix_fmt": "yuvj420p"}), SIZE),
    "thousand-a-second.mp4": (("a.mp4", {"fps": 1000, "seconds": 1.0}), SIZE),
    "one-a-second.mp4": (("a.mp4", {"fps": 1, "seconds": 5.0}), SIZE),
    "sound-goes-on.mkv": (("a.mkv", {"audio_seconds": 9.0}), SIZE),
    "sound-goes-on.mp4": (("a.mp4", {"audio_seconds": 9.0}), SIZE),
    "sound-ends-early.mp4": (("a.mp4", {"audio_seconds": 0.2}), SIZE),
    "one-long-group.mp4": (("a.mp4", {"options": {"g": "9999", "bf": "3"}}), SIZE),
    "open-groups.mp4": (("a.mp4", {"options": {"x264-params": "open-gop=1:keyint=8:bframes=3"}}), SIZE),
    "refreshed-bit-by-bit.ts": (("a.ts", {"options": {"x264-params": "intra-refresh=1:keyint=10"}}), SIZE),
    "all-keyframes.mp4": (("a.mp4", {"options": {"g": "1"}}), SIZE),
}  # fmt: skip


def _hundred_thousand_pictures(clips: Clips, folder: Path) -> Path:
    """Write 100 s at 1,000 pictures per second; all packets but the first are equal."""
    path = folder / "a.mp4"
    with av.open(path, "w") as container:
        stream = container.add_stream("mpeg4", rate=1000, options={"g": "600"})
        stream.width, stream.height, stream.pix_fmt = 16, 16, "yuv420p"
        frame = VideoFrame(16, 16, "yuv420p")
        for plane in frame.planes:
            plane.update(bytes(plane.buffer_size))
        for number in range(100_000):
            frame.pts, frame.time_base = number, Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def _several_videos(clips: Clips, folder: Path) -> Path:
    """Write a small video stream, the main one, and one that cannot be decoded."""
    path = folder / "a.mkv"
    with av.open(path, "w") as container:
        streams = []
        for size in ((64, 48), SIZE, (32, 32)):
            stream = container.add_stream("libx264", rate=25, options=_SMALL)
            stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
            streams.append((stream, size))
        for number in range(25):
            for stream, size in streams:
                frame = VideoFrame.from_ndarray(numbered(number, size), format="rgb24").reformat(format="yuv420p")
                frame.pts, frame.time_base = number, Fraction(1, 25)
                container.mux(stream.encode(frame))
        for stream, _ in streams:
            container.mux(stream.encode(None))
    return path


def with_every_kind_of_stream(film: Path, path: Path) -> Path:
    """Write the film with its sound, two kinds of subtitles and an attached font."""
    with av.open(path, "w") as container, av.open(film) as source:
        media = [stream for stream in source.streams if stream.type in ("video", "audio")]
        copies = {stream.index: container.add_stream_from_template(stream) for stream in media}
        texts = [container.add_stream(codec) for codec in ("ass", "dvdsub")]
        container.add_attachment("a.ttf", "application/x-truetype-font", b"no font")
        for packet in source.demux(media):
            if packet.size:
                packet.stream = copies[packet.stream_index]
                container.mux(packet)
        for text in texts:
            packet = av.Packet(b"0,0,Default,,0,0,0,,A line")
            packet.stream, packet.pts, packet.dts, packet.duration = text, 0, 0, 500
            packet.time_base = Fraction(1, 1000)
            container.mux(packet)
    return path


def _film_with_cover(clips: Clips, folder: Path) -> Path:
    """Write a film with an attached picture larger than the film."""
    path = folder / "a.mp4"
    with av.open(path, "w") as container, av.open(clips.path("mp4")) as film:
        video = container.add_stream_from_template(film.streams.video[0])
        cover = container.add_stream("mjpeg", rate=1)
        cover.width, cover.height, cover.pix_fmt = 640, 480, "yuvj420p"
        cover.disposition = Disposition.attached_pic
        cover.codec_context.color_range = FULL
        packets = cover.encode(VideoFrame(640, 480, "yuvj420p")) + cover.encode(None)
        container.mux(packets)
        for packet in film.demux(video=0):
            if packet.size:
                packet.stream = video
                container.mux(packet)
    return path


def _sound_with_cover(clips: Clips, folder: Path) -> Path:
    path = folder / "a.mp4"
    with av.open(path, "w") as container, av.open(clips.path("mp4")) as film:
        sound = container.add_stream_from_template(film.streams.audio[0])
        cover = container.add_stream("mjpeg", rate=1)
        cover.width, cover.height, cover.pix_fmt = 64, 64, "yuvj420p"
        cover.disposition = Disposition.attached_pic
        cover.codec_context.color_range = FULL
        container.mux(cover.encode(VideoFrame(64, 64, "yuvj420p")) + cover.encode(None))
        for packet in film.demux(audio=0):
            if packet.size:
                packet.stream = sound
                container.mux(packet)
    return path


def _no_duration(clips: Clips, folder: Path) -> Path:
    """Write a file whose index has only durations of 0."""
    data = bytearray(clips.bytes("faststart"))
    for box, spot in ((b"mvhd", 16), (b"mdhd", 16), (b"tkhd", 20)):
        start = data.index(box) + 4 + spot
        data[start : start + 4] = bytes(4)
    count_at = data.index(b"stts") + 8
    for entry in range(int.from_bytes(data[count_at : count_at + 4], "big")):
        delta = count_at + 4 + 8 * entry + 4
        data[delta : delta + 4] = bytes(4)
    return put(folder, "a.mp4", bytes(data))


def _no_declared_duration(clips: Clips, folder: Path) -> Path:
    data = bytearray(clips.bytes("faststart"))
    for box, spot in ((b"mvhd", 16), (b"mdhd", 16), (b"tkhd", 20)):
        start = data.index(box) + 4 + spot
        data[start : start + 4] = bytes(4)
    return put(folder, "a.mp4", bytes(data))


def _started_in_the_middle(clips: Clips, folder: Path) -> Path:
    """Write a recording that starts between two keyframes of a broadcast."""
    data = clips.bytes("ts")
    return put(folder, "a.ts", data[188 * 5 :])


def _size_changes(clips: Clips, folder: Path) -> Path:
    """Write a broadcast that switches to a smaller size half-way."""
    path = folder / "a.ts"
    one = write_clip(folder / "one.ts", seconds=1, size=SIZE)
    other = write_clip(folder / "other.ts", times=[1 + k / 25 for k in range(25)], size=(96, 64))
    path.write_bytes(one.read_bytes() + other.read_bytes())
    one.unlink()
    other.unlink()
    return path


def _link(clips: Clips, folder: Path) -> Path:
    path = folder / "link.mp4"
    path.symlink_to(put(folder, "target", clips.bytes("mp4")))
    return path


_ODD_BY_HAND: dict[str, Make] = {
    "hundred-thousand-pictures.mp4": _hundred_thousand_pictures,
    "several-videos.mkv": _several_videos,
    "subtitles.mkv": lambda clips, folder: with_every_kind_of_stream(clips.path("mp4"), folder / "a.mkv"),
    "film-with-cover.mp4": _film_with_cover,
    "no-duration.mp4": _no_duration,
    "no-declared-duration.mp4": _no_declared_duration,
    "started-in-the-middle.ts": _started_in_the_middle,
    "size-changes.ts": _size_changes,
    "link.mp4": _link,
}


def _content(data: bytes | Callable[[], bytes], name: str = "a.mp4") -> Make:
    return lambda _, folder: put(folder, name, data() if callable(data) else data)


def _zip() -> bytes:
    out = BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("a.mp4", bytes(10_000))
    return out.getvalue()


def _still(codec: str, pix_fmt: str) -> Callable[[], bytes]:
    def make() -> bytes:
        context = av.CodecContext.create(codec, "w")
        context.width, context.height, context.pix_fmt, context.time_base = 64, 64, pix_fmt, Fraction(1)
        context.color_range = FULL
        frame = VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), format="rgb24").reformat(format=pix_fmt)
        return b"".join(bytes(packet) for packet in [*context.encode(frame), *context.encode(None)])

    return make


def _dangling(_: Clips, folder: Path) -> Path:
    path = folder / "a.mp4"
    path.symlink_to(folder / "nowhere.mp4")
    return path


def _pipe(_: Clips, folder: Path) -> Path:
    path = folder / "a.mp4"
    os.mkfifo(path)
    return path


def _folder(_: Clips, folder: Path) -> Path:
    path = folder / "a.mp4"
    path.mkdir()
    return path


def _device(_: Clips, folder: Path) -> Path:
    path = folder / "a.mp4"
    path.symlink_to("/dev/zero")
    return path


_PLAYLIST = b"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:2,\n/etc/passwd\n#EXT-X-ENDLIST\n"
_NO_CLIP: dict[str, tuple[str, Make]] = {
    "nothing": (Reason.EMPTY_FILE, _content(b"")),
    "one-byte": (Reason.NOT_A_VIDEO, _content(b"\0")),
    "zeros": (Reason.NOT_A_VIDEO, _content(bytes(50_000))),
    "text": (Reason.NOT_A_VIDEO, _content(b"not a clip\n" * 500)),
    "html": (Reason.NOT_A_VIDEO, _content(b"<!doctype html><title>404</title>" * 50)),
    "json-error": (Reason.NOT_A_VIDEO, _content(b'{"error": {"code": "AccessDenied"}}')),
    "zip": (Reason.NOT_A_VIDEO, _content(_zip)),
    "jpeg": (Reason.NOT_A_VIDEO, _content(_still("mjpeg", "yuvj420p"))),
    "png": (Reason.NOT_A_VIDEO, _content(_still("png", "rgb24"))),
    "playlist": (Reason.NOT_A_VIDEO, _content(_PLAYLIST)),
    "playlist.m3u8": (Reason.NOT_A_VIDEO, _content(_PLAYLIST, "a.m3u8")),
    "concat": (Reason.NOT_A_VIDEO, _content(b"ffconcat version 1.0\nfile '/etc/passwd'\n", "a.ffconcat")),
    "subtitles": (Reason.NOT_A_VIDEO, _content(b"1\n00:00:00,000 --> 00:00:02,000\nHello\n", "a.mkv")),
    "folder": (Reason.UNDECODABLE, _folder),
    "pipe": (Reason.UNDECODABLE, _pipe),
    "device": (Reason.UNDECODABLE, _device),
    "dangling-link": (Reason.MISSING, _dangling),
    "sound.mp4": (Reason.NO_VIDEO, _written("a.mp4", {"seconds": 0, "audio_seconds": 2})),
    "sound.mkv": (Reason.NO_VIDEO, _written("a.mkv", {"seconds": 0, "audio_seconds": 2})),
    "sound.ts": (Reason.NO_VIDEO, _written("a.ts", {"seconds": 0, "audio_seconds": 2})),
    "sound-with-cover.mp4": (Reason.NO_VIDEO, _sound_with_cover),
}


def _declared(width: int, height: int) -> Make:
    """Write raw pictures of a few bytes in an AVI that declares a larger size."""

    def make(_: Clips, folder: Path) -> Path:
        path = write_clip(folder / "a.avi", seconds=0.2, size=(16, 16), codec="rawvideo", pix_fmt="bgr24")
        data = bytearray(path.read_bytes())
        strf = data.index(b"strf") + 8
        data[strf + 4 : strf + 12] = struct.pack("<ii", width, height)
        return put(folder, "a.avi", bytes(data))

    return make


_PAST_LIMITS: dict[str, tuple[str, Make]] = {
    "8k.mp4": (Reason.TOO_LARGE, _written("a.mp4", {"size": (7680, 4320), "seconds": 0.04, "options": _SMALL})),
    "8k-jpeg.mov": (
        Reason.TOO_LARGE,
        _written("a.mov", {"size": (7680, 4320), "seconds": 0.04, "codec": "mjpeg", "pix_fmt": "yuvj420p"}),
    ),
    "declared-16000x16000.avi": (Reason.TOO_LARGE, _declared(16_000, 16_000)),
    "declared-32767x32767.avi": (Reason.UNDECODABLE, _declared(32_767, 32_767)),  # overflows FFmpeg's size check
    "an-hour.mp4": (Reason.TOO_LONG, _written("a.mp4", {"times": [0.0, 1800.0, 3600.0]})),
    "an-hour.mkv": (Reason.TOO_LONG, _written("a.mkv", {"times": [0.0, 1800.0, 3600.0]})),
    "an-hour-at-one-a-second.ts": (Reason.TOO_LONG, _written("a.ts", {"fps": 1, "seconds": 3600, **_TINY})),
}
