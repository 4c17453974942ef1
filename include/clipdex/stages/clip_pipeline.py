"""The way of one clip through captioning: read → prepare → request → check → store → journal.

prepare() reads, digests and decodes a clip, until only the engine is missing. request() captions it, checks and stores
the caption and writes the outcome. Either ends early where the content has a stored caption, or is rejected.

A long file gives many clips, its parts (cut_file.py). They go the same way, each by itself; the file gets its outcome
when each of them has one. A try that continues after a killed one decodes from the first part without an outcome.
"""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Coroutine, Iterator
from contextlib import aclosing, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol, TypeVar

from clipdex import metrics
from clipdex.captions.captioner import CaptionDraft, Captioner
from clipdex.captions.quality import caption_with_gates
from clipdex.config import Playback
from clipdex.errors import ClipRejected, EngineUnavailable, Reason, SourceUnavailable, Unavailable
from clipdex.runs.outcomes import Origin
from clipdex.stages.batch_state import BatchContext, BatchState
from clipdex.stages.cut_file import CutFile
from clipdex.stages.failures import BatchStopped, Failures
from clipdex.stages.near_duplicates import Near, NearDuplicates
from clipdex.storage.archive import Fetched
from clipdex.storage.artifacts import playback_path, poster_path
from clipdex.storage.caption import Caption
from clipdex.storage.clip import Clip
from clipdex.video import Prepared, RejectedPart

log = logging.getLogger(__name__)

T = TypeVar("T")


class Decoders(Protocol):
    """Sample clips. See clipdex.video.sandbox.pool.DecoderPool."""

    def parts(
        self, path: str | Path, first: int = 0, start_s: float | None = None, playback: Playback | None = None
    ) -> AsyncGenerator[Prepared | RejectedPart]: ...


class _Replaced(Exception):
    """The file has another version now, or None if it is deleted."""

    def __init__(self, version: str | None) -> None:
        super().__init__(version)
        self.version = version


@dataclass(frozen=True, slots=True)
class ReadyClip:
    """A decoded clip that waits for the engine.

    key: of its caption; preparing_s: time to fetch, digest and decode [s]; since: monotonic clock [s]
    file: the file that contains the clip as a part
    """

    clip: Clip
    key: str
    prepared: Prepared
    preparing_s: float
    since: float
    file: CutFile | None = None


