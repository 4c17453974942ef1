"""What a browser plays of a clip: its times, pictures and sound, and what a hostile decoder cannot pass off as it."""

import asyncio
import io
import itertools
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.audio.frame import AudioFrame

from clipdex.config import Playback, Sampling, Split, VideoLimits
from clipdex.video import Prepared, prepare
from clipdex.video.boxes import is_playback
from clipdex.video.budget import Budget
from clipdex.video.clip_file import ClipFile
from clipdex.video.decoding import opened
from clipdex.video.sampling import sampled
from clipdex.video.sandbox.messages import Answer, framed
from clipdex.video.sandbox.pool import DecoderPool
from clipdex.video.sandbox.worker import answer_parts
from tests.support.clips import noise, number_above, number_of, scenes, write_clip

BOTH = [Playback.PROXY, Playback.P480]
RATE = 16_000


def played(path: Path, playback: Playback, limits: VideoLimits | None = None) -> Prepared:
    return prepare(path, limits or VideoLimits(), Sampling(), playback)


def shown(playback: bytes, read: Callable[[np.ndarray], int] = number_of) -> list[tuple[float, int]]:
    """Return (time [s], number) of each picture."""
    with av.open(io.BytesIO(playback)) as container:
        return [(float(frame.time), read(frame.to_ndarray(format="rgb24"))) for frame in container.decode(video=0)]


def length_s(playback: bytes) -> float:
    with av.open(io.BytesIO(playback)) as container:
        return float(container.duration or 0) / av.time_base


def heard(playback: bytes) -> np.ndarray:
    """Return the sound as one channel, from second 0 on."""
    with av.open(io.BytesIO(playback)) as container:
        frames = list(container.decode(audio=0))
    pieces = [(round(float(one.time) * one.sample_rate), one.to_ndarray().mean(axis=0)) for one in frames]
    sound = np.zeros(max(first + len(piece) for first, piece in pieces), np.float32)
    for first, piece in pieces:
        sound[max(0, first) : first + len(piece)] = piece[max(0, -first) :]
    return sound


def with_tone(film: Path, path: Path, from_s: float, to_s: float, length: float, rate: int = RATE) -> Path:
    """Write a copy of a film with a sound of this length: a tone from from_s to to_s, else silence."""
    samples = 0.5 * np.sin(np.arange(round(length * rate)) * 2 * np.pi * 440 / rate).astype(np.float32)
    moments = np.arange(len(samples)) / rate
    samples[(moments < from_s) | (moments >= to_s)] = 0
    with av.open(film) as source, av.open(path, "w") as container:
        stream = container.add_stream_from_template(source.streams.video[0])
        sound = container.add_stream("aac", rate=rate, layout="mono")
        for packet in (one for one in source.demux(video=0) if one.size):
            packet.stream = stream
            container.mux(packet)
        for first in range(0, len(samples), 1024):
            frame = AudioFrame.from_ndarray(samples[None, first : first + 1024].copy(), format="fltp", layout="mono")
            frame.sample_rate, frame.pts, frame.time_base = rate, first, Fraction(1, rate)
            container.mux(sound.encode(frame))
        container.mux(sound.encode(None))
    return path


def tone_span(sound: np.ndarray, rate: int = RATE) -> tuple[float, float]:
    """Return when a tone begins and ends [s]."""
    loud = np.flatnonzero(np.abs(sound) > 0.1)
    return loud[0] / rate, loud[-1] / rate


@pytest.mark.parametrize("playback", BOTH)
def test_each_picture_is_at_its_time_and_the_index_comes_first(tmp_path: Path, playback: Playback) -> None:
    clip = played(write_clip(tmp_path / "a.mp4", seconds=3.2), playback)
    pictures = shown(clip.playback)
    assert [number for _, number in pictures] == [int(time_s * 25 + 0.01) for time_s, _ in pictures]
    times = list(clip.times) if playback is Playback.PROXY else [k / 25 for k in range(80)]
    assert [time_s for time_s, _ in pictures] == pytest.approx(times, abs=0.001)
    assert length_s(clip.playback) == pytest.approx(3.2, abs=0.002)
    assert clip.playback.index(b"moov") < clip.playback.index(b"mdat")
    with av.open(io.BytesIO(clip.playback)) as container:
        context = container.streams.video[0].codec_context
        assert (context.name, context.pix_fmt) == ("h264", "yuv420p")


