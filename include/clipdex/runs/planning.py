"""Planning: the clips that a run must process, as batches in the store.

survey() lists the source and skips clips that are done. plan_run() writes one manifest per batch. Tasks pass a
BatchRef, a pointer of about 100 bytes.
"""

import hashlib
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Self

from clipdex.captions.captioner import Flaw
from clipdex.captions.engines import open_captioner
from clipdex.config import Batches, Settings
from clipdex.errors import ConfigurationError
from clipdex.index import Collection
from clipdex.index.embeddings import open_embedder
from clipdex.runs.outcomes import ClipOutcome, Outcome, ledger, ledger_days
from clipdex.sanitize import escape_line
from clipdex.storage.artifacts import Store, run_name
from clipdex.storage.listing import Skipped, describe
from clipdex.storage.source import Clip, RecordedFrom, Source

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class CompletionCriteria:
    """Decide whether a clip is done.

    earlier: fingerprints of the same settings in earlier releases, by flaw; their captions count as well
    recaption: replace all captions
    recaption_for: replace captions with one of these flaws
    retry_quarantined: retry clips quarantined for these reasons ("all" for every reason)
    """

    fingerprint: str
    collection: str
    recaption: bool = False
    recaption_for: tuple[str, ...] = ()
    retry_quarantined: tuple[str, ...] = ()
    earlier: Mapping[str, Flaw] = field(default_factory=dict)

    @classmethod
    def under(
        cls,
        settings: Settings,
        recaption: bool = False,
        recaption_for: tuple[str, ...] = (),
        retry_quarantined: tuple[str, ...] = (),
    ) -> Self:
        """Return the criteria of these settings: the engine's fingerprint and the embedding model's collection."""
        fingerprint = open_captioner(settings).fingerprint
        return cls(
            fingerprint=fingerprint.digest(),
            collection=Collection.name_for(settings, open_embedder(settings.embedding)),
            recaption=recaption,
            recaption_for=recaption_for,
            retry_quarantined=retry_quarantined,
            earlier={one.digest(): flaw for flaw, one in fingerprint.earlier().items()},
        )

    def done(self, clip: Clip, known: ClipOutcome | None) -> Outcome | None:
        """Return the final outcome of this clip version, or None if the clip must be processed."""
        if known is None or known.version != clip.version or self.recaption:
            return None
        if known.fingerprint != self.fingerprint and known.fingerprint not in self.earlier:
            return None
        if known.outcome is Outcome.INDEXED:
            done = known.collection == self.collection and self.earlier.get(known.fingerprint) not in self.recaption_for
            return Outcome.INDEXED if done else None
        if known.outcome is Outcome.QUARANTINED and not {"all", known.reason} & set(self.retry_quarantined):
            return Outcome.QUARANTINED
        return None


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
    skipped: number of listed files that are no clips, by extension
    excluded: number of files and folders that the setting `exclude` left out
    nothing: why no clip was found although files are there, with an example; "" otherwise
    """

    run: str
    days: tuple[str, ...]
    discovered: dict[str, int]
    done: int
    quarantined: int
    batches: tuple[BatchRef, ...]
    skipped: dict[str, int] = field(default_factory=dict)
    excluded: int = 0
    nothing: str = ""

    @property
    def to_do(self) -> int:
        return sum(batch.clips for batch in self.batches)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> Self:
        batches = tuple(BatchRef.from_json(batch) for batch in record["batches"])
        return cls(**{**record, "days": tuple(record["days"]), "batches": batches})


@dataclass(frozen=True, slots=True)
class Survey:
    """Hold the clips that a run would process.

    discovered: number of clips listed, by day
    to_do: clips to process, by day
    done, quarantined: number of clips skipped because of their latest outcome
    after: time of the latest outcome of these clips
    criteria: by which clips were skipped
    skipped: the files that are no clips
    prefix: what was listed, instead of days
    """

    discovered: dict[str, int]
    to_do: dict[str, list[Clip]]
    done: int
    quarantined: int
    after: str
    criteria: CompletionCriteria
    skipped: Skipped = field(default_factory=Skipped)
    prefix: str | None = None

    def why_nothing(self, source: Source) -> str:
        """Return why no clip was found although files are there, with an example; "" otherwise."""
        if any(self.discovered.values()):
            return ""
        return source.why_nothing(tuple(self.discovered), self.prefix)


@dataclass(frozen=True, slots=True)
class DayCaptions:
    """Count the captions of a day by fingerprint.

    current: made with these settings
    flawed: made with the same settings in an earlier release, by flaw; recaption_for replaces them
    other: made with another engine, model, prompt or sampling; the next run of the day replaces them
    """

    day: str
    current: int
    flawed: dict[Flaw, int]
    other: int

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def count_captions(store: Store, criteria: CompletionCriteria) -> Iterator[DayCaptions]:
    """Yield the caption counts of each day in the ledger, in order."""
    for day in ledger_days(store):
        captioned = (Outcome.CAPTIONED, Outcome.INDEXED)
        made = [known.fingerprint for known in ledger(store, day).values() if known.outcome in captioned]
        flawed = Counter(criteria.earlier[one] for one in made if one in criteria.earlier)
        current = made.count(criteria.fingerprint)
        yield DayCaptions(day, current, dict(flawed), len(made) - current - flawed.total())


def survey(
    store: Store,
    source: Source,
    days: Iterable[str],
    criteria: CompletionCriteria,
    prefix: str | None = None,
    hold: Callable[[str], None] = lambda day: None,
) -> Survey:
    """List the clips of the days (or of one prefix) and skip those that are done. Writes nothing.

    hold: called with each day that was listed before its outcomes are read, to take its lease
    """
    listed: dict[str, list[Clip]] = {day: [] for day in days}
    skipped = Skipped()
    found = (clip for day in listed for clip in source.day(day, skipped))
    for clip in source.prefix(prefix, skipped) if prefix is not None else found:
        listed.setdefault(clip.day, []).append(clip)
    counts = dict.fromkeys(Outcome, 0)
    to_do: dict[str, list[Clip]] = {day: [] for day in listed}
    after = ""
    for day, clips in listed.items():
        hold(day)
        known = ledger(store, day) if clips else {}
        after = max([after, *(outcome.at for outcome in known.values())])
        described = []
        for clip in clips:
            outcome = criteria.done(clip, known.get(clip.clip_id))
            if outcome is None:
                to_do[day].append(_with_content(clip, known.get(clip.clip_id)))
            elif outcome is Outcome.INDEXED and clip.details != known[clip.clip_id].details:
                described.append(clip)
            else:
                counts[outcome] += 1
        fresh = len(to_do[day])
        read = source.with_metadata([*to_do[day], *described])
        to_do[day] = read[:fresh]
        changed = [clip for clip in read[fresh:] if _is_described_anew(clip, known[clip.clip_id])]
        if changed:
            log.info("%s: the metadata of %d clips has changed; their captions stay", day, len(changed))
        to_do[day] += [_with_caption(clip, known[clip.clip_id]) for clip in changed]
        counts[Outcome.INDEXED] += len(described) - len(changed)
    discovered = {day: len(clips) for day, clips in listed.items()}
    done, quarantined = counts[Outcome.INDEXED], counts[Outcome.QUARANTINED]
    return Survey(discovered, to_do, done, quarantined, after, criteria, skipped, prefix)


def plan_run(settings: Settings, store: Store, source: Source, run: str, found: Survey) -> Plan:
    """Write the manifests and the plan of a run (a label from run_label()). A run without clips has a plan, too."""
    size = batch_size(settings.batches, [len(clips) for clips in found.to_do.values()])
    batches = tuple(
        _write_batch(store, run, day, clips, found)
        for day in sorted(found.to_do)
        for clips in _cut(found.to_do[day], size)
    )
    plan = Plan(
        run, tuple(sorted(found.to_do)), found.discovered, found.done, found.quarantined, batches,
        found.skipped.to_json(), found.skipped.excluded, found.why_nothing(source),
    )  # fmt: skip
    store.write_json(_plan_key(run), plan.to_json())
    log.info(
        "%s: %d clips found in %s, %d done before, %d known quarantined, %d to do in %d batches of up to %d",
        ", ".join(plan.days) or "no day", sum(found.discovered.values()), source.url, plan.done, plan.quarantined,
        plan.to_do, len(batches), size,
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


def _with_content(clip: Clip, known: ClipOutcome | None) -> Clip:
    """Copy the known content digest to an unchanged clip, so that its file is not read again."""
    if known is None or known.version != clip.version or not known.content:
        return clip
    return replace(clip, content=known.content)


def _is_described_anew(clip: Clip, known: ClipOutcome) -> bool:
    """Return whether the points of an indexed clip have other metadata, or another time in its path."""
    times = [one.recorded_at if one.recorded_from == RecordedFrom.PATH else "" for one in (clip, known)]
    return clip.metadata != known.metadata or times[0] != times[1]


def _with_caption(clip: Clip, known: ClipOutcome) -> Clip:
    """Copy the key of the caption, so that only the points are written."""
    return replace(clip, content=known.content, caption_key=known.caption_key)


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
