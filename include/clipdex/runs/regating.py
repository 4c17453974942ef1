"""Regating: stored captions that the gates of these settings would refuse, because they were written before them.

They count as done. Nothing is written here: a run with recaption and these clips replaces them.
"""

from collections.abc import Collection, Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

from clipdex.captions import cleaning
from clipdex.captions.captioner import CaptionDraft, Gates
from clipdex.captions.quality import verdicts
from clipdex.errors import Reason
from clipdex.runs.completion import CompletionCriteria
from clipdex.runs.outcomes import Outcome, ledger, ledger_days
from clipdex.storage.artifacts import Store
from clipdex.storage.caption import Caption


@dataclass(frozen=True, slots=True)
class RefusedCaption:
    """Hold a stored caption that would not be stored today.

    reason, detail: of the gate
    cleaned: what cleaning would take out, after which the caption passes; "" if it is refused
    """

    day: str
    clip_id: str
    uri: str
    caption_key: str
    reason: str
    detail: str
    cleaned: str = ""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def refused_captions(
    store: Store,
    criteria: CompletionCriteria,
    gates: Gates,
    reasons: Collection[str] = (),
    first: str = "",
    last: str = "",
) -> Iterator[RefusedCaption]:
    """Yield the captions that count as done and would be refused or cleaned now, day by day.

    reasons: only these; () for all. first, last: YYYY-MM-DD, inclusive; "" for no bound
    """
    for day in ledger_days(store):
        if (first and day < first) or (last and day > last):
            continue
        captioned = (Outcome.CAPTIONED, Outcome.INDEXED)
        known = [
            one
            for one in ledger(store, day).values()
            if one.outcome in captioned
            and one.caption_key
            and (criteria.is_current(one.fingerprint) or one.fingerprint in criteria.earlier)
        ]
        captions = store.captions(one.caption_key for one in known)
        for one, caption in zip(known, captions, strict=True):
            found = None if caption is None else verdict(caption, gates)
            if found and (not reasons or found[0] in reasons):
                reason, detail, cleaned = found
                yield RefusedCaption(day, one.clip_id, one.uri, one.caption_key, str(reason), detail, cleaned)


def verdict(caption: Caption, gates: Gates) -> tuple[Reason, str, str] | None:
    """Return why a stored caption would be refused, or what would be taken out of it; None if it would be stored."""
    if caption.engine == "detectors":
        gates = replace(gates, cleaning=False)
    found = cleaning.clean(caption.text) if gates.cleaning else cleaning.Cleaned(caption.text)
    # A merged or joined text may have many answers; repetition between them is no loop.
    answers = tuple(one.text for one in caption.segments) if len(caption.segments) > 1 else ()
    draft = CaptionDraft(found.text, answers=answers, finish_reason=caption.finish_reason)
    for reason, wrong in verdicts(draft, gates).items():
        if wrong:
            return reason, wrong, ""
    # White space may differ since segments were joined.
    if found.removed and found.text.split() != caption.text.split():
        removed = ", ".join(found.removed)
        reason = Reason.CAPTION_REASONING if "reasoning" in found.removed else Reason.CAPTION_MARKUP
        return reason, f"it has {removed}, which cleaning takes out", removed
    return None
