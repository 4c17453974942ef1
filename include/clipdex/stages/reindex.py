"""Reindex: make a collection from the stored captions, without an engine.

For another embedding model, another chunking, a lost collection, or payloads that an earlier release wrote. Days are
written one by one into the collection of these settings; clips with their points there are skipped, so that a stopped
run continues, and of points whose payloads alone differ, only these are written. Searches read the former collection
until serve() switches the alias.
"""

import logging
import time
from collections.abc import Iterable, Iterator, Sequence, Set
from dataclasses import asdict, dataclass
from dataclasses import replace as changed
from itertools import chain
from typing import Any

from clipdex.config import Settings
from clipdex.errors import ConfigurationError, IndexUnavailable, NothingIndexed, RunIncomplete
from clipdex.index import Collection, Index, open_index, overwrite, replace
from clipdex.index.embeddings import Embedder
from clipdex.index.points import in_batches
from clipdex.runs.leases import Lease
from clipdex.runs.outcomes import ClipOutcome, Journal, Outcome, compact, current, whole_ledger
from clipdex.runs.summary import summarize
from clipdex.stages.index import CLIPS_AT_ONCE, CaptionedClip, payloads_of, points_of
from clipdex.storage.artifacts import Store

log = logging.getLogger(__name__)

_BATCH = "reindex"

Payloads = dict[str, dict[str, dict[str, Any]]]
"""Of the points of clips: by clip_id, then by point id."""


@dataclass(frozen=True, slots=True)
class DayTotals:
    """Count the clips and chunks of a day in the collection. written: clips written now; seconds: wall time [s]."""

    day: str
    clips: int
    chunks: int
    written: int
    seconds: float

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Served:
    """The collection that searches read. before: the one they read until now, "" for none or the same; it is kept."""

    collection: str
    points: int
    before: str

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def days_to_reindex(store: Store) -> list[str]:
    """Return the days with indexed clips. Raises NothingIndexed."""
    keys = chain(store.list("rebuild"), store.list("ledger"))
    days = sorted({key.split("/")[1].removeprefix("day=") for key in keys})
    if not days:
        raise NothingIndexed("the artifact store holds no indexed clips; run an ingestion first")
    return days


def reindex_day(
    settings: Settings, store: Store, embedder: Embedder, day: str, run: str, try_number: int = 1
) -> DayTotals:
    """Write the clips of a day into the collection of these settings.

    Raises LeaseHeld while another run works on the day, LeaseLost before the next write if another run took it over,
    IndexUnavailable, and, after all other clips are written, RunIncomplete if the caption of an indexed clip is gone.
    """
    with Lease(store, run, settings.batches.lease_s) as lease:
        lease.take(day)
        try:
            return _reindex_day(settings, store, embedder, day, run, try_number, lease)
        finally:
            lease.release()


def serve(settings: Settings, embedder: Embedder, days: Iterable[DayTotals]) -> Served:
    """Switch the alias to the collection of these settings, if all points of these days are in it."""
    expected, before = sum(day.chunks for day in days), _served(settings)
    collection = Collection.of(settings, embedder)
    with open_index(settings, collection) as index:
        points = index.count()
        if points < expected:
            raise IndexUnavailable(
                f"{collection.name} holds {points} points of the {expected} that were written; searches "
                f"still read {before or 'nothing'}: reindex again"
            )
        index.switch()
    log.info("searches read %s now (%d points); it was %s before", collection.name, points, before or "nothing")
    return Served(collection.name, points, before if before != collection.name else "")


