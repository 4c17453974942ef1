"""Parts from decoder processes: failures of a process, hostile answers, and callers who stop early."""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from clipdex.config import Sampling, Split, VideoLimits
from clipdex.errors import ClipRejected, Reason
from clipdex.video import ClipFile, Part, Prepared, RejectedPart, prepare
from clipdex.video.budget import Budget
from clipdex.video.cutting import Begin, Cut, prepare_parts
from clipdex.video.sandbox.messages import framed
from clipdex.video.sandbox.pool import DecoderPool
from tests.support.clips import scenes, write_clip
from tests.support.long_films import judge_parts, repeat, write_minute, wrong_minutes
from tests.support.processes import decoder_pids, limits_of

LIMITS = VideoLimits(max_duration_s=20.0, split=Split.FIXED, part_s=10.0, min_part_s=2.0, max_file_s=200.0)
SHOTS = LIMITS.model_copy(update={"split": Split.SHOTS})
BOTH = pytest.mark.parametrize("limits", [LIMITS, SHOTS], ids=["fixed", "shots"])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    options = {"preset": "ultrafast", "g": "20"}
    return write_clip(
        tmp_path / "a.mp4", seconds=45, fps=10, size=(160, 96), options=options, picture=scenes(120, 240, 333)
    )


def _run(use: Callable[[DecoderPool], Awaitable[None]], limits: VideoLimits = LIMITS) -> None:
    async def main() -> None:
        async with DecoderPool(limits, Sampling(), 1) as decoders:
            await use(decoders)

    asyncio.run(main())


def _undisturbed(path: Path, limits: VideoLimits) -> list:
    with ClipFile.open(path) as file:
        parts = list(prepare_parts(file, limits, Sampling(), Begin(), Budget(limits)))
    return [one for one in parts if not isinstance(one, Cut)]


@BOTH
def test_parts_of_a_process_equal_those_of_this_one(path: Path, limits: VideoLimits) -> None:
    whole = _undisturbed(path, limits)

    async def use(decoders: DecoderPool) -> None:
        assert [one async for one in decoders.parts(path)] == whole
        (process,) = decoder_pids()
        assert [one async for one in decoders.parts(path, 2)] == whole[2:]
        assert [one async for one in decoders.parts(path, 2, whole[2].info.start_s)] == whole[2:]
        assert [one async for one in decoders.parts(path, 99)] == whole[-1:]
        assert decoder_pids() == [process]

    _run(use, limits)


def test_a_file_that_is_not_cut_and_one_that_is_refused(path: Path, tmp_path: Path) -> None:
    short = write_clip(tmp_path / "short.mp4", seconds=1)
    (tmp_path / "b.mp4").write_bytes(b"no clip" * 1000)

    async def use(decoders: DecoderPool) -> None:
        assert [one async for one in decoders.parts(short)] == [prepare(short, LIMITS, Sampling())]
        for file, reason in ((tmp_path / "b.mp4", Reason.NOT_A_VIDEO), (tmp_path / "none.mp4", Reason.MISSING)):
            with pytest.raises(ClipRejected) as caught:
                [one async for one in decoders.parts(file)]
            assert caught.value.reason is reason
        with pytest.raises(ClipRejected) as caught:
            await decoders.prepare(path)
        assert caught.value.reason is Reason.TOO_LONG

    _run(use)


@BOTH
def test_a_process_that_dies_between_parts_costs_no_part(path: Path, limits: VideoLimits) -> None:
    whole = _undisturbed(path, limits)

    async def use(decoders: DecoderPool) -> None:
        parts = []
        async for one in decoders.parts(path):
            parts.append(one)
            if one.part in (Part(0, False), Part(2, False)):
                (process,) = decoder_pids()
                os.kill(process, signal.SIGKILL)
        assert parts == whole

    _run(use, limits)


def test_a_part_that_kills_every_process_costs_only_itself(path: Path) -> None:
    whole = _undisturbed(path, LIMITS)

    async def use(decoders: DecoderPool) -> None:
        parts: list[Any] = []
        killed: set[int] = set()
        first_died = asyncio.Event()

        async def kill() -> None:
            """Kill the process that is to decode part 1, and the next one while it does."""
            while len(killed) < 2:
                for child in set(decoder_pids()) - killed if len(parts) == 1 else ():
                    if limits_of(child).get("Max cpu time", "unlimited") != "unlimited":
                        os.kill(child, signal.SIGSEGV)
                        killed.add(child)
                        first_died.set()
                await asyncio.sleep(0)

        killer = asyncio.create_task(kill())
        async for one in decoders.parts(path):
            parts.append(one)
            await first_died.wait()
        await killer
        assert [isinstance(one, Prepared) for one in parts] == [True, False, True, True, True]
        assert [one.part for one in parts] == [one.part for one in whole]
        assert parts[2:] == whole[2:]
        rejected = parts[1]
        assert (rejected.start_s, rejected.end_s, rejected.rejection.reason) == (9.0, 18.0, Reason.DECODE_LIMIT)
        assert "confirmed in a fresh process" in rejected.rejection.detail

    _run(use)


def test_a_caller_that_stops_early_leaves_nothing_for_the_next(path: Path) -> None:
    whole = _undisturbed(path, LIMITS)

    async def use(decoders: DecoderPool) -> None:
        async with contextlib.aclosing(decoders.parts(path)) as parts:
            async for one in parts:
                assert one == whole[0]
                break
        assert [one async for one in decoders.parts(path)] == whole

    _run(use)


