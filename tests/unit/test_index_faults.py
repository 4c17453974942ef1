"""What a faulty Qdrant server costs: its answers over HTTP, as the stand-in plays them, and the index afterwards."""

import logging

import pytest

from clipdex.config import Settings
from clipdex.errors import ConfigurationError, IndexUnavailable
from clipdex.index import open_index, replace
from tests.support.engine import StandIn
from tests.support.indexes import SMALL, point
from tests.support.pipeline import Pipeline
from tests.support.qdrant import QdrantServer
from tests.unit.test_index_server import answering

WRITE = "PUT /collections/[^/]+/points$"
COLLECTION = "GET /collections/[^/]+$"


@pytest.fixture
def server():
    with QdrantServer() as server:
        yield server


def settings(server, **index):
    return Settings.load(index={"url": server.url, "timeout_s": 20, **index})


def write(server, text, **index):
    with open_index(settings(server, **index), SMALL) as index:
        index.ensure()
        return replace(index, {"a": [point("a", text)]})


def texts(server):
    with open_index(settings(server)) as index:
        return [hit.payload["text"] for hit in index.scroll()]


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("fail", "answered 500 Internal Server Error: injected fault"),
        ("refuse", "answered 503 Service Unavailable: injected fault"),
        ("busy", "rate limiting: injected fault"),
        ("hang", "does not answer at http://127.0.0.1:.*timed out"),
        ("reset", "does not answer at http://127.0.0.1:"),
        ("applied", "does not answer at http://127.0.0.1:"),
        ("cut", "does not answer at http://127.0.0.1:.*closed connection"),
        ("page", "an answer that is not one of its API.*CLIPDEX_INDEX__URL"),
        ("queued", r"queued a write, but not applied it \(acknowledged\)"),
    ],
)
def test_a_write_without_a_proper_answer_is_retried_until_it_counts(server, fault, message):
    write(server, "old")
    server.trouble = [(WRITE, fault, 1)]
    with pytest.raises(IndexUnavailable, match=message):
        write(server, "new", timeout_s=2 if fault == "hang" else 20)
    assert write(server, "new") == 0
    assert texts(server) == ["new"]


@pytest.mark.parametrize("call", ["PUT /collections/[^/]+/index$", "POST /collections/[^/]+/points/delete$"])
def test_no_other_write_counts_before_it_is_applied(server, call):
    server.trouble = [(call, "queued", 1)]
    with pytest.raises(IndexUnavailable, match="queued a write"):
        write(server, "old")
        with open_index(settings(server), SMALL) as index:
            replace(index, {"a": []})


def test_a_slow_answer_is_waited_for(server):
    server.trouble = [(".*", "slow", 3)]
    write(server, "a red car")
    assert texts(server) == ["a red car"]
    assert server.told == ["slow"] * 3


def test_the_delay_of_a_retry_is_that_of_the_server(server):
    server.trouble = [("GET /$", "busy", 1)]
    with pytest.raises(IndexUnavailable) as raised:
        write(server, "a red car")
    assert raised.value.retry_after_s == 1


def test_a_date_for_a_delay_leaves_the_delay_open():
    when = ("Retry-After", "Wed, 21 Oct 2026 07:28:00 GMT")
    with (
        answering(429, headers=[when]) as (url, _),
        pytest.raises(IndexUnavailable, match="rate limiting") as raised,
        open_index(Settings.load(index={"url": url}), SMALL) as index,
    ):
        index.count()
    assert raised.value.retry_after_s is None


def test_a_red_collection_is_not_written_to_and_searched_with_a_warning(server, caplog):
    write(server, "old")
    server.trouble = [(COLLECTION, "red", 2)]
    with pytest.raises(IndexUnavailable, match=r"is red, .*No space left on device; repair it"):
        write(server, "new")
    with caplog.at_level(logging.WARNING, "clipdex"):
        assert texts(server) == ["old"]
    assert "hits may be missing" in caplog.text


def test_a_yellow_collection_is_written_to(server):
    write(server, "old")
    server.trouble = [(COLLECTION, "yellow", 9)]
    write(server, "new")
    assert texts(server) == ["new"]


@pytest.mark.parametrize(
    ("version", "index", "message"),
    [
        ("1.15.4", {}, r"has version 1.15, which is too old: expected 1.16 for the metadata of collections"),
        ("1.17.1", {"quantization": "turbo"}, "1.18 for quantization=turbo; upgrade the server, or unset"),
        ("1.18.0", {"expected_points": 10_000_000}, "expected 1.19 for vectors_on_disk"),
    ],
)
def test_an_old_server_is_named_with_what_it_lacks(version, index, message):
    with QdrantServer(version) as server:
        for _ in range(2):
            with pytest.raises(ConfigurationError, match=message), open_index(settings(server, **index), SMALL):
                pass
        server.version = "1.20.0"
        with open_index(settings(server, **index), SMALL) as upgraded:
            upgraded.ensure()


@pytest.mark.parametrize("version", ["unknown", "", "20"])
def test_an_unreadable_version_is_a_warning(version, caplog):
    with QdrantServer(version) as server, caplog.at_level(logging.WARNING, "clipdex"):
        write(server, "a red car")
        assert texts(server) == ["a red car"]
    assert [one.getMessage() for one in caplog.records] == [
        f"the version of Qdrant at {server.url} is unreadable: {version}; expected 1.16 or later"
    ]


@pytest.mark.parametrize("fault", ["deny", "page"])
def test_a_proxy_that_hides_the_version_is_a_warning(server, fault, caplog):
    server.trouble = [("GET /$", fault, 1)]
    with caplog.at_level(logging.WARNING, "clipdex"):
        write(server, "a red car")
    assert "is unreadable" in caplog.text and texts(server) == ["a red car"]


def test_a_server_that_is_older_than_it_says_refuses_by_itself():
    def body(request):
        if request.path == "/":
            return {"title": "qdrant", "version": "1.20.0"}
        return {"status": {"error": "Format error in JSON body: unknown variant `turbo`"}, "time": 0.0}

    status = 200
    with answering(lambda request: status if request.path == "/" else 400, body) as (url, _):
        lies = Settings.load(index={"url": url, "quantization": "turbo"})
        message = r"refused the request: 400 .*unknown variant `turbo`"
        with pytest.raises(ConfigurationError, match=message), open_index(lies, SMALL) as index:
            index.ensure()


def test_the_version_is_read_once_per_server(caplog):
    with QdrantServer(recorded=True) as server:
        for _ in range(3):
            write(server, "a red car")
    assert [one.path for one in server.exchanges].count("/") == 1


def test_an_old_server_costs_no_caption(tmp_path):
    with QdrantServer("1.15.0") as server, StandIn(words=80) as engine:
        pipeline = Pipeline(tmp_path, [engine.url], index={"url": server.url})
        pipeline.put(1)
        with pytest.raises(ConfigurationError, match=r"has version 1\.15"):
            pipeline.ingest(pipeline.clips)
        assert engine.requests == []


def test_a_server_that_is_down_while_a_run_is_planned_stops_nothing(tmp_path):
    with QdrantServer() as server, StandIn(words=80) as engine:
        pipeline = Pipeline(tmp_path, [engine.url], index={"url": server.url})
        pipeline.put(1)
        server.down()
        (batch,) = pipeline.plan().batches
        pipeline.caption(batch)
        server.up()
        assert pipeline.index(batch).clips == 1
