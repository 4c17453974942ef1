"""Planning: the clips of a survey as batches in the store.

plan_run() writes one manifest per batch. Tasks pass a BatchRef, a pointer of about 100 bytes.
"""

import hashlib
import logging
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any, Self

from clipdex.config import Batches, Settings
from clipdex.errors import ConfigurationError
from clipdex.runs.moves import mark_moved
from clipdex.runs.outcomes import Outcome
from clipdex.runs.survey import Survey, with_caption
from clipdex.runs.vanished import VanishedFolder
from clipdex.sanitize import escape_line
from clipdex.storage.artifacts import Store, run_name
from clipdex.storage.clip import Clip
from clipdex.storage.listing import describe
from clipdex.storage.source import Source

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class BatchRef:
    """Point to a batch by its manifest in the store.

    first: path of its first clip, for display
    recaption, recaption_for: as in CompletionCriteria
    after: time of the latest outcome of these days before this run
    """

    run: str
    day: str
    batch: str
    manifest: str
    clips: int
    first: str
    recaption: bool = False
    after: str = ""
    recaption_for: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> Self:
        return cls(**{**record, "recaption_for": tuple(record.get("recaption_for", ()))})

    @property
    def label(self) -> str:
        first = escape_line(self.first)
        return f"{first} +{self.clips - 1}" if self.clips > 1 else first


@dataclass(frozen=True, slots=True)
class Plan:
    """Hold the batches of a run.

    discovered: number of clips listed, by day
    done, quarantined: number of clips skipped
    vanished: folders that were there in an earlier run
    moved: number of clips that were done under another day (moves.py); timezone: that of the days
    skipped: number of listed files that are no clips, by extension
    excluded: number of files and folders that the setting `exclude` left out
    nothing: why no clip was found although files are there, with an example; "" otherwise
    job: Airflow's dag_id and run_id as a JSON list; "" without Airflow
    """

    run: str
    days: tuple[str, ...]
    discovered: dict[str, int]
    done: int
    quarantined: int
    batches: tuple[BatchRef, ...]
    vanished: tuple[VanishedFolder, ...] = ()
    moved: int = 0
    timezone: str = "UTC"
    skipped: dict[str, int] = field(default_factory=dict)
    excluded: int = 0
    nothing: str = ""
    job: str = ""

    @property
    def to_do(self) -> int:
        return sum(batch.clips for batch in self.batches)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> Self:
        batches = tuple(BatchRef.from_json(batch) for batch in record["batches"])
        vanished = tuple(VanishedFolder(**folder) for folder in record.get("vanished", ()))
        return cls(**{**record, "days": tuple(record["days"]), "batches": batches, "vanished": vanished})


def plan_run(settings: Settings, store: Store, source: Source, run: str, found: Survey, job: str = "") -> Plan:
    """Write the manifests and the plan of a run (a label from run_label()). A run without clips has a plan, too.

    job: as in Plan
    """
    work: dict[str, list[Clip]] = {}
    for day, clips in found.to_do.items():
        moves = found.moves.get(day, ())
        mark_moved(store, day, moves, found.after)
        to_move = [with_caption(move.clip, move.known) for move in moves if move.done is Outcome.INDEXED]
        work[day] = [*clips, *source.with_metadata(to_move)]
    size = batch_size(settings.batches, [len(clips) for clips in work.values()])
    batches = tuple(
        _write_batch(store, run, day, clips, found) for day in sorted(work) for clips in _cut(work[day], size)
    )
    plan = Plan(
        run, tuple(sorted(work)), found.discovered, found.done, found.quarantined, batches,
        vanished=found.vanished,
        moved=sum(found.moved.values()),
        timezone=settings.source.timezone,
        skipped=found.skipped.to_json(),
        excluded=found.skipped.excluded,
        nothing=found.why_nothing(source),
        job=job,
    )  # fmt: skip
    store.write_json(_plan_key(run), plan.to_json())
    log.info(
        "%s: %d clips found in %s, %d done before, %d known quarantined, %d to do in %d batches of up to %d",
        ", ".join(plan.days) or "no day", sum(found.discovered.values()), source.url, plan.done, plan.quarantined,
        plan.to_do, len(batches), size,
    )  # fmt: skip
    if plan.moved:
        log.info(
            "%d of these clips were done under another day before the time zone became %s: they get their day, and no "
            "request goes to the engine", plan.moved, plan.timezone,
        )  # fmt: skip
    if left_out := describe(plan.skipped, plan.excluded):
        log.info("left out: %s", left_out)
    if plan.nothing:
        log.warning("%s", escape_line(plan.nothing))
    return plan


