"""The index: points in Qdrant, in the engine inside this process (edge.py) or on a server (server.py).

A collection belongs to one embedding model and one way of chunking; an alias names the collection that searches
read. Both backends keep one contract (Index), and one test runs over both.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from typing import Protocol

from clipdex.config import Settings
from clipdex.index.points import (
    Collection,
    Filters,
    Hit,
    Point,
    Query,
    Range,
    Sparse,
    in_batches,
    make_points,
    point_id,
    sparse_document,
    sparse_query,
)

__all__ = [
    "Collection",
    "Filters",
    "Hit",
    "Index",
    "Point",
    "Query",
    "Range",
    "Sparse",
    "make_points",
    "open_index",
    "point_id",
    "replace",
    "sparse_document",
    "sparse_query",
]

_WRITE_BATCH = 128


class Index(Protocol):
    """One collection, open. A write is acknowledged when the call returns: from then on it survives kill -9.

    Every call but ensure() and collection raises NothingIndexed where there is no such collection yet.
    """

    @property
    def collection(self) -> Collection: ...

    def ensure(self) -> None:
        """Make the collection if it is not there, and serve it under the alias if nothing is served yet."""

    def upsert(self, points: Sequence[Point]) -> None: ...

    def delete(self, ids: Sequence[str]) -> None: ...

    def point_ids(self, clip_ids: Sequence[str]) -> set[str]:
        """The ids of all points of these clips."""

    def query(self, query: Query) -> list[Hit]:
        """Best first."""

    def scroll(self, filters: Filters | None = None) -> Iterator[Hit]:
        """Every point, in the order of ids, score 0."""

    def count(self, filters: Filters | None = None) -> int: ...

    def optimize(self) -> None:
        """Bring the search structures up to date, where that is worth its time."""

    def switch(self) -> None:
        """Serve this collection under the alias, at once and for all."""

    def close(self) -> None: ...


@contextmanager
def open_index(settings: Settings, collection: Collection | None = None) -> Iterator[Index]:
    """The index, for as long as the block lasts; Edge lets one process in at a time.

    With a collection: that one, for writing (ensure() makes it). Without: what the alias serves, for searching.
    Raises NothingIndexed if the alias serves nothing yet, IndexUnavailable, ConfigurationError.
    """
    if settings.index.url:
        from clipdex.index.server import ServerIndex, connect

        with closing(connect(settings.index)) as client:
            yield ServerIndex(client, settings.index.alias, collection)
    else:
        from clipdex.index.edge import EdgeIndex, locked

        with (
            locked(settings.edge_path, settings.index.lock_wait_s),
            closing(EdgeIndex(settings.edge_path, settings.index.alias, collection)) as index,
        ):
            yield index


def replace(index: Index, clips: Mapping[str, Sequence[Point]]) -> int:
    """Make these the points of these clips: the new ones first, then their others go. Returns how many went.

    clips: points by clip_id; a clip with none loses those it had. Stopped half-way and called again, it ends the same.
    """
    points = [point for of_clip in clips.values() for point in of_clip]
    for batch in in_batches(points, _WRITE_BATCH):
        index.upsert(batch)
    stale = sorted(index.point_ids(list(clips)) - {point.id for point in points})
    for ids in in_batches(stale, _WRITE_BATCH):
        index.delete(ids)
    index.optimize()
    return len(stale)
