"""DecoderPool: decoding in separate processes, so that a hostile file can neither hang nor crash the worker.

    async with DecoderPool(limits, sampling, size=2) as decoders:
        prepared = await decoders.prepare(path)

Each process has resource limits (worker.py) and no secrets in its environment. A process that times out, dies or hits
a limit is replaced, and the clip is retried once in a fresh process, so that a stalled machine or leaked memory does
not reject a good clip. Answers are JSON and bytes, not pickle: a compromised process must not run code in the parent.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from pathlib import Path
from typing import Any, Self

from clipdex.config import Sampling, VideoLimits
from clipdex.errors import ClipRejected, Reason
from clipdex.video import Prepared
from clipdex.video.sandbox.worker import MOST_HEADER_BYTES, framed, parsed, prepared_from

_START_S = 60.0
_MOST_BYTES = 64 * 2**20
_INHERITED = ("PATH", "LD_LIBRARY_PATH")


class DecoderPool:
    """Prepares at most size clips concurrently; further callers wait. Processes start on demand."""

    def __init__(self, limits: VideoLimits, sampling: Sampling, size: int = 2) -> None:
        self._limits = limits
        self._sampling = sampling
        self._slots = asyncio.Semaphore(size)
        self._idle: list[_Decoder] = []
        self._all: set[_Decoder] = set()
        self._closed = False

    async def prepare(self, path: str | Path) -> Prepared:
        """Sample one clip and encode its proxy and poster. Raises ClipRejected, or OSError for a disk error."""
        async with self._slots:
            try:
                return await self._attempt(path, self._idle.pop() if self._idle else None)
            except ClipRejected as refusal:
                if refusal.reason is not Reason.DECODE_LIMIT:
                    raise
            try:
                return await self._attempt(path, None)
            except ClipRejected as refusal:
                if refusal.reason is not Reason.DECODE_LIMIT:
                    raise
                raise ClipRejected(refusal.reason, f"{refusal.detail}; confirmed in a fresh process") from refusal

    async def aclose(self) -> None:
        """Kill all processes, including busy ones."""
        self._closed = True
        await asyncio.gather(*(self._end(decoder) for decoder in list(self._all)))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def _attempt(self, path: str | Path, decoder: _Decoder | None) -> Prepared:
        decoder = decoder or await self._start_decoder()
        try:
            prepared = await decoder.prepare(path)
        except ClipRejected as refusal:
            await self._end(decoder) if refusal.reason is Reason.DECODE_LIMIT else self._idle.append(decoder)
            raise
        except BaseException:  # cancelled or out of sync: its next answer could belong to another clip
            await self._end(decoder)
            raise
        self._idle.append(decoder)
        return prepared

    async def _start_decoder(self) -> _Decoder:
        if self._closed:
            raise RuntimeError("the decoder pool is closed; create a new one")
        decoder = await _Decoder.start(self._limits, self._sampling)
        self._all.add(decoder)
        return decoder

    async def _end(self, decoder: _Decoder) -> None:
        self._all.discard(decoder)
        if decoder in self._idle:
            self._idle.remove(decoder)
        await decoder.end()


class _Decoder:
    """One process. It must be killed if a request has no complete answer."""

    def __init__(self, process: asyncio.subprocess.Process, timeout_s: float) -> None:
        self._process = process
        self._timeout_s = timeout_s

    @classmethod
    async def start(cls, limits: VideoLimits, sampling: Sampling) -> _Decoder:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "clipdex.video.sandbox.worker",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env=_environment(),
            cwd="/",
        )
        decoder = cls(process, limits.decode_timeout_s)
        settings = {"limits": limits.model_dump(), "sampling": sampling.model_dump(), "parent": os.getpid()}
        try:
            async with asyncio.timeout(_START_S):
                await decoder._request(settings)
        except BaseException as error:
            await decoder.end()
            if isinstance(error, (EOFError, OSError)):
                raise RuntimeError(f"the decoder process did not start: {decoder._exit_status()}") from error
            raise
        return decoder

    async def prepare(self, path: str | Path) -> Prepared:
        try:
            async with asyncio.timeout(self._timeout_s):
                answer, blobs = await self._request({"path": _absolute(path)})
        except TimeoutError:
            raise ClipRejected(Reason.DECODE_LIMIT, f"not decoded within {self._timeout_s:g} s") from None
        except (EOFError, OSError):
            await self._process.wait()
            raise ClipRejected(Reason.DECODE_LIMIT, f"the decoder process died: {self._exit_status()}") from None
        if "rejected" in answer:
            raise ClipRejected(Reason(answer["rejected"]), str(answer["detail"]))
        if "failed" in answer:
            raise OSError(str(answer["failed"]))
        return prepared_from(answer, blobs)

    async def end(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        await self._process.wait()
        assert self._process.stdin is not None
        self._process.stdin.close()
        with contextlib.suppress(OSError):
            await self._process.stdin.wait_closed()

    async def _request(self, header: dict[str, Any]) -> tuple[dict[str, Any], list[bytes]]:
        """Send a request and read the answer.

        Raises EOFError or OSError if the process dies, ValueError for an invalid answer.
        """
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None and stdout is not None
        stdin.write(framed(header))
        await stdin.drain()
        length = int.from_bytes(await stdout.readexactly(4), "big")
        if length > MOST_HEADER_BYTES:
            raise ValueError(
                f"the decoder process sent a header of {length} bytes, at most {MOST_HEADER_BYTES} expected"
            )
        answer = parsed(await stdout.readexactly(length))
        sizes = [int(size) for size in answer["blobs"]]
        if min(sizes, default=0) < 0 or sum(sizes) > _MOST_BYTES:
            raise ValueError(f"the decoder process announced {sizes} bytes, at most {_MOST_BYTES} expected")
        return answer, [await stdout.readexactly(size) for size in sizes]

    def _exit_status(self) -> str:
        code = self._process.returncode
        return signal.Signals(-code).name if code is not None and code < 0 else f"exit code {code}"


def _absolute(path: str | Path) -> str:
    return str(Path.cwd() / path)


def _environment() -> dict[str, str]:
    kept = {name: os.environ[name] for name in _INHERITED if name in os.environ}
    package = str(Path(__file__).resolve().parents[3])
    return {**kept, "PYTHONPATH": package, "LANG": "C.UTF-8", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
