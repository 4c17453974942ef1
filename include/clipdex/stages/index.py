"""Index a batch: captions become chunks, vectors and points; then stale points are deleted.

A clip is done only after the index acknowledged its points. The index is open only while it is written. Of three groups
of clips, one is split, one is embedded and one is written at the same time, in batches of more than one group.
"""

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Self

import numpy as np

from clipdex import metrics
from clipdex.config import Settings
from clipdex.index import Collection, delete_other_parts, make_payloads, open_index, overwrite
from clipdex.index import replace as replace_points
from clipdex.index.chunking import Chunk, split
from clipdex.index.derived import LOCAL_MINUTE, local_minute
from clipdex.index.embeddings import Embedder
from clipdex.index.points import Point, make_points
from clipdex.runs.leases import Lease
from clipdex.runs.outcomes import ClipOutcome, Journal, Origin, Outcome, batch_outcomes
from clipdex.runs.planning import BatchRef
from clipdex.stages.ahead import one_ahead
from clipdex.storage.artifacts import Store
from clipdex.storage.caption import Caption
from clipdex.storage.clip import part_id

log = logging.getLogger(__name__)

CLIPS_AT_ONCE = 128
"""Clips whose vectors are in memory at once, and are written in one opening of the index."""


@dataclass(frozen=True, slots=True)
class IndexTotals:
    """Count what one try did. before: clips indexed by earlier tries; stale: points deleted; seconds: wall time [s]."""

    clips: int
    before: int
    chunks: int
    stale: int
    seconds: float

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class CaptionedClip:
    """A clip with its caption: everything in its points but the vectors. part_of, part_no: as in Clip."""

    clip_id: str
    uri: str
    day: str
    caption: Caption
    metadata: dict[str, str | float] = field(default_factory=dict)
    recorded_at: str = ""
    recorded_from: str = ""
    part_of: str = ""
    part_no: int = 0

    @classmethod
    def of(cls, outcome: ClipOutcome, caption: Caption) -> Self:
        recorded = outcome.recorded_at, outcome.recorded_from
        part = outcome.part_of, outcome.part_no
        return cls(outcome.clip_id, outcome.uri, outcome.day, caption, outcome.metadata, *recorded, *part)

    def more(self, timezone: str) -> dict[str, str | float]:
        """Return the fields of its payloads that not every clip has. timezone: of the source"""
        recorded: dict[str, str | float] = {
            "recorded_at": self.recorded_at,
            "recorded_from": str(self.recorded_from),
        }
        if (minute := local_minute(self.recorded_at, timezone)) is not None:
            recorded[LOCAL_MINUTE] = minute
        part: dict[str, str | float] = {
            "part_of": self.part_of,
            "part_no": self.part_no,
            "clip_start_s": self.caption.start_s,
        }
        return {**self.metadata, **(recorded if self.recorded_at else {}), **(part if self.part_of else {})}

    def to_json(self) -> dict[str, Any]:
        own = {"clip_id": self.clip_id, "uri": self.uri, "day": self.day, "caption": self.caption.to_json()}
        more = {
            "metadata": self.metadata,
            "recorded_at": self.recorded_at,
            "recorded_from": self.recorded_from,
            "part_of": self.part_of,
            "part_no": self.part_no,
        }
        return {**own, **{name: value for name, value in more.items() if value}}

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> Self:
        return cls(**{**record, "caption": Caption.from_json(record["caption"])})


def index_batch(
    settings: Settings, store: Store, embedder: Embedder, batch: BatchRef, try_number: int = 1
) -> IndexTotals:
    """Write the points of every captioned clip of a batch.

    Raises IndexUnavailable, LeaseHeld while another run works on the day, and LeaseLost before the next write if
    another run took it over; what is indexed stays. The day stays held: the report of the run releases it.
    """
    with Lease(store, batch.run, settings.batches.lease_s) as lease:
        lease.take(batch.day)
        return _index_batch(settings, store, embedder, batch, try_number, lease)


