"""Qdrant Edge: the index embedded in this process, in a folder. A lock file admits one process at a time.

FOLDER/lock                        locked while an index is open; names the process
FOLDER/waiting                     locked, shared, by the processes that wait
FOLDER/ALIAS.alias                 the name of the collection that searches read
FOLDER/COLLECTION/collection.json  its embedding model
FOLDER/COLLECTION/shard/           Qdrant's own files
"""

import fcntl
import json
import logging
import os
import shutil
import struct
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import IO, Any

import numpy as np
import qdrant_edge as qdrant

from clipdex.config import MetadataType
from clipdex.errors import ConfigurationError, IndexUnavailable, NothingIndexed
from clipdex.index.lexical import Sparse
from clipdex.index.points import (
    DENSE,
    NO_VECTOR,
    PAYLOAD_INDEXES,
    SPARSE,
    Candidates,
    Collection,
    Filters,
    Hit,
    Missing,
    Moments,
    Point,
    Query,
    Range,
)

log = logging.getLogger(__name__)

_POLL_S = 0.01
_LEFT_S = 5.0
_PAGE = 1000
# Unpacked points that trigger packing: they are read into memory at every opening. Packing 20,000 takes about 2 s.
_UNPACKED = 20_000
# No HNSW graph over the dense vectors: exact search. Building a graph locks the index for minutes, longer than other
# processes wait, and saves milliseconds per search (benchmarks/edge.py).
_EXACT_SEARCH = qdrant.HnswIndexConfig(m=0, ef_construct=100, full_scan_threshold=10_000)
# Packed vectors are searched with 4 bits per dimension, an eighth of the bytes to read; of the nearest, four times as
# many as wanted are then compared exactly. At 500,000 chunks, 17 ms instead of 43 with int8 (benchmarks/edge.py).
_QUANTIZED = qdrant.TurboQuantQuantizationConfig(bits=qdrant.TurboQuantBitSize.Bits4)
_COMPARED_EXACTLY = qdrant.SearchParams(quantization=qdrant.QuantizationSearchParams(rescore=True, oversampling=4.0))
# Number of packed segments, and their size limit [bytes of vectors]: merging locks the index, too.
_SEGMENTS, _SEGMENT_BYTES = 8, 200 << 20
_SCHEMA = {
    MetadataType.STRING: qdrant.PayloadSchemaType.Keyword,
    MetadataType.NUMBER: qdrant.PayloadSchemaType.Float,
    MetadataType.TIME: qdrant.PayloadSchemaType.Datetime,
}


