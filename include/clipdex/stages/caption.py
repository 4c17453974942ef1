"""Captioning a batch, asynchronously, so that the engine never waits and nothing is asked for twice.

A clip flows: known content, else fetch and digest → stored caption, else prepare (in a sandboxed process) → engine
and gates → caption in the store → outcome in the journal. Preparation and requests overlap, each bounded.
"""

import asyncio
import logging
import time
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from clipdex import metrics
from clipdex.captions.caption import Caption, Captioner, Reply
from clipdex.captions.quality import caption_with_gates
from clipdex.config import Settings
from clipdex.errors import ClipRejected, EngineUnavailable, Reason, Unavailable
from clipdex.runs.outcomes import Journal, Origin
from clipdex.runs.planning import BatchRef, manifest
from clipdex.stages.batch_state import BatchState, CaptionTotals
from clipdex.storage.artifacts import Store, poster_path
from clipdex.storage.source import Clip, Source
from clipdex.storage.tempdir import scratch
from clipdex.video import Prepared
from clipdex.video.sandbox.pool import DecoderPool

log = logging.getLogger(__name__)


class Preparing(Protocol):
    """Makes of a clip what an engine needs. See DecoderPool."""

    async def prepare(self, path: str | Path) -> Prepared: ...


async def caption_batch(
    settings: Settings,
    store: Store,
    source: Source,
    captioner: Captioner,
    batch: BatchRef,
    try_number: int = 1,
    decoders: Preparing | None = None,
) -> CaptionTotals:
    """Give every clip of a batch a stored caption or a place in quarantine.

    decoders: what prepares the clips; without it, processes that live as long as the batch.
    Raises EngineUnavailable when clips are left because the engine was not there (the next try goes on with them),
    BatchRejected when too many were refused for one reason, ConfigurationError before any clip gets an outcome.
    """
    clips = await asyncio.to_thread(manifest, store, batch)
    journal = Journal(store, batch.day, batch.run, batch.batch, "caption", try_number, batch.after)
    with scratch() as folder:
        async with DecoderPool(settings.video, settings.sampling, settings.batches.preparing) as own:
            work = _Captioning(settings, store, source, captioner, batch, journal, decoders or own, folder)
            try:
                return await work.run(clips)
            finally:
                await asyncio.to_thread(journal.flush)


@dataclass(frozen=True, slots=True)
class _Ready:
    """A clip that waits for the engine, since that moment of the monotonic clock. preparing_s: what it took."""

    clip: Clip
    key: str
    prepared: Prepared
    preparing_s: float
    since: float


@dataclass(frozen=True, slots=True)
class _Failure:
    """A clip's tries are used up. others_answered: whether other clips got answers meanwhile."""

    error: Unavailable
    reason: Reason
    others_answered: bool


class _GivenUp(Exception):
    """The rest of the batch need not try: nothing answers any more, or everything is refused."""