def _index_batch(
    settings: Settings, store: Store, embedder: Embedder, batch: BatchRef, try_number: int, lease: Lease
) -> IndexTotals:
    started = time.monotonic()
    known = batch_outcomes(store, batch.day, batch.run, batch.batch)
    todo = [outcome for outcome in known.values() if outcome.outcome is Outcome.CAPTIONED and not outcome.parts]
    before = sum(outcome.outcome is Outcome.INDEXED and not outcome.parts for outcome in known.values())
    journal = Journal(store, batch.day, batch.run, batch.batch, "index", try_number, batch.after)
    clips = chunks = stale = 0
    read = (_read(settings, store, embedder, some) for some in _groups(todo))
    embedded = ((one, _embedded(embedder, one.chunks)) for one in one_ahead(read, "chunks"))
    for group, vectors in one_ahead(embedded, "embedding"):
        captioned, there, collection = group.captioned, group.there, group.collection
        lease.confirm(batch.day)
        for outcome in group.missing:
            journal.add(replace(outcome, outcome=Outcome.FAILED))
        # For reindex.py, which then reads few objects instead of each caption.
        store.write_lines(
            f"rebuild/day={batch.day}/run={batch.run}/{batch.batch}-{try_number:03d}-{group.start:05d}.jsonl",
            (one.to_json() for one in group.written),
        )
        points = _points(settings, group.chunks, vectors)
        with open_index(settings, collection) as index:
            lease.confirm(batch.day)
            index.ensure()
            stale += replace_points(index, points) + overwrite(index, there)
            whole = {outcome.clip_id: 0 for outcome, _ in captioned if not outcome.part_of}
            stale += delete_other_parts(index, whole)
        for outcome, _ in captioned:
            count = len(there.get(outcome.clip_id) or points[outcome.clip_id])
            indexed = replace(outcome, outcome=Outcome.INDEXED, chunks=count, collection=collection.name)
            journal.add(indexed)
            known[indexed.clip_id] = indexed
            metrics.counts(indexed.counters())
            chunks += count
        journal.flush()
        clips += len(captioned)
    stale += _index_files(settings, embedder, known, journal, lease)
    totals = IndexTotals(clips, before, chunks, stale, time.monotonic() - started)
    metrics.count("chunks", chunks)
    metrics.count("ms.indexing", 1000 * totals.seconds)
    log.info(
        "%s: indexed %d clips as %d chunks in %.1f s (%.1f chunks/s), %d stale points removed, %d clips indexed before",
        batch.label, clips, chunks, totals.seconds, chunks / max(totals.seconds, 1e-9), stale, before,
    )  # fmt: skip
    return totals


_Chunks = list[tuple[CaptionedClip, list[Chunk]]]


@dataclass(frozen=True, slots=True)
class _Group:
    """Hold clips that are written in one opening of the index.

    start: number of the first one; written: what reindex.py reads; missing: clips whose captions are gone
    there: payloads by point id, by clip_id, of clips whose points exist; chunks: of the other clips
    """

    start: int
    captioned: list[tuple[ClipOutcome, Caption]]
    written: list[CaptionedClip]
    missing: list[ClipOutcome]
    collection: Collection
    there: dict[str, dict[str, dict[str, Any]]]
    chunks: _Chunks


def _groups(todo: list[ClipOutcome]) -> Iterator[tuple[int, list[ClipOutcome]]]:
    return ((start, todo[start : start + CLIPS_AT_ONCE]) for start in range(0, len(todo), CLIPS_AT_ONCE))


def _read(settings: Settings, store: Store, embedder: Embedder, group: tuple[int, list[ClipOutcome]]) -> _Group:
    """Read the captions of a group, and split those that have no points yet.

    It may create the collection, and writes nothing else: the lease is confirmed later.
    """
    start, outcomes = group
    captions = store.captions(outcome.caption_key for outcome in outcomes)
    captioned = [(one, own) for one, own in zip(outcomes, captions, strict=True) if own is not None]
    missing = [one for one, own in zip(outcomes, captions, strict=True) if own is None]
    for outcome in missing:
        log.warning("%s: its caption %s is gone from the store; run the day again", outcome.uri, outcome.caption_key)
    written = [CaptionedClip.of(one, own) for one, own in captioned]
    collection = Collection.of(settings, embedder)
    stored = {outcome.clip_id for outcome, _ in captioned if outcome.origin == Origin.STORED}
    there = _with_points(settings, embedder, collection, [clip for clip in written if clip.clip_id in stored])
    chunks = _chunks(settings, embedder, [clip for clip in written if clip.clip_id not in there])
    return _Group(start, captioned, written, missing, collection, there, chunks)


