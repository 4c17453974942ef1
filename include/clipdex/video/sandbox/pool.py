"""DecoderPool: decoding in separate processes, so that a hostile file can neither hang nor crash the worker.

    async with DecoderPool(limits, sampling, size=2) as decoders:
        prepared = await decoders.prepare(path)

Each process has resource limits (worker.py) and no secrets in its environment. This process opens the clips and passes
their file descriptors, so that a decoder opens no file. A decoder that times out, dies, hits a limit or sends an
invalid answer is replaced, and the clip is retried once in a fresh process, so that a stalled machine or leaked memory
does not reject a good clip. Answers are JSON and bytes, not pickle: a compromised process must not run code here.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import resource
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Self

from clipdex.config import Sampling, VideoLimits
from clipdex.errors import ClipRejected, Reason
from clipdex.video import ClipFile, Prepared, RejectedPart
from clipdex.video.sandbox.messages import MOST_HEADER_BYTES, Answer, framed

_START_S = 60.0
_EXIT_S = 2.0
_MOST_DETAIL = 300  # characters
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
        async with self._slots, _opened(Path(path)) as file:
            try:
                return await self._attempt(file, self._idle.pop() if self._idle else None)
            except ClipRejected as refusal:
                if refusal.reason is not Reason.DECODE_LIMIT:
                    raise
            try:
                return await self._attempt(file, None)
            except ClipRejected as refusal:
                if refusal.reason is not Reason.DECODE_LIMIT:
                    raise
                raise ClipRejected(refusal.reason, f"{refusal.detail}; confirmed in a fresh process") from refusal

    async def parts(self, path: str | Path, first: int = 0) -> AsyncIterator[Prepared | RejectedPart]:
        """Yield the clip, or if the file is cut its parts from number first on, and always the last one.

        Raises ClipRejected for the file, or OSError for a disk error. Close the iterator (contextlib.aclosing) to stop
        before its end.
        """
        yield await self.prepare(path)

    async def aclose(self) -> None:
        """Kill all processes, including busy ones."""
        self._closed = True
        await asyncio.gather(*(self._end(decoder) for decoder in list(self._all)))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def _attempt(self, file: ClipFile, decoder: _Decoder | None) -> Prepared:
        decoder = decoder or await self._start_decoder()
        try:
            prepared = await decoder.prepare(file)
        except ClipRejected as refusal:
            await self._end(decoder) if refusal.reason is Reason.DECODE_LIMIT else self._idle.append(decoder)
            raise
        except BaseException:  # cancelled: its next answer would belong to this clip
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

    def __init__(self, process: asyncio.subprocess.Process, requests: socket.socket, timeout_s: float) -> None:
        self._process = process
        self._requests = requests
        self._timeout_s = timeout_s

    @classmethod
    async def start(cls, limits: VideoLimits, sampling: Sampling) -> _Decoder:
        requests, end = socket.socketpair()
        requests.setblocking(False)
        with end:
            try:
                process = await asyncio.create_subprocess_exec(
                    sys.executable,
                    "-m",
                    "clipdex.video.sandbox.worker",
                    stdin=end.fileno(),
                    stdout=asyncio.subprocess.PIPE,
                    env=_environment(),
                    cwd="/",
                )
            except BaseException:
                requests.close()
                raise
        decoder = cls(process, requests, limits.decode_timeout_s)
        settings = {"limits": limits.model_dump(), "sampling": sampling.model_dump(), "parent": os.getpid()}
        try:
            async with asyncio.timeout(_START_S):
                await decoder._request(settings)
        except BaseException as error:
            await decoder.end()
            if isinstance(error, (EOFError, OSError, ValueError)):
                raise RuntimeError(f"the decoder process did not start: {decoder._exit_status()}") from error
            raise
        return decoder

    async def prepare(self, file: ClipFile) -> Prepared:
        """Have the process prepare the clip. Raises ClipRejected, or OSError for a disk error.

        DECODE_LIMIT is the reason if the process does not answer in time, dies, or sends an invalid answer.
        """
        try:
            async with asyncio.timeout(self._timeout_s):
                self._limit_cpu()
                answer, blobs = await self._request({"name": file.name}, file.descriptor)
            return answer.prepared(blobs)
        except TimeoutError:
            raise ClipRejected(Reason.DECODE_LIMIT, f"not decoded within {self._timeout_s:g} s") from None
        except (EOFError, ProcessLookupError, ConnectionError):
            await self._await_exit()
            raise ClipRejected(Reason.DECODE_LIMIT, f"the decoder process died: {self._exit_status()}") from None
        except ValueError as error:
            detail = str(error)[:_MOST_DETAIL]
            raise ClipRejected(Reason.DECODE_LIMIT, f"the decoder process sent an invalid answer: {detail}") from error

    async def end(self) -> None:
        self._requests.close()
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        await self._process.wait()

    async def _await_exit(self) -> None:
        """Wait for the exit status; kill a process that has closed its pipe and goes on."""
        try:
            async with asyncio.timeout(_EXIT_S):
                await self._process.wait()
        except TimeoutError:
            await self.end()

    def _limit_cpu(self) -> None:
        """Limit the CPU time of the next clip, from here: the process cannot change its limits.

        Wall time ends before, unless this process is stopped meanwhile. Raises ProcessLookupError if the process died.
        """
        if sys.platform == "linux":
            pid = self._process.pid
            try:
                used_s = time.clock_gettime(~pid << 3 | 2)  # clock_getcpuclockid(3)
            except OSError as error:
                raise ProcessLookupError from error
            _, most = resource.prlimit(pid, resource.RLIMIT_CPU)
            resource.prlimit(pid, resource.RLIMIT_CPU, (math.ceil(used_s + self._timeout_s) + 2, most))

    async def _request(self, header: dict[str, Any], *descriptors: int) -> tuple[Answer, list[bytes]]:
        """Send a request with file descriptors and read the answer.

        Raises EOFError or ConnectionError if the process dies, ValueError for an invalid answer.
        """
        stdout = self._process.stdout
        assert stdout is not None
        # One small message per answer: it always fits into the socket's buffer.
        socket.send_fds(self._requests, [framed(header)], descriptors)
        length = int.from_bytes(await stdout.readexactly(4), "big")
        if length > MOST_HEADER_BYTES:
            raise ValueError(f"a header of at most {MOST_HEADER_BYTES} bytes expected, found {length}")
        answer = Answer.parsed(await stdout.readexactly(length))
        return answer, [await stdout.readexactly(size) for size in answer.blobs]

    def _exit_status(self) -> str:
        code = self._process.returncode
        return signal.Signals(-code).name if code is not None and code < 0 else f"exit code {code}"


@contextlib.asynccontextmanager
async def _opened(path: Path) -> AsyncIterator[ClipFile]:
    """Open the clip in a thread: a network disk may wait. Raises ClipRejected, or OSError for a disk error."""
    opening = asyncio.ensure_future(asyncio.to_thread(ClipFile.open, path))
    try:
        file = await asyncio.shield(opening)
    except asyncio.CancelledError:
        opening.add_done_callback(_close_late)
        raise
    with file:
        yield file


def _close_late(opening: asyncio.Future[ClipFile]) -> None:
    if not opening.cancelled() and not opening.exception():
        opening.result().close()


def _environment() -> dict[str, str]:
    kept = {name: os.environ[name] for name in _INHERITED if name in os.environ}
    package = str(Path(__file__).resolve().parents[3])
    return {**kept, "PYTHONPATH": package, "LANG": "C.UTF-8", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
