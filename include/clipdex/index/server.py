"""The index on a Qdrant server or cluster, 1.16 or later (collection metadata)."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from qdrant_client import QdrantClient, models
from qdrant_client.http.exceptions import UnexpectedResponse

from clipdex import config
from clipdex.config import MetadataType
from clipdex.errors import ConfigurationError, IndexUnavailable, NothingIndexed
from clipdex.index.lexical import ENGLISH, Sparse
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
from clipdex.index.server_client import server_errors
from clipdex.index.server_layout import Layout, changes, new_collection, search_params

log = logging.getLogger(__name__)
_PAGE = 1000
_MORE_INDEXES = {"width": MetadataType.NUMBER, "height": MetadataType.NUMBER}  # strict mode refuses filters without
_laid_out: set[tuple[str, str, Layout]] = set()
"""Collections that this process has brought to a layout, or whose shards it has warned of."""
_SCHEMA = {
    MetadataType.STRING: models.PayloadSchemaType.KEYWORD,
    MetadataType.NUMBER: models.PayloadSchemaType.FLOAT,
    MetadataType.TIME: models.PayloadSchemaType.DATETIME,
}


class ServerIndex:
    """Read and write a collection on a server. The caller closes the client."""

    def __init__(
        self,
        client: QdrantClient,
        alias: str,
        collection: Collection | None = None,
        indexes: Mapping[str, MetadataType] = PAYLOAD_INDEXES,
        settings: config.Index | None = None,
    ) -> None:
        settings = settings or config.Index()
        self._client, self._alias, self._indexes = client, alias, {**_MORE_INDEXES, **indexes}
        self._url, self._layout, self._params = settings.url, Layout.of(settings), search_params(settings)
        self.collection = collection or self._served()

    def ensure(self) -> None:
        with server_errors():
            name = self.collection.name
            if not self._client.collection_exists(name):
                self._create()
            found = self._client.get_collection(name)
            if found.status is models.CollectionStatus.RED:
                raise IndexUnavailable(f"collection {_red(name, found)}")
            stored = _collection(name, found)
            stored.check(self.collection.embedder, self.collection.dimension, self.collection.probe)
            if len(self.collection.probe) and not len(stored.probe):  # made by an earlier release
                self._client.update_collection(name, metadata={"probe": self.collection.probe})
            for field, kind in self._indexes.items():
                known = found.payload_schema.get(field)
                if known is not None and known.data_type != _SCHEMA[kind]:
                    _require_done(self._client.delete_payload_index(name, field, wait=True))
                if known is None or known.data_type != _SCHEMA[kind]:
                    _require_done(self._client.create_payload_index(name, field, _SCHEMA[kind], wait=True))
            self._lay_out(found.config)
            if self._aliased() is None:
                self.switch()

    def upsert(self, points: Sequence[Point]) -> None:
        with server_errors(self.collection.name):
            _require_done(
                self._client.upsert(self.collection.name, [_server_point(point) for point in points], wait=True)
            )

    def overwrite(self, payloads: Mapping[str, Mapping[str, Any]]) -> None:
        operations = [
            models.OverwritePayloadOperation(overwrite_payload=models.SetPayload(payload=dict(payload), points=[id]))
            for id, payload in payloads.items()
        ]
        with server_errors(self.collection.name):
            _require_done(*self._client.batch_update_points(self.collection.name, operations, wait=True))

    def delete(self, ids: Sequence[str]) -> None:
        with server_errors(self.collection.name):
            _require_done(self._client.delete(self.collection.name, models.PointIdsList(points=list(ids)), wait=True))

    def point_ids(self, clip_ids: Sequence[str]) -> set[str]:
        wanted = {"clip_id": list(clip_ids)}
        return {str(record.id) for record in self._records(wanted, with_payload=False)} if clip_ids else set()

    def nearest(self, query: Query) -> Candidates:
        if not query.vectors:
            return Candidates()
        kept = _filter(query.filters)
        requests = [
            models.QueryRequest(
                query=_server_sparse(vector) if isinstance(vector, Sparse) else list(vector),
                using=name,
                filter=kept,
                params=self._params if name == DENSE else None,
                limit=query.depth,
                with_payload=query.with_payload,
                with_vector=[DENSE] if len(query.dense) else False,
            )
            for name, vector in query.vectors.items()
        ]
        with server_errors(self.collection.name):
            answers = self._client.query_batch_points(self.collection.name, requests)
        found = {name: [_hit(point) for point in one.points] for name, one in zip(query.vectors, answers, strict=True)}
        return Candidates(found.get(DENSE, ()), found.get(SPARSE, ()))

    def payloads(self, ids: Sequence[str]) -> dict[str, dict[str, Any]]:
        if not ids:
            return {}
        with server_errors(self.collection.name):
            records = self._client.retrieve(self.collection.name, list(ids), with_payload=True)
        return {str(record.id): record.payload or {} for record in records}

    def vectors(self, clip_ids: Sequence[str]) -> dict[str, list[list[float]]]:
        found: dict[str, list[list[float]]] = {}
        wanted: Filters = {"clip_id": list(clip_ids)}
        for record in self._records(wanted, with_payload=["clip_id"], with_vectors=[DENSE]) if clip_ids else ():
            payload, vector = record.payload or {}, record.vector
            if isinstance(vector, dict) and DENSE in vector:
                found.setdefault(payload["clip_id"], []).append(vector[DENSE])  # type: ignore[arg-type]  # not sparse
        return found

    def facet(
        self, field: str, filters: Filters | None = None, *, limit: int = 10, exact: bool = True
    ) -> dict[str, int]:
        with server_errors(self.collection.name):
            found = self._client.facet(
                self.collection.name, field, facet_filter=_filter(filters), limit=limit, exact=exact
            )
        return {str(hit.value): hit.count for hit in found.hits}

    def extremes(self, field: str, filters: Filters | None = None) -> tuple[float, float] | None:
        ends = [self._end(field, filters, models.Direction.ASC), self._end(field, filters, models.Direction.DESC)]
        return None if None in ends else (ends[0], ends[1])  # type: ignore[return-value]  # checked

    def scroll(self, filters: Filters | None = None) -> Iterator[Hit]:
        for record in self._records(filters, with_payload=True):
            yield Hit(str(record.id), 0.0, record.payload or {})

    def count(self, filters: Filters | None = None, *, exact: bool = True) -> int:
        with server_errors(self.collection.name):
            return self._client.count(self.collection.name, count_filter=_filter(filters), exact=exact).count

    def optimize(self) -> None:
        """Do nothing: the server optimizes by itself."""

    def switch(self) -> None:
        serve = models.CreateAliasOperation(
            create_alias=models.CreateAlias(collection_name=self.collection.name, alias_name=self._alias)
        )
        with server_errors(self.collection.name):
            former = self._aliased()
            actions: list[Any] = [serve]
            if former is not None:
                remove = models.DeleteAlias(alias_name=self._alias)
                actions.insert(0, models.DeleteAliasOperation(delete_alias=remove))
            self._client.update_collection_aliases(actions)

    def drop(self) -> None:
        with server_errors():
            if self._aliased() == self.collection.name:
                remove = models.DeleteAlias(alias_name=self._alias)
                self._client.update_collection_aliases([models.DeleteAliasOperation(delete_alias=remove)])
            self._client.delete_collection(self.collection.name)

    def close(self) -> None:
        """Do nothing: the caller closes the client."""

    def _served(self) -> Collection:
        with server_errors():
            name = self._aliased()
            if name is None:
                raise NothingIndexed(f"nothing is indexed yet under the alias {self._alias}; run an ingestion first")
            found = self._client.get_collection(name)
            if found.status is models.CollectionStatus.RED:
                log.warning("hits may be missing: collection %s", _red(name, found))
            return _collection(name, found)

    def _aliased(self) -> str | None:
        for alias in self._client.get_aliases().aliases:
            if alias.alias_name == self._alias:
                return alias.collection_name
        return None

    def _create(self) -> None:
        try:
            self._client.create_collection(
                self.collection.name,
                sparse_vectors_config={SPARSE: models.SparseVectorParams(modifier=models.Modifier.IDF)},
                metadata=_metadata(self.collection),
                **new_collection(self._layout, self.collection.dimension),
            )
        except UnexpectedResponse as error:
            if error.status_code != 409:  # another worker created it
                raise

    def _lay_out(self, found: models.CollectionConfig) -> None:
        """Change what the layout wants otherwise, once per process: the server may describe it in other words."""
        name, layout = self.collection.name, self._layout
        if (self._url, name, layout) in _laid_out:
            return
        if wanted := changes(layout, found):
            log.info("changing %s of collection %s", ", ".join(wanted), name)
            self._client.update_collection(name, **wanted)
        if layout.shard_number not in (None, found.params.shard_number):
            log.warning(
                "collection %s has %s shards instead of %s: shards are set when a collection is created; to change "
                "them, set another CLIPDEX_INDEX__ALIAS and run clipdex reindex, or set CLIPDEX_INDEX__SHARD_NUMBER=%s",
                name, found.params.shard_number, layout.shard_number, found.params.shard_number,
            )  # fmt: skip
        _laid_out.add((self._url, name, layout))

    def _end(self, field: str, filters: Filters | None, direction: models.Direction) -> float | None:
        with server_errors(self.collection.name):
            records, _ = self._client.scroll(
                self.collection.name,
                scroll_filter=_filter(filters),
                limit=1,
                order_by=models.OrderBy(key=field, direction=direction),
                with_payload=[field],
            )
        return (records[0].payload or {}).get(field) if records else None

    def _records(
        self, filters: Filters | None, *, with_payload: bool | list[str], with_vectors: bool | list[str] = False
    ) -> Iterator[models.Record]:
        offset = None
        while True:
            with server_errors(self.collection.name):
                records, offset = self._client.scroll(
                    self.collection.name,
                    scroll_filter=_filter(filters),
                    limit=_PAGE,
                    offset=offset,
                    with_payload=with_payload,
                    with_vectors=with_vectors,
                )
            yield from records
            if offset is None:
                return


def _collection(name: str, info: models.CollectionInfo) -> Collection:
    vectors = info.config.params.vectors
    if not isinstance(vectors, dict) or DENSE not in vectors:
        raise ConfigurationError(
            f"collection {name} has no vector named {DENSE}: clipdex did not create it; use another"
        )
    metadata = info.config.metadata or {}
    language = str(metadata.get("language", ENGLISH))
    probe = metadata.get("probe") or ()
    return Collection(name, str(metadata.get("embedder", "")), vectors[DENSE].size, language, probe)


def _metadata(collection: Collection) -> dict[str, Any]:
    own: dict[str, Any] = {"embedder": collection.embedder, "language": collection.language}
    return {**own, **({"probe": collection.probe} if len(collection.probe) else {})}


def _red(name: str, found: models.CollectionInfo) -> str:
    status = found.optimizer_status
    why = status.error if isinstance(status, models.OptimizersStatusOneOf1) else "some operations failed"
    return f"{name} is red, {why[:200]}; repair it as Qdrant's log describes, then run again"


def _require_done(*results: models.UpdateResult) -> None:
    """Raise IndexUnavailable if a write is only queued: what is read next would not have it."""
    for result in results:
        if result.status is not models.UpdateStatus.COMPLETED:
            raise IndexUnavailable(f"Qdrant has queued a write, but not applied it ({result.status}); it is repeated")


def _server_point(point: Point) -> models.PointStruct:
    vectors: dict[str, Any] = {DENSE: list(point.dense), SPARSE: _server_sparse(point.sparse)}
    return models.PointStruct(id=point.id, vector=vectors, payload=point.payload)


def _hit(point: models.ScoredPoint) -> Hit:
    vectors: Any = point.vector
    vector = np.array(vectors[DENSE], np.float32) if vectors else NO_VECTOR
    return Hit(str(point.id), point.score, point.payload or {}, vector)


def _server_sparse(sparse: Sparse) -> models.SparseVector:
    return models.SparseVector(indices=list(sparse.indices), values=list(sparse.values))


def _filter(filters: Filters | None) -> models.Filter | None:
    if not filters:
        return None
    return models.Filter(must=[_condition(field, wanted) for field, wanted in filters.items()])


def _condition(field: str, wanted: Any) -> models.Condition:
    match wanted:
        case int() | float() if not isinstance(wanted, bool):  # numbers have an index of floats
            return _condition(field, Range(wanted, wanted))
        case Range():
            bounds = models.Range(gte=wanted.low, lte=wanted.high, lt=wanted.below)
            return models.FieldCondition(key=field, range=bounds)
        case Moments():
            # Validated, because the type holds datetime and the client's local mode compares without parsing.
            moments = models.DatetimeRange.model_validate({"gte": wanted.low, "lte": wanted.high, "lt": wanted.below})
            return models.FieldCondition(key=field, range=moments)
        case Missing():
            return models.IsEmptyCondition(is_empty=models.PayloadField(key=field))
        case str() | bool():
            return models.FieldCondition(key=field, match=models.MatchValue(value=wanted))
        case _ if all(isinstance(one, str) for one in wanted):
            return models.FieldCondition(key=field, match=models.MatchAny(any=list(wanted)))
        case _:
            return models.Filter(should=[_condition(field, one) for one in wanted])
