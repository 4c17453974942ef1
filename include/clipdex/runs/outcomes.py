"""Outcomes: the result of each clip, appended in small parts and read as a union.

A part is outcomes/day=DAY/run=RUN/BATCH/PHASE-TRY-SEQ.jsonl. Sorted by name, later parts of a batch override earlier
ones. compact() merges a run's parts into one all.jsonl and into the day's ledger. The ledger holds the latest outcome
of each clip: discovery reads from it which clips are done, and the content digest of each file version.

Outcomes can be read while compact() runs. compact() writes the merged files first, then deletes the parts, those of a
batch from the first to the last. Readers go the other way: parts first, then the merged files. A reader that finds a
part deleted starts again.
"""

import logging
import sys
import threading
import time
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from itertools import chain
from typing import Any, Self, TypeVar

from clipdex.errors import Reason, Unavailable
from clipdex.runs import tries
from clipdex.runs.quarantine import by_day as quarantine
from clipdex.storage.artifacts import Store

log = logging.getLogger(__name__)

T = TypeVar("T")
Seen = Callable[[str, dict[str, Any]], None]


class Outcome(StrEnum):
    """Name the state of a clip. INDEXED and QUARANTINED are final; the others are intermediate."""

    CAPTIONED = "captioned"  # the caption is stored
    REJECTED = "rejected"  # by the engine or a gate; the batch has not confirmed it yet
    FAILED = "failed"  # the engine or the index was unavailable; the next try retries the clip
    INDEXED = "indexed"  # Qdrant acknowledged its points
    QUARANTINED = "quarantined"

    @property
    def final(self) -> bool:
        return self in (Outcome.INDEXED, Outcome.QUARANTINED)


class Origin(StrEnum):
    """Name the source of a clip's caption."""

    NEW = "new"  # the engine wrote it in this run
    COPY = "copy"  # the same content, captioned in this run under another name
    STORED = "stored"  # stored before this run
    SIMILAR = "similar"  # that of a near-duplicate, captioned in this run


@dataclass(frozen=True, slots=True)
class ClipOutcome:
    """Hold the outcome of one clip in one run.

    detail: of a rejection; or which of several films of the file was captioned
    prompt_tokens, completion_tokens: as counted by the engine
    seconds: time at the engine [s]
    gpu_s: share of the engine's GPU time [GPU-seconds]
    preparing_s: time to fetch, digest and decode the clip [s]
    waiting_s: time from decoded to sent [s]
    answered_at: time of the engine's response
    limit, found: the field of VideoLimits that the clip exceeds, and its value
    repeated: an earlier run could not read this version for the same reason
    without_poster: its caption has no poster
    moved_to: another day, to which the clip belongs since the source's time zone changed; "" for none (moves.py)
    parts: number of parts of a file that was cut, each with an outcome of its own; cut: how, see VideoLimits.cut
    part_of, part_no: as in Clip; start_s, end_s: of a part [s on a player's clock of the file]
    metadata, details, recorded_at, recorded_from: as in Clip; recorded_at may also be from the container
    similar_to, distance, paragraphs, timed: as in Caption; the last two of captions that this run wrote
    node: as in Caption, of captions that this run wrote
    """

    clip_id: str
    uri: str
    day: str
    version: str
    outcome: Outcome
    batch: str
    reason: str = ""
    detail: str = ""
    text: str = ""
    content: str = ""
    caption_key: str = ""
    fingerprint: str = ""
    collection: str = ""
    origin: str = ""
    chunks: int = 0
    seconds: float = 0.0
    attempts: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    gpu_s: float = 0.0
    preparing_s: float = 0.0
    waiting_s: float = 0.0
    answered_at: str = ""
    limit: str = ""
    found: float = 0.0
    repeated: bool = False
    without_poster: bool = False
    at: str = ""
    moved_to: str = ""
    metadata: dict[str, str | float] = field(default_factory=dict)
    details: str = ""
    recorded_at: str = ""
    recorded_from: str = ""
    parts: int = 0
    cut: str = ""
    part_of: str = ""
    part_no: int = 0
    start_s: float = 0.0
    end_s: float = 0.0
    similar_to: str = ""
    distance: float = 0.0
    paragraphs: int = 0
    timed: int = 0
    node: str = ""

    @property
    def conclusive(self) -> bool:
        """Return whether the rejection is the file's own, so that no number of them makes engine or source suspect."""
        return self.repeated or self.reason in _LITTER

    def to_json(self) -> dict[str, Any]:
        return {name: value for name, value in asdict(self).items() if value not in ("", 0, {})}

    def counters(self) -> dict[str, float]:
        """Return the metric increments of this outcome (metrics.py)."""
        if self.parts:
            return {f"files.cut.{self.outcome}": 1}
        match self.outcome:
            case Outcome.CAPTIONED if self.origin == Origin.NEW:
                return {
                    "clips.captioned.new": 1,
                    "tokens.prompt": self.prompt_tokens,
                    "tokens.completion": self.completion_tokens,
                    "ms.preparing": 1000 * self.preparing_s,
                    "ms.waiting": 1000 * self.waiting_s,
                    "ms.engine": 1000 * self.seconds,
                    "ms.gpu": 1000 * self.gpu_s,
                }
            case Outcome.CAPTIONED:
                return {f"clips.captioned.{self.origin}": 1}
            case Outcome.QUARANTINED:
                film = self.reason not in _LITTER
                return {"clips.quarantined": 1, "clips.quarantined.films": film, f"quarantined.{self.reason}": 1}
            case Outcome.REJECTED:
                return {}  # counted when it is confirmed
        return {f"clips.{self.outcome}": 1}

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> Self:
        shared = {name: sys.intern(record[name]) for name in _REPEATED if name in record}
        return cls(**{**record, **shared, "outcome": Outcome(record["outcome"])})