def _reindex_day(
    settings: Settings, store: Store, embedder: Embedder, day: str, run: str, try_number: int, lease: Lease
) -> DayTotals:
    started = time.monotonic()
    collection, entries = Collection.of(settings, embedder), whole_ledger(store, day)
    known = current(entries)
    files = [one for one in known.values() if one.outcome is Outcome.INDEXED and one.parts]
    left_out = (entries.keys() - known.keys()) | {file.clip_id for file in files}
    after = max((known_clip.at for known_clip in entries.values()), default="")
    journal = Journal(store, day, run, _BATCH, _BATCH, try_number, after)
    chunks = written = 0
    there: set[str] = set()
    for captioned in _captioned_clips(store, day, known, left_out):
        payloads = {clip.clip_id: payloads_of(settings, embedder, clip) for clip in captioned}
        with open_index(settings, collection) as index:
            index.ensure()
            todo, outdated = _differing(index, captioned, payloads)
        if todo or outdated:
            points = points_of(settings, embedder, todo) if todo else {}
            with open_index(settings, collection) as index:
                lease.confirm(day)
                replace(index, points)
                overwrite(index, outdated)
        for clip in captioned:
            known_clip = known.get(clip.clip_id)
            if known_clip and _is_indexed(known_clip, clip) and known_clip.collection != collection.name:
                count = len(payloads[clip.clip_id])
                journal.add(changed(known_clip, batch=_BATCH, collection=collection.name, chunks=count))
        journal.flush()
        there.update(payloads)
        chunks, written = chunks + sum(map(len, payloads.values())), written + len(todo) + len(outdated)
    for file in files:
        if file.collection != collection.name:
            journal.add(changed(file, batch=_BATCH, collection=collection.name))
    journal.flush()
    compact(store, day, run)
    summarize(store, day)
    indexed = (one for one in known.values() if one.outcome is Outcome.INDEXED and not one.parts)
    gone = [one.uri for one in indexed if one.clip_id not in there]
    if gone:
        raise RunIncomplete(
            f"{day}: the captions of {len(gone)} clips are gone from the store ({', '.join(gone[:3])}…); ingest the "
            "day with these settings, then reindex again"
        )
    totals = DayTotals(day, len(there), chunks, written, time.monotonic() - started)
    log.info(
        "%s: %d clips as %d chunks in %s, %d of them written now, in %.1f s",
        day, len(there), chunks, collection.name, written, totals.seconds,
    )  # fmt: skip
    return totals


def _captioned_clips(
    store: Store, day: str, known: dict[str, ClipOutcome], left_out: Set[str]
) -> Iterator[list[CaptionedClip]]:
    """Yield the clips of a day with the caption that was indexed last, in parts.

    left_out: clips that belong to another day now, files that are cut now, and parts that their files have no more
    The objects are read twice: a clip may be in several, and the captions of a day may not fit into memory. Clips in
    no object are read caption by caption.
    """
    written = store.written(f"rebuild/day={day}")
    keys = sorted(written, key=lambda key: (written[key], key))
    last = {record["clip_id"]: key for key in keys for record in store.read_lines(key)}
    last = {clip_id: key for clip_id, key in last.items() if clip_id not in left_out}
    for key in keys:
        lines = {record["clip_id"]: record for record in store.read_lines(key) if last.get(record["clip_id"]) == key}
        yield [CaptionedClip.from_json(record) for record in lines.values()]
    elsewhere = [
        known_clip
        for known_clip in known.values()
        if known_clip.outcome is Outcome.INDEXED and not known_clip.parts and known_clip.clip_id not in last
    ]
    for some in in_batches(elsewhere, CLIPS_AT_ONCE):
        both = zip(some, store.captions(known_clip.caption_key for known_clip in some), strict=True)
        yield [CaptionedClip.of(known_clip, caption) for known_clip, caption in both if caption is not None]


def _is_indexed(known_clip: ClipOutcome, clip: CaptionedClip) -> bool:
    """Return whether the latest outcome of a clip is that this caption is indexed."""
    return known_clip.outcome is Outcome.INDEXED and known_clip.caption_key == clip.caption.key


def _differing(
    index: Index, clips: Sequence[CaptionedClip], payloads: Payloads
) -> tuple[list[CaptionedClip], Payloads]:
    """Return the clips whose points are to be made again, and the payloads of those of which only payloads differ.

    All clips are made again if the index holds other points, whose clips are unknown.
    """
    there = {hit.id: hit.payload for hit in index.scroll({"clip_id": list(payloads)})} if clips else {}
    if there.keys() - {id for of_clip in payloads.values() for id in of_clip}:
        return list(clips), {}

    def has_vectors(clip: CaptionedClip) -> bool:
        return all(there.get(id, {}).get("text") == one["text"] for id, one in payloads[clip.clip_id].items())

    todo = [clip for clip in clips if not has_vectors(clip)]
    left = payloads.keys() - {clip.clip_id for clip in todo}
    outdated = {
        id: payloads[id]
        for id in payloads
        if id in left and any(there[point] != one for point, one in payloads[id].items())
    }
    return todo, outdated


def _served(settings: Settings) -> str:
    try:
        with open_index(settings) as index:
            return index.collection.name
    except (NothingIndexed, ConfigurationError):  # a collection that is lost
        return ""
