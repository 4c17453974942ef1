"""The index on a Qdrant server or cluster, 1.16 or later (collection metadata)."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import httpx
import numpy as np
from qdrant_client import QdrantClient, models
from qdrant_client.common.client_exceptions import ResourceExhaustedResponse
from qdrant_client.http.exceptions import ResponseHandlingException, UnexpectedResponse

from clipdex import config, proxies, tls
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

_CA_FILE = "CLIPDEX_INDEX__CA_FILE"
_PORTS = {"http": 6333, "https": 443}
_PAGE = 1000
_SCHEMA = {
    MetadataType.STRING: models.PayloadSchemaType.KEYWORD,
    MetadataType.NUMBER: models.PayloadSchemaType.FLOAT,
    MetadataType.TIME: models.PayloadSchemaType.DATETIME,
}
_BUSY = (408, 425, 429)


def connect(settings: config.Index) -> QdrantClient:
    """Return a client. The first call connects. Raises ConfigurationError if the settings or a proxy are invalid."""
    proxies.check_proxies()
    client = QdrantClient(
        url=address(settings.url),
        api_key=settings.api_key.get_secret_value() or None,
        timeout=int(max(1, settings.timeout_s)),
        check_compatibility=False,
        verify=tls.certificates(settings.ca_file, _CA_FILE),
    )
    client.http.client.add_middleware(_checked_proxy)
    return client


def address(url: str) -> str:
    """Return the complete address of a server: scheme, host, port and path prefix. Raises ConfigurationError.

    Without a scheme it is http, or https on port 443. Without a port, https has 443, and http has 6333, Qdrant's own.
    """
    text = url.strip()
    try:
        parts = urlsplit(text if "://" in text else f"//{text}")
        scheme, port = parts.scheme or ("https" if parts.port == 443 else "http"), parts.port
        host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
        standard = _PORTS[scheme]
        whole = f"{scheme}://{host}:{standard if port is None else port}{parts.path.rstrip('/')}"
        if host and port != 0 and httpx.URL(whole).host and not (parts.query or parts.fragment or "@" in parts.netloc):
            return whole
    except (KeyError, ValueError, httpx.InvalidURL):
        pass
    shown = proxies.without_credentials(re.split("[?#]", text)[0])
    raise ConfigurationError(
        f"CLIPDEX_INDEX__URL: {shown} is not the address of a Qdrant server: expected one such as "
        "https://qdrant.example.com or http://[::1]:6333/prefix, without query, user or password; the key belongs in "
        "CLIPDEX_INDEX__API_KEY or the password of the connection clipdex_index"
    )


class ServerIndex:
    """Read and write a collection on a server. The caller closes the client."""

    def __init__(
        self,
        client: QdrantClient,
        alias: str,
        collection: Collection | None = None,
        indexes: Mapping[str, MetadataType] = PAYLOAD_INDEXES,
    ) -> None:
        self._client, self._alias, self._indexes = client, alias, indexes
        self.collection = collection or self._served()

    def ensure(self) -> None:
        with _errors():
            name = self.collection.name
            if not self._client.collection_exists(name):
                self._create()
            found = self._client.get_collection(name)
            stored = _collection(name, found)
            stored.check(self.collection.embedder, self.collection.dimension, self.collection.probe)
            if len(self.collection.probe) and not len(stored.probe):  # made by an earlier release
                self._client.update_collection(name, metadata={"probe": self.collection.probe})
            for field, kind in self._indexes.items():
                known = found.payload_schema.get(field)
                if known is not None and known.data_type != _SCHEMA[kind]:
                    self._client.delete_payload_index(name, field, wait=True)
                if known is None or known.data_type != _SCHEMA[kind]:
                    self._client.create_payload_index(name, field, _SCHEMA[kind], wait=True)
            if self._aliased() is None:
                self.switch()

    def upsert(self, points: Sequence[Point]) -> None:
        with _errors(self.collection.name):
            self._client.upsert(self.collection.name, [_server_point(point) for point in points], wait=True)

    def overwrite(self, payloads: Mapping[str, Mapping[str, Any]]) -> None:
        operations = [
            models.OverwritePayloadOperation(overwrite_payload=models.SetPayload(payload=dict(payload), points=[id]))
            for id, payload in payloads.items()
        ]
        with _errors(self.collection.name):
            self._client.batch_update_points(self.collection.name, operations, wait=True)

    def delete(self, ids: Sequence[str]) -> None:
        with _errors(self.collection.name):
            self._client.delete(self.collection.name, models.PointIdsList(points=list(ids)), wait=True)

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
                limit=query.depth,
                with_payload=query.with_payload,
                with_vector=[DENSE] if len(query.dense) else False,
            )
            for name, vector in query.vectors.items()
        ]
        with _errors(self.collection.name):
            answers = self._client.query_batch_points(self.collection.name, requests)
        found = {name: [_hit(point) for point in one.points] for name, one in zip(query.vectors, answers, strict=True)}
        return Candidates(found.get(DENSE, ()), found.get(SPARSE, ()))

    def payloads(self, ids: Sequence[str]) -> dict[str, dict[str, Any]]:
        if not ids:
            return {}
        with _errors(self.collection.name):
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
        with _errors(self.collection.name):
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
        with _errors(self.collection.name):
            return self._client.count(self.collection.name, count_filter=_filter(filters), exact=exact).count

    def optimize(self) -> None:
        """Do nothing: the server optimizes by itself."""

    def switch(self) -> None:
        serve = models.CreateAliasOperation(
            create_alias=models.CreateAlias(collection_name=self.collection.name, alias_name=self._alias)
        )
        with _errors(self.collection.name):
            former = self._aliased()
            actions: list[Any] = [serve]
            if former is not None:
                remove = models.DeleteAlias(alias_name=self._alias)
                actions.insert(0, models.DeleteAliasOperation(delete_alias=remove))
            self._client.update_collection_aliases(actions)

    def drop(self) -> None:
        with _errors():
            if self._aliased() == self.collection.name:
                remove = models.DeleteAlias(alias_name=self._alias)
                self._client.update_collection_aliases([models.DeleteAliasOperation(delete_alias=remove)])
            self._client.delete_collection(self.collection.name)

    def close(self) -> None:
        """Do nothing: the caller closes the client."""

    def _served(self) -> Collection:
        with _errors():
            name = self._aliased()
            if name is None:
                raise NothingIndexed(f"nothing is indexed yet under the alias {self._alias}; run an ingestion first")
            return _collection(name, self._client.get_collection(name))

    def _aliased(self) -> str | None:
        for alias in self._client.get_aliases().aliases:
            if alias.alias_name == self._alias:
                return alias.collection_name
        return None

    def _create(self) -> None:
        try:
            self._client.create_collection(
                self.collection.name,
                vectors_config={
                    DENSE: models.VectorParams(size=self.collection.dimension, distance=models.Distance.COSINE)
                },
                sparse_vectors_config={SPARSE: models.SparseVectorParams(modifier=models.Modifier.IDF)},
                metadata=_metadata(self.collection),
            )
        except UnexpectedResponse as error:
            if error.status_code != 409:  # another worker created it
                raise

    def _end(self, field: str, filters: Filters | None, direction: models.Direction) -> float | None:
        with _errors(self.collection.name):
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
            with _errors(self.collection.name):
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


@contextmanager
def _errors(collection: str = "") -> Iterator[None]:
    """Convert the client's errors to clipdex errors. Messages never contain the API key."""
    try:
        yield
    except ResourceExhaustedResponse as error:
        raise IndexUnavailable(f"Qdrant is rate limiting: {error}", float(error.retry_after_s)) from error
    except ResponseHandlingException as error:
        if why := tls.certificate_error(error):
            raise ConfigurationError(
                f"Qdrant's certificate is not trusted ({why}): if a private authority signed it, set "
                f"{_CA_FILE} to that authority's PEM file"
            ) from None
        if isinstance(error.source, httpx.ProxyError) and str(error.source).startswith("407"):
            raise _proxy_refused(error.source.request, str(error.source)) from None
        where = _address(error.source.request) if isinstance(error.source, httpx.RequestError) else ""
        raise IndexUnavailable(f"Qdrant does not answer{where}: {error.source}") from error
    except UnexpectedResponse as error:
        status = error.status_code or 0
        if status in (401, 403):  # the body may repeat the key
            raise ConfigurationError(
                f"Qdrant refused the key ({status} {error.reason_phrase}): check CLIPDEX_INDEX__API_KEY or the "
                "password of the connection clipdex_index"
            ) from None
        message = f"{status} {error.reason_phrase}: {error.content.decode(errors='replace')[:300]}"
        if status >= 500 or status in _BUSY:
            raise IndexUnavailable(f"Qdrant answered {message}") from error
        if status == 404 and collection:
            raise NothingIndexed(f"collection {collection} does not exist; run an ingestion first") from error
        raise ConfigurationError(f"Qdrant refused the request: {message}") from error


def _checked_proxy(request: httpx.Request, send: Callable[[httpx.Request], httpx.Response]) -> httpx.Response:
    response = send(request)
    if response.status_code == 407:
        raise _proxy_refused(request, f"407 {response.reason_phrase}")
    return response


def _proxy_refused(request: httpx.Request, answer: str) -> ConfigurationError:
    return ConfigurationError(
        f"Qdrant{_address(request)}: {answer}; give the proxy's user and password in its variable, or name "
        "Qdrant's host in NO_PROXY"
    )


def _address(request: httpx.Request) -> str:
    """Return " at ADDRESS", with the proxy on the way to it."""
    url = request.url
    return f" at {url.scheme}://{url.netloc.decode()}{proxies.through_proxy(str(url))}"


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
        case float():
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
        case str() | int():
            return models.FieldCondition(key=field, match=models.MatchValue(value=wanted))
        case _ if all(isinstance(one, str | int) for one in wanted):
            return models.FieldCondition(key=field, match=models.MatchAny(any=list(wanted)))
        case _:
            return models.Filter(should=[_condition(field, one) for one in wanted])
