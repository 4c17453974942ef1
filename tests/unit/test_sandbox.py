"""Test the decoder pool with clips that hang, crash or exhaust memory."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import av
import pytest

from clipdex.config import Sampling, VideoLimits
from clipdex.errors import ClipRejected, Reason
from clipdex.video import prepare, read_proxy
from clipdex.video.sandbox.messages import framed
from clipdex.video.sandbox.pool import DecoderPool
from tests.support.clips import number_of, numbered, write_clip
from tests.support.odd import with_every_kind_of_stream
from tests.support.processes import decoder_pids, limits_of


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return write_clip(tmp_path / "a.mp4", seconds=1)


def _run(use: Callable[[DecoderPool], Awaitable[None]], limits: VideoLimits | None = None, size: int = 1) -> None:
    async def main() -> None:
        async with DecoderPool(limits or VideoLimits(), Sampling(), size) as decoders:
            await use(decoders)

    asyncio.run(main())


def _open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def _until(true: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + 60
    while not true():
        assert time.monotonic() < end, f"not within 60 s: {what}"
        await asyncio.sleep(0.01)


def test_the_result_equals_that_of_decoding_in_this_process(clip: Path) -> None:
    async def use(decoders: DecoderPool) -> None:
        assert await decoders.prepare(clip) == prepare(clip, VideoLimits(), Sampling())

    _run(use)


def test_subtitles_and_attachments_do_not_reject_a_film(tmp_path: Path) -> None:
    """PyAV loads its code for subtitles with the first such stream, but a confined process opens no file."""
    film = with_every_kind_of_stream(write_clip(tmp_path / "film.mp4", seconds=1), tmp_path / "a.mkv")
    with av.open(film) as container:
        assert {stream.type for stream in container.streams} >= {"video", "subtitle", "attachment"}

    async def use(decoders: DecoderPool) -> None:
        assert (await decoders.prepare(film)).info.duration_s == pytest.approx(1, abs=0.05)

    _run(use)


def test_all_windows_of_a_long_clip_come_back(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "long.mp4", seconds=45, fps=2, size=(64, 64))

    async def use(decoders: DecoderPool) -> None:
        clip = await decoders.prepare(path)
        assert len(clip.windows) == 2
        assert clip == prepare(path, VideoLimits(), Sampling())

    _run(use)


def test_a_rejection_keeps_its_reason_and_its_process(clip: Path, tmp_path: Path) -> None:
    (tmp_path / "b.mp4").write_bytes(b"no clip" * 1000)

    async def use(decoders: DecoderPool) -> None:
        await decoders.prepare(clip)
        before = decoder_pids()
        with pytest.raises(ClipRejected) as caught:
            await decoders.prepare(tmp_path / "b.mp4")
        await decoders.prepare(clip)
        assert (caught.value.reason, decoder_pids()) == (Reason.NOT_A_VIDEO, before)

    _run(use)


def test_an_unreadable_path_is_not_a_rejection(clip: Path) -> None:
    async def use(decoders: DecoderPool) -> None:
        with pytest.raises(OSError, match="Not a directory"):
            await decoders.prepare(clip / "below a file.mp4")

    _run(use)


def test_many_callers_share_few_processes_and_get_their_own_clip(tmp_path: Path) -> None:
    paths = [
        write_clip(tmp_path / f"{n}.mp4", seconds=0.2, picture=lambda _, size, n=n: numbered(n, size)) for n in range(8)
    ]

    async def use(decoders: DecoderPool) -> None:
        clips = await asyncio.gather(*(decoders.prepare(path) for path in paths))
        assert [number_of(next(read_proxy(clip.windows[0].proxy))) for clip in clips] == list(range(8))
        assert len(decoder_pids()) == 2

    _run(use, size=2)


def test_a_stalled_process_rejects_no_clip(clip: Path) -> None:
    async def use(decoders: DecoderPool) -> None:
        await decoders.prepare(clip)
        (stalled,) = decoder_pids()
        os.kill(stalled, signal.SIGSTOP)
        await decoders.prepare(clip)
        assert stalled not in decoder_pids()

    _run(use, VideoLimits(decode_timeout_s=3))


def test_a_clip_that_hangs_twice_is_rejected(clip: Path) -> None:
    async def use(decoders: DecoderPool) -> None:
        with pytest.raises(ClipRejected) as caught:
            await decoders.prepare(clip)
        assert caught.value.reason is Reason.DECODE_LIMIT
        assert "0.005 s" in caught.value.detail and "fresh process" in caught.value.detail

    _run(use, VideoLimits(decode_timeout_s=0.005))


def test_a_process_killed_at_work_is_replaced(clip: Path) -> None:
    async def use(decoders: DecoderPool) -> None:
        await decoders.prepare(clip)
        (killed,) = decoder_pids()
        os.kill(killed, signal.SIGSTOP)  # so that it cannot answer first
        work = asyncio.create_task(decoders.prepare(clip))
        await asyncio.sleep(0)
        os.kill(killed, signal.SIGKILL)
        await work
        assert killed not in decoder_pids()

    _run(use)


def test_a_clip_that_kills_every_process_is_rejected(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "a.mp4", seconds=10, size=(640, 480))

    async def use(decoders: DecoderPool) -> None:
        work = asyncio.create_task(decoders.prepare(clip))
        killed: set[int] = set()
        while not work.done():
            for child in set(decoder_pids()) - killed:
                if _decodes(child):
                    os.kill(child, signal.SIGSEGV)
                    killed.add(child)
            await asyncio.sleep(0)
        with pytest.raises(ClipRejected, match="SIGSEGV") as caught:
            await work
        assert (caught.value.reason, len(killed)) == (Reason.DECODE_LIMIT, 2)

    _run(use)


def test_a_clip_that_needs_too_much_memory_is_rejected_and_the_next_one_is_not(tmp_path: Path, clip: Path) -> None:
    large = write_clip(tmp_path / "large.mp4", seconds=1, size=(1920, 1080))

    async def use(decoders: DecoderPool) -> None:
        with pytest.raises(ClipRejected) as caught:
            await decoders.prepare(large)
        assert caught.value.reason is Reason.DECODE_LIMIT
        assert (await decoders.prepare(clip)).info.width == 320

    _run(use, VideoLimits(memory_bytes=16 * 2**20))


def test_a_cancelled_call_leaves_no_answer_for_the_next(tmp_path: Path, clip: Path) -> None:
    other = write_clip(tmp_path / "other.mp4", seconds=1, size=(640, 480))

    async def use(decoders: DecoderPool) -> None:
        await decoders.prepare(clip)
        work = asyncio.create_task(decoders.prepare(other))
        await asyncio.sleep(0)
        work.cancel()
        with pytest.raises(asyncio.CancelledError):
            await work
        assert (await decoders.prepare(clip)).info.width == 320

    _run(use)


def test_nothing_is_left_when_the_pool_is_closed(clip: Path) -> None:
    async def use(decoders: DecoderPool) -> None:
        await asyncio.gather(*(decoders.prepare(clip) for _ in range(4)))

    _run(use, size=2)
    before = _open_files()
    _run(use, size=2)
    assert (decoder_pids(), _open_files()) == ([], before)


def test_a_closed_pool_starts_nothing(clip: Path) -> None:
    async def use(decoders: DecoderPool) -> None:
        await decoders.aclose()
        with pytest.raises(RuntimeError, match="closed"):
            await decoders.prepare(clip)

    _run(use)


def test_no_process_outlives_a_killed_parent(clip: Path) -> None:
    script = (
        "import asyncio, sys\n"
        "from clipdex.config import Sampling, VideoLimits\n"
        "from clipdex.video.sandbox.pool import DecoderPool\n"
        "async def main():\n"
        "    decoders = DecoderPool(VideoLimits(), Sampling(), 2)\n"
        "    await asyncio.gather(*(decoders.prepare(sys.argv[1]) for _ in range(2)))\n"
        "    print('ready', flush=True)\n"
        "    await asyncio.Event().wait()\n"
        "asyncio.run(main())\n"
    )
    with subprocess.Popen([sys.executable, "-c", script, clip], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None and parent.stdout.readline() == b"ready\n"
        decoders = decoder_pids(parent.pid)
        for child in decoders:
            os.kill(child, signal.SIGSTOP)  # busy: not reading its stdin
        parent.kill()
    assert len(decoders) == 2
    asyncio.run(_until(lambda: not any(Path(f"/proc/{child}").exists() for child in decoders), "both gone"))


def test_a_process_carries_no_secret_and_is_confined(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLIPDEX_ENGINE__API_KEY", "hunter2")
    monkeypatch.setenv("AIRFLOW_CONN_S3", "hunter2")

    async def use(decoders: DecoderPool) -> None:
        await decoders.prepare(clip)
        (child,) = decoder_pids()
        proc = Path(f"/proc/{child}")
        if os.geteuid() == 0:  # closed to all others
            assert b"hunter2" not in (proc / "environ").read_bytes()
        assert {"NoNewPrivs:\t1", "Seccomp:\t2"} <= set((proc / "status").read_text().splitlines())
        limits = limits_of(child)
        assert (limits["Max core file size"], limits["Max file size"], limits["Max open files"]) == ("0", "0", "32")
        assert int(limits["Max address space"]) < 2**30 + VideoLimits().memory_bytes
        assert VideoLimits().decode_timeout_s < int(limits["Max cpu time"]) < VideoLimits().decode_timeout_s + 30

    _run(use)


HEADER = {
    "info": {"duration_s": 1.0, "width": 64, "height": 64, "fps": 1.0, "codec": "h264", "bytes": 1},
    "windows": [{"start_s": 0.0, "end_s": 1.0, "times": [0.0]}],
    "proxy_fps": 1.0,
    "width": 64,
    "height": 64,
}


def _changed(**fields: Any) -> bytes:
    return framed({"clip": {**HEADER, **fields}}, b"poster", b"proxy")


def _message(header: bytes) -> bytes:
    return len(header).to_bytes(4, "big") + header


@pytest.mark.parametrize(
    "answer",
    {
        "no JSON": _message(b"{"),
        "no UTF-8": _message(b"\xff\xfe"),
        "no object": _message(b"[1]"),
        "nested too deep": _message(b"[" * 50_000),
        "no sizes": _message(b"{}"),
        "sizes of another type": _message(b'{"blobs": {"a": "b"}}'),
        "a negative size": _message(b'{"blobs": [-1]}'),
        "too many bytes": _message(b'{"blobs": [40000000, 40000000]}'),
        "a huge number of bytes": _message(b'{"blobs": [' + b"9" * 5000 + b"]}"),
        "an oversized header": b"\xff" * 8,
        "nothing found": framed({}),
        "an unknown reason": framed({"rejected": "boring", "detail": ""}),
        "a reason of the engine": framed({"rejected": "engine_failed", "detail": ""}),
        "no files": framed({"clip": HEADER}),
        "too few proxies": framed({"clip": HEADER}, b"poster"),
        "too many proxies": framed({"clip": HEADER}, b"poster", b"proxy", b"proxy"),
        "no windows": _changed(windows=[]),
        "no width": _changed(width=0),
        "infinite": _changed(proxy_fps=float("inf")),
        "not a number": _changed(info={**HEADER["info"], "duration_s": float("nan")}),
        "text for a number": _changed(height="64"),
        "an unknown field": _changed(more=1),
    }.items(),
    ids=lambda item: item[0],
)
def test_an_invalid_answer_is_a_rejection(clip, tmp_path, monkeypatch, answer):
    with pytest.raises(ClipRejected, match=r"invalid answer.*fresh process") as caught:
        _run(_hostile(f"os.write(1, {answer[1]}); time.sleep(60)", clip, tmp_path, monkeypatch))
    assert caught.value.reason is Reason.DECODE_LIMIT


def test_after_an_invalid_answer_the_next_clip_gets_another_process(clip, tmp_path, monkeypatch):
    hostile = _hostile("os.write(1, b'no answer'); time.sleep(60)", clip, tmp_path, monkeypatch)

    async def use(decoders: DecoderPool) -> None:
        with pytest.raises(ClipRejected):
            await hostile(decoders)
        assert decoder_pids() == []
        assert (await decoders.prepare(clip)).info.width == 320

    _run(use)


@pytest.mark.parametrize("end", ["os.close(1); time.sleep(60)", "os.write(1, b'ha'); os._exit(3)"])
def test_a_process_that_ends_its_answer_early_is_a_rejection(clip, tmp_path, monkeypatch, end):
    with pytest.raises(ClipRejected, match=r"process died.*fresh process") as caught:
        _run(_hostile(end, clip, tmp_path, monkeypatch))
    assert caught.value.reason is Reason.DECODE_LIMIT


def test_a_long_detail_is_cut(clip, tmp_path, monkeypatch):
    rejected = framed({"rejected": "undecodable", "detail": "x" * 10_000})
    with pytest.raises(ClipRejected) as caught:
        _run(_hostile(f"os.write(1, {rejected})", clip, tmp_path, monkeypatch))
    assert (caught.value.reason, len(caught.value.detail)) == (Reason.UNDECODABLE, 300)


def _hostile(
    attack: str, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[DecoderPool], Awaitable[None]]:
    """Return a use of decoders that the clip has taken over: they run the attack, Python code, for each clip."""
    program = tmp_path / "hostile"
    start = framed({})
    program.write_text(
        f"#!{sys.executable}\nimport os, time\nos.read(0, 2**16)\nos.write(1, {start})\nos.read(0, 2**16)\n{attack}\n"
    )
    program.chmod(0o755)

    async def use(decoders: DecoderPool) -> None:
        with monkeypatch.context() as patched:
            patched.setattr(sys, "executable", str(program))
            await decoders.prepare(clip)

    return use


def test_a_damaged_file_prints_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = write_clip(tmp_path / "a.mp4", seconds=2)
    data = bytearray(path.read_bytes())
    for spot in range(200, len(data) // 2, 97):
        data[spot] ^= 0xFF
    path.write_bytes(data)

    async def use(decoders: DecoderPool) -> None:
        await asyncio.gather(decoders.prepare(path), return_exceptions=True)

    _run(use)
    assert capfd.readouterr() == ("", "")


def _decodes(child: int) -> bool:
    """Return whether the process got a clip: its CPU time is limited."""
    return limits_of(child).get("Max cpu time", "unlimited") != "unlimited"