_LITTER = frozenset(reason for reason in Reason if reason.is_litter)
_REPEATED = ("day", "batch", "reason", "fingerprint", "collection", "origin", "recorded_from", "cut", "part_of", "node")
"""Fields with few distinct values: interned to save memory."""


class Journal:
    """Write the outcomes of one try of one phase of one batch, in parts, so that a killed task loses few.

    after: time of the latest outcome when the run was planned; new outcomes get later times even if the clock is behind
    Thread-safe.
    """

    PART = 16
    SECONDS = 5.0

    def __init__(
        self, store: Store, day: str, run: str, batch: str, phase: str, try_number: int, after: str = ""
    ) -> None:
        self._store, self._after = store, _just_after(after) if after else ""
        self._prefix = f"{outcomes_path(day, run)}/{batch}/{phase}-{try_number:03d}"
        self._lock = threading.Lock()
        self._pending: list[ClipOutcome] = []
        self._written = time.monotonic()
        self._parts = 0

    def add(self, outcome: ClipOutcome) -> None:
        """Append an outcome, and write a part if 16 outcomes or 5 s are full."""
        with self._lock:
            self._pending.append(replace(outcome, at=max(_stamp(datetime.now(UTC)), self._after)))
            if len(self._pending) >= self.PART or time.monotonic() - self._written > self.SECONDS:
                self._write()

    def flush(self) -> None:
        with self._lock:
            self._write()

    def _write(self) -> None:
        self._written = time.monotonic()
        if not self._pending:
            return
        self._store.write_lines(f"{self._prefix}-{self._parts:04d}.jsonl", (one.to_json() for one in self._pending))
        self._parts += 1
        self._pending.clear()


ALL = "all.jsonl"


def outcomes_path(day: str, run: str) -> str:
    return f"outcomes/day={day}/run={run}"


def ledger_path(day: str) -> str:
    return f"ledger/day={day}"


def batch_outcomes(store: Store, day: str, run: str, batch: str) -> dict[str, ClipOutcome]:
    """Return this run's latest outcome of each clip of a batch, by clip_id, before and after compaction."""
    folder = outcomes_path(day, run)
    _, outcomes = read_again(lambda: _of_run(store, folder, f"{folder}/{batch}"))
    return {clip_id: one for clip_id, one in outcomes.items() if one.batch == batch}


