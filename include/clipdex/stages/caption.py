"""Caption a batch in rounds, so that the engine never waits for a clip and no caption is requested twice.

A round brings clips to an outcome side by side (clip_pipeline.py): some are prepared while others are with the engine,
each bounded. Clips that fail while others succeed get a second round. What the engine rejected while it captioned
others is requested again until a round saves none. What the source did not give is read once more at the end. Then the
rejections are judged: every good clip has its caption by then.
"""

import asyncio
import time
from collections.abc import Iterator
from contextlib import aclosing, suppress

from clipdex.captions.captioner import Captioner
from clipdex.config import Settings
from clipdex.errors import Reason
from clipdex.runs.leases import Lease
from clipdex.runs.outcomes import Journal
from clipdex.runs.planning import BatchRef, manifest
from clipdex.stages.batch_state import BatchContext, BatchState, CaptionTotals
from clipdex.stages.clip_pipeline import ClipPipeline, Decoders, ReadyClip
from clipdex.stages.failures import BatchStopped
from clipdex.stages.source_rejections import source_violation
from clipdex.storage.artifacts import Store
from clipdex.storage.clip import Clip
from clipdex.storage.source import Source
from clipdex.storage.tempdir import scratch
from clipdex.video.sandbox.pool import DecoderPool


async def caption_batch(
    settings: Settings,
    store: Store,
    source: Source,
    captioner: Captioner,
    batch: BatchRef,
    try_number: int = 1,
    decoders: Decoders | None = None,
) -> CaptionTotals:
    """Give every clip of a batch a stored caption or a place in quarantine.

    decoders: prepare the clips; without them, sandboxed processes that live as long as the batch.
    Raises EngineUnavailable when clips are left because the engine was not available (the next try continues with
    them), SourceUnavailable when their disk, mount or bucket is away, BatchRejected when too many were rejected for one
    reason, after all others are captioned, ConfigurationError before any clip gets an outcome;
    LeaseHeld before any request while another run works on the day, and LeaseLost before the next request if another
    run took it over. The day stays held: the report of the run releases it.
    """
    clips = await asyncio.to_thread(manifest, store, batch)
    with Lease(store, batch.run, settings.batches.lease_s) as lease:
        await asyncio.to_thread(lease.take, batch.day)
        context = BatchContext(settings, store, source, batch, lease)
        return await _caption_batch(context, captioner, clips, try_number, decoders)


async def _caption_batch(
    context: BatchContext, captioner: Captioner, clips: list[Clip], try_number: int, decoders: Decoders | None
) -> CaptionTotals:
    settings, store, batch = context.settings, context.store, context.batch
    journal = Journal(store, batch.day, batch.run, batch.batch, "caption", try_number, batch.after)
    state = BatchState(context, journal, captioner.fingerprint.digest())
    with scratch() as folder:
        preparing, playback = settings.batches.preparing, settings.store.playback
        async with DecoderPool(settings.video, settings.sampling, preparing, playback) as own:
            pipeline = ClipPipeline(context, captioner, state, decoders or own, folder)
            try:
                return await _Rounds(captioner, pipeline, state, context).run(clips)
            finally:
                await asyncio.to_thread(journal.flush)


_WATCH_S = 0.5  # between two looks at the lease while requests run


