"""Credibility: whether refusals are to be believed.

A bad clip is refused, and goes to quarantine. Where the number of refusals says that the fault lies elsewhere, in the
engine, the source or a limit, they are doubted: the batch fails, and no clip goes to quarantine for it.
"""

from collections import Counter
from dataclasses import dataclass

from clipdex.config import Quarantine
from clipdex.errors import Reason


@dataclass(frozen=True, slots=True)
class PolicyViolation:
    """A reason that is not believed; and why, with what a person can do."""

    reason: str
    why: str


def over_share(refused: Counter[str], clips: int, rule: Quarantine) -> PolicyViolation | None:
    """A reason that more clips of a batch have than can be believed; also to be asked while others are under way.

    refused: how many, by reason; clips: of the whole batch.
    """
    for reason, count in refused.most_common():
        if rule.trust_decoder and Reason(reason).seen_by_decoder:
            continue
        if count > rule.floor and count > rule.max_share * clips:
            return PolicyViolation(
                reason,
                f"{count} of {clips} clips were refused as {reason}, more than the credible share of "
                f"{rule.max_share:.0%}: look at the engine and the source; if the clips really are bad, raise "
                "CLIPDEX_QUARANTINE__MAX_SHARE and run the day again",
            )
    return None


def all_rejected(refused: Counter[str], captioned: int, rule: Quarantine) -> PolicyViolation | None:
    """An engine that has refused several clips of a batch and captioned none, when no clip is under way any more.

    However few they are: it refuses everything, more likely than not.
    """
    count = refused[Reason.REJECTED_BY_ENGINE]
    if count < 2 or captioned or rule.max_share == 1:
        return None
    return PolicyViolation(
        Reason.REJECTED_BY_ENGINE,
        f"the engine refused {count} clips as {Reason.REJECTED_BY_ENGINE} and captioned none: look at what it says in "
        "their outcomes; if the clips really are bad, set CLIPDEX_QUARANTINE__MAX_SHARE=1 and run the day again",
    )
