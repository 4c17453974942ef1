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
from collections.abc import AsyncGenerator, AsyncIterator
from pathlib import Path
from typing import Self

from clipdex.config import Playback, Sampling, VideoLimits
from clipdex.errors import ClipRejected, Reason
from clipdex.video import ClipFile, Prepared, RejectedPart
from clipdex.video.sandbox.course import Course
from clipdex.video.sandbox.decoder import Decoder
from clipdex.video.shots import require_shots


class DecoderPool:
    """Prepares at most size clips concurrently; further callers wait. Processes start on demand.

    Raises ConfigurationError if packages for the settings are missing.
    """

    def __init__(
        self, limits: VideoLimits, sampling: Sampling, size: int = 2, playback: Playback = Playback.OFF
    ) -> None:
        require_shots(limits)
        self._limits = limits
        self._sampling = sampling
        self._playback = playback
        self._slots = asyncio.Semaphore(size)
        self._idle: list[Decoder] = []
        self._all: set[Decoder] = set()
        self._closed = False

    async def prepare(self, path: str | Path) -> Prepared:
        """Sample one clip and encode its proxy and poster. Raises ClipRejected, or OSError for a disk error."""
        async with self._slots, _opened(Path(path)) as file:
            try:
                return await self._attempt(file, self._idle.pop() if self._idle else None, self._playback)
            except ClipRejected as refusal:
                if refusal.reason is not Reason.DECODE_LIMIT:
                    raise
            try:
                return await self._attempt(file, None, _cheaper(self._playback))
            except ClipRejected as refusal:
                if refusal.reason is not Reason.DECODE_LIMIT:
                    raise
                raise ClipRejected(refusal.reason, f"{refusal.detail}; confirmed in a fresh process") from refusal

    async def parts(
        self, path: str | Path, first: int = 0, start_s: float | None = None, playback: Playback | None = None
    ) -> AsyncGenerator[Prepared | RejectedPart]:
        """Yield the clip of a file that is not cut; else its parts, from number first on, and always the last one.

        start_s: of part first, if it is known [s on a player's clock of the file]; then what is before is not decoded
        playback: another one than that of the pool, and no more costly

        Raises ClipRejected for the file, or OSError for a disk error. The time limit is one of each part, without the
        time between two of them. To stop early, close the iterator (contextlib.aclosing): it occupies a process.
        """
        async with self._slots, _opened(Path(path)) as file:
            course = Course(self._limits, first, start_s)
            playback = self._playback if playback is None else playback
            decoder = self._idle.pop() if self._idle else None
            while not course.is_done:
                decoder = decoder or await self._start_decoder()
                try:
                    async with contextlib.aclosing(decoder.parts(file, course, playback)) as parts:
                        async for one in parts:
                            yield one
                except ClipRejected as refusal:
                    await self._keep_or_end(decoder, refusal)
                    decoder, playback = None, _cheaper(playback)
                    if (rejected := course.fail(refusal)) is not None:
                        yield rejected
                except BaseException:  # cancelled or closed: its next answer would belong to this clip
                    await self._end(decoder)
                    raise
                else:
                    self._idle.append(decoder)

    async def aclose(self) -> None:
        """Kill all processes, including busy ones."""
        self._closed = True
        await asyncio.gather(*(self._end(decoder) for decoder in list(self._all)))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def _attempt(self, file: ClipFile, decoder: Decoder | None, playback: Playback) -> Prepared:
        decoder = decoder or await self._start_decoder()
        try:
            prepared = await decoder.prepare(file, playback)
        except ClipRejected as refusal:
            await self._keep_or_end(decoder, refusal)
            raise
        except BaseException:  # cancelled: its next answer would belong to this clip
            await self._end(decoder)
            raise
        self._idle.append(decoder)
        return prepared

    async def _keep_or_end(self, decoder: Decoder, refusal: ClipRejected) -> None:
        await self._end(decoder) if refusal.reason is Reason.DECODE_LIMIT else self._idle.append(decoder)

    async def _start_decoder(self) -> Decoder:
        if self._closed:
            raise RuntimeError("the decoder pool is closed; create a new one")
        decoder = await Decoder.start(self._limits, self._sampling, self._playback)
        self._all.add(decoder)
        return decoder

    async def _end(self, decoder: Decoder) -> None:
        self._all.discard(decoder)
        if decoder in self._idle:
            self._idle.remove(decoder)
        await decoder.end()


def _cheaper(playback: Playback) -> Playback:
    """Return the playback of a second try: a clip must not be rejected because its playback costs too much."""
    return Playback.PROXY if playback is Playback.P480 else playback


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
