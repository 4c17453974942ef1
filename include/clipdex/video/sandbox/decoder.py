"""Decoder: one decoder process, as its parent sees it (pool.py): requests, answers, and the limits of their time."""

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
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from clipdex.config import Playback, Sampling, VideoLimits
from clipdex.errors import ClipRejected, Reason
from clipdex.video import ClipFile, Prepared, RejectedPart
from clipdex.video.sandbox.course import Course
from clipdex.video.sandbox.messages import MOST_HEADER_BYTES, Answer, framed

_START_S = 60.0
_EXIT_S = 2.0
_MOST_DETAIL = 300  # characters
_INHERITED = ("PATH", "LD_LIBRARY_PATH")


class Decoder:
    """One process. It must be killed if a request has no complete answer."""

    def __init__(self, process: asyncio.subprocess.Process, requests: socket.socket, timeout_s: float) -> None:
        self._process = process
        self._requests = requests
        self._timeout_s = timeout_s

    @classmethod
    async def start(cls, limits: VideoLimits, sampling: Sampling, playback: Playback = Playback.OFF) -> Decoder:
        """Start a process. playback: the most costly one that it will make"""
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
        settings = {
            "limits": limits.model_dump(),
            "sampling": sampling.model_dump(),
            "playback": playback,
            "parent": os.getpid(),
        }
        try:
            async with asyncio.timeout(_START_S):
                await decoder._request(settings)
        except BaseException as error:
            await decoder.end()
            if isinstance(error, (EOFError, OSError, ValueError)):
                raise RuntimeError(f"the decoder process did not start: {decoder._exit_status()}") from error
            raise
        return decoder

    async def prepare(self, file: ClipFile, playback: Playback) -> Prepared:
        """Have the process prepare the clip. Raises ClipRejected, or OSError for a disk error.

        DECODE_LIMIT is the reason if the process does not answer in time, dies, or sends an invalid answer.
        """
        async with self._in_time():
            request = {"name": file.name, "begin": None, "playback": playback}
            answer, blobs = await self._request(request, file.descriptor)
            return answer.prepared(blobs)

    async def parts(
        self, file: ClipFile, course: Course, playback: Playback
    ) -> AsyncGenerator[Prepared | RejectedPart]:
        """Have the process prepare the clip, or cut the file into parts from course.begin on. Raises as prepare()."""
        request: tuple[dict[str, Any], list[int]] | None
        request = {"name": file.name, "begin": asdict(course.begin), "playback": playback}, [file.descriptor]
        while not course.is_done:
            async with self._in_time():
                if request:
                    self._send(request[0], *request[1])
                one = course.take(*await self._read())
            request = None
            if one is not None:
                yield one
                request = {"next": True}, []

    @contextlib.asynccontextmanager
    async def _in_time(self) -> AsyncIterator[None]:
        """Limit the time of an answer. Raises ClipRejected."""
        try:
            async with asyncio.timeout(self._timeout_s):
                self._limit_cpu()
                yield
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
        self._send(header, *descriptors)
        return await self._read()

    def _send(self, header: dict[str, Any], *descriptors: int) -> None:
        # One small message per answer: it always fits into the socket's buffer.
        socket.send_fds(self._requests, [framed(header)], descriptors)

    async def _read(self) -> tuple[Answer, list[bytes]]:
        stdout = self._process.stdout
        assert stdout is not None
        length = int.from_bytes(await stdout.readexactly(4), "big")
        if length > MOST_HEADER_BYTES:
            raise ValueError(f"a header of at most {MOST_HEADER_BYTES} bytes expected, found {length}")
        answer = Answer.parsed(await stdout.readexactly(length))
        return answer, [await stdout.readexactly(size) for size in answer.blobs]

    def _exit_status(self) -> str:
        code = self._process.returncode
        return signal.Signals(-code).name if code is not None and code < 0 else f"exit code {code}"


def _environment() -> dict[str, str]:
    kept = {name: os.environ[name] for name in _INHERITED if name in os.environ}
    package = str(Path(__file__).resolve().parents[3])
    return {**kept, "PYTHONPATH": package, "LANG": "C.UTF-8", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
