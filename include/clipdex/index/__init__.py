"""The index: points in Qdrant, embedded in this process (edge.py) or on a server (server.py).

A collection belongs to one embedding model, one chunking and one language. An alias names the collection that searches
read.
Both backends implement the protocol Index; one test suite runs on both.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from typing import Any, Protocol

from clipdex.config import Settings
from clipdex.index.lexical import Sparse, sparse_document, sparse_query
from clipdex.index.points import (
    Candidates,
    Collection,
    Filters,
    Hit,
    Missing,
    Moments,
    Point,
    Query,
    Range,
    in_batches,
    make_payloads,
    make_points,
    payload_indexes,
    point_id,
)

__all__ = [
    "Candidates",
    "Collection",
    "Filters",
    "Hit",
    "Index",
    "Missing",
    "Moments",
    "Point",
    "Query",
    "Range",
    "Sparse",
    "delete_other_parts",
    "make_payloads",
    "make_points",
    "open_index",
    "overwrite",
    "payload_indexes",
    "point_id",
    "replace",
    "sparse_document",
    "sparse_query",
]

_WRITE_BATCH = 128


class Index(Protocol):
    """Read and write one open collection. A write survives kill -9 once the call has returned.

    Every call except ensure() and collection raises NothingIndexed if the collection does not exist.
    """

    @property
    def collection(self) -> Collection: ...

    def ensure(self) -> None:
        """Create what is missing: the collection, its payload indexes, and an alias that points at it."""

    def upsert(self, points: Sequence[Point]) -> None: ...

    def overwrite(self, payloads: Mapping[str, Mapping[str, Any]]) -> None:
        """Replace the payloads of existing points, by id. Their vectors stay."""

    def delete(self, ids: Sequence[str]) -> None: ...

    def point_ids(self, clip_ids: Sequence[str]) -> set[str]:
        """Return the ids of all points of these clips."""

    def nearest(self, query: Query) -> Candidates:
        """Return the nearest points by meaning and by words, in one request."""

    def payloads(self, ids: Sequence[str]) -> dict[str, dict[str, Any]]:
        """Return the payloads of these points, by id. A point that does not exist is left out."""

    def vectors(self, clip_ids: Sequence[str]) -> dict[str, list[list[float]]]:
        """Return the dense vectors of all points of these clips, by clip_id."""

    def facet(
        self, field: str, filters: Filters | None = None, *, limit: int = 10, exact: bool = True
    ) -> dict[str, int]:
        """Return the most frequent values of an indexed string field, with the number of points, most first."""

    def extremes(self, field: str, filters: Filters | None = None) -> tuple[float, float] | None:
        """Return the lowest and the highest value of an indexed number field, None if no point has it."""

    def scroll(self, filters: Filters | None = None) -> Iterator[Hit]:
        """Yield every matching point in order of id, with score 0."""

    def count(self, filters: Filters | None = None, *, exact: bool = True) -> int:
        """Return the number of matching points; not exact: an estimate, at once for any number."""

    def optimize(self) -> None:
        """Update the search structures if enough has changed."""

    def switch(self) -> None:
        """Point the alias at this collection, atomically."""

    def drop(self) -> None:
        """Delete this collection if it exists, and the alias if it points at it."""

    def close(self) -> None: ...


@contextmanager
def open_index(settings: Settings, collection: Collection | None = None) -> Iterator[Index]:
    """Open the index for the duration of the block. Qdrant Edge admits one process at a time.

    collection: opened for writing, created by ensure(); None opens the alias's collection for searching, and keeps it
        open until another process needs it
    Raises NothingIndexed if the alias is unset, IndexUnavailable, ConfigurationError.
    """
    if settings.index.url:
        from clipdex.index.server import ServerIndex
        from clipdex.index.server_client import connect
        from clipdex.index.server_version import check_version

        with closing(connect(settings.index)) as client:
            check_version(client, settings.index)
            yield ServerIndex(client, settings.index.alias, collection, payload_indexes(settings), settings.index)
    else:
        from clipdex.index.edge import EdgeIndex, locked
        from clipdex.index.kept import kept_open, release

        folder, wait_s = settings.edge_path, settings.index.lock_wait_s

        def opened() -> EdgeIndex:
            return EdgeIndex(folder, settings.index.alias, collection, payload_indexes(settings))

        if collection is None:
            with kept_open(folder, settings.index.alias, opened, wait_s) as index:
                yield index
        else:
            release(folder, wait_s)
            with locked(folder, wait_s), closing(opened()) as index:
                yield index


def overwrite(index: Index, clips: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> int:
    """Replace the payloads of all points of these clips, then delete their other points. Return the number deleted.

    clips: payloads by point id, by clip_id; each point exists
    Idempotent: an interrupted call can be repeated.
    """
    payloads = {id: payload for of_clip in clips.values() for id, payload in of_clip.items()}
    for ids in in_batches(list(payloads), _WRITE_BATCH):
        index.overwrite({id: payloads[id] for id in ids})
    return _delete_stale(index, clips, set(payloads))


def replace(index: Index, clips: Mapping[str, Sequence[Point]]) -> int:
    """Upsert the points of these clips, then delete their other points. Return the number deleted.

    clips: points by clip_id; a clip without points loses all it had
    Idempotent: an interrupted call can be repeated.
    """
    points = [point for of_clip in clips.values() for point in of_clip]
    for batch in in_batches(points, _WRITE_BATCH):
        index.upsert(batch)
    stale = _delete_stale(index, clips, {point.id for point in points})
    index.optimize()
    return stale


def delete_other_parts(index: Index, files: Mapping[str, int]) -> int:
    """Delete the points of parts that these files do not have. Return the number deleted.

    files: number of parts, 0 for a file that is one clip, by clip_id
    """
    parts = index.scroll({"part_of": list(files)}) if files else ()
    stale = [hit.id for hit in parts if hit.payload["part_no"] >= files[hit.payload["part_of"]]]
    for ids in in_batches(stale, _WRITE_BATCH):
        index.delete(ids)
    return len(stale)


def _delete_stale(index: Index, clips: Iterable[str], kept: set[str]) -> int:
    stale = sorted(index.point_ids(list(clips)) - kept)
    for ids in in_batches(stale, _WRITE_BATCH):
        index.delete(ids)
    return len(stale)