def test_the_time_between_two_parts_does_not_count(path: Path) -> None:
    async def use(decoders: DecoderPool) -> None:
        count = 0
        async for one in decoders.parts(path):
            assert isinstance(one, Prepared)
            count += 1
            if count == 1:
                (process,) = decoder_pids()
                used = int(limits_of(process)["Max cpu time"])
                await asyncio.sleep(6)
                assert process in decoder_pids()
            else:
                assert used <= int(limits_of(process)["Max cpu time"]) <= used + 10
        assert count == 5

    _run(use, LIMITS.model_copy(update={"decode_timeout_s": 5.0}))


CUT = {"start_s": 0.0, "end_s": 45.0, "part_s": 9.0, "number": 0, "from_s": 0.0, "place": 0}
FIRST = {"number": 0, "last": False, "start_s": 0.0, "end_s": 9.0}
CLIP = {
    "info": {"duration_s": 9.0, "width": 64, "height": 64, "fps": 1.0, "codec": "h264", "bytes": 1},
    "windows": [{"start_s": 0.0, "end_s": 9.0, "times": [0.0]}],
    "proxy_fps": 1.0,
    "width": 64,
    "height": 64,
}


def _cut(**fields: Any) -> bytes:
    return framed({"cut": {**CUT, **fields}})


def _part(clip: dict[str, Any] | None = None, **fields: Any) -> bytes:
    return framed({"clip": {**CLIP, **(clip or {})}, "part": {**FIRST, **fields}}, b"poster", b"proxy")


WHOLE = {
    "a part of no file that is cut": _part(),
    "a film that is too long": _cut(end_s=300.0),
    "a film without length": _cut(end_s=0.0),
    "parts that are too long": _cut(part_s=11.0),
    "a start behind the wanted part": _cut(number=1),
    "a start behind the film": _cut(from_s=50.0),
    "endless progress": framed({"passed": True}) * 61,
}
BROKEN = {
    "a clip that is no part": framed({"clip": CLIP}, b"poster", b"proxy"),
    "another number": _part(number=1),
    "another start": _part(start_s=3.0),
    "a part that is too long": _part(end_s=12.0),
    "a part that is too short": _part(end_s=0.5),
    "a last part before the end": _part(last=True),
    "a part past the end": _part(start_s=0.0, end_s=46.0),
    "another time than that of its clip": _part(end_s=8.0),
    "a wanted part that is skipped": framed({"part": FIRST}),
    "no answer": framed({}),
}


@pytest.mark.parametrize("answer", WHOLE.values(), ids=WHOLE)
def test_an_invalid_answer_for_the_file_rejects_it(path: Path, tmp_path: Path, monkeypatch, answer: bytes) -> None:
    async def use(decoders: DecoderPool) -> None:
        with pytest.raises(ClipRejected, match=r"invalid answer.*fresh process") as caught:
            [one async for one in decoders.parts(path)]
        assert caught.value.reason is Reason.DECODE_LIMIT

    _run_hostile(answer, use, tmp_path, monkeypatch)


@pytest.mark.parametrize("answer", BROKEN.values(), ids=BROKEN)
def test_invalid_answers_for_parts_reject_them_and_after_some_the_rest(
    path: Path, tmp_path: Path, monkeypatch, answer: bytes
) -> None:
    """Of three parts, however long the file claims to be: the third takes the rest with it."""

    async def use(decoders: DecoderPool) -> None:
        parts = [one async for one in decoders.parts(path)]
        assert all(isinstance(one, RejectedPart) for one in parts)
        assert [(one.part.number, one.start_s, one.end_s) for one in parts] == [(0, 0, 9), (1, 9, 18), (2, 18, 45)]
        assert [one.part.last for one in parts] == [False, False, True]
        assert all("invalid answer" in one.rejection.detail for one in parts)

    _run_hostile(_cut() + answer, use, tmp_path, monkeypatch)


def _run_hostile(
    answers: bytes, use: Callable[[DecoderPool], Awaitable[None]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Use decoders that the file has taken over: they send these answers."""
    program = tmp_path / "hostile"
    program.write_text(
        f"#!{sys.executable}\nimport os, time\nos.read(0, 2**16)\nos.write(1, {framed({})})\nos.read(0, 2**16)\n"
        f"os.write(1, {answers})\ntime.sleep(60)\n"
    )
    program.chmod(0o755)
    with monkeypatch.context() as patched:
        patched.setattr(sys, "executable", str(program))
        _run(use)


@BOTH
@pytest.mark.slow
def test_memory_does_not_grow_with_the_film(tmp_path: Path, limits: VideoLimits) -> None:
    """Of each packet, about a kilobyte of the index is kept. The hour of it: make hostile."""
    limits = VideoLimits(split=limits.split)
    minute = write_minute(tmp_path / "minute.mp4", (320, 180), 5)
    verdicts = []
    for minutes in (3, 12):
        film = repeat(minute, tmp_path / f"{minutes}.mp4", minutes)
        verdicts.append(judge_parts(film, limits, wrong_minutes(limits, minutes)))
    assert [one.wrong for one in verdicts] == ["", ""]
    assert verdicts[1].memory < verdicts[0].memory + 9 * 60 * 5 * 1024 + 16 * 2**20