@contextmanager
def locked(folder: Path, wait_s: float) -> Iterator[None]:
    """Lock the index folder against other processes. Raises IndexUnavailable after wait_s [s]."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "waiting").touch()
    with (folder / "lock").open("a+") as lock:
        _acquire(folder, lock, wait_s)
        with _unlocked_after(lock):
            lock.truncate(0)
            lock.write(f"process {os.getpid()} since {time.strftime('%Y-%m-%d %H:%M:%S %Z')}")
            lock.flush()
            yield


class EdgeIndex:
    """Read and write a collection in a folder. The caller holds the lock."""

    def __init__(
        self,
        folder: Path,
        alias: str,
        collection: Collection | None = None,
        indexes: Mapping[str, MetadataType] = PAYLOAD_INDEXES,
    ) -> None:
        self._folder, self._alias, self._indexes = folder, folder / f"{alias}.alias", indexes
        self.collection = collection or self._served()
        self._open: qdrant.EdgeShard | None = None

    def ensure(self) -> None:
        if not self._path.exists():
            self._create()
        self._check(_read_collection(self._path))
        self._index_payload(self._shard)
        if not self._alias.exists():
            self.switch()

    def upsert(self, points: Sequence[Point]) -> None:
        self._write(qdrant.UpdateOperation.upsert_points([_edge_point(point) for point in points]))

    def overwrite(self, payloads: Mapping[str, Mapping[str, Any]]) -> None:
        self._write(*(qdrant.UpdateOperation.overwrite_payload([id], dict(one)) for id, one in payloads.items()))

    def delete(self, ids: Sequence[str]) -> None:
        self._write(qdrant.UpdateOperation.delete_points(list(ids)))

    def point_ids(self, clip_ids: Sequence[str]) -> set[str]:
        wanted = {"clip_id": list(clip_ids)}
        return {str(record.id) for record in self._records(wanted, with_payload=False)} if clip_ids else set()

    def nearest(self, query: Query) -> Candidates:
        kept = _filter(query.filters)
        found = {
            name: [_hit(point) for point in self._shard.query(_request(name, vector, query, kept))]
            for name, vector in query.vectors.items()
        }
        return Candidates(found.get(DENSE, ()), found.get(SPARSE, ()))

    def payloads(self, ids: Sequence[str]) -> dict[str, dict[str, Any]]:
        records = self._shard.retrieve(list(ids), True, False) if ids else ()
        return {str(record.id): record.payload or {} for record in records}

    def vectors(self, clip_ids: Sequence[str]) -> dict[str, list[list[float]]]:
        found: dict[str, list[list[float]]] = {}
        wanted: Filters = {"clip_id": list(clip_ids)}
        for record in self._records(wanted, with_payload=["clip_id"], with_vector=[DENSE]) if clip_ids else ():
            payload, vector = record.payload or {}, record.vector
            if isinstance(vector, dict) and DENSE in vector:
                found.setdefault(payload["clip_id"], []).append(vector[DENSE])  # type: ignore[arg-type]  # not sparse
        return found

    def facet(
        self, field: str, filters: Filters | None = None, *, limit: int = 10, exact: bool = True
    ) -> dict[str, int]:
        self._require_index(field)
        found = self._shard.facet(qdrant.FacetRequest(field, limit, exact, _filter(filters)))
        return {str(hit.value): hit.count for hit in found.hits}

    def extremes(self, field: str, filters: Filters | None = None) -> tuple[float, float] | None:
        self._require_index(field)
        ends = [self._end(field, filters, qdrant.Direction.Asc), self._end(field, filters, qdrant.Direction.Desc)]
        return None if None in ends else (ends[0], ends[1])  # type: ignore[return-value]  # checked

    def scroll(self, filters: Filters | None = None) -> Iterator[Hit]:
        for record in self._records(filters, with_payload=True):
            yield Hit(str(record.id), 0.0, record.payload or {})

    def count(self, filters: Filters | None = None, *, exact: bool = True) -> int:
        return self._shard.count(qdrant.CountRequest(filter=_filter(filters), exact=exact))

    def optimize(self) -> None:
        info = self._shard.info()
        # All sparse vectors count as indexed, so indexed_vectors_count - points_count is the indexed dense ones.
        if 2 * info.points_count - info.indexed_vectors_count < _UNPACKED:
            return
        started = time.monotonic()
        self._shard.optimize()
        self._shard.flush()
        log.info("index %s: optimized in %.1f s", self.collection.name, time.monotonic() - started)

    def switch(self) -> None:
        if not self._path.exists():
            raise NothingIndexed(f"{self._path} does not exist; index into it before switching the alias")
        _write_atomically(self._alias, self.collection.name)

    def drop(self) -> None:
        self.close()
        if self._alias.exists() and self._alias.read_text() == self.collection.name:
            self._alias.unlink()
        shutil.rmtree(self._path, ignore_errors=True)

    def close(self) -> None:
        if self._open is not None:
            self._open.close()
            self._open = None

    @property
    def inode(self) -> int:
        """Return the inode of the collection folder, 0 if it is gone: another one was put in its place."""
        try:
            return self._path.stat().st_ino
        except OSError:
            return 0

    @property
    def _path(self) -> Path:
        return self._folder / self.collection.name

    @property
    def _shard(self) -> qdrant.EdgeShard:
        if self._open is None:
            if not self._path.exists():
                raise NothingIndexed(f"nothing is indexed yet in {self._path}; run an ingestion first")
            self._open = _load(self._path / "shard", self.collection)
        return self._open

    def _served(self) -> Collection:
        try:
            name = self._alias.read_text()
        except FileNotFoundError:
            raise NothingIndexed(f"nothing is indexed yet in {self._folder}; run an ingestion first") from None
        return _read_collection(self._folder / name)

    def _create(self) -> None:
        """Create the collection atomically: in a temporary folder, then renamed."""
        temporary = self._folder / f".new-{self.collection.name}"
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
        (temporary / "collection.json").write_text(json.dumps(asdict(self.collection)))
        shard = qdrant.EdgeShard.create(str(temporary / "shard"), _edge_config(self.collection))
        self._index_payload(shard)
        shard.close()
        temporary.rename(self._path)

    def _check(self, found: Collection) -> None:
        """Check that the vectors are comparable; keep the probe if an earlier release kept none."""
        found.check(self.collection.embedder, self.collection.dimension, self.collection.probe)
        if len(self.collection.probe) and not len(found.probe):
            kept = replace(found, probe=self.collection.probe)
            _write_atomically(self._path / "collection.json", json.dumps(asdict(kept)))

    def _index_payload(self, shard: qdrant.EdgeShard) -> None:
        """Create the payload indexes that are missing or of another type."""
        found = {field: info.data_type for field, info in shard.info().payload_schema.items()}
        missing = {field: _SCHEMA[kind] for field, kind in self._indexes.items() if found.get(field) != _SCHEMA[kind]}
        for field, schema in missing.items():
            if field in found:
                shard.update(qdrant.UpdateOperation.delete_field_index(field))
            shard.update(qdrant.UpdateOperation.create_field_index(field, schema))
        if missing:
            shard.flush()

    def _write(self, *operations: qdrant.UpdateOperation) -> None:
        shard = self._shard
        try:
            for operation in operations:
                shard.update(operation)
            shard.flush()
        except Exception as error:  # the binding has no narrower type
            kind = ConfigurationError if "dimension" in str(error) else IndexUnavailable
            raise kind(f"{self._path}: Qdrant Edge did not take the write: {error}") from error

    def _require_index(self, field: str) -> None:
        if field not in self._shard.info().payload_schema:
            raise ConfigurationError(
                f"{self.collection.name} has no payload index for {field} yet; the next ingestion or clipdex reindex "
                "creates it"
            )

    def _end(self, field: str, filters: Filters | None, direction: qdrant.Direction) -> float | None:
        order = qdrant.OrderBy(field, direction)
        records, _ = self._shard.scroll(
            qdrant.ScrollRequest(limit=1, filter=_filter(filters), with_payload=[field], order_by=order)
        )
        return (records[0].payload or {}).get(field) if records else None

    def _records(
        self, filters: Filters | None, *, with_payload: bool | list[str], with_vector: bool | list[str] = False
    ) -> Iterator[qdrant.Record]:
        offset = None
        while True:
            request = qdrant.ScrollRequest(
                offset=offset, limit=_PAGE, filter=_filter(filters), with_payload=with_payload, with_vector=with_vector
            )
            records, offset = self._shard.scroll(request)
            yield from records
            if offset is None:
                return


def is_wanted(folder: Path) -> bool:
    """Return whether a process waits for the index in this folder, or the folder is gone.

    Create no file: the folder may be in deletion.
    """
    try:
        with (folder / "waiting").open("r+") as waiting, _unlocked_after(waiting):
            return not _locks(waiting)
    except OSError:
        return True


def _acquire(folder: Path, lock: IO[str], wait_s: float) -> None:
    """Lock the file, but not before a process that waits already. Raises IndexUnavailable after wait_s [s]."""
    if not is_wanted(folder) and _locks(lock):
        return
    deadline = time.monotonic() + wait_s
    with (folder / "waiting").open("a") as waiting, _unlocked_after(waiting):
        fcntl.flock(waiting, fcntl.LOCK_SH)
        time.sleep(2 * _POLL_S)  # longer than one poll: processes that waited before try first
        while not _locks(lock):
            if time.monotonic() >= deadline:
                lock.seek(0)
                holder = lock.read() or "another process"
                raise IndexUnavailable(
                    f"{lock.name} is held by {holder}; waited {wait_s:g} s. The embedded index admits one process at a "
                    "time: try again, increase CLIPDEX_INDEX__LOCK_WAIT_S, or use a Qdrant server"
                )
            time.sleep(_POLL_S)


def _locks(file: IO[str]) -> bool:
    """Lock a file exclusively, if that is possible now, and return whether it was."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextmanager
