"""Test engines and Qdrant over HTTPS: certificates are verified, and errors name the setting to change."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from clipdex import config
from clipdex.errors import ConfigurationError, NothingIndexed
from clipdex.index.server import ServerIndex
from clipdex.index.server_client import connect
from tests.support.engine import StandIn
from tests.support.pipeline import Pipeline
from tests.support.tls import Authority


@pytest.fixture(scope="module")
def ours(tmp_path_factory) -> Authority:
    return Authority(tmp_path_factory.mktemp("tls"), "ours")


@pytest.fixture(scope="module")
def another(tmp_path_factory) -> Authority:
    return Authority(tmp_path_factory.mktemp("tls"), "another")


@pytest.fixture
def pipeline(tmp_path, ours):
    """Set up a batch of two clips and an engine behind TLS that requires a key."""
    with StandIn(words=80, api_key="the key") as engine, ours.before(engine.port) as url:

        def make(ca_file: str) -> Pipeline:
            given = Pipeline(tmp_path, [url], engine={"ca_file": ca_file, "api_key": "the key"})
            given.put(2)
            given.stand_in = engine
            return given

        yield make


def test_an_engine_with_a_trusted_certificate_captions(pipeline, ours):
    batch = (work := pipeline(str(ours.file))).plan().batches[0]
    assert work.caption(batch).new == 2


@pytest.mark.parametrize("named", ["another", ""])
def test_an_untrusted_certificate_stops_the_task_before_the_key_is_sent(pipeline, another, named):
    batch = (work := pipeline(str(another.file) if named else "")).plan().batches[0]
    with pytest.raises(ConfigurationError, match=r"its certificate is not trusted \(.+\).+CLIPDEX_ENGINE__CA_FILE"):
        work.caption(batch)
    assert work.stand_in.requests == [] and work.outcomes() == {}


def test_a_file_without_certificates_is_reported_by_name(pipeline, tmp_path):
    wrong = tmp_path / "ca.pem"
    wrong.write_text("no certificate")
    with pytest.raises(ConfigurationError, match=f"CLIPDEX_ENGINE__CA_FILE={wrong}: no certificates can be read"):
        pipeline(str(wrong)).plan()


class Qdrant(BaseHTTPRequestHandler):
    """A server without collections that requires a key."""

    def do_GET(self) -> None:
        welcome = self.headers.get("api-key") == "the key"
        body = json.dumps({"result": {"aliases": []}, "status": "ok", "time": 0.0}).encode() if welcome else b"no"
        self.send_response(200 if welcome else 401)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def qdrant(ours) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Qdrant)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with ours.before(server.server_port) as url:
        yield url
    server.shutdown()
    server.server_close()


def test_qdrant_behind_tls_gets_the_key(qdrant, ours):
    with pytest.raises(NothingIndexed):  # it answered: there is no alias yet
        ServerIndex(connect(config.Index(url=qdrant, api_key="the key", ca_file=str(ours.file))), "clips")


def test_an_untrusted_qdrant_certificate_is_a_configuration_error(qdrant, another):
    with pytest.raises(ConfigurationError, match=r"Qdrant's certificate is not trusted \(.+CLIPDEX_INDEX__CA_FILE"):
        ServerIndex(connect(config.Index(url=qdrant, api_key="the key", ca_file=str(another.file))), "clips")
