"""Requeues: which clips in quarantine a person tries again, in which runs, and how far they are.

quarantine/requeues/NAME.json names the clips of each day and the run that was triggered for them. quarantine/requeues/
lists/NAME.json holds the clips of one run where they are too many for its params. Retention deletes both with the runs.
"""

import uuid
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, Self

from clipdex.errors import ConfigurationError
from clipdex.runs.outcomes import ClipOutcome, run_outcomes
from clipdex.runs.planning import Plan, latest_plan, manifest
from clipdex.storage.artifacts import Store
from clipdex.storage.clip import Clip

FOLDER = "quarantine/requeues"
_LISTS = f"{FOLDER}/lists"

QUEUED, WAITING, LEFT_OUT = "queued", "waiting", "left out"
"""States of a clip without an outcome of the run: it is not planned yet, it is planned, it was not planned."""


@dataclass(frozen=True, slots=True)
class RequeuedRun:
    """Hold the clips of one day and the run that tries them again. clips: URI by clip_id; run: "" if it did not start

    error: why it did not start
    """

    day: str
    run: str
    clips: dict[str, str]
    error: str = ""


@dataclass(frozen=True, slots=True)
class Requeue:
    """Hold what one person tried again at once. by: who; at: when; runs: one per day"""

    name: str
    by: str
    at: str
    runs: tuple[RequeuedRun, ...]

    @property
    def clips(self) -> int:
        return sum(len(one.clips) for one in self.runs)

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> Self:
        return cls(**{**record, "runs": tuple(RequeuedRun(**one) for one in record["runs"])})


@dataclass(frozen=True, slots=True)
class ClipState:
    """Hold how far a requeued clip is. state: an Outcome, or queued, waiting, left out"""

    clip_id: str
    uri: str
    day: str
    state: str
    reason: str = ""
    detail: str = ""

    @property
    def through(self) -> bool:
        return self.state in ("indexed", "quarantined", LEFT_OUT)


def new_name() -> str:
    """Return a name that sorts by time."""
    return f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{uuid.uuid4().hex[:8]}"


def write(store: Store, requeue: Requeue) -> None:
    store.write_json(f"{FOLDER}/{requeue.name}.json", asdict(requeue))


def load(store: Store, name: str) -> Requeue:
    """Return a requeue by its name. Raises FileNotFoundError."""
    return Requeue.from_json(store.read_json(f"{FOLDER}/{name}.json"))


def latest(store: Store, most: int) -> list[Requeue]:
    """Return the latest requeues, the last one first."""
    keys = [key for key in store.list(FOLDER) if not key.startswith(_LISTS)]
    found = []
    for key in reversed(keys[-most:]):
        with suppress(FileNotFoundError, ValueError, KeyError, TypeError):  # pruned, or half written
            found.append(Requeue.from_json(store.read_json(key)))
    return found


def write_list(store: Store, clips: Sequence[str]) -> str:
    """Write the clips of one run; return the name for its param."""
    name = new_name().lower()
    store.write_json(f"{_LISTS}/{name}.json", list(clips))
    return name


def read_list(store: Store, name: str) -> list[str]:
    """Return the clips that write_list() wrote. Raises ConfigurationError."""
    try:
        return [str(clip_id) for clip_id in store.read_json(f"{_LISTS}/{name}.json")]
    except FileNotFoundError:
        raise ConfigurationError(
            f"{_LISTS}/{name}.json is not in the store: it is past its retention, or of another store; requeue the "
            "clips again"
        ) from None


def states(store: Store, requeued: RequeuedRun) -> list[ClipState]:
    """Return how far each clip of a run is, those that need attention first."""
    plan = latest_plan(store, requeued.run) if requeued.run else None
    planned: dict[str, Clip] = {}
    outcomes: dict[str, ClipOutcome] = {}
    if plan is not None:
        with suppress(FileNotFoundError):  # pruned meanwhile
            planned = _planned(store, plan, requeued.day)
            outcomes = run_outcomes(store, requeued.day, plan.run)
    found = [
        _state(clip_id, uri, requeued.day, plan, planned, outcomes) for clip_id, uri in sorted(requeued.clips.items())
    ]
    return sorted(found, key=lambda one: (_ORDER.index(one.state) if one.state in _ORDER else 0, one.uri))


def count(found: Sequence[ClipState]) -> dict[str, int]:
    """Return the number of clips by state."""
    counts = Counter(one.state for one in found)
    return {state: counts[state] for state in _ORDER if counts[state]}


_ORDER = ("failed", "rejected", "quarantined", LEFT_OUT, QUEUED, WAITING, "captioned", "indexed")


def _planned(store: Store, plan: Plan, day: str) -> dict[str, Clip]:
    return {clip.clip_id: clip for ref in plan.batches if ref.day == day for clip in manifest(store, ref)}


def _state(
    clip_id: str,
    uri: str,
    day: str,
    plan: Plan | None,
    planned: Mapping[str, Clip],
    outcomes: Mapping[str, ClipOutcome],
) -> ClipState:
    if plan is None:
        return ClipState(clip_id, uri, day, QUEUED)
    if (one := outcomes.get(clip_id)) is not None:
        return ClipState(clip_id, uri, day, one.outcome, one.reason, one.detail)
    if clip_id in planned or any(uri == clip.uri for clip in planned.values()):  # a part: its file is planned
        return ClipState(clip_id, uri, day, WAITING)
    why = "not planned: it is not listed any more, is done, or is marked never again"
    return ClipState(clip_id, uri, day, LEFT_OUT, detail=why)