def batch_history(
    store: Store, day: str, run: str, batch: str
) -> tuple[dict[str, ClipOutcome], dict[str, tuple[tries.ClipTry, ...]]]:
    """Return what batch_outcomes() returns, and the tries of each clip if the batch took several (tries.py)."""
    folder = outcomes_path(day, run)

    def read() -> tuple[dict[str, ClipOutcome], dict[str, tuple[tries.ClipTry, ...]]]:
        history = tries.History()
        _, outcomes = _of_run(store, folder, f"{folder}/{batch}", history.add)
        return outcomes, tries.of_batch(store, day, run, batch, history)

    outcomes, of_clips = read_again(read)
    return {clip_id: one for clip_id, one in outcomes.items() if one.batch == batch}, of_clips


def run_outcomes(store: Store, day: str, run: str) -> dict[str, ClipOutcome]:
    """Return this run's latest outcome of each clip of a day, by clip_id."""
    folder = outcomes_path(day, run)
    _, outcomes = read_again(lambda: _of_run(store, folder, folder))
    return outcomes


def ledger(store: Store, day: str) -> dict[str, ClipOutcome]:
    """Return the latest outcome of each clip of a day over all runs, by clip_id. Runs may overlap: time decides.

    Clips that moved to another day are left out, and parts that their file does not have any more.
    """
    return current(whole_ledger(store, day))


def current(entries: Mapping[str, ClipOutcome]) -> dict[str, ClipOutcome]:
    """Return the entries of clips that belong to this day, and of the parts that their files have."""
    here = without_former_parts({clip_id: one for clip_id, one in entries.items() if not one.moved_to})
    return {clip_id: one for clip_id, one in here.items() if not one.part_of or one.part_of in here}


def without_former_parts(entries: Mapping[str, ClipOutcome]) -> dict[str, ClipOutcome]:
    """Leave out the parts that a file does not have any more, since one with fewer parts replaced it."""
    return {
        clip_id: one
        for clip_id, one in entries.items()
        if one.part_of not in entries or one.part_no < entries[one.part_of].parts
    }


def whole_ledger(store: Store, day: str) -> dict[str, ClipOutcome]:
    """Return what ledger() returns, and what it leaves out."""

    def read() -> dict[str, ClipOutcome]:
        runs: dict[str, list[str]] = defaultdict(list)
        for key in _parts(store, f"outcomes/day={day}"):
            runs[key.split("/")[2]].append(key)
        of_runs = [_last(store, parts) for parts in runs.values()]
        return _newest([*_each(store, store.list(ledger_path(day))), *of_runs])

    return read_again(read)


def add_to_ledger(store: Store, day: str, outcomes: Iterable[ClipOutcome]) -> None:
    """Add outcomes to the ledger of a day, in one write. Safe while other runs read, write or compact it."""
    store.write_lines(f"{ledger_path(day)}/{uuid.uuid4().hex}.jsonl", (one.to_json() for one in outcomes))


def next_stamp(after: str) -> str:
    """Return the time of an outcome that is written now and must be later than another."""
    return max(_stamp(datetime.now(UTC)), _just_after(after) if after else "")


def ledger_days(store: Store) -> list[str]:
    """Return the days that have outcomes, in order."""
    keys = chain(store.list("ledger"), store.list("outcomes"))
    return sorted({key.split("/")[1].removeprefix("day=") for key in keys})


