"""Outcomes: what happened to each clip, written in small parts as it happens, read as a union.

A part is outcomes/day=DAY/run=RUN/BATCH/PHASE-TRY-SEQ.jsonl; sorted by name, later parts of a batch overrule earlier
ones. compact() makes one all.jsonl of a run's parts, and carries them into the day's ledger: the last word on each
clip, which tells discovery what is done and which content a file at a version had.
"""

import sys
import threading
import time
import uuid
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from itertools import chain
from typing import Any, Self

from clipdex.storage.artifacts import Store


class Outcome(StrEnum):
    """INDEXED and QUARANTINED are final; the others say how far a clip came."""

    CAPTIONED = "captioned"  # the caption is stored
    REJECTED = "rejected"  # refused, but the batch has not yet said that it believes it
    FAILED = "failed"  # the engine or the index was not there for it; asked again by the next try
    INDEXED = "indexed"  # Qdrant acknowledged its points
    QUARANTINED = "quarantined"

    @property
    def final(self) -> bool:
        return self in (Outcome.INDEXED, Outcome.QUARANTINED)


class Origin(StrEnum):
    """Where a clip's caption came from."""

    NEW = "new"  # the engine wrote it in this run
    COPY = "copy"  # the same content, captioned in this run under another name
    STORED = "stored"  # it was there before this run


@dataclass(frozen=True, slots=True)
class ClipOutcome:
    """One clip in one run. Tokens as the engine counted them.

    seconds: at the engine; gpu_s: what it took of the engine's GPUs [GPU-seconds]; preparing_s: fetched, digested and
    decoded; waiting_s: decoded, and waiting for a free request [s]; answered_at: when the engine's answer came.
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
    at: str = ""

    def to_json(self) -> dict[str, Any]:
        return {name: value for name, value in asdict(self).items() if value not in ("", 0)}

    def counters(self) -> dict[str, float]:
        """What this adds to the metrics (metrics.py), once it is said."""
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
                return {"clips.quarantined": 1, f"quarantined.{self.reason}": 1}
            case Outcome.REJECTED:
                return {}  # not believed yet: it is said again when it is
        return {f"clips.{self.outcome}": 1}

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> Self:
        shared = {name: sys.intern(record[name]) for name in _REPEATED if name in record}
        return cls(**{**record, **shared, "outcome": Outcome(record["outcome"])})


_REPEATED = ("day", "batch", "reason", "fingerprint", "collection", "origin")
"""Fields that say the same of many clips: held once in memory."""


class Journal:
    """Writes the outcomes of one try of one phase of one batch, in parts, so that a killed task loses few.

    after: what was said until the run was planned, so that what this says is later, whatever its clock says.
    Threads may share one.
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

    def add(self, outcome: ClipOutcome) -> bool:
        """Note an outcome; True when a part was written."""
        with self._lock:
            self._pending.append(replace(outcome, at=max(_stamp(datetime.now(UTC)), self._after)))
            full = len(self._pending) >= self.PART or time.monotonic() - self._written > self.SECONDS
            if full:
                self._write()
            return full

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
    """The last word of this run on each clip of a batch, by clip_id, also after the report made one file of all."""
    folder = outcomes_path(day, run)
    whole = [f"{folder}/{ALL}"] if store.exists(f"{folder}/{ALL}") else []
    said = _last(store, whole + store.list(f"{folder}/{batch}"))
    return {clip_id: one for clip_id, one in said.items() if one.batch == batch}


def run_outcomes(store: Store, day: str, run: str) -> dict[str, ClipOutcome]:
    """The last word of this run on each clip of a day, by clip_id."""
    return _last(store, store.list(outcomes_path(day, run)))


def ledger(store: Store, day: str) -> dict[str, ClipOutcome]:
    """The last word of any run on each clip of a day, by clip_id; by time of saying, as runs may overlap."""
    runs: dict[str, list[str]] = {}
    for key in store.list(f"outcomes/day={day}"):
        if not key.endswith(f"/{ALL}"):
            runs.setdefault(key.split("/")[2], []).append(key)
    return _newest([*_each(store, store.list(ledger_path(day))), *(_last(store, parts) for parts in runs.values())])


def ledger_days(store: Store) -> list[str]:
    """Return the days of which any run wrote outcomes, in order."""
    keys = chain(store.list("ledger"), store.list("outcomes"))
    return sorted({key.split("/")[1].removeprefix("day=") for key in keys})


def compact(store: Store, day: str, run: str) -> dict[str, ClipOutcome]:
    """Make one file of a run's parts, and carry them into the day's ledger; the last word on each clip, by clip_id.

    Killed anywhere, nothing is missing. What is written meanwhile stays for the next time.
    """
    keys = store.list(outcomes_path(day, run))
    parts = [key for key in keys if not key.endswith(f"/{ALL}")]
    whole = _last(store, keys)
    if parts:
        ledgers = store.list(ledger_path(day))
        union = _newest([*_each(store, ledgers), whole])
        store.write_lines(f"{ledger_path(day)}/{uuid.uuid4().hex}.jsonl", (one.to_json() for one in union.values()))
        store.write_lines(f"{outcomes_path(day, run)}/{ALL}", (one.to_json() for one in whole.values()))
        store.delete(parts + ledgers)
    return whole


def _last(store: Store, keys: Iterable[str]) -> dict[str, ClipOutcome]:
    """By order of name: a batch's captioning before its indexing, try after try; what is compacted came first."""
    last: dict[str, ClipOutcome] = {}
    for record in store.read_lines(*sorted(keys, key=lambda key: (not key.endswith(f"/{ALL}"), key))):
        said = ClipOutcome.from_json(record)
        last[said.clip_id] = _with_content(said, last.get(said.clip_id))
    return last


def _each(store: Store, keys: Iterable[str]) -> list[dict[str, ClipOutcome]]:
    return [_last(store, [key]) for key in keys]


def _newest(words: Iterable[dict[str, ClipOutcome]]) -> dict[str, ClipOutcome]:
    """Of several runs, by time: within one the order is known, and clocks of two workers may differ."""
    newest: dict[str, ClipOutcome] = {}
    for of_run in words:
        for clip_id, said in of_run.items():
            known = newest.get(clip_id)
            if known is None or said.at >= known.at:
                newest[clip_id] = _with_content(said, known)
    return newest


def _with_content(said: ClipOutcome, known: ClipOutcome | None) -> ClipOutcome:
    """Which content a file at a version had is not forgotten."""
    if known is None or said.content or known.version != said.version:
        return said
    return replace(said, content=known.content)


def _stamp(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds")


def _just_after(stamp: str) -> str:
    return _stamp(datetime.fromisoformat(stamp) + timedelta(milliseconds=1))
