"""BatchState: what one try at captioning a batch has said of its clips, and what that comes to.

What is said goes to the journal as it happens, so that a killed try loses little. Refusals are said as `rejected`, and
become quarantine when the batch is seen to its end, if they are credible (credibility.py).
"""

import asyncio
import logging
import time
from collections import Counter
from dataclasses import asdict, dataclass, replace
from typing import Any

from clipdex import metrics
from clipdex.captions.caption import Caption
from clipdex.config import Settings
from clipdex.errors import BatchRejected, ClipRejected, Reason
from clipdex.runs import leases
from clipdex.runs.outcomes import ClipOutcome, Journal, Origin, Outcome, batch_outcomes
from clipdex.runs.planning import BatchRef
from clipdex.runs.throughput import Throughput, throughput
from clipdex.stages.rejection_policy import PolicyViolation, all_rejected, over_share
from clipdex.storage.artifacts import Store
from clipdex.storage.source import Clip

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class CaptionTotals:
    """What one try at a batch did.

    before: clips that an earlier try had brought to an outcome, or whose caption it had stored when it was killed;
    seconds: wall time; idle: the share of its requests' time that was spent waiting for a prepared clip, 0 to 1.
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

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


class BatchState:
    """One object a try. settled: the clips, by clip_id, that nothing is left to do for."""

    def __init__(self, settings: Settings, store: Store, batch: BatchRef, journal: Journal, fingerprint: str) -> None:
        self._settings, self._store, self._batch, self._journal = settings, store, batch, journal
        self._fingerprint = fingerprint
        self._began = time.monotonic()
        self._clips = self._captioned_before = self._quarantined = 0
        self._refused: dict[str, ClipOutcome] = {}
        self._origins: Counter[str] = Counter()
        self._answered: list[ClipOutcome] = []
        self.settled: set[str] = set()

    @property
    def captioned(self) -> int:
        """Clips of this batch that the engine has captioned in this run."""
        return self._captioned_before + self._origins[Origin.NEW]

    async def load(self, clips: list[Clip]) -> list[Clip]:
        """The clips that earlier tries have not finished; what they refused stays refused."""
        batch = self._batch
        said = await asyncio.to_thread(batch_outcomes, self._store, batch.day, batch.run, batch.batch)
        refused = (Outcome.REJECTED, Outcome.QUARANTINED)
        self._clips = len(clips)
        self._refused = {key: outcome for key, outcome in said.items() if outcome.outcome in refused}
        self._captioned_before = sum(outcome.origin == Origin.NEW for outcome in said.values())
        self.settled = {key for key, outcome in said.items() if outcome.outcome is not Outcome.FAILED}
        todo = [clip for clip in clips if clip.clip_id not in self.settled]
        if said:
            captioned = len(clips) - len(todo) - len(self._refused)
            log.info(
                "%s: earlier tries captioned %d of %d clips and refused %d; %d to do",
                batch.label, captioned, len(clips), len(self._refused), len(todo),
            )  # fmt: skip
        return todo

    async def record_new(self, clip: Clip, caption: Caption, preparing_s: float, waiting_s: float) -> None:
        """The engine wrote this caption just now."""
        self._answered.append(await self._captioned(clip, caption, Origin.NEW, preparing_s, waiting_s))

    async def record_existing(self, clip: Clip, caption: Caption, origin: Origin) -> None:
        """The caption was there already. NEW: asked for by a try of this run that was killed before it could say so."""
        await self._captioned(clip, caption, origin)

    async def record_rejection(self, clip: Clip, refusal: ClipRejected) -> PolicyViolation | None:
        """A refusal, not believed yet. Returns a doubt where there are too many by now."""
        said = self._outcome(clip, Outcome.REJECTED)
        said = replace(said, reason=refusal.reason, detail=refusal.detail, text=refusal.text)
        self._refused[clip.clip_id] = said
        await self._say(said)
        log.warning("%s: %s (%s)", clip.uri, refusal.reason, refusal.detail)
        return self._too_many()

    def reset_rejections(self) -> bool:
        """Forget what the engine refused while it captioned others, to ask again; False where it refused nothing."""
        if not self.captioned:
            return False
        refused = [
            clip_id
            for clip_id, said in self._refused.items()
            if said.outcome is Outcome.REJECTED and said.reason == Reason.REJECTED_BY_ENGINE
        ]
        for clip_id in refused:
            del self._refused[clip_id]
            self.settled.remove(clip_id)
        return bool(refused)

    async def finalize(self, to_its_end: bool) -> None:
        """Refusals become quarantine; raises BatchRejected where they are doubted, and says that those have failed.

        Called when no clip is under way any more, so that none is refused beside it. to_its_end: no clip is left;
        where some are, refusals wait for the next try.
        """
        doubt = self._too_many() or all_rejected(self._reasons(), self.captioned, self._settings.quarantine)
        if doubt:
            for said in self._refused.values():
                if said.reason == doubt.reason:
                    await self._say(replace(said, outcome=Outcome.FAILED))
            raise BatchRejected(doubt.why)
        for said in self._refused.values():
            if to_its_end and said.outcome is Outcome.REJECTED:
                await self._say(replace(said, outcome=Outcome.QUARANTINED))
                self._quarantined += 1

    def totals(self, left: int, idle: float) -> CaptionTotals:
        """What this try comes to, also told in the log. left: clips without an outcome; idle: see CaptionTotals."""
        new, copies, stored = len(self._answered), self._origins[Origin.COPY], self._origins[Origin.STORED]
        of_it = throughput(self._answered)
        totals = CaptionTotals(
            clips=self._clips,
            before=self._clips - left - new - copies - stored - self._quarantined,
            new=new,
            copies=copies,
            stored=stored,
            quarantined=self._quarantined,
            completion_tokens=of_it.output_tokens,
            seconds=time.monotonic() - self._began,
            idle=idle,
            pace=of_it,
        )
        _tell(self._batch.label, totals)
        return totals

    async def _captioned(
        self, clip: Clip, caption: Caption, origin: Origin, preparing_s: float = 0.0, waiting_s: float = 0.0
    ) -> ClipOutcome:
        outcome = replace(
            self._outcome(clip, Outcome.CAPTIONED),
            caption_key=caption.key,
            fingerprint=caption.fingerprint,
            origin=origin,
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
            )
        await self._say(outcome)
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
        )

    async def _say(self, outcome: ClipOutcome) -> None:
        self.settled.add(outcome.clip_id)
        metrics.counts(outcome.counters())
        if await asyncio.to_thread(self._journal.add, outcome):
            seconds = self._settings.batches.lease_s
            await asyncio.to_thread(leases.renew, self._store, self._batch.day, self._batch.run, seconds)

    def _too_many(self) -> PolicyViolation | None:
        return over_share(self._reasons(), self._clips, self._settings.quarantine)

    def _reasons(self) -> Counter[str]:
        return Counter(said.reason for said in self._refused.values())


def _tell(label: str, totals: CaptionTotals) -> None:
    log.info(
        "%s: captioned %d clips in %.1f s (%d output tokens), %d copies, %d stored before, %d quarantined, %d finished "
        "by earlier tries",
        label, totals.new, totals.seconds, totals.completion_tokens, totals.copies, totals.stored, totals.quarantined,
        totals.before,
    )  # fmt: skip
    if totals.new:
        log.info(
            "%s: %s; a clip was prepared in %.2f s and waited %.1f s for the engine; requests waited %.0f %% of their "
            "time for a clip",
            label, totals.pace, totals.pace.preparing_s / totals.pace.clips, totals.pace.waiting_s / totals.pace.clips,
            100 * totals.idle,
        )  # fmt: skip