class _Rounds:
    """Schedule the clips of one try."""

    def __init__(self, captioner: Captioner, pipeline: ClipPipeline, state: BatchState, context: BatchContext) -> None:
        self._lease, self._source, self._store = context.lease, context.source, context.store
        self._captioner, self._pipeline, self._state = captioner, pipeline, state
        self._preparing = context.settings.batches.preparing
        self._idle_s = self._open_s = 0.0

    async def run(self, clips: list[Clip]) -> CaptionTotals:
        todo = await self._pipeline.reuse_captions(await self._state.load(clips))
        if todo:
            await self._captioner.check()
            fingerprint = self._captioner.fingerprint
            await asyncio.to_thread(self._store.write_fingerprint, fingerprint.digest(), fingerprint.to_json())
            await self._caption(todo)
        await self._retry_unread(clips)
        await self._retry_rejections(clips)
        left = self._state.left(clips)
        violation = None
        if not left:
            violation = await asyncio.to_thread(source_violation, self._source, clips, self._state.rejections())
        await self._state.finalize(complete=not left, violation=violation)
        idle = round(self._idle_s / self._open_s, 4) if self._open_s else 0.0
        totals = self._state.totals(len(left), idle)
        if left:
            await self._pipeline.record_unread(left)
            raise self._pipeline.failures.unfinished(left, len(clips))
        return totals

    async def _caption(self, todo: list[Clip]) -> None:
        """Run two rounds: a clip that failed while others succeeded is tried once more, then rejected."""
        if not await self._round(todo) or self._pipeline.failures.away:
            return
        left = self._state.left(todo)
        failed = [(clip, failure) for clip in left if (failure := self._pipeline.failures.of(clip))]
        suspects = [clip for clip, failure in failed if failure.others_succeeded]
        hopeless = not suspects and len(failed) == len(left) and not any(map(self._pipeline.may_share, left))
        if hopeless or not await self._round(left):
            return
        if self._pipeline.failures.away:
            return
        if suspects := self._state.left(suspects):
            await self._captioner.check()
        with suppress(BatchStopped):
            for clip in suspects:
                await self._pipeline.reject_failed(clip)

    async def _retry_unread(self, clips: list[Clip]) -> None:
        """Read once more what the source did not give, so that a disk that is away for a moment costs no clip."""
        if self._state.left(clips) or not self._state.reset_source_rejections():
            return
        await self._captioner.check()
        if not await self._round(self._state.left(clips)) or self._pipeline.failures.away:
            return
        with suppress(BatchStopped):
            for clip in self._state.left(clips):
                if (failure := self._pipeline.failures.of(clip)) and failure.reason is Reason.UNREADABLE:
                    await self._pipeline.reject_failed(clip)

    async def _retry_rejections(self, clips: list[Clip]) -> None:
        """Request again what the engine rejected while it captioned others, until that saves no clip any more.

        So a node that rejects at random, or one of several behind a gateway that rejects everything, costs no clip. A
        bad clip costs two more requests; where a retry saved others, two rounds without effect end the retries.
        """
        rounds = 1
        while rounds and not self._state.left(clips) and self._state.reset_rejections():
            before = self._state.captioned
            await self._captioner.check()
            await self._round(self._state.left(clips))
            rounds = 2 if self._state.captioned > before else rounds - 1

    async def _round(self, clips: list[Clip]) -> bool:
        """Bring clips to an outcome or a failure; False if the batch stopped."""
        waiting = iter(clips)
        ready: asyncio.Queue[ReadyClip | None] = asyncio.Queue(maxsize=max(2, self._captioner.in_flight // 2))
        self._pipeline.failures.start_round()

        async def prepare() -> None:
            for clip in waiting:
                if self._pipeline.failures.away:
                    return  # what is prepared gets its caption
                async with aclosing(self._pipeline.prepare(clip)) as prepared:
                    async for one in prepared:
                        await ready.put(one)

        async def prepare_all() -> None:
            async with asyncio.TaskGroup() as group:
                for _ in range(self._preparing):
                    group.create_task(prepare())
            for _ in range(self._captioner.in_flight):
                await ready.put(None)

        async def request() -> None:
            while True:
                free = time.monotonic()
                if (one := await ready.get()) is None:
                    return  # the rest of the batch is with the other requests: this is no wait for a clip
                began = time.monotonic()
                self._idle_s += began - free
                await self._pipeline.request(one, began - one.since)
                self._open_s += time.monotonic() - free

        async def watch() -> None:
            while True:
                await asyncio.sleep(_WATCH_S)
                self._lease.check()  # not in a thread: no request is retried until a late lease is known to be held

        try:
            async with asyncio.TaskGroup() as watched:
                watching = watched.create_task(watch())
                async with asyncio.TaskGroup() as group:
                    group.create_task(prepare_all())
                    for _ in range(self._captioner.in_flight):
                        group.create_task(request())
                watching.cancel()
        except BaseExceptionGroup as raised:
            others = [error for error in _leaves(raised) if not isinstance(error, BatchStopped)]
            if others:
                raise others[0] from None
            return False
        finally:
            self._pipeline.end_round()
        return True


def _leaves(group: BaseExceptionGroup[BaseException]) -> Iterator[BaseException]:
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(error)
        else:
            yield error
