"""The film among several streams of a file, and what its optional parts may cost."""

import asyncio
import json
import struct
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import av
import pytest
from av.sidedata.sidedata import Type as SideDataType
from av.stream import Disposition
from av.video.frame import VideoFrame

from clipdex.config import Sampling, VideoLimits
from clipdex.errors import ClipRejected, Reason
from clipdex.video import ClipFile, Prepared, prepare, probe, read_proxy
from clipdex.video.budget import Budget
from clipdex.video.encoding import FrameConverter
from clipdex.video.packets import PacketIndex, Tracks
from clipdex.video.sampling import poster_of
from clipdex.video.sandbox.messages import Answer
from clipdex.video.sandbox.pool import DecoderPool
from clipdex.video.sandbox.worker import answer_parts
from clipdex.video.streams import ranked
from tests.support.clips import number_of, numbered, write_clip
from tests.support.presented import exif, motion_jpeg
from tests.support.stamps import renamed_handler
from tests.support.videos import Video, write_videos

LIMITS = VideoLimits()
SMALL, LARGE = (160, 96), (320, 192)


def _prepare(path: Path) -> Prepared:
    return prepare(path, LIMITS, Sampling())


def _size(path: Path) -> tuple[int, int]:
    info = probe(path, LIMITS)
    return info.width, info.height


def _first(path: Path) -> int:
    return number_of(next(read_proxy(_prepare(path).windows[0].proxy)))


# Streams


FILM = Video(SMALL, range(30))


@pytest.mark.parametrize("ending", ["mp4", "mov", "mkv"])
@pytest.mark.parametrize(
    "other",
    [
        Video(LARGE, [12]),
        Video(LARGE, [0, 12, 25]),
        Video(LARGE, range(0, 30, 10)),
        Video(LARGE, range(8)),
    ],
    ids=["a still", "three stills", "a preview", "a short one"],
)
def test_the_film_is_described_whatever_larger_stream_is_beside_it(tmp_path: Path, ending: str, other: Video) -> None:
    for streams in ((FILM, other), (other, FILM)):
        path = write_videos(tmp_path / f"a.{ending}", streams)
        info = probe(path, LIMITS)
        assert (info.width, info.height, info.film) == (*SMALL, "")
        assert info.duration_s == pytest.approx(3.0)


@pytest.mark.parametrize(
    "mark",
    [
        Disposition.timed_thumbnails,
        Disposition.still_image,
        Disposition.dependent,
        Disposition.non_diegetic,
        Disposition.still_image | 1 << 30,
    ],
)
def test_a_stream_that_is_marked_as_an_accessory_is_not_the_film(tmp_path: Path, mark: int) -> None:
    """Set the marks that FFmpeg's demuxers set and its muxers do not write, one of them beside a bit of the future."""
    path = write_videos(tmp_path / "a.mp4", [Video(LARGE, range(30)), FILM])
    with ClipFile.open(path) as file, av.open(path) as container:
        container.streams.video[0].disposition = mark
        tracks = Tracks.read(container, container.streams.video, Budget(LIMITS))
        indexes = [(one.stream, PacketIndex.of(one, container.format.name, tracks.sound)) for one in tracks.video]
        assert [film.stream.index for film in ranked(indexes, file)] == [1, 0]


@pytest.mark.parametrize("kind", [b"auxv"])
def test_an_alpha_or_depth_track_is_not_the_film(tmp_path: Path, kind: bytes) -> None:
    path = write_videos(tmp_path / "a.mp4", [Video(LARGE, range(30)), FILM])
    path.write_bytes(renamed_handler(path.read_bytes(), 0, kind))
    info = probe(path, LIMITS)
    assert (info.width, info.height, info.film) == (*SMALL, "")


def test_of_two_equal_films_the_outcome_names_the_one_that_was_taken(tmp_path: Path) -> None:
    path = write_videos(tmp_path / "a.mp4", [Video(SMALL, range(30)), Video(SMALL, range(100, 130))])
    clip = _prepare(path)
    assert clip.info.film == "video stream 0 (160x96) of several films; not described: stream 1 (160x96)"
    assert _first(path) == 0


def test_the_default_film_comes_before_a_larger_one(tmp_path: Path) -> None:
    second = Video(LARGE, range(100, 130), disposition=Disposition.default)
    path = write_videos(tmp_path / "a.mkv", [Video((640, 384), range(30)), second])
    assert _first(path) == 100


def test_the_larger_film_is_taken_if_no_mark_differs(tmp_path: Path) -> None:
    default = Disposition.default
    path = write_videos(
        tmp_path / "a.mkv", [Video(SMALL, range(30), disposition=default), Video(LARGE, range(30), disposition=default)]
    )
    assert _size(path) == LARGE


def test_a_film_that_cannot_be_decoded_gives_way_to_the_next(tmp_path: Path) -> None:
    path = write_videos(tmp_path / "a.mp4", [Video(LARGE, range(30)), FILM])
    with av.open(path) as container:
        spots = [(one.pos, one.size) for one in container.demux(video=0) if one.size]
    data = bytearray(path.read_bytes())
    for position, size in spots:
        data[position : position + size] = bytes(size)
    path.write_bytes(data)
    clip = _prepare(path)
    assert (clip.info.width, clip.info.height) == SMALL
    assert [number_of(one) for one in read_proxy(clip.windows[0].proxy)] == [0, 5, 10, 15, 20, 25]