def _unlocked_after(file: IO[str]) -> Iterator[None]:
    """Empty and unlock a file at the end of the block.

    Closing is not enough: the copy in a forked child keeps the lock. A child that leaves the block changes nothing.
    """
    process = os.getpid()
    try:
        yield
    finally:
        if os.getpid() == process:
            file.truncate(0)
            fcntl.flock(file, fcntl.LOCK_UN)


def _load(path: Path, collection: Collection) -> qdrant.EdgeShard:
    """Open a shard with the current configuration; an older shard adopts it at its next optimization.

    The caller holds the lock, but Qdrant's own lock may outlive it: in a child of the last process that has just been
    forked, or in a thread of Qdrant that ends. Raises IndexUnavailable if it is held for _LEFT_S.
    """
    deadline = time.monotonic() + _LEFT_S
    while True:
        try:
            return qdrant.EdgeShard.load(str(path), _edge_config(collection))
        except Exception as error:  # the binding has no narrower type
            if "WouldBlock" not in str(error):
                raise ConfigurationError(f"{path} cannot be opened: {error}; move it away and index again") from error
            if time.monotonic() >= deadline:
                raise IndexUnavailable(f"{path} is open in a process that ignores the lock file") from error
        time.sleep(_POLL_S)


def _read_collection(path: Path) -> Collection:
    try:
        return Collection(**json.loads((path / "collection.json").read_text()))
    except (OSError, ValueError, TypeError) as error:
        raise ConfigurationError(
            f"{path} is not a clipdex collection: {error}; move it away and index again"
        ) from error