def compact(store: Store, day: str, run: str) -> dict[str, ClipOutcome]:
    """Merge a run's parts into one file and into the day's ledger. Return the latest outcomes, by clip_id.

    Keeps the tries of batches that took several, and the day's clips in quarantine. A kill at any point loses nothing.
    Parts written meanwhile stay for the next call.
    """
    folder = outcomes_path(day, run)

    def read() -> tuple[list[str], dict[str, ClipOutcome], tries.History]:
        history = tries.History()
        return *_of_run(store, folder, folder, history.add), history

    parts, whole, history = read_again(read)
    if parts:
        ledgers, union = read_again(lambda: _merged(store, day, whole))
        add_to_ledger(store, day, union.values())
        store.write_lines(f"{folder}/{ALL}", (one.to_json() for one in whole.values()))
        tries.keep(store, day, run, history)
        quarantine.write(store, day, current(union))
        by_batch: dict[str, list[str]] = defaultdict(list)
        for key in parts:
            by_batch[key.rpartition("/")[0]].append(key)
        store.delete_in_order(by_batch.values())
        store.delete(ledgers)
    return whole


def read_again(read: Callable[[], T]) -> T:
    """Return read(), repeated while files are deleted between their listing and their reading.

    Raises Unavailable after about 50 s.
    """
    for pause in (0.05 * 2**number for number in range(10)):
        try:
            return read()
        except FileNotFoundError as error:
            log.debug("%s: compacted or pruned since it was listed; reading again", error)
            time.sleep(pause)
    try:
        return read()
    except FileNotFoundError as error:
        raise Unavailable(f"outcomes were deleted each time they were listed and read ({error}); try again") from error


def _parts(store: Store, prefix: str) -> list[str]:
    return [key for key in store.list(prefix) if not key.endswith(f"/{ALL}")]


def _of_run(
    store: Store, folder: str, prefix: str, seen: Seen | None = None
) -> tuple[list[str], dict[str, ClipOutcome]]:
    """Return the parts below a prefix, and the latest outcomes in them and in the run's all.jsonl.

    seen: called with the key and the record of each outcome in the parts
    """
    parts = _parts(store, prefix)
    last = _last(store, parts, seen)
    if not store.exists(f"{folder}/{ALL}"):
        return parts, last
    whole = _last(store, [f"{folder}/{ALL}"])
    for clip_id, outcome in last.items():
        whole[clip_id] = _with_content(outcome, whole.get(clip_id))
    return parts, whole


def _merged(store: Store, day: str, whole: dict[str, ClipOutcome]) -> tuple[list[str], dict[str, ClipOutcome]]:
    """Return the files of a day's ledger, and the latest outcomes in them and in a run."""
    ledgers = store.list(ledger_path(day))
    return ledgers, _newest([*_each(store, ledgers), whole])


def _last(store: Store, keys: Iterable[str], seen: Seen | None = None) -> dict[str, ClipOutcome]:
    """Return the last outcome of each clip: parts override each other by name (phase, try, sequence).

    Raises FileNotFoundError if one was deleted.
    """
    last: dict[str, ClipOutcome] = {}
    for key, record in store.read_lines_of(sorted(keys)):
        if seen is not None:
            seen(key, record)
        outcome = ClipOutcome.from_json(record)
        last[outcome.clip_id] = _with_content(outcome, last.get(outcome.clip_id))
    return last


def _each(store: Store, keys: Iterable[str]) -> list[dict[str, ClipOutcome]]:
    return [_last(store, [key]) for key in keys]


def _newest(runs: Iterable[dict[str, ClipOutcome]]) -> dict[str, ClipOutcome]:
    """Return the latest outcome of each clip over several runs, by time. Within a run, part names give the order."""
    newest: dict[str, ClipOutcome] = {}
    for outcomes in runs:
        for clip_id, outcome in outcomes.items():
            known = newest.get(clip_id)
            if known is None or outcome.at >= known.at:
                newest[clip_id] = _with_content(outcome, known)
    return newest


def _with_content(outcome: ClipOutcome, known: ClipOutcome | None) -> ClipOutcome:
    """Keep the content digest of an earlier outcome of the same file version."""
    if known is None or outcome.content or known.version != outcome.version:
        return outcome
    return replace(outcome, content=known.content)


def _stamp(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds")


def _just_after(stamp: str) -> str:
    return _stamp(datetime.fromisoformat(stamp) + timedelta(milliseconds=1))