def test_if_no_film_can_be_decoded_the_clip_is_rejected(tmp_path: Path) -> None:
    path = write_videos(tmp_path / "a.mkv", [Video(LARGE, range(30)), FILM])
    with av.open(path) as container:
        spots = [(one.pos, one.size) for one in container.demux() if one.size]
    data = bytearray(path.read_bytes())
    for position, size in spots:
        data[position + 8 : position + size] = bytes(size - 8)
    path.write_bytes(data)
    with pytest.raises(ClipRejected) as caught:
        _prepare(path)
    assert caught.value.reason in (Reason.UNDECODABLE, Reason.TRUNCATED_FILE)


# Optional parts


@pytest.mark.parametrize("ending", ["avi", "mov"])
@pytest.mark.parametrize(
    ("orientation", "size", "corner"),
    [
        (1, (160, 96), (0, 0)),
        (2, (160, 96), (0, -1)),
        (3, (160, 96), (-1, -1)),
        (4, (160, 96), (-1, 0)),
        (6, (96, 160), (0, -1)),
        (8, (96, 160), (-1, 0)),
    ],
)
def test_side_data_without_a_name_costs_nothing(
    tmp_path: Path, ending: str, orientation: int, size: tuple[int, int], corner: tuple[int, int]
) -> None:
    path = motion_jpeg(tmp_path / f"a.{ending}", exif(orientation))

    async def main() -> Prepared:
        async with DecoderPool(LIMITS, Sampling(), 1) as decoders:
            return await decoders.prepare(path)

    clip = asyncio.run(main())
    assert (clip.info.width, clip.info.height) == size
    picture = next(read_proxy(clip.windows[0].proxy))
    corners = [(0, 0), (0, -1), (-1, 0), (-1, -1)]
    assert [spot for spot in corners if picture[spot].mean() > 128] == [corner]


@pytest.mark.parametrize("value", [29, 30, 31, 32, 99, 1000])
def test_every_kind_of_side_data_can_be_named(value: int) -> None:
    assert SideDataType(value).value == value


TAGS = {
    "colorspace": [*range(20), 255, 1000],
    "color_trc": [*range(22), 255, 256, 257, 1000],
    "color_primaries": [*range(25), 255, 256, 1000],
    "color_range": [0, 1, 2, 3, 7, 255],
}


@pytest.mark.parametrize("pix_fmt", ["yuv420p", "yuv420p10le", "yuvj420p", "gbrp", "rgb24", "gray", "nv12"])
@pytest.mark.parametrize("tag", TAGS)
def test_a_colour_tag_that_nobody_knows_costs_no_clip(tag: str, pix_fmt: str) -> None:
    source = VideoFrame.from_ndarray(numbered(5, SMALL)).reformat(format=pix_fmt)
    for value in TAGS[tag]:
        if tag == "color_trc" and value in (16, 18):
            continue  # HDR: the next test
        setattr(source, tag, value)
        picture = FrameConverter(source, 1.0, 96).picture(source)
        assert (picture.width, picture.height, picture.format.name) == (*SMALL, "yuv420p")


@pytest.mark.parametrize(
    ("tag", "value"), [("colorspace", 3), ("color_primaries", 3), ("color_primaries", 255), ("color_range", 7)]
)
def test_a_colour_tag_of_hdr_that_nobody_knows_costs_no_clip(tag: str, value: int) -> None:
    source = VideoFrame.from_ndarray(numbered(5, SMALL)).reformat(format="yuv420p10le")
    source.colorspace, source.color_trc, source.color_primaries = 9, 16, 9
    setattr(source, tag, value)
    picture = FrameConverter(source, 1.0, 96).picture(source)
    assert (picture.width, picture.height, picture.format.name) == (*SMALL, "yuv420p")


@pytest.mark.parametrize("matrix", [(0,) * 9, (1, 1, 1, 1, 1, 1, 1, 1, 1), (2**31 - 1,) * 9, (-(2**31),) * 9])
def test_a_display_matrix_that_means_nothing_costs_no_clip(tmp_path: Path, matrix: Sequence[int]) -> None:
    path = write_clip(tmp_path / "a.mp4", seconds=1, size=SMALL, turned=90)
    data = bytearray(path.read_bytes())
    place = data.index(b"tkhd", data.index(b"vmhd") - 600) + 4 + 40
    data[place : place + 36] = struct.pack(">9i", *matrix)
    path.write_bytes(data)
    assert set(_size(path)) == set(SMALL)


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.avi", "a.flv"])
def test_metadata_that_is_no_text_costs_no_clip(tmp_path: Path, name: str) -> None:
    codec = "mpeg4" if name == "a.avi" else "libx264"
    path = write_videos(tmp_path / name, [Video(SMALL, range(10), codec=codec)], {"title": "TITLETITLE"})
    data = path.read_bytes()
    assert b"TITLETITLE" in data
    path.write_bytes(data.replace(b"TITLETITLE", b"\xff\xfe\x80\xc3(\xed\xa0\x80\xf8\xff"))
    assert probe(path, LIMITS).duration_s == pytest.approx(1.0)


def test_a_poster_that_cannot_be_made_costs_only_itself() -> None:
    assert poster_of([VideoFrame(0, 0, "yuv420p")]) == b""


def test_an_answer_without_a_poster_is_a_clip_without_a_poster(tmp_path: Path) -> None:
    clip = replace(_prepare(write_clip(tmp_path / "a.mp4", seconds=1, size=SMALL)), poster=b"")
    header, *blobs = answer_parts(clip)
    parsed = Answer.parsed(json.dumps({**header, "blobs": [len(blob) for blob in blobs]}).encode())
    assert parsed.prepared(list(blobs)) == clip