class _Captioning:
    """The state of one try at one batch."""

    def __init__(
        self,
        settings: Settings,
        store: Store,
        source: Source,
        captioner: Captioner,
        batch: BatchRef,
        journal: Journal,
        decoders: Preparing,
        folder: Path,
    ) -> None:
        self.settings, self.store, self.source, self.captioner = settings, store, source, captioner
        self.batch, self.decoders, self.folder = batch, decoders, folder
        self.fingerprint = captioner.fingerprint.digest()
        self.state = BatchState(settings, store, batch, journal, self.fingerprint)
        self.failures: dict[str, _Failure] = {}
        self.waiting_for: dict[str, list[Clip]] = {}
        self.answers = self.unanswered = self.in_flight = 0
        self.starved_s = self.open_s = 0.0

    async def run(self, clips: list[Clip]) -> CaptionTotals:
        todo = await self.state.load(clips)
        if todo:
            await self.captioner.check()
            await self._caption(todo)
        await self._ask_again(clips)
        left = self._left(clips)
        await self.state.finalize(to_its_end=not left)
        totals = self.state.totals(len(left), round(self.starved_s / self.open_s, 4) if self.open_s else 0.0)
        if left:
            raise self._unfinished(left, len(clips))
        return totals

    async def _caption(self, todo: list[Clip]) -> None:
        """Two rounds: a clip that got no answer while others did is asked for once more, at the end."""
        if not await self._round(todo):
            return
        left = self._left(todo)
        asked = [clip for clip in left if clip.clip_id in self.failures]
        suspects = [clip for clip in asked if self.failures[clip.clip_id].others_answered]
        if (not suspects and len(asked) == len(left)) or not await self._round(left):
            return
        if suspects := self._left(suspects):
            await self.captioner.check()
        with suppress(_GivenUp):
            for clip in suspects:
                failure = self.failures[clip.clip_id]
                text = f"no answer while others got theirs: {failure.error}"
                await self._reject(clip, ClipRejected(failure.reason, text))

    async def _ask_again(self, clips: list[Clip]) -> None:
        """What the engine refused while it captioned others is asked for again, until asking saves no clip any more.

        So a node that refuses by chance costs no clip, nor one that refuses everything behind a gateway, which does not
        tell who answered. A clip that really is bad costs two requests more; where asking again has saved others, it
        takes two rounds in a row to believe the rest.
        """
        rounds = 1
        while rounds and not self._left(clips) and self.state.reset_rejections():
            before = self.state.captioned
            await self.captioner.check()
            await self._round(self._left(clips))
            rounds = 2 if self.state.captioned > before else rounds - 1

    async def _round(self, clips: list[Clip]) -> bool:
        """Bring clips to an answer or into self.failures; False if it was given up."""
        waiting = iter(clips)
        ready: asyncio.Queue[_Ready | None] = asyncio.Queue(maxsize=max(2, self.captioner.in_flight // 2))
        self.unanswered = 0

        async def prepare() -> None:
            for clip in waiting:
                await self._prepare(clip, ready)

        async def prepare_all() -> None:
            async with asyncio.TaskGroup() as group:
                for _ in range(self.settings.batches.preparing):
                    group.create_task(prepare())
            for _ in range(self.captioner.in_flight):
                await ready.put(None)

        async def ask() -> None:
            while True:
                free = time.monotonic()
                if (one := await ready.get()) is None:
                    return  # what is left of the batch is with the other requests: no wait for a clip
                began = time.monotonic()
                self.starved_s += began - free
                await self._ask(one, began - one.since)
                self.open_s += time.monotonic() - free

        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(prepare_all())
                for _ in range(self.captioner.in_flight):
                    group.create_task(ask())
        except BaseExceptionGroup as raised:
            others = [error for error in _leaves(raised) if not isinstance(error, _GivenUp)]
            if others:
                raise others[0] from None
            return False
        finally:
            self.waiting_for.clear()
        return True

    async def _prepare(self, clip: Clip, ready: "asyncio.Queue[_Ready | None]") -> None:
        """Bring a clip to where only the engine is missing, or to its outcome."""
        before = self.answers
        try:
            if clip.content and (stored := await self._stored(clip.content)):
                await self._found(clip, stored)
            elif one := await self._read(clip):
                await ready.put(one)
        except ClipRejected as refusal:
            await self._reject(clip, refusal)
        except Unavailable as error:
            self._unanswered(clip, _Failure(error, Reason.UNREADABLE, others_answered=self.answers > before))

    async def _read(self, clip: Clip) -> _Ready | None:
        """Digest and prepare; None where a stored caption, or one that is asked for right now, is the answer.

        Reads again if the file is replaced meanwhile.
        """
        for _ in range(3):
            began = time.monotonic()
            fetched = await asyncio.to_thread(self.source.fetch, clip, self.folder, self.settings.video.max_bytes)
            try:
                read = replace(clip, content=fetched.content)
                version = await asyncio.to_thread(self.source.version_now, clip)
                if version == clip.version:
                    if await self._answered_elsewhere(read):
                        return None
                    prepared = await self._prepared(read, fetched.path)
                    if not fetched.downloaded:  # what was decoded may be another file than what was digested
                        version = await asyncio.to_thread(self.source.version_now, clip)
                    if version == clip.version:
                        done = time.monotonic()
                        return _Ready(read, self._key(read), prepared, done - began, done)
                    self.waiting_for.pop(self._key(read), None)
            finally:
                await asyncio.to_thread(fetched.discard)
            if version is None:
                break
            log.info("%s: replaced since it was discovered; reading it again", clip.uri)
            clip = replace(clip, version=version, content="")
        raise ClipRejected(Reason.MISSING, "gone, or changing while it is read; run its day again later")

    async def _prepared(self, clip: Clip, path: Path) -> Prepared:
        try:
            return await self.decoders.prepare(path)
        except ClipRejected as refusal:
            for copy in self.waiting_for.pop(self._key(clip), []):
                await self._reject(copy, refusal)
            raise
        except OSError as error:
            self.waiting_for.pop(self._key(clip), None)
            raise Unavailable(f"{clip.uri}: cannot be prepared on this machine ({error})") from error

    async def _answered_elsewhere(self, clip: Clip) -> bool:
        """True if this content's caption is stored, or under way; if not, this clip leads its copies."""
        key = self._key(clip)
        if key in self.waiting_for:
            self.waiting_for[key].append(clip)
            return True
        self.waiting_for[key] = []
        stored = await self._stored(clip.content)
        if stored is None:
            return False
        for one in [clip, *self.waiting_for.pop(key)]:
            await self._found(one, stored)
        return True

    async def _stored(self, content: str) -> Caption | None:
        """Return the caption of this content, or None: one of these settings, or of an earlier release for them."""
        fingerprint = self.captioner.fingerprint
        earlier = (one for flaw, one in fingerprint.earlier().items() if flaw not in self.batch.recaption_for)
        for one in (fingerprint, *earlier):
            caption = await asyncio.to_thread(self.store.caption, one.caption_key(content))
            if caption and not (self.batch.recaption and caption.run != self.batch.run):
                return caption
        return None

    async def _found(self, clip: Clip, stored: Caption) -> None:
        """A caption that was there before it was asked for."""
        asked = Origin.NEW if stored.clip_id == clip.clip_id else Origin.COPY
        await self.state.record_existing(clip, stored, asked if stored.run == self.batch.run else Origin.STORED)

    def _key(self, clip: Clip) -> str:
        return self.captioner.fingerprint.caption_key(clip.content)

    async def _ask(self, one: _Ready, waited_s: float) -> None:
        before = self.answers
        try:
            with self._with_the_engine():
                reply = await caption_with_gates(self.captioner, one.prepared)
        except ClipRejected as refusal:
            self._answered()
            for clip in [one.clip, *self.waiting_for.pop(one.key, [])]:
                await self._reject(clip, refusal)
            return
        except EngineUnavailable as error:
            self.waiting_for.pop(one.key, None)
            self._unanswered(one.clip, _Failure(error, Reason.ENGINE_FAILED, others_answered=self.answers > before))
            return
        self._answered()
        await _to_its_end(self._keep(one, reply, waited_s))

    async def _keep(self, one: _Ready, reply: Reply, waited_s: float) -> None:
        caption = await self._store(one, reply)
        await self.state.record_new(one.clip, caption, one.preparing_s, waited_s)
        for clip in self.waiting_for.pop(one.key, []):
            await self.state.record_existing(clip, caption, Origin.COPY)

    @contextmanager
    def _with_the_engine(self) -> Iterator[None]:
        self.in_flight += 1
        metrics.gauge("in_flight", self.in_flight)
        try:
            yield
        finally:
            self.in_flight -= 1
            metrics.gauge("in_flight", self.in_flight)

    def _answered(self) -> None:
        self.answers += 1
        self.unanswered = 0

    def _unanswered(self, clip: Clip, failure: _Failure) -> None:
        self.failures[clip.clip_id] = failure
        self.unanswered += 1
        metrics.count("unanswered")
        log.warning("%s: no answer (%s)", clip.uri, failure.error)
        if self.unanswered >= max(3, self.captioner.in_flight):
            raise _GivenUp from failure.error

    async def _store(self, one: _Ready, reply: Reply) -> Caption:
        """The write-ahead: from here on this content is never asked for again."""
        poster = poster_path(one.clip.content)
        fingerprint, info = self.captioner.fingerprint, one.prepared.info
        caption = Caption(
            key=one.key,
            content=one.clip.content,
            fingerprint=self.fingerprint,
            engine=fingerprint.engine,
            model=fingerprint.model,
            created_at=datetime.now(UTC).isoformat(timespec="milliseconds"),
            run=self.batch.run,
            duration_s=info.duration_s,
            width=info.width,
            height=info.height,
            poster=poster,
            clip_id=one.clip.clip_id,
            text=reply.text,
            segments=reply.segments,
            notes=reply.notes,
            prompt_tokens=reply.prompt_tokens,
            completion_tokens=reply.completion_tokens,
            seconds=reply.seconds,
            gpu_s=reply.gpu_s,
            attempts=reply.attempts,
            finish_reason=reply.finish_reason,
        )
        await asyncio.to_thread(self.store.write, poster, one.prepared.poster)
        await asyncio.to_thread(self.store.write_caption, caption)
        return caption

    async def _reject(self, clip: Clip, refusal: ClipRejected) -> None:
        if await self.state.record_rejection(clip, refusal):
            raise _GivenUp

    def _left(self, clips: list[Clip]) -> list[Clip]:
        return [clip for clip in clips if clip.clip_id not in self.state.settled]

    def _unfinished(self, left: list[Clip], clips: int) -> Unavailable:
        failure = next((self.failures[clip.clip_id] for clip in left if clip.clip_id in self.failures), None)
        text = f"{len(left)} of {clips} clips are left for the next try"
        if failure is None:
            return EngineUnavailable(text)
        return type(failure.error)(f"{text}: {failure.error}", failure.error.retry_after_s)


async def _to_its_end(work: Coroutine[Any, Any, None]) -> None:
    """Not broken off where the batch is: what an engine has written is kept, and becomes searchable in this run."""
    task = asyncio.create_task(work)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await task
        raise


def _leaves(group: BaseExceptionGroup[BaseException]) -> Iterator[BaseException]:
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(error)
        else:
            yield error
