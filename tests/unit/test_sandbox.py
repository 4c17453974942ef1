"""Test the decoder pool with clips that hang, crash or exhaust memory."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from clipdex.config import Sampling, VideoLimits
from clipdex.errors import ClipRejected, Reason
from clipdex.video import prepare, read_proxy
from clipdex.video.sandbox.pool import DecoderPool
from tests.support.clips import number_of, numbered, write_clip


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return write_clip(tmp_path / "a.mp4", seconds=1)


def _run(use: Callable[[DecoderPool], Awaitable[None]], limits: VideoLimits | None = None, size: int = 1) -> None:
    async def main() -> None:
        async with DecoderPool(limits or VideoLimits(), Sampling(), size) as decoders:
            await use(decoders)

    asyncio.run(main())


def _children(of: int | None = None) -> list[int]:
    """Return the child processes of a process."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, parent = stat.read_text().rpartition(")")[2].split()[:2]
        except OSError:
            continue  # gone meanwhile
        if int(parent) == (of or os.getpid()) and state != "Z":
            found.append(int(stat.parent.name))
    return found


def _open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def _until(true: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + 20
    while not true():
        assert time.monotonic() < end, f"not within 20 s: {what}"
        await asyncio.sleep(0.01)


def test_the_result_equals_that_of_decoding_in_this_process(clip: Path) -> None:
    async def use(decoders: DecoderPool) -> None:
        assert await decoders.prepare(clip) == prepare(clip, VideoLimits(), Sampling())

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
        before = _children()
        with pytest.raises(ClipRejected) as caught:
            await decoders.prepare(tmp_path / "b.mp4")
        await decoders.prepare(clip)
        assert (caught.value.reason, _children()) == (Reason.UNDECODABLE, before)

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
        assert len(_children()) == 2

    _run(use, size=2)


def test_a_stalled_process_rejects_no_clip(clip: Path) -> None:
    async def use(decoders: DecoderPool) -> None:
        await decoders.prepare(clip)
        (stalled,) = _children()
        os.kill(stalled, signal.SIGSTOP)
        await decoders.prepare(clip)
        assert stalled not in _children()

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
        (killed,) = _children()
        os.kill(killed, signal.SIGSTOP)  # so that it cannot answer first
        work = asyncio.create_task(decoders.prepare(clip))
        await asyncio.sleep(0)
        os.kill(killed, signal.SIGKILL)
        await work
        assert killed not in _children()

    _run(use)


def test_a_clip_that_kills_every_process_is_rejected(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "a.mp4", seconds=10, size=(640, 480))

    async def use(decoders: DecoderPool) -> None:
        work = asyncio.create_task(decoders.prepare(clip))
        killed: set[int] = set()
        while not work.done():
            for child in set(_children()) - killed:
                if _reads(child, clip):
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
    assert (_children(), _open_files()) == ([], before)


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
        children = _children(parent.pid)
        for child in children:
            os.kill(child, signal.SIGSTOP)  # busy: not reading its stdin
        parent.kill()
    assert len(children) == 2
    asyncio.run(_until(lambda: not any(Path(f"/proc/{child}").exists() for child in children), "both gone"))


def test_a_process_carries_no_secret_and_is_confined(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLIPDEX_ENGINE__API_KEY", "hunter2")
    monkeypatch.setenv("AIRFLOW_CONN_S3", "hunter2")

    async def use(decoders: DecoderPool) -> None:
        await decoders.prepare(clip)
        (child,) = _children()
        proc = Path(f"/proc/{child}")
        assert b"hunter2" not in (proc / "environ").read_bytes()
        assert {"NoNewPrivs:\t1", "Seccomp:\t2"} <= set((proc / "status").read_text().splitlines())
        limits = {line[:26].strip(): line[26:46].strip() for line in (proc / "limits").read_text().splitlines()}
        assert (limits["Max core file size"], limits["Max file size"], limits["Max open files"]) == ("0", "0", "32")
        assert int(limits["Max address space"]) < 2**30 + VideoLimits().memory_bytes

    _run(use)


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


def _reads(child: int, clip: Path) -> bool:
    try:
        return clip in [file.readlink() for file in Path(f"/proc/{child}/fd").iterdir()]
    except OSError:
        return False  # gone, or a file closed meanwhile