def run_label(run_id: str, try_number: int) -> str:
    """Return the label of one try of a run. A cleared run gets a new label."""
    return f"{run_name(run_id)}.{try_number}"


def load_plan(store: Store, run: str) -> Plan:
    return Plan.from_json(store.read_json(_plan_key(run)))


def latest_plan(store: Store, run_id: str) -> Plan | None:
    """Return the plan of the last try of a run id that made one; None if there is none, or it was pruned."""
    label = latest_label(store, run_id)
    try:
        return load_plan(store, label) if label else None
    except FileNotFoundError:
        return None


def latest_label(store: Store, run_id: str) -> str:
    """Return the label of the last try of a run id that made a plan, "" if none did."""
    start, end = f"runs/{run_name(run_id)}.", ".json"
    tries = (key.removeprefix(start).removesuffix(end) for key in store.list("runs") if key.startswith(start))
    numbers = [int(number) for number in tries if number.isdecimal()]
    return run_label(run_id, max(numbers)) if numbers else ""


def manifest(store: Store, batch: BatchRef) -> list[Clip]:
    """Return the clips of a batch. Raises ConfigurationError if the manifest is incomplete."""
    clips = [Clip.from_json(record) for record in store.read_lines(batch.manifest)]
    if len(clips) != batch.clips:
        raise ConfigurationError(
            f"{batch.manifest}: truncated, {len(clips)} of {batch.clips} clips can be read: clear the task discover "
            "to plan the run again"
        )
    return clips


def batch_size(batches: Batches, clips_by_day: list[int]) -> int:
    """Return the clips per batch: the configured size, doubled until the batches fit into one run.

    Raises ConfigurationError if they do not fit.
    """
    size = batches.size
    while sum(-(-clips // size) for clips in clips_by_day) > batches.max_batches:
        if size >= batches.max_size:
            raise ConfigurationError(
                f"{sum(clips_by_day)} clips do not fit into {batches.max_batches} batches of {batches.max_size}; "
                "split the work by day: airflow backfill create --dag-id ingest_clips --from-date … --to-date …"
            )
        size = min(size * 2, batches.max_size)
    return size


def _cut(clips: list[Clip], size: int) -> Iterator[list[Clip]]:
    """Yield batches ordered by path, with files of equal size adjacent, so that exact copies share a batch."""
    first_of_size: dict[int, str] = {}
    for clip in sorted(clips, key=lambda clip: clip.path):
        first_of_size.setdefault(clip.bytes, clip.path)
    ordered = sorted(clips, key=lambda clip: (first_of_size[clip.bytes], clip.path))
    for start in range(0, len(ordered), size):
        yield ordered[start : start + size]


def _write_batch(store: Store, run: str, day: str, clips: list[Clip], found: Survey) -> BatchRef:
    lines = [clip.to_json() for clip in clips]
    batch = hashlib.sha256(repr(lines).encode("utf-8", "surrogateescape")).hexdigest()[:12]
    key = f"manifests/run={run}/{batch}.jsonl"
    store.write_lines(key, lines)
    wanted = found.criteria
    return BatchRef(
        run, day, batch, key, len(clips), clips[0].path, wanted.recaption, found.after, wanted.recaption_for
    )


def _plan_key(run: str) -> str:
    return f"runs/{run}.json"
