"""Reindexing: a collection made anew from what is kept of every batch, without asking an engine for one word.

For another embedding model, another way of chunking, or a collection that is lost. Days are filled one by one into the
collection of these settings; what has its points there already is left as it is, so that a run that was stopped goes
on. Searches read the former collection until serve() switches the alias, after every day is there.
"""

import logging
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from dataclasses import replace as changed
from itertools import chain
from typing import Any

from clipdex.config import Settings
from clipdex.errors import ConfigurationError, IndexUnavailable, NothingIndexed, RunIncomplete
from clipdex.index import Collection, Index, open_index, point_id, replace
from clipdex.index.chunking import split
from clipdex.index.embeddings import Embedder
from clipdex.index.points import in_batches
from clipdex.runs import leases
from clipdex.runs.outcomes import ClipOutcome, Journal, Outcome, compact, ledger
from clipdex.stages.index import CLIPS_AT_ONCE, CaptionedClip, points_of
from clipdex.storage.artifacts import Store

log = logging.getLogger(__name__)

_BATCH = "reindex"


@dataclass(frozen=True, slots=True)
class DayTotals:
    """A day in the collection: its clips and their chunks, the clips of these that were written just now [wall s]."""

    day: str
    clips: int
    chunks: int
    written: int
    seconds: float

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Served:
    """What searches read now, and what they read before ("": nothing, or the same), which is left as it is."""

    collection: str
    points: int
    before: str

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def days_to_reindex(store: Store) -> list[str]:
    """Every day of which something was indexed. Raises NothingIndexed."""
    keys = chain(store.list("rebuild"), store.list("ledger"))
    days = sorted({key.split("/")[1].removeprefix("day=") for key in keys})
    if not days:
        raise NothingIndexed("nothing is kept in the artifact store to make an index from; run an ingestion first")
    return days


def reindex_day(
    settings: Settings, store: Store, embedder: Embedder, day: str, run: str, try_number: int = 1
) -> DayTotals:
    """Put the clips of a day into the collection of these settings.

    Raises LeaseHeld while another run works on the day, IndexUnavailable, and RunIncomplete if a clip that was indexed
    has no caption any more, after all others are there.
    """
    leases.acquire(store, day, run, settings.batches.lease_s)
    try:
        return _reindex_day(settings, store, embedder, day, run, try_number)
    finally:
        leases.release(store, day, run)


def serve(settings: Settings, embedder: Embedder, days: Iterable[DayTotals]) -> Served:
    """Switch the alias to the collection of these settings, if all that these days came to is there."""
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
    settings: Settings, store: Store, embedder: Embedder, day: str, run: str, try_number: int
) -> DayTotals:
    started = time.monotonic()
    collection, known = Collection.of(settings, embedder), ledger(store, day)
    after = max((said.at for said in known.values()), default="")
    journal = Journal(store, day, run, _BATCH, _BATCH, try_number, after)
    chunks = written = 0
    there: set[str] = set()
    for described in _described(store, day, known):
        ids = _ids(settings, embedder, described)
        with open_index(settings, collection) as index:
            index.ensure()
            todo = _missing(index, described, ids)
        if todo:
            points = points_of(settings, embedder, todo)
            with open_index(settings, collection) as index:
                replace(index, points)
        for clip in described:
            said = known.get(clip.clip_id)
            if said and _tells(said, clip) and said.collection != collection.name:
                count = len(ids[clip.clip_id])
                journal.add(changed(said, batch=_BATCH, collection=collection.name, chunks=count))
        journal.flush()
        leases.renew(store, day, run, settings.batches.lease_s)
        there.update(ids)
        chunks, written = chunks + sum(map(len, ids.values())), written + len(todo)
    compact(store, day, run)
    gone = [one.uri for one in known.values() if one.outcome is Outcome.INDEXED and one.clip_id not in there]
    if gone:
        raise RunIncomplete(
            f"{day}: the captions of {len(gone)} clips are gone from the store ({', '.join(gone[:3])}…); ingest the "
            "day with these settings, which asks for them, then reindex again"
        )
    totals = DayTotals(day, len(there), chunks, written, time.monotonic() - started)
    log.info(
        "%s: %d clips as %d chunks in %s, %d of them written now, in %.1f s",
        day, len(there), chunks, collection.name, written, totals.seconds,
    )  # fmt: skip
    return totals


def _described(store: Store, day: str, known: dict[str, ClipOutcome]) -> Iterator[list[CaptionedClip]]:
    """The clips of a day with what was indexed of each last, some at a time. Read twice, since a clip may be in several
    objects, and a day's captions need not fit into memory. Who is in none is looked up caption by caption."""
    written = store.written(f"rebuild/day={day}")
    keys = sorted(written, key=lambda key: (written[key], key))
    last = {record["clip_id"]: key for key in keys for record in store.read_lines(key)}
    for key in keys:
        lines = {record["clip_id"]: record for record in store.read_lines(key) if last[record["clip_id"]] == key}
        yield [CaptionedClip.from_json(record) for record in lines.values()]
    elsewhere = [said for said in known.values() if said.outcome is Outcome.INDEXED and said.clip_id not in last]
    for some in in_batches(elsewhere, CLIPS_AT_ONCE):
        both = zip(some, store.captions(said.caption_key for said in some), strict=True)
        yield [
            CaptionedClip(said.clip_id, said.uri, said.day, caption) for said, caption in both if caption is not None
        ]


def _tells(said: ClipOutcome, clip: CaptionedClip) -> bool:
    """Whether the last word on a clip is that this caption of it is indexed."""
    return said.outcome is Outcome.INDEXED and said.caption_key == clip.caption.key


def _ids(settings: Settings, embedder: Embedder, clips: Sequence[CaptionedClip]) -> dict[str, set[str]]:
    """The ids that the points of each clip have."""
    return {
        clip.clip_id: {
            point_id(clip.clip_id, clip.caption.key, chunk.no)
            for chunk in split(clip.caption, embedder, settings.chunking)
        }
        for clip in clips
    }


def _missing(index: Index, clips: Sequence[CaptionedClip], ids: dict[str, set[str]]) -> list[CaptionedClip]:
    """The clips whose points are not just these; all of them where there are others, since nobody says whose."""
    there = index.point_ids([clip.clip_id for clip in clips])
    if there - set().union(*ids.values()):
        return list(clips)
    return [clip for clip in clips if not ids[clip.clip_id] <= there]


def _served(settings: Settings) -> str:
    try:
        with open_index(settings) as index:
            return index.collection.name
    except (NothingIndexed, ConfigurationError):  # a collection that is lost
        return ""
