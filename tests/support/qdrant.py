"""Serve the subset of Qdrant's REST API that clipdex uses, on top of qdrant-client's local mode.

    with QdrantServer() as server:
        server.url
        server.trouble = [("PUT /collections/[^/]+/points$", "applied", 1)]

An item of trouble is a pattern of METHOD and path, a fault, and a count. Faults: refuse (503), busy (429 with
Retry-After), deny (403), slow (a late correct response), hang (no response), reset (not applied), applied (the write is
applied, then the connection is reset). down() closes the port, up() opens it again.
"""

import json
import re
import socket
import struct
import threading
import warnings
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from qdrant_client import QdrantClient, models

SLOW_S = 0.3


class QdrantServer:
    """Keep the data for the lifetime of the object, also while the port is closed."""

    def __init__(self) -> None:
        self.trouble: list[tuple[str, str, int]] = []
        self.told: list[str] = []
        self._lock, self._closing = threading.Lock(), threading.Event()
        self.client = QdrantClient(":memory:")
        self._server: ThreadingHTTPServer | None = None
        self._port = 0

    def __enter__(self) -> "QdrantServer":
        self.up()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        self.down()
        self.client.close()

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

    def answer(self, method: str, path: str, body: dict[str, Any]) -> tuple[int, Any]:
        """Return status and result; convert ValueError of the local mode to 400 or 404."""
        with self._lock, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the local mode has no payload indexes
            try:
                return 200, self._answer(f"{method} {path}", body)
            except _Unknown as unknown:
                return 404, str(unknown)
            except ValueError as refused:
                return (404 if "not found" in str(refused) else 400), str(refused)

    def _answer(self, call: str, body: dict[str, Any]) -> Any:
        client = self.client
        name = call.split("/")[2] if call.count("/") > 1 else ""
        match call.replace(f"/{name}", "/NAME", 1) if name not in ("", "aliases") else call:
            case "GET /":
                return _plain(client.info())
            case "GET /collections/NAME/exists":
                return {"exists": client.collection_exists(name)}
            case "GET /collections/NAME":
                return _plain(client.get_collection(name))
            case "PUT /collections/NAME":
                created = models.CreateCollection.model_validate(body)
                return client.create_collection(
                    name, created.vectors, sparse_vectors_config=created.sparse_vectors, metadata=created.metadata
                )
            case "DELETE /collections/NAME":
                return client.delete_collection(name)
            case "PUT /collections/NAME/index":
                return _DONE
            case "GET /aliases":
                return _plain(client.get_aliases())
            case "POST /collections/aliases":
                client.update_collection_aliases(models.ChangeAliasesOperation.model_validate(body).actions)
                return True
            case "PUT /collections/NAME/points":
                client.upsert(name, models.PointsList.model_validate(body).points)
                return _DONE
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


class _Unknown(Exception):
    """A path that this server does not implement."""


class _Handler(BaseHTTPRequestHandler):
    qdrant: QdrantServer
    protocol_version = "HTTP/1.1"

    def _answer(self) -> None:
        raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = self.path.partition("?")[0]
        trouble = self.qdrant.next_trouble(f"{self.command} {path}")
        instead = {"refuse": 503, "busy": 429, "deny": 403}.get(trouble)
        if trouble in ("reset", "hang"):
            return self._leave(trouble)
        if trouble == "slow":
            self.qdrant._closing.wait(SLOW_S)
        status, result = (
            (instead, "injected fault") if instead else self.qdrant.answer(self.command, path, json.loads(raw or "{}"))
        )
        if trouble == "applied":
            return self._leave("reset")
        document = {"status": "ok", "time": 0.0, "result": result} if status == 200 else {"status": {"error": result}}
        if path == "/" and status == 200:
            document = result
        payload = json.dumps(document).encode()
        self.send_response(status)
        if trouble == "busy":
            self.send_header("Retry-After", "1")
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(payload)))
        self.end_headers()
        self.wfile.write(payload)

    do_GET = do_PUT = do_POST = do_DELETE = do_PATCH = _answer

    def _leave(self, how: str) -> None:
        if how == "hang":
            self.qdrant._closing.wait(30)
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True
        self.connection.close()

    def log_message(self, *args: object) -> None:
        """Discard the access log."""


_DONE = {"operation_id": 0, "status": "completed"}


def _plain(record: Any) -> Any:
    return json.loads(record.model_dump_json())
