"""Moves: clips that belong to another day since the source's time zone changed.

A clip whose path names no day belongs to the day of its modification time, which another time zone shifts by up to two
days. Its latest outcome is then in the ledger of a day nearby. The run of the new day adopts it: the former ledger
entry is marked with the new day, a quarantine is copied, and an indexed clip gets its points written again, with the
new day, from the stored caption. The engine gets no request.

The mark is written first, and keeps the whole outcome: a run that is killed after it loses nothing.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace

from clipdex.days import days_nearby
from clipdex.runs.outcomes import ClipOutcome, Outcome, add_to_ledger, ledger, next_stamp, whole_ledger
from clipdex.runs.quarantine import by_day as quarantine
from clipdex.runs.summary import summarize
from clipdex.storage.artifacts import Store
from clipdex.storage.clip import Clip


@dataclass(frozen=True, slots=True)
class Move:
    """A clip of one day whose latest outcome is in the ledger of another. done: as CompletionCriteria.done() returns"""

    clip: Clip
    known: ClipOutcome
    done: Outcome | None


def known_elsewhere(store: Store, day: str, clip_ids: Collection[str]) -> dict[str, ClipOutcome]:
    """Return the latest outcomes of these clips in the ledgers of the days nearby, by clip_id.

    Includes what an earlier run marked as moved to this day.
    """
    found: dict[str, ClipOutcome] = {}
    for other in days_nearby(day) if clip_ids else ():
        for clip_id, outcome in whole_ledger(store, other).items():
            known = found.get(clip_id)
            here = clip_id in clip_ids and outcome.moved_to in ("", day)
            if here and (known is None or outcome.at > known.at):
                found[clip_id] = outcome
    return found


def mark_moved(store: Store, day: str, moves: Iterable[Move], after: str) -> None:
    """Mark clips in the ledgers of their former days, and copy their quarantines to this day.

    after: time of the latest outcome of these clips
    """
    moves = list(moves)
    marks: dict[str, list[ClipOutcome]] = defaultdict(list)
    quarantined, now = [], next_stamp(after)
    for move in moves:
        marks[move.known.day].append(replace(move.known, moved_to=day, at=now))
        if move.done is Outcome.QUARANTINED:
            quarantined.append(replace(move.known, day=day, uri=move.clip.uri, moved_to="", at=now))
    for former, outcomes in marks.items():
        add_to_ledger(store, former, outcomes)
    if quarantined:
        add_to_ledger(store, day, quarantined)
    for changed in {one.known.day for one in moves if one.known.outcome is Outcome.QUARANTINED}:
        quarantine.write(store, changed, ledger(store, changed))
    if quarantined:
        quarantine.write(store, day, ledger(store, day))
    for former in marks:  # the report of this run summarizes its own day
        summarize(store, former)
