"""Serve the subset of Qdrant's REST API that clipdex uses, on top of qdrant-client's local mode.

    with QdrantServer() as server:
        server.url
        server.trouble = [("PUT /collections/[^/]+/points$", "applied", 1)]

An item of trouble is a pattern of METHOD and path, a fault, and a count. Faults: refuse (503), fail (500), busy (429
with Retry-After), deny (403), slow (a late correct response), hang (no response), reset (not applied), applied (the
write is applied, then the connection is reset), cut (reset in the middle of the response), page (a page of HTML
instead), queued (applied, but acknowledged only), red (a collection that Qdrant could not repair), yellow (one that it
optimizes). down() closes the port, up() opens it again.

As Qdrant, it refuses filters, facets and orders of fields without a fitting payload index; a filter, only in a
collection with strict mode. With CLIPDEX_CHECK_SOURCES (openapi.py), each request and response is checked against
Qdrant's description, and a block that made another one fails at its end.
"""

import json
import re
import socket
import struct
import threading
import warnings
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from qdrant_client import QdrantClient, models

from clipdex.index import server_version
from tests.support import openapi
from tests.support.openapi import Exchange

SLOW_S = 0.3
VERSION = "1.20.0"
_STATUS = {"refuse": 503, "fail": 500, "busy": 429, "deny": 403}