def _write_atomically(path: Path, text: str) -> None:
    temporary = path.with_name(f".new-{path.name}")
    with temporary.open("w") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    temporary.replace(path)


def _edge_config(collection: Collection) -> qdrant.EdgeConfig:
    return qdrant.EdgeConfig(
        vectors={
            DENSE: qdrant.EdgeVectorParams(
                size=collection.dimension, distance=qdrant.Distance.Cosine, quantization_config=_QUANTIZED
            )
        },
        sparse_vectors={SPARSE: qdrant.EdgeSparseVectorParams(modifier=qdrant.Modifier.Idf)},
        hnsw_config=_EXACT_SEARCH,
        optimizers=qdrant.EdgeOptimizersConfig(default_segment_number=_SEGMENTS, max_segment_size=_SEGMENT_BYTES >> 10),
    )


def _edge_point(point: Point) -> qdrant.Point:
    vectors: dict[str, Any] = {DENSE: list(point.dense), SPARSE: _edge_sparse(point.sparse)}
    return qdrant.Point(point.id, vectors, point.payload)


def _request(
    name: str, vector: Sequence[float] | Sparse, query: Query, kept: qdrant.Filter | None
) -> qdrant.QueryRequest:
    by: Any = _edge_sparse(vector) if isinstance(vector, Sparse) else list(vector)
    return qdrant.QueryRequest(
        query=qdrant.Query.Nearest(by, using=name),
        filter=kept,
        limit=query.depth,
        with_payload=query.with_payload,
        with_vector=[DENSE] if len(query.dense) else False,
        params=_COMPARED_EXACTLY if name == DENSE else None,
    )


def _hit(point: qdrant.ScoredPoint) -> Hit:
    vectors: Any = point.vector
    vector = _floats(vectors[DENSE]) if vectors else NO_VECTOR
    return Hit(str(point.id), point.score, point.payload or {}, vector)


def _floats(vector: Sequence[float]) -> np.ndarray:
    """Return a vector as float32. struct converts a list in less than half the time of numpy."""
    return np.frombuffer(struct.pack(f"{len(vector)}f", *vector), np.float32)


def _edge_sparse(sparse: Sparse) -> qdrant.SparseVector:
    return qdrant.SparseVector(list(sparse.indices), list(sparse.values))


def _filter(filters: Filters | None) -> qdrant.Filter | None:
    if not filters:
        return None
    return qdrant.Filter(must=[_condition(field, wanted) for field, wanted in filters.items()])


def _condition(field: str, wanted: Any) -> Any:
    match wanted:
        case float():
            return _condition(field, Range(wanted, wanted))
        case Range():
            bounds = qdrant.RangeFloat(gte=wanted.low, lte=wanted.high, lt=wanted.below)
            return qdrant.FieldCondition(field, range=bounds)
        case Moments():
            moments = qdrant.RangeDateTime(gte=wanted.low, lte=wanted.high, lt=wanted.below)
            return qdrant.FieldCondition(field, range=moments)
        case Missing():
            return qdrant.IsEmptyCondition(field)
        case str() | int():
            return qdrant.FieldCondition(field, match=qdrant.MatchValue(wanted))
        case _ if all(isinstance(one, str | int) for one in wanted):
            return qdrant.FieldCondition(field, match=qdrant.MatchAny(list(wanted)))
        case _:
            return qdrant.Filter(should=[_condition(field, one) for one in wanted])
