"""Tries: what happened to the clips of a batch on each try, also after its outcomes are merged.

The parts of a batch's outcomes are named by phase and try (outcomes.py), and compact() deletes them. Of a batch that
took several tries, or had a failed try, these are kept as long as its run:

    tries/run=RUN/day=DAY/BATCH/clips.jsonl     the result of each clip on each try
    tries/run=RUN/day=DAY/BATCH/PHASE-TRY.json  the error that ended a try
"""

import json
import logging
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from clipdex.errors import ClipdexError
from clipdex.storage.artifacts import Store

log = logging.getLogger(__name__)

MOST = 20
"""Tries of a clip that are kept, the latest."""

_DETAIL, _WHY = 240, 1000  # letters that are kept
_PART = re.compile(r"/(?P<batch>[^/]+)/(?P<phase>[a-z]+)-(?P<number>[0-9]+)-[0-9]+\.jsonl$")
_ERROR = re.compile(r"/(?P<phase>[a-z]+)-(?P<number>[0-9]+)\.json$")
_CLIPS = "clips.jsonl"


@dataclass(frozen=True, slots=True)
class ClipTry:
    """Hold the last outcome of a clip on one try. phase: caption or index; number: of the try, from 1"""

    phase: str
    number: int
    outcome: str
    reason: str = ""
    detail: str = ""
    origin: str = ""
    at: str = ""

    def to_json(self) -> dict[str, Any]:
        return {name: value for name, value in asdict(self).items() if value}


@dataclass(frozen=True, slots=True)
class TryError:
    """Hold the error that ended a try. error: its kind; why: its message"""

    phase: str
    number: int
    error: str
    why: str
    at: str


class History:
    """Collect the tries of clips by batch, from the parts of their outcomes."""

    def __init__(self) -> None:
        self._tries: dict[str, dict[str, dict[tuple[str, int], ClipTry]]] = defaultdict(lambda: defaultdict(dict))

    @property
    def batches(self) -> list[str]:
        return list(self._tries)

    def add(self, key: str, record: Mapping[str, Any]) -> None:
        """Add an outcome of a part. Parts come in the order of their names."""
        if found := _PART.search(key):
            one = ClipTry(
                found["phase"], int(found["number"]), record["outcome"], record.get("reason", ""),
                record.get("detail", "")[:_DETAIL], record.get("origin", ""), record.get("at", ""),
            )  # fmt: skip
            self._tries[found["batch"]][record["clip_id"]][one.phase, one.number] = one

    def of(self, batch: str, kept: Mapping[str, tuple[ClipTry, ...]]) -> dict[str, tuple[ClipTry, ...]]:
        """Return the tries of each clip of a batch, in order. kept: those of an earlier compaction"""
        merged = {clip_id: {(one.phase, one.number): one for one in known} for clip_id, known in kept.items()}
        for clip_id, found in self._tries[batch].items() if batch in self._tries else ():
            merged[clip_id] = {**merged.get(clip_id, {}), **found}
        return {clip_id: tuple(sorted(one.values(), key=_order))[-MOST:] for clip_id, one in merged.items()}


def keep(store: Store, day: str, run: str, history: History) -> None:
    """Write the tries of the batches that took several, or that failed on one."""
    for batch in history.batches:
        folder = tries_path(day, run, batch)
        merged = history.of(batch, {})
        if not _is_eventful(merged) and not store.list(folder):
            continue
        merged = history.of(batch, _kept(store, folder))
        store.write_lines(
            f"{folder}/{_CLIPS}",
            ({"clip_id": clip_id, "tries": [one.to_json() for one in known]} for clip_id, known in merged.items()),
        )


def of_batch(store: Store, day: str, run: str, batch: str, history: History) -> dict[str, tuple[ClipTry, ...]]:
    """Return the tries of each clip of a batch, {} if each clip came through on the first. history: of its parts"""
    folder = tries_path(day, run, batch)
    merged = history.of(batch, _kept(store, folder))
    return merged if _is_eventful(merged) or errors_of(store, day, run, batch) else {}


def errors_of(store: Store, day: str, run: str, batch: str) -> tuple[TryError, ...]:
    """Return the errors that ended tries of a batch, in order. A try that was killed has none."""
    found = []
    for key in store.list(tries_path(day, run, batch)):
        if _ERROR.search(key):
            with suppress(FileNotFoundError, ValueError, TypeError):  # pruned meanwhile, or half written
                found.append(TryError(**store.read_json(key)))
    return tuple(sorted(found, key=_order))


@contextmanager
def recorded(store: Store, day: str, run: str, batch: str, phase: str, number: int) -> Iterator[None]:
    """Keep the error that ends a try, for the page of its batch. The error goes on."""
    try:
        yield
    except ClipdexError as error:
        moment = datetime.now(UTC).isoformat(timespec="milliseconds")
        one = TryError(phase, number, type(error).__name__, str(error)[:_WHY], moment)
        try:
            store.write_json(f"{tries_path(day, run, batch)}/{phase}-{number:03d}.json", asdict(one))
        except Exception as away:  # the error of the try is the one to report, whatever the store's client raises
            log.warning("%s of batch %s: its error is not kept for the page: %s", phase, batch, away)
        raise


def tries_path(day: str, run: str, batch: str) -> str:
    return f"tries/run={run}/day={day}/{batch}"


def _kept(store: Store, folder: str) -> dict[str, tuple[ClipTry, ...]]:
    try:
        lines = store.read(f"{folder}/{_CLIPS}").splitlines()
    except FileNotFoundError:
        return {}
    records = map(json.loads, lines)
    return {record["clip_id"]: tuple(ClipTry(**one) for one in record["tries"]) for record in records}


def _is_eventful(clips: Mapping[str, tuple[ClipTry, ...]]) -> bool:
    return any(one.number > 1 or one.outcome in ("failed", "rejected") for tries in clips.values() for one in tries)


def _order(one: ClipTry | TryError) -> tuple[str, int]:
    """Sort captions before points, then by try."""
    return one.phase, one.number
