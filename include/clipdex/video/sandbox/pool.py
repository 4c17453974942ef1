"""Decoding in processes of its own: a hostile file can neither hang nor crash the worker.

    async with DecoderPool(limits, sampling, size=2) as decoders:
        prepared = await decoders.prepare(path)

Each process has its own limits (decoder_process.py), and carries no secret in its environment. A process that does not
answer in time, dies, or runs into its limits is replaced, and the clip is tried once more in a fresh one, so that a
machine that stalls, or memory that an earlier clip left behind, condemns no good clip. What comes back is JSON and
bytes, never pickle: a process that has read hostile input must not be able to run code here.
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
    """Prepares clips, at most size at a time; further callers wait. Processes start when they are first needed."""

    def __init__(self, limits: VideoLimits, sampling: Sampling, size: int = 2) -> None:
        self._limits = limits
        self._sampling = sampling
        self._slots = asyncio.Semaphore(size)
        self._idle: list[_Decoder] = []
        self._all: set[_Decoder] = set()
        self._closed = False

    async def prepare(self, path: str | Path) -> Prepared:
        """Sample one clip, and make its proxy and poster. Raises ClipRejected; OSError where the disk is to blame."""
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
        """End every process, busy ones too."""
        self._closed = True
        await asyncio.gather(*(self._end(decoder) for decoder in list(self._all)))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def _attempt(self, path: str | Path, decoder: _Decoder | None) -> Prepared:
        decoder = decoder or await self._started()
        try:
            prepared = await decoder.prepare(path)
        except ClipRejected as refusal:
            await self._end(decoder) if refusal.reason is Reason.DECODE_LIMIT else self._idle.append(decoder)
            raise
        except BaseException:  # cancelled, or out of step: what it answers next would be another clip's
            await self._end(decoder)
            raise
        self._idle.append(decoder)
        return prepared

    async def _started(self) -> _Decoder:
        if self._closed:
            raise RuntimeError("the decoder pool is closed; make a new one")
        decoder = await _Decoder.start(self._limits, self._sampling)
        self._all.add(decoder)
        return decoder

    async def _end(self, decoder: _Decoder) -> None:
        self._all.discard(decoder)
        if decoder in self._idle:
            self._idle.remove(decoder)
        await decoder.end()


class _Decoder:
    """One process. Either it answered everything it was asked, or it has to be ended."""

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
                await decoder._ask(settings)
        except BaseException as error:
            await decoder.end()
            if isinstance(error, (EOFError, OSError)):
                raise RuntimeError(f"the decoder process did not start: {decoder._ending()}") from error
            raise
        return decoder

    async def prepare(self, path: str | Path) -> Prepared:
        try:
            async with asyncio.timeout(self._timeout_s):
                answer, blobs = await self._ask({"path": _absolute(path)})
        except TimeoutError:
            raise ClipRejected(Reason.DECODE_LIMIT, f"not decoded within {self._timeout_s:g} s") from None
        except (EOFError, OSError):
            await self._process.wait()
            raise ClipRejected(Reason.DECODE_LIMIT, f"the decoder process died: {self._ending()}") from None
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

    async def _ask(self, question: dict[str, Any]) -> tuple[dict[str, Any], list[bytes]]:
        """Raises EOFError or OSError when the process dies, ValueError when it answers nonsense."""
        to, come = self._process.stdin, self._process.stdout
        assert to is not None and come is not None
        to.write(framed(question))
        await to.drain()
        length = int.from_bytes(await come.readexactly(4), "big")
        if length > MOST_HEADER_BYTES:
            raise ValueError(f"the decoder process answered a header of {length} bytes")
        answer = parsed(await come.readexactly(length))
        sizes = [int(size) for size in answer["blobs"]]
        if min(sizes, default=0) < 0 or sum(sizes) > _MOST_BYTES:
            raise ValueError(f"the decoder process announced {sizes} bytes, more than {_MOST_BYTES}")
        return answer, [await come.readexactly(size) for size in sizes]

    def _ending(self) -> str:
        code = self._process.returncode
        return signal.Signals(-code).name if code is not None and code < 0 else f"exit code {code}"


def _absolute(path: str | Path) -> str:
    return str(Path.cwd() / path)


def _environment() -> dict[str, str]:
    kept = {name: os.environ[name] for name in _INHERITED if name in os.environ}
    package = str(Path(__file__).resolve().parents[3])
    return {**kept, "PYTHONPATH": package, "LANG": "C.UTF-8", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
