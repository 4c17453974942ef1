"""BatchState: the outcomes of one try at captioning a batch.

Each outcome goes to the journal when it happens, so that a killed try loses few. A rejection is journaled as `rejected`
and becomes quarantine at the end of the batch, if the policy permits it (rejection_policy.py). Conclusive ones need no
permission.
"""

import asyncio
import logging
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from typing import Any

from clipdex import metrics
from clipdex.config import Settings
from clipdex.errors import ClipRejected, Reason
from clipdex.runs.leases import Lease
from clipdex.runs.outcomes import ClipOutcome, Journal, Origin, Outcome, batch_outcomes
from clipdex.runs.planning import BatchRef
from clipdex.runs.throughput import Throughput, throughput
from clipdex.stages.rejection_policy import PolicyViolation, all_rejected, over_share
from clipdex.storage.artifacts import Span, Store
from clipdex.storage.caption import Caption
from clipdex.storage.clip import Clip, RecordedFrom
from clipdex.storage.source import Source

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class CaptionTotals:
    """Count what one try at a batch did.

    before: clips with an outcome of an earlier try, or a caption that a killed try had stored
    seconds: wall time [s]; idle: share of the requests' time spent waiting for a prepared clip, 0 to 1
    """

    clips: int
    before: int
    new: int
    copies: int
    stored: int
    quarantined: int
    completion_tokens: int
    seconds: float
    idle: float
    pace: Throughput
    similar: int = 0

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class BatchContext:
    """What every step of a batch needs. lease: on its day."""

    settings: Settings
    store: Store
    source: Source
    batch: BatchRef
    lease: Lease