@pytest.mark.parametrize("playback", BOTH)
def test_a_first_picture_behind_the_sound_keeps_its_clock(tmp_path: Path, playback: Playback) -> None:
    """A player of the file plays three seconds of sound before the first picture."""
    path = write_clip(tmp_path / "late.mp4", times=[3 + k / 25 for k in range(50)], audio_seconds=5.0)
    clip = played(path, playback)
    assert (clip.info.start_s, clip.info.end_s) == (pytest.approx(3.0, abs=0.03), pytest.approx(5.0, abs=0.03))
    (first_s, first), *pictures = shown(clip.playback)
    assert (first_s, first) == (0.0, 0)
    assert [number for _, number in pictures] == [
        int((time_s - clip.info.start_s) * 25 + 0.01) for time_s, _ in pictures
    ]
    assert length_s(clip.playback) == pytest.approx(clip.info.end_s, abs=0.01)


@pytest.mark.parametrize("playback", BOTH)
def test_a_variable_frame_rate_shows_each_picture_as_long_as_the_file_does(tmp_path: Path, playback: Playback) -> None:
    times = [0.0, 0.02, 0.04, 1.5, 1.505, 1.51, 3.0, 3.1, 3.2, 4.9]
    clip = played(write_clip(tmp_path / "a.mp4", times=times), playback)
    pictures = shown(clip.playback)
    for time_s in (0.01, 1.0, 1.4, 2.0, 2.9, 3.15, 4.0, 4.85):
        now = max(k for k, start_s in enumerate(times) if start_s <= time_s)
        if playback is Playback.PROXY:  # a picture every half second
            now = max(k for k, start_s in enumerate(times) if start_s <= int(time_s * 2) / 2)
        on_screen = [number for start_s, number in pictures if start_s <= time_s + 0.001][-1]
        assert on_screen in ((now,) if time_s > 0.1 else (0, now)), time_s


def test_fast_films_are_played_at_thirty_pictures_a_second(tmp_path: Path) -> None:
    pictures = shown(played(write_clip(tmp_path / "a.mp4", seconds=2, fps=60), Playback.P480).playback)
    assert 58 <= len(pictures) <= 62
    assert all(abs(number - time_s * 60) <= 1 for time_s, number in pictures)
    pictures = shown(played(write_clip(tmp_path / "b.mp4", seconds=2, fps=50), Playback.P480).playback)
    assert 58 <= len(pictures) <= 62
    assert all(abs(number - time_s * 50) <= 1 for time_s, number in pictures)


@pytest.mark.parametrize("rate", [8000, RATE, 44_100, 48_000])
def test_the_sound_is_heard_when_the_file_plays_it(tmp_path: Path, rate: int) -> None:
    film = write_clip(tmp_path / "film.mp4", seconds=4, size=(96, 64))
    clip = played(with_tone(film, tmp_path / "a.mp4", 1.0, 2.5, 4.0, rate), Playback.P480)
    begins_s, ends_s = tone_span(heard(clip.playback), rate)
    assert begins_s == pytest.approx(1.0, abs=0.15) and ends_s == pytest.approx(2.5, abs=0.15)
    with av.open(io.BytesIO(clip.playback)) as container:
        assert container.streams.audio[0].codec_context.name == "aac"
    assert not av.open(io.BytesIO(played(tmp_path / "a.mp4", Playback.PROXY).playback)).streams.audio