class QdrantServer:
    """Keep the data for the lifetime of the object, also while the port is closed.

    exchanges: every request and its response, if recorded is true
    collections: the parameters of each, as its creation and later changes gave them
    """

    def __init__(self, version: str = VERSION, *, recorded: bool = False) -> None:
        self.version, self.recorded = version, recorded
        self.exchanges: list[Exchange] = []
        self.collections: dict[str, dict[str, Any]] = {}
        self._indexes: dict[str, dict[str, str]] = {}
        self._problems: dict[str, None] = {}
        self.trouble: list[tuple[str, str, int]] = []
        self.told: list[str] = []
        self._lock, self._closing = threading.Lock(), threading.Event()
        self.client = QdrantClient(":memory:")
        self._server: ThreadingHTTPServer | None = None
        self._port = 0

    def __enter__(self) -> "QdrantServer":
        self.up()
        server_version._found.pop(self.url, None)  # of an earlier server on this port
        return self

    def __exit__(self, failed: type[BaseException] | None, *_: object) -> None:
        self._closing.set()
        self.down()
        self.client.close()
        if self._problems and failed is None:
            raise AssertionError("not as Qdrant describes it:\n" + "\n".join(self._problems))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def up(self) -> None:
        handler = type("Handler", (_Handler,), {"qdrant": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", self._port), handler)
        self._server.daemon_threads = True
        self._port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def down(self) -> None:
        if self._server:
            self._server.shutdown()
            self._server.server_close()
            self._thread.join()
            self._server = None

    def next_trouble(self, call: str) -> str:
        with self._lock:
            for number, (pattern, name, left) in enumerate(self.trouble):
                if left and re.match(pattern, call):
                    self.trouble[number] = (pattern, name, left - 1)
                    self.told.append(name)
                    return name
        return ""

    def record(self, exchange: Exchange) -> None:
        description = openapi.qdrant()
        found = description.problems(exchange) if description else []
        with self._lock:
            self._problems.update(dict.fromkeys(found))
            if self.recorded:
                self.exchanges.append(exchange)

    def answer(self, method: str, path: str, body: dict[str, Any]) -> tuple[int, Any]:
        """Return status and result; convert ValueError of the local mode to 400 or 404."""
        with self._lock, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the local mode has no payload indexes
            try:
                return 200, self._answer(f"{method} {path}", body)
            except _Unknown as unknown:
                return 404, str(unknown)
            except _Refused as refused:
                return 400, str(refused)
            except ValueError as refused:
                return (404 if "not found" in str(refused) else 400), str(refused)

    def _answer(self, call: str, body: dict[str, Any]) -> Any:
        client = self.client
        name = call.split("/")[2] if call.count("/") > 1 else ""
        self._require_indexes(name, body)
        match call.replace(f"/{name}", "/NAME", 1) if name not in ("", "aliases") else call:
            case "GET /":
                return {"title": "qdrant - vector search engine", "version": self.version}
            case "GET /collections/NAME/exists":
                return {"exists": client.collection_exists(name)}
            case "GET /collections/NAME":
                return self._described(name)
            case "PUT /collections/NAME":
                created = models.CreateCollection.model_validate(body)
                done = client.create_collection(
                    name, created.vectors, sparse_vectors_config=created.sparse_vectors, metadata=created.metadata
                )
                self.collections[name], self._indexes[name] = body, {}
                return done
            case "PATCH /collections/NAME":
                changed = models.UpdateCollection.model_validate(body).model_dump(mode="json", exclude_unset=True)
                if metadata := changed.pop("metadata", None):
                    client.update_collection(name, metadata=metadata)
                _merge(self.collections[name], {**changed.pop("params", {}), **changed})
                return True
            case "DELETE /collections/NAME":
                self.collections.pop(name, None)
                return client.delete_collection(name)
            case "PUT /collections/NAME/index":
                index = models.CreateFieldIndex.model_validate(body)
                self._indexes.setdefault(name, {})[index.field_name] = body["field_schema"]
                return _DONE
            case indexed if indexed.startswith("DELETE /collections/NAME/index/"):
                self._indexes[name].pop(indexed.rpartition("/")[2], None)
                return _DONE
            case "GET /aliases":
                return _plain(client.get_aliases())
            case "POST /collections/aliases":
                client.update_collection_aliases(models.ChangeAliasesOperation.model_validate(body).actions)
                return True
            case "PUT /collections/NAME/points":
                client.upsert(name, models.PointsList.model_validate(body).points)
                return _DONE
            case "POST /collections/NAME/points":
                wanted = models.PointRequest.model_validate(body)
                found = client.retrieve(name, wanted.ids, with_payload=wanted.with_payload or False)
                return [_plain(point) for point in found]
            case "POST /collections/NAME/points/query/batch":
                asked = models.QueryRequestBatch.model_validate(body).searches
                return [_plain(found) for found in client.query_batch_points(name, asked)]
            case "POST /collections/NAME/points/count":
                return {"count": client.count(name, models.CountRequest.model_validate(body).filter).count}
            case "POST /collections/NAME/points/delete":
                client.delete(name, models.PointIdsList.model_validate(body))
                return _DONE
            case "POST /collections/NAME/points/scroll":
                query = models.ScrollRequest.model_validate(body)
                points, offset = client.scroll(
                    name,
                    scroll_filter=query.filter,
                    limit=query.limit or 10,
                    offset=query.offset,
                    with_payload=query.with_payload or False,
                    with_vectors=query.with_vector or False,
                    order_by=query.order_by,
                )
                return {"points": [_plain(point) for point in points], "next_page_offset": offset}
            case "POST /collections/NAME/points/batch":
                client.batch_update_points(name, models.UpdateOperations.model_validate(body).operations)
                return [_DONE]
            case "POST /collections/NAME/facet":
                facet = models.FacetRequest.model_validate(body)
                return _plain(client.facet(name, facet.key, facet_filter=facet.filter, limit=facet.limit or 10))
        raise _Unknown(f"the stand-in has no {call}")

    def _described(self, name: str) -> Any:
        found = json.loads(self.client.get_collection(name).model_dump_json(exclude_none=True))
        given = self.collections.get(name, {})  # none if a test made it by the client
        config = found["config"]
        config["params"].update({key: given[key] for key in _PARAMS if key in given})
        for key, value in given.get("vectors", {}).items():
            config["params"]["vectors"][key].update(value)
        quantized = given.get("quantization_config")
        config["quantization_config"] = None if quantized == "Disabled" else quantized
        config["strict_mode_config"] = given.get("strict_mode_config")
        kinds = self._indexes.get(name, {}).items()
        return {**found, "payload_schema": {key: {"data_type": kind, "points": 0} for key, kind in kinds}}

    def _require_indexes(self, name: str, body: dict[str, Any]) -> None:
        """Raise _Refused as Qdrant refuses what reads a field without an index of a fitting type."""
        strict = (self.collections.get(name, {}).get("strict_mode_config") or {}).get("enabled")
        needed = list(_filtered([body, *body.get("searches", ())])) if strict else []
        needed += [(body["key"], {"keyword"})] if "key" in body else []
        needed += [(body["order_by"]["key"], {"integer", "float", "datetime"})] if body.get("order_by") else []
        for field, kinds in needed:
            if self._indexes.get(name, {}).get(field) not in kinds:
                raise _Refused(
                    f'Bad request: Index required but not found for "{field}" of one of the following types: '
                    f"[{', '.join(sorted(kinds))}]"
                )


class _Refused(Exception):
    """A request that reads a field without an index."""


class _Unknown(Exception):
    """A path that this server does not implement."""


class _Handler(BaseHTTPRequestHandler):
    qdrant: QdrantServer
    protocol_version = "HTTP/1.1"

    def _answer(self) -> None:
        raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path, _, query = self.path.partition("?")
        body = json.loads(raw) if raw else None
        trouble = self.qdrant.next_trouble(f"{self.command} {path}")
        if trouble in ("reset", "hang"):
            return self._leave(trouble)
        if trouble == "slow":
            self.qdrant._closing.wait(SLOW_S)
        status, result = _STATUS.get(trouble), "injected fault"
        if status is None:
            status, result = self.qdrant.answer(self.command, path, body or {})
        if trouble == "applied":
            return self._leave("reset")
        if status == 200 and trouble in ("queued", "red", "yellow"):
            result = _distorted(result, trouble)
        document = {"time": 0.0, "status": "ok", "result": result} if status == 200 else _error(result)
        if path == "/" and status == 200:
            document = result
        if trouble not in _STATUS:
            self.qdrant.record(Exchange(self.command, path, query, body, status, document))
        kind = "application/json"
        payload = json.dumps(document).encode()
        if trouble == "page":
            kind, payload = "text/html", b"<html><h1>It works!</h1></html>"
        self.send_response(status)
        if trouble == "busy":
            self.send_header("Retry-After", "1")
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(payload)))
        self.end_headers()
        if trouble == "cut":
            self.wfile.write(payload[: len(payload) // 2])
            self.wfile.flush()
            return self._leave("cut")
        self.wfile.write(payload)

    do_GET = do_PUT = do_POST = do_DELETE = do_PATCH = _answer

    def _leave(self, how: str) -> None:
        if how == "hang":
            self.qdrant._closing.wait(30)
        if how != "cut":  # a reset would also discard what is on the way
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True
        self.connection.close()

    def log_message(self, *args: object) -> None:
        """Discard the access log."""


_DONE = {"operation_id": 0, "status": "completed"}
_PARAMS = ("shard_number", "replication_factor", "write_consistency_factor", "payload")


def _error(message: Any) -> dict[str, Any]:
    return {"time": 0.0, "status": {"error": message}}


def _distorted(result: Any, trouble: str) -> Any:
    if trouble == "queued":
        one = {"operation_id": 0, "status": "acknowledged"}
        return [one] if isinstance(result, list) else one
    broken = {"error": "Service internal error: No space left on device"} if trouble == "red" else "ok"
    return {**result, "status": trouble, "optimizer_status": broken}


def _merge(old: dict[str, Any], new: dict[str, Any]) -> None:
    for key, value in new.items():
        if isinstance(value, dict) and isinstance(old.get(key), dict) and key != "quantization_config":
            _merge(old[key], value)
        else:
            old[key] = value


def _filtered(bodies: list[dict[str, Any]]) -> Iterator[tuple[str, set[str]]]:
    """Yield each field that filters read, and the types of index that fit."""
    for body in bodies:
        conditions = [body.get("filter")]
        while conditions:
            one = conditions.pop()
            if one is None:
                continue
            conditions += [inner for key in ("must", "should", "must_not") for inner in one.get(key) or ()]
            if "is_empty" in one:
                yield one["is_empty"]["key"], {"keyword", "integer", "float", "bool", "datetime"}
            elif match := one.get("match"):
                value = match["value"] if "value" in match else (match["any"] or [""])[0]
                yield one["key"], {_KINDS[type(value)]}
            elif bounds := one.get("range"):
                moments = any(isinstance(bound, str) for bound in bounds.values())
                yield one["key"], {"datetime"} if moments else {"float", "integer"}


_KINDS = {str: "keyword", int: "integer", bool: "bool"}


def _plain(record: Any) -> Any:
    return json.loads(record.model_dump_json())