class ClipPipeline:
    """Bring the clips of one try at a batch to their outcomes, each by itself.

    Exact copies of a clip under way wait for its caption, and so do near-duplicates if the settings let them share it.
    folder: for files that must be downloaded.
    """

    def __init__(
        self, context: BatchContext, captioner: Captioner, state: BatchState, decoders: Decoders, folder: Path
    ) -> None:
        self._settings, self._store, self._source = context.settings, context.store, context.source
        self._batch, self._lease, self._captioner, self._state = context.batch, context.lease, captioner, state
        self._decoders, self._folder = decoders, folder
        self._how = context.settings.video.cut
        self._copies: dict[str, list[Clip]] = {}
        self._files: dict[str, CutFile] = {}
        limit = self._settings.video.near_duplicates
        self._near = None if limit is None else NearDuplicates(limit)
        self._in_flight = 0
        self.failures = Failures(limit=max(3, captioner.in_flight))

    async def reuse_captions(self, clips: list[Clip]) -> list[Clip]:
        """Record the clips with a stored caption and new metadata; return the others. Needs no engine.

        Raises LeaseLost.
        """
        described = [clip for clip in clips if clip.caption_key]
        cut = [clip for clip in clips if clip.cut]
        if not described and not cut:
            return clips
        await asyncio.to_thread(self._lease.check)
        captions = await asyncio.to_thread(self._store.captions, (clip.caption_key for clip in described))
        for clip, caption in zip(described, captions, strict=True):
            if caption is not None:  # else lost: captioned again, as any other
                await self._state.record_existing(clip, await self._described_anew(clip, caption), Origin.STORED)
        for file in cut:
            await self._has_parts_stored(file)
        return self._state.left(clips)

    async def prepare(self, clip: Clip) -> AsyncGenerator[ReadyClip]:
        """Yield the clip ready for the engine, or its parts; nothing if it has an outcome or waits for its copy."""
        responses = self.failures.responses
        try:
            if clip.content and (stored := await self._stored(clip.content)):
                await self._record_stored(clip, stored)
            elif not (clip.content and await self._has_parts_stored(clip)):
                async with aclosing(self._read(clip)) as read:
                    async for ready in read:
                        yield ready
        except ClipRejected as rejection:
            await self._reject(clip, rejection)
        except Unavailable as error:
            if clip.refused == Reason.UNREADABLE and not isinstance(error, SourceUnavailable):
                await self._reject(clip, ClipRejected(Reason.UNREADABLE, f"again: {error}"))
            else:
                self.failures.record(clip, error, Reason.UNREADABLE, responses)

    async def request(self, ready: ReadyClip, waited_s: float) -> None:
        """Caption a clip, check and store the caption, and write the outcome. waited_s: for a free request [s].

        Raises LeaseLost before the request, and before an answer is stored: the clip is another run's by then.
        """
        if self._near is None:
            await self._describe(ready, waited_s)
            return
        found = await self._near.find(ready.clip, ready.prepared)
        if isinstance(found, Near):
            await asyncio.to_thread(self._lease.check)
            await _shielded(self._share(ready, found))
            return
        caption = None
        try:
            caption = await self._describe(ready, waited_s)
        finally:
            found.end(caption)

    async def _describe(self, ready: ReadyClip, waited_s: float) -> Caption | None:
        """Return the stored caption, or None if the clip is rejected or got no answer."""
        responses = self.failures.responses
        await asyncio.to_thread(self._lease.check)
        try:
            with self._counted():
                reply = await caption_with_gates(self._captioner, ready.prepared)
        except ClipRejected as rejection:
            self.failures.record_response()
            if ready.prepared.poster:  # for the page of the quarantine
                await asyncio.to_thread(self._store.write, poster_path(ready.clip.content), ready.prepared.poster)
            for clip in [ready.clip, *self._copies.pop(ready.key, [])]:
                await self._reject(clip, rejection)
            await self._end_part(ready.file, ready.clip)
            return None
        except EngineUnavailable as error:
            self._copies.pop(ready.key, None)
            self.failures.record(ready.clip, error, Reason.ENGINE_FAILED, responses)
            return None
        self.failures.record_response()
        await asyncio.to_thread(self._lease.check)
        return await _shielded(self._keep(ready, reply, waited_s))

    def may_share(self, clip: Clip) -> bool:
        """Return whether a near-duplicate of a clip that failed was captioned since."""
        return self._near is not None and self._near.may_share(clip)

    async def reject_failed(self, clip: Clip) -> None:
        """Reject a clip that failed again while others succeeded; of a file that is cut, the parts that failed."""
        for failure in self.failures.all_of(clip):
            if self._state.is_settled(failure.clip):
                continue
            detail = f"no answer while other clips got one: {failure.error}"
            await self._reject(failure.clip, ClipRejected(failure.reason, detail))
            await self._end_part(self._files.get(clip.clip_id), failure.clip)

    async def record_unread(self, left: list[Clip]) -> None:
        """Record the clips that the source did not give, for the next run; not if all of it is away."""
        for clip in left:
            failure = self.failures.of(clip)
            if failure and failure.reason is Reason.UNREADABLE and not self.failures.away:
                await self._state.record_failure(clip, failure.reason, str(failure.error))

    def end_round(self) -> None:
        """Forget the copies that wait: their leaders have failed."""
        self._copies.clear()

    # read

    async def _read(self, clip: Clip) -> AsyncGenerator[ReadyClip]:
        """Digest and decode a clip. Reads it again if the file is replaced meanwhile."""
        limit = self._settings.video.file_bytes
        for _ in range(3):
            began = time.monotonic()
            fetched = await asyncio.to_thread(self._source.fetch, clip, self._folder, limit)
            read, leads = replace(clip, content=fetched.content), False
            try:
                await self._require_unchanged(clip)
                leads = not await self._has_caption_elsewhere(read)
                if leads:
                    async with aclosing(self._decode(read, fetched, began)) as decoded:
                        async for ready in decoded:
                            yield ready
                return
            except _Replaced as error:
                if leads:
                    self._copies.pop(self._key(read), None)
                version = error.version
            finally:
                await asyncio.to_thread(fetched.discard)
            if version is None:
                await asyncio.to_thread(self._source.require_deleted, clip)
                break
            log.info("%s: replaced since it was discovered; reading it again", clip.uri)
            clip = replace(clip, version=version, content="")
        raise ClipRejected(Reason.MISSING, "gone, or changing while it is read; run its day again later")

    async def _decode(self, clip: Clip, fetched: Fetched, began: float) -> AsyncGenerator[ReadyClip]:
        """Yield the decoded clip, or the decoded parts of a file. began: monotonic clock [s]

        Raises _Replaced.
        """
        file = CutFile(clip, self._state.settled_parts(clip))
        async with aclosing(self._decoded(clip, fetched.path, file)) as decoded:
            async for one in decoded:
                if not fetched.downloaded:  # the decoded file may differ from the digested one
                    await self._require_unchanged(clip)
                if isinstance(one, RejectedPart):
                    part = file.add(one.part, one.start_s, one.end_s)
                    if not self._state.is_settled(part):
                        await self._reject(part, one.rejection)
                    await self._end_part(file, part)
                elif one.part is None:
                    one = await self._without_playback(clip, one)
                    done = time.monotonic()
                    yield ReadyClip(clip, self._key(clip), one, done - began, done)
                else:
                    self._files[clip.clip_id] = file
                    part = file.add(one.part, one.info.start_s, one.info.end_s)
                    one = await self._without_playback(part, one)
                    if await self._has_part_outcome(part):
                        await self._end_part(file, part)
                    else:
                        done = time.monotonic()
                        yield ReadyClip(part, self._key(part), one, done - began, done, file)
                        began = time.monotonic()

    async def _without_playback(self, clip: Clip, prepared: Prepared) -> Prepared:
        """Store the playback unless there is one; return the clip without it, because many wait for the engine."""
        if not prepared.playback:
            return prepared
        key = playback_path(clip.content)
        if not await asyncio.to_thread(self._store.exists, key):
            await asyncio.to_thread(self._store.write, key, prepared.playback)
        return replace(prepared, playback=b"")

    async def _require_unchanged(self, clip: Clip) -> None:
        version = await asyncio.to_thread(self._source.version_now, clip)
        if version != clip.version:
            raise _Replaced(version)

    async def _has_part_outcome(self, part: Clip) -> bool:
        """Return whether a part has an outcome, or a stored caption, which is then recorded."""
        if self._state.is_settled(part):
            return True
        stored = await self._stored(part.content)
        if stored is not None:
            await self._record_stored(part, stored)
        return stored is not None

    async def _has_parts_stored(self, file: Clip) -> bool:
        """Return whether each part of a file has a stored caption, which is then recorded: nothing is decoded."""
        how = self._how or file.cut
        if not how or (spans := await asyncio.to_thread(self._store.cut, file.content, how)) is None:
            return False
        captions = []
        for number, span in enumerate(spans):
            part = file.part(number, *span)
            if (caption := await self._stored(part.content)) is None:
                return False
            captions.append((part, caption))
        for part, caption in captions:
            await self._record_stored(part, await self._described_anew(part, caption))
        await self._state.record_cut(file, len(captions), how)
        return True

    async def _has_caption_elsewhere(self, clip: Clip) -> bool:
        """Return whether this content's caption is stored, or under way; if not, this clip leads its copies."""
        key = self._key(clip)
        if key in self._copies:
            self._copies[key].append(clip)
            return True
        self._copies[key] = []
        stored = await self._stored(clip.content)
        if stored is None:
            if await self._has_parts_stored(clip):
                await self._record_copies_of_file(key)
                return True
            return False
        for one in [clip, *self._copies.pop(key)]:
            await self._record_stored(one, stored)
        return True

    async def _stored(self, content: str) -> Caption | None:
        """Return the caption of this content, or None: one of these settings, or of an earlier release for them."""
        fingerprint, limit = self._captioner.fingerprint, self._settings.video.near_duplicates
        equal = fingerprint.equal()
        flawed = (found for one in equal for found in one.earlier().items())
        earlier = (one for flaw, one in flawed if flaw not in self._batch.recaption_for)
        for one in (*equal, *earlier):
            shared = [] if limit is None else [one.shared_key(content)]
            for key in (one.caption_key(content), *shared):
                caption = await asyncio.to_thread(self._store.caption, key)
                if caption is None or (limit is not None and caption.distance > limit):
                    continue
                if not (self._batch.recaption and caption.run != self._batch.run):
                    return caption
        return None

    # prepare

    async def _decoded(self, clip: Clip, path: Path, file: CutFile) -> AsyncGenerator[Prepared | RejectedPart]:
        """Yield what the decoder makes of a file, from the first part without an outcome on."""
        first, start_s = file.resume
        try:
            async with aclosing(self._decoders.parts(path, first, start_s, await self._playback(clip))) as parts:
                async for one in parts:
                    yield one
        except ClipRejected as rejection:
            copies = self._copies.pop(self._key(clip), [])
            await asyncio.to_thread(self._require_true, clip, rejection)
            for copy in copies:
                await self._reject(copy, rejection)
            raise
        except OSError as error:
            self._copies.pop(self._key(clip), None)
            raise Unavailable(f"{clip.uri}: cannot be prepared on this machine ({error})") from error

    async def _playback(self, clip: Clip) -> Playback:
        """Return what to make for browsers of a file. 480p costs the most: it is not made again."""
        wanted = self._settings.store.playback
        if wanted is Playback.P480 and await asyncio.to_thread(self._store.exists, playback_path(clip.content)):
            return Playback.OFF
        return wanted

    def _require_true(self, clip: Clip, rejection: ClipRejected) -> None:
        """Raise Unavailable where the source refutes a rejection: the file is there, or has bytes."""
        if rejection.reason is Reason.MISSING:
            self._source.require_deleted(clip)
        if rejection.reason is Reason.EMPTY_FILE and (size := self._source.size_now(clip)):
            raise Unavailable(f"{clip.uri}: {size} bytes expected, the source gave none")

    # store and journal

    async def _keep(self, ready: ReadyClip, reply: CaptionDraft, waited_s: float) -> Caption:
        caption = await self._store_caption(ready, reply)
        await self._state.record_new(ready.clip, caption, ready.preparing_s, waited_s)
        await self._record_copies(ready, caption)
        return caption

    async def _share(self, ready: ReadyClip, near: Near) -> None:
        caption = await self._store_caption(ready, near.draft(ready.prepared), near)
        await self._state.record_existing(ready.clip, caption, Origin.SIMILAR)
        await self._record_copies(ready, caption)

    async def _record_copies(self, ready: ReadyClip, caption: Caption) -> None:
        for clip in self._copies.pop(ready.key, []):
            await self._state.record_existing(clip, caption, Origin.COPY)
        await self._end_part(ready.file, ready.clip)

    async def _end_part(self, file: CutFile | None, part: Clip) -> None:
        """Note that a part has its outcome; after the last one, record that the file is cut."""
        if file is None or not file.end(part):
            return
        await asyncio.to_thread(self._store.write_cut, file.clip.content, self._how, file.spans)
        await self._state.record_cut(file.clip, len(file.spans), self._how)
        self._files.pop(file.clip.clip_id, None)
        await self._record_copies_of_file(self._key(file.clip))

    async def _record_copies_of_file(self, key: str) -> None:
        """Record the copies of a file that is cut. One that lacks a caption of a part is left to the next round."""
        for copy in self._copies.pop(key, []):
            await self._has_parts_stored(copy)

    async def _described_anew(self, clip: Clip, caption: Caption) -> Caption:
        """Return the caption, after its metadata was replaced by that of the clip that it was made for."""
        if caption.clip_id != clip.clip_id or caption.metadata == clip.metadata:
            return caption
        caption = replace(caption, metadata=clip.metadata)
        await asyncio.to_thread(self._store.write_caption, caption)
        return caption

    async def _store_caption(self, ready: ReadyClip, reply: CaptionDraft, near: Near | None = None) -> Caption:
        """Store the caption before its outcome is written: from here on this content is never requested again.

        near: the near-duplicate that the text is from
        """
        poster = poster_path(ready.clip.content) if ready.prepared.poster else ""
        fingerprint, info = self._captioner.fingerprint, ready.prepared.info
        caption = Caption(
            key=fingerprint.shared_key(ready.clip.content) if near else ready.key,
            content=ready.clip.content,
            fingerprint=fingerprint.digest(),
            engine=fingerprint.engine,
            model=fingerprint.model,
            created_at=datetime.now(UTC).isoformat(timespec="milliseconds"),
            run=self._batch.run,
            duration_s=info.duration_s,
            width=info.width,
            height=info.height,
            poster=poster,
            clip_id=ready.clip.clip_id,
            text=reply.text,
            segments=reply.segments,
            notes=reply.notes,
            start_s=info.start_s,
            film=info.film,
            prompt_tokens=reply.prompt_tokens,
            completion_tokens=reply.completion_tokens,
            seconds=reply.seconds,
            gpu_s=reply.gpu_s,
            attempts=reply.attempts,
            finish_reason=reply.finish_reason,
            metadata=ready.clip.metadata,
            recorded_at=info.recorded_at,
            similar_to=near.caption.key if near else "",
            distance=near.distance if near else 0.0,
            paragraphs=reply.paragraphs,
            timed=reply.timed,
            node=reply.node,
        )
        if poster:
            await asyncio.to_thread(self._store.write, poster, ready.prepared.poster)
        await asyncio.to_thread(self._store.write_caption, caption)
        return caption

    async def _record_stored(self, clip: Clip, stored: Caption) -> None:
        own = Origin.SIMILAR if stored.similar_to else Origin.NEW
        requested = own if stored.clip_id == clip.clip_id else Origin.COPY
        origin = requested if stored.run == self._batch.run else Origin.STORED
        await self._state.record_existing(clip, stored, origin)

    async def _reject(self, clip: Clip, rejection: ClipRejected) -> None:
        if await self._state.record_rejection(clip, rejection):
            raise BatchStopped

    def _key(self, clip: Clip) -> str:
        return self._captioner.fingerprint.caption_key(clip.content)

    @contextmanager
    def _counted(self) -> Iterator[None]:
        self._in_flight += 1
        metrics.gauge("in_flight", self._in_flight)
        try:
            yield
        finally:
            self._in_flight -= 1
            metrics.gauge("in_flight", self._in_flight)


async def _shielded(work: Coroutine[Any, Any, T]) -> T:
    """Shield the write from cancellation: what an engine has written is kept and indexed in the same run."""
    task = asyncio.create_task(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await task
        raise