def test_a_long_pause_in_the_sound_stays_a_pause(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", seconds=4, size=(96, 64), audio_seconds=1.0, audio_from_s=2.0)
    assert len(heard(played(path, Playback.P480).playback)) == pytest.approx(4 * RATE, abs=2048)


def test_a_film_is_played_upright_and_with_square_pixels(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", seconds=1, size=(720, 576), pixel_aspect=Fraction(16, 11), turned=90)
    for playback in BOTH:
        clip = played(path, playback)
        with av.open(io.BytesIO(clip.playback)) as container:
            context = container.streams.video[0].codec_context
            assert context.height / context.width == pytest.approx(720 * 16 / 11 / 576, rel=0.02)
            assert min(context.width, context.height) == (448 if playback is Playback.PROXY else 480)
            assert next(container.decode(video=0)).rotation == 0


def test_small_films_are_not_enlarged(tmp_path: Path) -> None:
    clip = played(write_clip(tmp_path / "a.mp4", seconds=1, size=(160, 120)), Playback.P480)
    with av.open(io.BytesIO(clip.playback)) as container:
        assert (container.streams.video[0].codec_context.width, container.streams.video[0].codec_context.height) == (
            160, 120,
        )  # fmt: skip


def test_the_engine_gets_the_same_whatever_is_played(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", seconds=5, options={"g": "12", "bf": "2"}, audio_seconds=5)
    one, *others = (played(path, playback) for playback in Playback)
    assert one.playback == b"" and all(other.playback for other in others)
    for other in others:
        assert (other.windows, other.poster, other.info) == (one.windows, one.poster, one.info)


def test_several_windows_are_one_playback(tmp_path: Path) -> None:
    clip = played(write_clip(tmp_path / "a.mp4", seconds=45, fps=4, size=(96, 64)), Playback.PROXY)
    assert len(clip.windows) == 2
    assert [time_s for time_s, _ in shown(clip.playback)] == pytest.approx(list(clip.times), abs=0.001)
    assert length_s(clip.playback) == pytest.approx(45, abs=0.01)


def test_noise_stays_within_its_rate(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", seconds=3, size=(640, 480), picture=noise, options={"preset": "ultrafast"})
    assert len(played(path, Playback.P480).playback) < 3 * 1_500_000 / 8 * 1.5


def test_a_clip_comes_before_its_playback_where_the_time_is_short(tmp_path: Path) -> None:
    """Half of the CPU time is used when the first picture is decoded: the pictures of the proxy are played."""
    path = write_clip(tmp_path / "a.mp4", seconds=4, size=(96, 64))
    limits = VideoLimits(decode_timeout_s=4)
    budget, end = Budget(limits), time.thread_time() + 2.1
    while time.thread_time() < end:
        pass
    with ClipFile.open(path) as file, opened(file, limits, 0, budget) as reader:
        clip = sampled(reader, Sampling(), Playback.P480)
    usual = played(path, Playback.PROXY)
    assert (clip.windows, clip.playback) == (usual.windows, usual.playback)


def test_a_budget_foresees_that_a_film_takes_too_long() -> None:
    budget, end = Budget(VideoLimits(decode_timeout_s=8)), time.thread_time() + 1.1
    while time.thread_time() < end:
        pass
    assert budget.spares_half(9, 10) and not budget.spares_half(1, 10)


@pytest.mark.parametrize(("split", "playback"), list(itertools.product(Split, BOTH)))
def test_the_parts_of_a_long_file_are_played_from_their_start(tmp_path: Path, split: Split, playback: Playback) -> None:
    film = write_clip(tmp_path / "film.mp4", seconds=20, size=(160, 120), picture=scenes(0, 137, 400))
    path = with_tone(film, tmp_path / "a.mp4", 9.0, 9.5, 20)
    limits = VideoLimits(max_duration_s=8, part_s=7.5, split=split)

    async def parts() -> list[Prepared]:
        async with DecoderPool(limits, Sampling(), 1, playback) as decoders:
            return [one async for one in decoders.parts(path) if isinstance(one, Prepared)]

    found = asyncio.run(parts())
    assert len(found) >= 3
    for part in found:
        start_s, part_s = part.info.start_s, part.info.duration_s
        pictures = shown(part.playback, number_above)
        assert pictures[0][0] == 0.0
        assert all(number == int((start_s + time_s) * 25 + 0.01) for time_s, number in pictures), start_s
        assert length_s(part.playback) == pytest.approx(part_s, abs=0.01)
        if playback is Playback.P480:
            assert pictures[-1][1] in (int((start_s + part_s) * 25), int((start_s + part_s) * 25 - 0.99))
            if start_s <= 9 and start_s + part_s >= 9.5:
                assert tone_span(heard(part.playback))[0] == pytest.approx(9 - start_s, abs=0.15)
            else:
                assert np.abs(heard(part.playback)).max() < 0.1


def test_the_sandbox_makes_what_this_process_makes(tmp_path: Path) -> None:
    path = with_tone(write_clip(tmp_path / "a.mp4", seconds=2), tmp_path / "b.mp4", 0.5, 1, 2)

    async def use() -> None:
        async with DecoderPool(VideoLimits(), Sampling(), 1, Playback.P480) as decoders:
            assert await decoders.prepare(path) == played(path, Playback.P480)
            for playback in Playback:
                (one,) = [one async for one in decoders.parts(path, playback=playback)]
                assert one == played(path, playback)

    asyncio.run(use())


def test_a_playback_that_kills_its_decoder_costs_only_itself(tmp_path: Path) -> None:
    """The first process has too little memory for 480 lines of this film; the next one plays the proxy."""
    path = write_clip(tmp_path / "a.mp4", seconds=1, size=(160, 120))
    limits = VideoLimits(memory_bytes=40 * 2**20)

    async def use(playback: Playback) -> Prepared:
        async with DecoderPool(limits, Sampling(), 1, playback) as decoders:
            return await decoders.prepare(path)

    assert asyncio.run(use(Playback.P480)).windows == asyncio.run(use(Playback.OFF)).windows


# What a decoder process may answer


def other_files(folder: Path) -> dict[str, bytes]:
    film = write_clip(folder / "film.mp4", seconds=1)
    good = played(film, Playback.PROXY).playback
    return {
        "text": b"<html><script>alert(1)</script>",
        "an original with its index at the end": film.read_bytes(),
        "another codec": write_clip(
            folder / "b.mp4", seconds=1, codec="mpeg4", container_options={"movflags": "+faststart"}
        ).read_bytes(),
        "matroska": write_clip(folder / "c.mkv", seconds=1).read_bytes(),
        "cut": good[:-10],
        "more behind it": good + b"more",
        "a box of no size": good[:20] + b"\0" * (len(good) - 20),
        "one byte": b"x",
        "a box that does not end": b"\xff\xff\xff\xffftyp",
    }


def test_only_h264_in_mp4_with_its_index_first_is_taken(tmp_path: Path) -> None:
    film = write_clip(tmp_path / "a.mp4", seconds=1, audio_seconds=1)
    assert all(is_playback(played(film, playback).playback) for playback in BOTH)
    assert not {name for name, data in other_files(tmp_path).items() if is_playback(data)}


def test_an_answer_with_another_file_as_its_playback_is_invalid(tmp_path: Path) -> None:
    clip = played(write_clip(tmp_path / "a.mp4", seconds=1), Playback.PROXY)

    def answered(header: dict[str, Any], *blobs: bytes) -> Prepared:
        message = framed(header, *blobs)
        length = int.from_bytes(message[:4], "big")
        return Answer.parsed(message[4 : 4 + length]).prepared(list(blobs))

    header, *blobs = answer_parts(clip)
    assert answered(header, *blobs) == clip
    for data in (*other_files(tmp_path).values(), b""):
        if data:
            with pytest.raises(ValueError, match="a playback expected"):
                answered(header, *blobs[:-1], data)
    with pytest.raises(ValueError, match="proxies expected"):
        answered(header, *blobs[:-1])