class BatchState:
    """Hold and journal the outcomes of one try.

    settled: version by clip_id, of clips, parts and files with an outcome of this run, but for failures
    fingerprint: of outcomes without a caption
    """

    def __init__(self, context: BatchContext, journal: Journal, fingerprint: str) -> None:
        self._settings, self._store, self._batch = context.settings, context.store, context.batch
        self._journal, self._fingerprint = journal, fingerprint
        self._began = time.monotonic()
        self._clips = self._captioned_before = self._quarantined = 0
        self._rejected: dict[str, ClipOutcome] = {}
        self._origins: Counter[str] = Counter()
        self._new: list[ClipOutcome] = []
        self._parts: dict[str, dict[int, ClipOutcome]] = defaultdict(dict)
        self._cut: dict[str, int] = {}
        self.settled: dict[str, str] = {}

    @property
    def captioned(self) -> int:
        """Return how many clips of this batch the engine captioned in this run."""
        return self._captioned_before + self._origins[Origin.NEW]

    async def load(self, clips: list[Clip]) -> list[Clip]:
        """Read the outcomes of earlier tries and return the clips without one, failed ones last; rejections stay."""
        batch = self._batch
        known = await asyncio.to_thread(batch_outcomes, self._store, batch.day, batch.run, batch.batch)
        rejected = (Outcome.REJECTED, Outcome.QUARANTINED)
        self._clips = len(clips)
        self._rejected = {key: outcome for key, outcome in known.items() if outcome.outcome in rejected}
        self._captioned_before = sum(outcome.origin == Origin.NEW for outcome in known.values())
        for outcome in known.values():
            if outcome.outcome is not Outcome.FAILED:
                self._settle(outcome)
        todo = sorted(self.left(clips), key=lambda clip: clip.clip_id in known)
        if known:
            done = (Outcome.CAPTIONED, Outcome.INDEXED)
            captioned = sum(outcome.outcome in done and not outcome.parts for outcome in known.values())
            log.info(
                "%s: earlier tries captioned %d of %d clips and refused %d; %d to do",
                batch.label, captioned, self._total, len(self._rejected), len(todo),
            )  # fmt: skip
        return todo

    def left(self, clips: list[Clip]) -> list[Clip]:
        """Return the clips without an outcome."""
        return [clip for clip in clips if clip.clip_id not in self.settled]

    def is_settled(self, clip: Clip) -> bool:
        """Return whether this version of a clip or part has an outcome."""
        return self.settled.get(clip.clip_id) == clip.version

    def settled_parts(self, file: Clip) -> dict[int, Span]:
        """Return the times of the parts of this version of a file that have an outcome, by number."""
        parts = self._parts[file.clip_id].values()
        return {one.part_no: (one.start_s, one.end_s) for one in parts if self.settled.get(one.clip_id) == file.version}

    async def record_new(self, clip: Clip, caption: Caption, preparing_s: float, waiting_s: float) -> None:
        """Record a caption that the engine wrote just now."""
        self._new.append(await self._captioned(clip, caption, Origin.NEW, preparing_s, waiting_s))

    async def record_existing(self, clip: Clip, caption: Caption, origin: Origin) -> None:
        """Record a stored caption. NEW: requested by a try of this run that was killed before it wrote the outcome."""
        await self._captioned(clip, caption, origin)

    async def record_cut(self, file: Clip, parts: int, how: str) -> None:
        """Record that each of the parts of a file has an outcome. how: see VideoLimits.cut"""
        await self._record(replace(self._outcome(file, Outcome.CAPTIONED), parts=parts, cut=how))

    async def record_rejection(self, clip: Clip, rejection: ClipRejected) -> PolicyViolation | None:
        """Record a rejection, to be confirmed at the end; return a violation if the rest of the batch is pointless.

        That is so where the engine rejected too many clips and captioned none. Any other batch goes on: its good clips
        get their captions before its rejections are judged.
        """
        outcome = replace(
            self._outcome(clip, Outcome.REJECTED),
            reason=rejection.reason,
            detail=rejection.detail,
            text=rejection.text,
            limit=rejection.limit,
            found=rejection.found,
            repeated=rejection.reason == clip.refused,
        )
        self._rejected[clip.clip_id] = outcome
        await self._record(outcome)
        log.warning("%s: %s (%s)", clip.name, rejection.reason, rejection.detail)
        if self.captioned:
            return None
        by_engine = Counter(
            {name: count for name, count in self._reasons().items() if not Reason(name).seen_before_engine}
        )
        return over_share(by_engine, self._total, self._settings.quarantine)

    async def record_failure(self, clip: Clip, reason: Reason, detail: str) -> None:
        """Record why a clip is left to the next try."""
        await self._record(replace(self._outcome(clip, Outcome.FAILED), reason=reason, detail=detail))

    def reset_rejections(self) -> bool:
        """Reset engine rejections so that they are retried; False if there are none, or if it captioned no clip."""
        return bool(self.captioned) and self._reset(lambda reason: reason is Reason.REJECTED_BY_ENGINE)

    def reset_source_rejections(self) -> bool:
        """Reset clips that could not be read so that they are retried; False if there are none."""
        return self._reset(lambda reason: reason.seen_by_source)

    def _reset(self, chosen: Callable[[Reason], bool]) -> bool:
        rejected = [
            clip_id
            for clip_id, outcome in self._rejected.items()
            if outcome.outcome is Outcome.REJECTED and not outcome.conclusive and chosen(Reason(outcome.reason))
        ]
        for clip_id in rejected:
            file = self._rejected.pop(clip_id).part_of
            del self.settled[clip_id]
            self.settled.pop(file, None)
        return bool(rejected)

    def rejections(self) -> dict[str, ClipOutcome]:
        """Return the rejections that a policy has to judge, by clip_id."""
        return {clip_id: outcome for clip_id, outcome in self._rejected.items() if not outcome.conclusive}

    async def finalize(self, complete: bool, violation: PolicyViolation | None = None) -> None:
        """Turn rejections into quarantine. Call it when no clip is under way.

        complete: no clip is left; otherwise rejections wait for the next try, but for conclusive ones
        violation: found elsewhere
        Raises its error, or BatchRejected, where the policy does not permit the rejections, after their clips are
        recorded as failed.
        """
        await self._quarantine(outcome for outcome in self._rejected.values() if outcome.conclusive)
        violation = (
            violation or self._over_share() or all_rejected(self._reasons(), self.captioned, self._settings.quarantine)
        )
        if violation:
            for outcome in self.rejections().values():
                if violation.covers(Reason(outcome.reason)):
                    await self._record(replace(outcome, outcome=Outcome.FAILED))
            raise violation.error(violation.why)
        if complete:
            await self._quarantine(self._rejected.values())

    async def _quarantine(self, rejected: Iterable[ClipOutcome]) -> None:
        for outcome in list(rejected):
            if outcome.outcome is Outcome.REJECTED:
                final = self._rejected[outcome.clip_id] = replace(outcome, outcome=Outcome.QUARANTINED)
                await self._record(final)
                self._quarantined += 1

    def totals(self, left: int, idle: float) -> CaptionTotals:
        """Return and log the totals of this try. left: clips without an outcome; idle: see CaptionTotals."""
        new, copies, stored = len(self._new), self._origins[Origin.COPY], self._origins[Origin.STORED]
        similar = self._origins[Origin.SIMILAR]
        measured = throughput(self._new)
        totals = CaptionTotals(
            clips=self._total,
            before=self._total - left - new - copies - similar - stored - self._quarantined,
            new=new,
            copies=copies,
            stored=stored,
            quarantined=self._quarantined,
            completion_tokens=measured.output_tokens,
            seconds=time.monotonic() - self._began,
            idle=idle,
            pace=measured,
            similar=similar,
        )
        _log(self._batch.label, totals)
        return totals

    async def _captioned(
        self, clip: Clip, caption: Caption, origin: Origin, preparing_s: float = 0.0, waiting_s: float = 0.0
    ) -> ClipOutcome:
        own = self._outcome(clip, Outcome.CAPTIONED)
        if caption.recorded_at and clip.recorded_from != RecordedFrom.PATH:
            own = replace(own, recorded_at=caption.recorded_at, recorded_from=RecordedFrom.CONTAINER)
        outcome = replace(
            own,
            caption_key=caption.key,
            fingerprint=caption.fingerprint,
            detail=caption.film,
            without_poster=not caption.poster,
            origin=origin,
            similar_to=caption.similar_to,
            distance=caption.distance,
            preparing_s=round(preparing_s, 3),
            waiting_s=round(waiting_s, 3),
        )
        if origin is Origin.NEW:
            outcome = replace(
                outcome,
                seconds=round(caption.seconds, 3),
                gpu_s=round(caption.gpu_s, 4),
                attempts=caption.attempts,
                prompt_tokens=caption.prompt_tokens,
                completion_tokens=caption.completion_tokens,
                answered_at=caption.created_at,
                paragraphs=caption.paragraphs,
                timed=caption.timed,
                node=caption.node,
            )
        await self._record(outcome)
        self._origins[origin] += 1
        return outcome

    def _outcome(self, clip: Clip, outcome: Outcome) -> ClipOutcome:
        return ClipOutcome(
            clip_id=clip.clip_id,
            uri=clip.uri,
            day=self._batch.day,
            version=clip.version,
            outcome=outcome,
            batch=self._batch.batch,
            content=clip.content,
            fingerprint=self._fingerprint,
            metadata=clip.metadata,
            details=clip.details,
            recorded_at=clip.recorded_at,
            recorded_from=clip.recorded_from,
            part_of=clip.part_of,
            part_no=clip.part_no,
            start_s=clip.start_s,
            end_s=clip.end_s,
        )

    async def _record(self, outcome: ClipOutcome) -> None:
        self._settle(outcome)
        metrics.counts(outcome.counters())
        await asyncio.to_thread(self._journal.add, outcome)

    def _settle(self, outcome: ClipOutcome) -> None:
        self.settled[outcome.clip_id] = outcome.version
        if outcome.part_of:
            self._parts[outcome.part_of][outcome.part_no] = outcome
        if outcome.parts:
            self._cut[outcome.clip_id] = outcome.parts

    @property
    def _total(self) -> int:
        """Return how many clips the batch has, with the parts of the files that were cut instead of the files."""
        return self._clips - len(self._cut) + sum(self._cut.values())

    def _over_share(self) -> PolicyViolation | None:
        return over_share(self._reasons(), self._total - self._repeated(), self._settings.quarantine)

    def _reasons(self) -> Counter[str]:
        return Counter(outcome.reason for outcome in self._rejected.values() if not outcome.repeated)

    def _repeated(self) -> int:
        return sum(outcome.repeated for outcome in self._rejected.values())


def _log(label: str, totals: CaptionTotals) -> None:
    log.info(
        "%s: captioned %d clips in %.1f s (%d output tokens), %d copies, %d stored before, %d quarantined, %d finished "
        "by earlier tries",
        label, totals.new, totals.seconds, totals.completion_tokens, totals.copies, totals.stored, totals.quarantined,
        totals.before,
    )  # fmt: skip
    if totals.similar:
        log.info("%s: %d near-duplicates share a caption", label, totals.similar)
    if totals.new:
        log.info(
            "%s: %s; a clip was prepared in %.2f s and waited %.1f s for the engine; requests waited %.0f %% of their "
            "time for a clip",
            label, totals.pace, totals.pace.preparing_s / totals.pace.clips, totals.pace.waiting_s / totals.pace.clips,
            100 * totals.idle,
        )  # fmt: skip
