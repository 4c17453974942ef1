"""Test how each answer of a Qdrant server is handled: over real HTTP, from a server with scripted answers."""

import json
import socket
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from qdrant_client import QdrantClient, models

from clipdex.config import Settings
from clipdex.errors import ConfigurationError, IndexUnavailable, NothingIndexed
from clipdex.index import open_index
from clipdex.index.server import ServerIndex
from clipdex.index.server_client import address
from tests.support.indexes import SMALL, point

pytestmark = [
    pytest.mark.filterwarnings("ignore:Api key is used with an insecure connection"),
    pytest.mark.filterwarnings("ignore:Payload indexes have no effect in the local Qdrant"),
]

KEY = "a-secret-key"


@contextmanager
def answering(status=200, body=None, headers=(), hang=None):
    """Run a server that gives the same answer to each request; yield its URL and the requests received."""
    requests = []

    class Handler(BaseHTTPRequestHandler):
        def answer(self):
            self.sent = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            requests.append(f"{self.command} {self.path.partition('?')[0]}")
            if hang is not None:
                hang.wait(30)
                return
            payload = json.dumps(body(self) if callable(body) else body or {"status": {"error": "scripted"}}).encode()
            self.send_response(status(self) if callable(status) else status)
            for name, value in (*headers, ("Content-Type", "application/json"), ("Content-Length", str(len(payload)))):
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(payload)

        do_GET = do_PUT = do_POST = do_DELETE = do_PATCH = answer

        def log_message(self, *args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", requests
    finally:
        if hang is not None:
            hang.set()
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.mark.parametrize(
    ("url", "complete"),
    [
        ("https://qdrant.example.com", "https://qdrant.example.com:443"),
        ("https://qdrant.example.com:6333/", "https://qdrant.example.com:6333"),
        ("https://example.com/qdrant/", "https://example.com:443/qdrant"),
        ("http://qdrant", "http://qdrant:6333"),
        ("http://qdrant:80", "http://qdrant:80"),
        ("http://qdrant/a/b", "http://qdrant:6333/a/b"),
        ("qdrant", "http://qdrant:6333"),
        ("qdrant:7333/prefix", "http://qdrant:7333/prefix"),
        ("qdrant.example.com:443", "https://qdrant.example.com:443"),
        ("http://[::1]:7333", "http://[::1]:7333"),
        ("https://[2001:db8::1]", "https://[2001:db8::1]:443"),
        ("[::1]", "http://[::1]:6333"),
    ],
)
def test_each_part_of_an_address_counts(url, complete):
    assert address(url) == complete


@pytest.mark.parametrize(
    "url",
    ["grpc://qdrant:6334", "http://", "/qdrant", "http://qdrant:port", "http://qdrant:99999", "http://[::1", "::1",
     f"https://me:{KEY}@qdrant", f"https://qdrant?api_key={KEY}", f"https://qdrant#{KEY}"],
)  # fmt: skip
def test_what_is_no_address_is_named_without_its_secrets(url):
    with pytest.raises(ConfigurationError, match=r"CLIPDEX_INDEX__URL.* is not the address") as raised:
        count(url)
    assert KEY not in str(raised.value)


def test_a_server_behind_a_path_prefix_is_reached():
    with answering(200, lambda request: {"result": {"count": 7}, "status": "ok", "time": 0.0}) as (url, requests):
        assert count(f"{url}/qdrant/") == 7
    assert requests == ["GET /qdrant/", f"POST /qdrant/collections/{SMALL.name}/points/count"]


def count(url, timeout_s=5.0):
    settings = Settings.load(index={"url": url, "api_key": KEY, "timeout_s": timeout_s})
    with open_index(settings, SMALL) as index:
        return index.count()


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_server_error_is_retried_later(status):
    with answering(status) as (url, _), pytest.raises(IndexUnavailable, match=f"answered {status}"):
        count(url)


def test_retry_after_header_sets_the_delay_of_the_retry():
    with answering(429, headers=[("Retry-After", "7")]) as (url, _), pytest.raises(IndexUnavailable) as raised:
        count(url)
    assert raised.value.retry_after_s == 7


def test_refused_connection_is_retried_later():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        with pytest.raises(IndexUnavailable, match="does not answer"):
            count(f"http://127.0.0.1:{taken.getsockname()[1]}")


def test_request_to_a_server_that_hangs_times_out():
    hang = threading.Event()
    with answering(hang=hang) as (url, _), pytest.raises(IndexUnavailable, match="timed out"):
        count(url, timeout_s=1)


@pytest.mark.parametrize("status", [401, 403])
def test_rejected_key_is_a_configuration_error_that_does_not_show_the_key(status):
    with answering(status) as (url, _), pytest.raises(ConfigurationError, match="refused the key") as raised:
        count(url)
    assert KEY not in str(raised.value)


def test_missing_collection_means_that_nothing_is_indexed():
    with answering(404) as (url, _), pytest.raises(NothingIndexed, match=SMALL.name):
        count(url)


def test_bad_request_is_not_retried():
    with answering(400) as (url, requests), pytest.raises(ConfigurationError, match="400"):
        count(url)
    assert len([request for request in requests if request != "GET /"]) == 1


def test_payload_indexes_come_before_the_alias_and_the_first_point():
    collection = f"/collections/{SMALL.name}"
    memory = QdrantClient(":memory:")
    ServerIndex(memory, "clips", SMALL).ensure()
    described = json.loads(memory.get_collection(SMALL.name).model_dump_json())
    memory.close()

    def body(request):
        path = request.path.partition("?")[0]
        result = True
        if path.endswith("/exists"):
            result = {"exists": False}
        elif path == "/aliases":
            result = {"aliases": []}
        elif path == collection and request.command == "GET":
            result = described
        elif path.endswith(("/points", "/index")):
            result = {"operation_id": 1, "status": "completed"}
        return {"result": result, "status": "ok", "time": 0.0}

    with answering(200, body) as (url, requests):
        settings = Settings.load(index={"url": url})
        with open_index(settings, SMALL) as index:
            index.ensure()
            index.upsert([point("a", "one")])
    changes = [request for request in requests if not request.startswith("GET")]
    assert changes == [
        f"PUT {collection}",
        *[f"PUT {collection}/index"] * len(FILTERED),
        "POST /collections/aliases",
        f"PUT {collection}/points",
    ]


def test_declared_metadata_gets_payload_indexes_in_an_existing_collection():
    collection = f"/collections/{SMALL.name}"
    memory = QdrantClient(":memory:")
    ServerIndex(memory, "clips", SMALL).ensure()
    described = json.loads(memory.get_collection(SMALL.name).model_dump_json())
    memory.close()
    fields = ("clip_id", "day", "model", "part_of", "speed", "camera")  # as release 0.1 made them, and metadata
    indexed = {key: {"data_type": "keyword", "points": 1} for key in fields}
    described["payload_schema"] = indexed
    made = []

    def body(request):
        path = request.path.partition("?")[0]
        result = {"operation_id": 1, "status": "completed"}
        if path.endswith("/exists"):
            result = {"exists": True}
        elif path == "/aliases":
            result = {"aliases": [{"alias_name": "clips", "collection_name": SMALL.name}]}
        elif path == collection:
            result = described
        elif request.command == "PUT":
            sent = json.loads(request.sent)
            made.append((sent["field_name"], sent["field_schema"]))
        return {"result": result, "status": "ok", "time": 0.0}

    with answering(200, body) as (url, requests):
        declared = {"speed": "number", "shift": "time", "camera": "string"}
        settings = Settings.load(index={"url": url}, source={"metadata": declared})
        with open_index(settings, SMALL) as index:
            index.ensure()
    assert [request for request in requests if request.startswith("DELETE")] == [f"DELETE {collection}/index/speed"]
    new = {name: kind for name, kind in FILTERED.items() if name not in fields}
    assert dict(made) == {**new, "shift": "datetime", "speed": "float"} and len(made) == len(new) + 2


FILTERED = {
    "clip_id": "keyword", "day": "keyword", "engine": "keyword", "model": "keyword", "part_of": "keyword",
    "chunk_no": "float", "duration_s": "float", "recorded_at": "datetime", "uri_folders": "keyword",
    "local_minute": "float", "width": "float", "height": "float",
}  # fmt: skip


def test_vectors_are_compared_by_angle_and_words_weighed_by_rarity():
    memory = QdrantClient(":memory:")
    ServerIndex(memory, "clips", SMALL).ensure()
    params = memory.get_collection(SMALL.name).config.params
    memory.close()
    assert params.vectors["dense"].distance is models.Distance.COSINE
    assert params.sparse_vectors["bm25"].modifier is models.Modifier.IDF
