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
from clipdex.errors import ConfigurationError, Reason
from clipdex.index import Collection
from clipdex.index.embeddings import open_embedder
from clipdex.runs.moves import Move, known_elsewhere, mark_moved
from clipdex.runs.outcomes import ClipOutcome, Outcome, ledger, ledger_days, whole_ledger, without_moved
from clipdex.runs.vanished import VanishedFolder, require_source, vanished_folders
from clipdex.sanitize import escape_line
from clipdex.storage.artifacts import Store, run_name
from clipdex.storage.listing import Skipped, describe
from clipdex.storage.source import Clip, RecordedFrom, Source

log = logging.getLogger(__name__)

_NOT_READ = frozenset(reason for reason in Reason if reason.seen_by_source)


@dataclass(frozen=True, slots=True)
class CompletionCriteria:
    """Decide whether a clip is done.

    earlier: fingerprints of the same settings in earlier releases, by flaw; their captions count as well
    recaption: replace all captions
    recaption_for: replace captions with one of these flaws
    retry_quarantined: retry clips quarantined for these reasons ("all" for every reason)
    limits: VideoLimits by field
    """

    fingerprint: str
    collection: str
    recaption: bool = False
    recaption_for: tuple[str, ...] = ()
    retry_quarantined: tuple[str, ...] = ()
    earlier: Mapping[str, Flaw] = field(default_factory=dict)
    limits: Mapping[str, float] = field(default_factory=dict)

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
            limits=settings.video.model_dump(),
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
            return None if self._refuted(clip, known) else Outcome.QUARANTINED
        return None

    def _refuted(self, clip: Clip, known: ClipOutcome) -> bool:
        """Return whether the listing, or a limit of these settings, refutes the reason of a quarantine."""
        if known.reason in _NOT_READ:
            return True  # it is listed, so it may be readable
        if known.reason == Reason.EMPTY_FILE:
            return clip.bytes > 0
        return known.limit in self.limits and known.found <= self.limits[known.limit]


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


@dataclass(frozen=True, slots=True)
class Survey:
    """Hold the clips that a run would process.

    discovered: number of clips listed, by day
    to_do: clips to process, by day
    done, quarantined: number of clips skipped because of their latest outcome
    after: time of the latest outcome of these clips
    criteria: by which clips were skipped
    vanished: folders that were there in an earlier run
    moves: clips whose latest outcome is under another day, by their day; those that are done are not in to_do
    skipped: the files that are no clips
    prefix: what was listed, instead of days
    """

    discovered: dict[str, int]
    to_do: dict[str, list[Clip]]
    done: int
    quarantined: int
    after: str
    criteria: CompletionCriteria
    vanished: tuple[VanishedFolder, ...] = ()
    moves: dict[str, list[Move]] = field(default_factory=dict)
    skipped: Skipped = field(default_factory=Skipped)
    prefix: str | None = None

    @property
    def moved(self) -> dict[str, int]:
        """Return the number of clips, by day, that only move: they were done under another day."""
        return {day: sum(move.done is not None for move in moves) for day, moves in self.moves.items()}

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

    Raises SourceUnavailable if the source is away, though an earlier run found clips there.
    hold: called with each day that was listed before its outcomes are read, to take its lease
    """
    listed: dict[str, list[Clip]] = {day: [] for day in days}
    skipped = Skipped()
    found = (clip for day in listed for clip in source.day(day, skipped))
    for clip in source.prefix(prefix, skipped) if prefix is not None else found:
        listed.setdefault(clip.day, []).append(clip)
    counts = dict.fromkeys(Outcome, 0)
    if not any(listed.values()):
        require_source(store, source)
    to_do: dict[str, list[Clip]] = {day: [] for day in listed}
    moves: dict[str, list[Move]] = {day: [] for day in listed}
    vanished: list[VanishedFolder] = []
    after, again = "", 0
    for day, clips in listed.items():
        hold(day)
        entries = whole_ledger(store, day)
        known = without_moved(entries)
        vanished += vanished_folders(source, day, clips, known.values(), prefix or "")
        new = {clip.clip_id for clip in clips if clip.clip_id not in known and not source.names_day(clip)}
        elsewhere = known_elsewhere(store, day, new)
        after = max([after, *(outcome.at for outcome in (*entries.values(), *elsewhere.values()))])
        described = []
        for clip in clips:
            latest = known.get(clip.clip_id) or elsewhere.get(clip.clip_id)
            done = criteria.done(clip, latest)
            if clip.clip_id in elsewhere:
                moves[day].append(Move(clip, elsewhere[clip.clip_id], done))
            if done is None:
                to_do[day].append(_with_known(clip, latest))
                again += to_do[day][-1].refused != ""
            elif done is Outcome.QUARANTINED:
                counts[done] += 1
            elif clip.clip_id not in elsewhere:
                if clip.details == known[clip.clip_id].details:
                    counts[done] += 1
                else:
                    described.append(clip)
        fresh = len(to_do[day])
        read = source.with_metadata([*to_do[day], *described])
        to_do[day] = read[:fresh]
        changed = [clip for clip in read[fresh:] if _is_described_anew(clip, known[clip.clip_id])]
        if changed:
            log.info("%s: the metadata of %d clips has changed; their captions stay", day, len(changed))
        to_do[day] += [_with_caption(clip, known[clip.clip_id]) for clip in changed]
        counts[Outcome.INDEXED] += len(described) - len(changed)
    discovered = {day: len(clips) for day, clips in listed.items()}
    if again:
        log.info("%d clips that an earlier run could not read are listed: they are tried again", again)
    for folder in vanished:
        log.warning("%s", folder)
    return Survey(
        discovered, to_do, counts[Outcome.INDEXED], counts[Outcome.QUARANTINED], after, criteria,
        tuple(vanished), moves, skipped, prefix,
    )  # fmt: skip


def plan_run(settings: Settings, store: Store, source: Source, run: str, found: Survey) -> Plan:
    """Write the manifests and the plan of a run (a label from run_label()). A run without clips has a plan, too."""
    work: dict[str, list[Clip]] = {}
    for day, clips in found.to_do.items():
        moves = found.moves.get(day, ())
        mark_moved(store, day, moves, found.after)
        to_move = [_with_caption(move.clip, move.known) for move in moves if move.done is Outcome.INDEXED]
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


def _with_known(clip: Clip, known: ClipOutcome | None) -> Clip:
    """Copy what is known of an unchanged clip: its digest, so that it is not read again, and why it was not read."""
    if known is None or known.version != clip.version:
        return clip
    quarantined = known.outcome is Outcome.QUARANTINED and known.reason in _NOT_READ
    failed = known.outcome is Outcome.FAILED and known.reason == Reason.UNREADABLE  # missing: its folder was away
    return replace(clip, content=known.content, refused=known.reason if quarantined or failed else "")


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