def _index_files(
    settings: Settings, embedder: Embedder, known: Mapping[str, ClipOutcome], journal: Journal, lease: Lease
) -> int:
    """Record the files whose parts all have a final outcome as indexed. Return the number of stale points deleted.

    Stale are points of the file as one clip, and those of parts that an earlier version of it had.
    """
    files = [
        file
        for file in known.values()
        if file.parts
        and file.outcome is Outcome.CAPTIONED
        and all(_is_final(known.get(part_id(file.clip_id, number))) for number in range(file.parts))
    ]
    if not files:
        return 0
    collection = Collection.of(settings, embedder)
    with open_index(settings, collection) as index:
        lease.confirm(files[0].day)
        index.ensure()
        stale = replace_points(index, {file.clip_id: () for file in files})
        stale += delete_other_parts(index, {file.clip_id: file.parts for file in files})
    for file in files:
        indexed = replace(file, outcome=Outcome.INDEXED, collection=collection.name)
        journal.add(indexed)
        metrics.counts(indexed.counters())
    journal.flush()
    return stale


def _is_final(part: ClipOutcome | None) -> bool:
    return part is not None and part.outcome.final


def points_of(settings: Settings, embedder: Embedder, clips: Sequence[CaptionedClip]) -> dict[str, list[Point]]:
    """Return the points of these clips by clip_id; embed all their chunks together."""
    chunks = _chunks(settings, embedder, clips)
    return _points(settings, chunks, _embedded(embedder, chunks))


def _chunks(settings: Settings, embedder: Embedder, clips: Sequence[CaptionedClip]) -> _Chunks:
    return [(clip, split(clip.caption, embedder, settings.chunking)) for clip in clips]


def _embedded(embedder: Embedder, chunks: _Chunks) -> np.ndarray:
    """Return one row per chunk of all clips, in their order."""
    return embedder.embed_documents([chunk.text for _, of_clip in chunks for chunk in of_clip])


def _points(settings: Settings, chunks: _Chunks, vectors: np.ndarray) -> dict[str, list[Point]]:
    """Return the points by clip_id. vectors: one row per chunk"""
    points, row, timezone = {}, 0, settings.source.timezone
    for clip, of_clip in chunks:
        own, more = vectors[row : row + len(of_clip)], clip.more(timezone)
        row += len(of_clip)
        points[clip.clip_id] = make_points(
            clip.clip_id, clip.uri, clip.day, clip.caption, of_clip, own, more, settings.engine.language
        )
    return points


def payloads_of(settings: Settings, embedder: Embedder, clip: CaptionedClip) -> dict[str, dict[str, Any]]:
    """Return the payloads of the points of a clip, by point id."""
    chunks, more = split(clip.caption, embedder, settings.chunking), clip.more(settings.source.timezone)
    return make_payloads(clip.clip_id, clip.uri, clip.day, clip.caption, chunks, more)


def _with_points(
    settings: Settings, embedder: Embedder, collection: Collection, clips: Sequence[CaptionedClip]
) -> dict[str, dict[str, dict[str, Any]]]:
    """Return the payloads, by point id, of the clips whose points are all in the collection: no vector changes.

    A point with another text is of a caption that was replaced under the same key: its vectors are made again.
    """
    if not clips:
        return {}
    payloads = {clip.clip_id: payloads_of(settings, embedder, clip) for clip in clips}
    with open_index(settings, collection) as index:
        index.ensure()
        texts = {hit.id: hit.payload["text"] for hit in index.scroll({"clip_id": list(payloads)})}
    return {
        clip_id: of_clip
        for clip_id, of_clip in payloads.items()
        if of_clip and all(texts.get(id) == payload["text"] for id, payload in of_clip.items())
    }
