"""Test which files count as litter, and which as damaged films."""

import random
from pathlib import Path

import pytest

from clipdex.config import Sampling, VideoLimits
from clipdex.errors import ClipRejected, Reason
from clipdex.video import ClipFile, prepare
from clipdex.video.signature import not_a_video
from tests.support.odd import GOOD, Clips

HEADLESS = sorted(GOOD.keys() - {"gif"})  # a GIF has no other signature than its start
NOISE = random.Random(1).randbytes(300_000)

LITTER = {
    "AppleDouble": (bytes.fromhex("0005160700020000") + b"Mac OS X        " + bytes(4072), "AppleDouble"),
    "AppleDouble with a movie's resource": (bytes.fromhex("00051607") + bytes(60) + b"\0\0\0\x20moov" + bytes(99),
                                            "AppleDouble"),
    "web page": (b"\xef\xbb\xbf\n <!DOCTYPE html>\n<title>404</title>" * 9, "a web page"),
    "error of a store": (b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>', "text"),
    "text about boxes": (b"The box moov, its size, and mdat. " * 9, "text"),
    "text that begins like a box": ("the free lunch, наконец\n".encode() * 99, "text"),
    "UTF-16": (b"\xff\xfe" + ("a note\n" * 50).encode("utf-16-le"), "text"),
    "thumbnail": (b"\xff\xd8\xff\xe0\0\x10JFIF" + NOISE, "a JPEG picture"),
    "PNG": (b"\x89PNG\r\n\x1a\n" + NOISE, "a PNG picture"),
    "HEIC": (b"\0\0\0\x24ftypheic" + bytes(99), "a picture (heic)"),
    "WebP": (b"RIFF\x20\x10\0\0WEBPVP8 " + NOISE[:4096], "a WebP picture"),
    "sound": (b"RIFF\x20\x10\0\0WAVEfmt " + bytes(4096), "a WAVE sound file"),
    "call recording": (b"#!AMR\n" + NOISE[:999], "an AMR sound file"),
    "archive": (b"PK\x03\x04" + NOISE, "a ZIP archive"),
    "zeros": (bytes(2_000_000), "only zeros in 2000000 bytes"),
    "one byte": (b"\0", "only zeros in 1 bytes"),
    "noise": (NOISE, "no signature of a video format in 300000 bytes"),
    "short": (b"\x01\x02", "no signature of a video format in 2 bytes"),
}  # fmt: skip


@pytest.fixture(scope="module")
def clips(tmp_path_factory) -> Clips:
    return Clips(tmp_path_factory.mktemp("clips"))


def verdict(path: Path, data: bytes) -> str | None:
    path.write_bytes(data)
    with ClipFile.open(path) as file:
        return not_a_video(file)


@pytest.mark.parametrize("name", LITTER)
def test_litter_is_rejected_as_not_a_video_and_named(tmp_path, name):
    data, found = LITTER[name]
    path = tmp_path / "clip.mp4"
    path.write_bytes(data)
    with pytest.raises(ClipRejected) as refused:
        prepare(path, VideoLimits(), Sampling())
    assert refused.value.reason is Reason.NOT_A_VIDEO
    assert found in refused.value.detail


@pytest.mark.parametrize("clip", sorted(GOOD))
def test_every_format_that_can_be_decoded_has_a_signature(clips, tmp_path, clip):
    data = clips.bytes(clip)
    assert verdict(tmp_path / "clip", data) is None
    assert verdict(tmp_path / "clip", data[:300]) is None, "cut off"


@pytest.mark.parametrize("clip", HEADLESS)
def test_a_film_with_a_destroyed_start_is_no_litter(clips, tmp_path, clip):
    data = clips.bytes(clip)
    assert verdict(tmp_path / "clip", bytes(64) + data[64:]) is None
    assert verdict(tmp_path / "clip", NOISE[:64] + data[64:]) is None


@pytest.mark.parametrize("length", [188, 192, 204])
def test_transport_streams_of_every_packet_length_have_a_signature(tmp_path, length):
    packets = b"".join((b"\x47" + NOISE[n * 200 : n * 200 + 203])[:188].ljust(length, b"\0") for n in range(20))
    assert verdict(tmp_path / "clip", NOISE[:150] + packets) is None


@pytest.mark.parametrize("first", ["moov", "mdat", "wide", "free", "skip", "pnot", "uuid"])
def test_a_movie_that_begins_with_any_known_box_has_a_signature(tmp_path, first):
    assert verdict(tmp_path / "clip", b"\0\0\0\x10" + first.encode() + NOISE[:500]) is None


def test_a_large_film_of_which_only_the_end_is_left_is_no_litter(clips, tmp_path):
    assert verdict(tmp_path / "clip", bytes(9_000_000) + clips.bytes("mp4")[-3000:]) is None
