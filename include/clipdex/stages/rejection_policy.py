"""The rejection policy: how many rejections of one reason the clips of a batch can explain.

A bad clip is rejected and goes to quarantine. Where more are rejected, the fault lies in the engine, the source or a
limit: the batch fails, and no clip goes to quarantine. Litter does not count: its own bytes show that it is no film,
whatever the state of decoder and engine.
"""

from collections import Counter
from dataclasses import dataclass

from clipdex.config import Quarantine
from clipdex.errors import BatchRejected, ClipdexError, Reason, SourceUnavailable


@dataclass(frozen=True, slots=True)
class PolicyViolation:
    """A reason with too many rejections. why: a message with the next step; error: what the batch ends with."""

    reason: str
    why: str
    error: type[ClipdexError] = BatchRejected

    def covers(self, reason: Reason) -> bool:
        """Return whether clips with this reason are left to the next try: if the source is away, all that it lacks."""
        return reason == self.reason or (self.error is SourceUnavailable and reason.seen_by_source)


def over_share(rejected: Counter[str], clips: int, rule: Quarantine) -> PolicyViolation | None:
    """Return the reason that more than the permitted share of a batch has, or None. May run while others are under way.

    rejected: clips by reason; clips: of the whole batch, with its litter
    """
    clips -= sum(count for reason, count in rejected.items() if Reason(reason).is_litter)
    for reason, count in rejected.most_common():
        if Reason(reason).is_litter or (rule.trust_decoder and Reason(reason).seen_by_decoder):
            continue
        if count > rule.floor and count > rule.max_share * clips:
            return PolicyViolation(
                reason,
                f"{count} of {clips} clips were refused as {reason}, more than the credible share of "
                f"{rule.max_share:.0%}: look at the engine and the source; if the clips really are bad, raise "
                "CLIPDEX_QUARANTINE__MAX_SHARE and run the day again",
            )
    return None


def all_rejected(rejected: Counter[str], captioned: int, rule: Quarantine) -> PolicyViolation | None:
    """Return a violation if the engine rejected several clips of a batch and captioned none.

    Call it when no clip is under way. Such an engine most likely rejects everything, however small the batch.
    """
    count = rejected[Reason.REJECTED_BY_ENGINE]
    if count < 2 or captioned or rule.max_share == 1:
        return None
    return PolicyViolation(
        Reason.REJECTED_BY_ENGINE,
        f"the engine refused {count} clips as {Reason.REJECTED_BY_ENGINE} and captioned none: read its messages in "
        "their outcomes; if the clips really are bad, set CLIPDEX_QUARANTINE__MAX_SHARE=1 and run the day again",
    )
