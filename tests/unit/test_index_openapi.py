"""Every request to a Qdrant server, as it is on the wire, is one of those that Qdrant describes.

    CLIPDEX_CHECK_SOURCES=FOLDER pytest tests/unit/test_index_openapi.py

tests/support/openapi.py has the contents of the folder. With that variable, each test that uses the stand-in
(tests/support/qdrant.py) checks its requests and answers, too.
"""

import copy
import dataclasses
import re
from collections import Counter

import pytest

from clipdex.config import Settings
from clipdex.errors import ConfigurationError
from clipdex.index import Index, Missing, Moments, Query, Range, Sparse, open_index, overwrite, replace
from clipdex.index.facets import facets
from tests.support import openapi
from tests.support.indexes import OTHER, SMALL, point
from tests.support.openapi import Description, Exchange
from tests.support.qdrant import QdrantServer

METADATA = {"camera": "string", "speed": "number", "shift": "time"}
LAID_OUT = {
    "expected_points": 10_000_000, "payload_on_disk": False, "replication_factor": 2, "write_consistency_factor": 2,
    "strict_mode": True, "hnsw_ef": 256, "oversampling": 2.0,
}  # fmt: skip
FILTERS = (
    {"day": "2026-11-03"}, {"day": ["2026-11-03", "2026-11-04"]}, {"width": 640}, {"speed": [1.5, 2]},
    {"speed": [Range(1, below=2), Range(high=9)]}, {"shift": Moments("2026-11-03T00:00:00Z")}, {"camera": Missing()},
    {"camera": []}, {"chunk_no": Range(0, 0), "duration_s": Range(low=1)},
)  # fmt: skip
OPERATIONS = {
    "GET /", "GET /aliases", "POST /collections/aliases", "GET /collections/{}/exists", "GET /collections/{}",
    "PUT /collections/{}", "PATCH /collections/{}", "DELETE /collections/{}", "PUT /collections/{}/index",
    "DELETE /collections/{}/index/{}", "PUT /collections/{}/points", "POST /collections/{}/points",
    "POST /collections/{}/points/batch", "POST /collections/{}/points/delete", "POST /collections/{}/points/scroll",
    "POST /collections/{}/points/count", "POST /collections/{}/points/query/batch", "POST /collections/{}/facet",
}  # fmt: skip


def settings(server, metadata=METADATA, **index):
    return Settings.load(index={"url": server.url, **index}, source={"metadata": metadata})


class Watched:
    """Forward to an index, and note what is called."""

    def __init__(self, index, called):
        self._index, self._called = index, called

    def __getattr__(self, name):
        self._called.add(name)
        return getattr(self._index, name)


def every_request(server, called):
    """Call each method of an index, in a collection as the server has it, then as each setting changes it."""
    with open_index(settings(server, {**METADATA, "speed": "string"}, strict_mode=False), SMALL) as index:
        index.ensure()
    for quantization in ("int8", "none", "turbo"):
        with open_index(settings(server, **LAID_OUT, quantization=quantization), SMALL) as index:
            index.ensure()
    with open_index(settings(server, **LAID_OUT), SMALL) as opened:
        index = Watched(opened, called)
        points = [point("a", f"a red car {no}", no=no, width=640, camera="north", speed=1.5) for no in range(3)]
        replace(index, {"a": points})
        overwrite(index, {"a": {points[0].id: {**points[0].payload, "camera": "south"}}})
        for filters in FILTERS:
            assert len(list(index.scroll(filters))) == index.count(filters, exact=False)
            index.nearest(Query(points[0].dense, Sparse((1, 2), (1.0, 0.5)), depth=50, filters=filters))
        index.nearest(Query(points[0].dense, Sparse((), ()), depth=50, fields=("clip_id",)))
        index.payloads([points[0].id])
        index.vectors(["a"])
        index.point_ids(["a"])
        index.extremes("speed", {"camera": "south"})
        facets(index, settings(server), ("camera", "day", "source", "speed", "time", "duration"))
    with open_index(settings(server, **LAID_OUT), OTHER) as opened:
        other = Watched(opened, called)
        other.ensure()
        other.switch()
        other.drop()


@pytest.fixture(scope="module")
def called():
    """Return the names of the methods that every_request() calls."""
    return set()


@pytest.fixture(scope="module")
def recorded(called):
    with QdrantServer(recorded=True) as server:
        every_request(server, called)
    return server.exchanges


@pytest.fixture
def description(recorded):
    return openapi.qdrant() or skip(recorded)


def skip(recorded):
    counted = Counter(operation(one) for one in recorded)
    listed = ", ".join(f"{name} ×{count}" for name, count in sorted(counted.items()))
    pytest.skip(f"not checked against Qdrant's description, because {openapi.VARIABLE} is unset: {listed}")


def operation(exchange):
    parts = exchange.path.split("/")
    named = [2] if parts[1:2] == ["collections"] and parts[2] != "aliases" else []
    named += [4] if parts[3:4] == ["index"] and len(parts) > 4 else []
    return f"{exchange.method} {'/'.join('{}' if place in named else part for place, part in enumerate(parts))}"


def test_the_recorded_requests_are_all_that_an_index_sends(recorded, called):
    assert {name for name in vars(Index) if not name.startswith("_")} - called == {"collection", "close"}
    assert {operation(one) for one in recorded} == OPERATIONS
    assert {one.status for one in recorded} == {200}


def test_every_request_and_answer_is_one_that_qdrant_describes(recorded, description):
    assert [problem for one in recorded for problem in description.problems(one)] == []


@pytest.mark.parametrize(
    ("index", "first"),
    [
        ({}, "1.16"),
        ({"quantization": "int8", "shard_number": 2, "replication_factor": 2, "oversampling": 2.0}, "1.16"),
        ({"quantization": "turbo"}, "1.18"),
        ({"vectors_on_disk": True}, "1.19"),
        ({"payload_on_disk": False}, "1.19"),
    ],
    ids=["defaults", "int8", "turbo", "vectors", "payload"],
)
def test_a_server_needs_the_first_version_that_describes_the_settings(index, first):
    with QdrantServer(recorded=True) as server, open_index(settings(server, **index), SMALL) as opened:
        opened.ensure()
        opened.nearest(Query([1.0] * SMALL.dimension, Sparse((1,), (1.0,)), depth=5))
    versions = ["1.15", "1.16", "1.17", "1.18", "1.19"]
    described = [openapi.qdrant(one) or skip(server.exchanges) for one in versions]
    requests = [dataclasses.replace(one, answer=None) for one in server.exchanges]
    fitting = [
        version
        for version, description in zip(versions, described, strict=True)
        if not [one for request in requests for one in description.problems(request) if ": answer " not in one]
    ]
    assert fitting == versions[versions.index(first) :]
    message = rf"has version 1.1\d, .*{re.escape(first)} for "
    with (
        QdrantServer(versions[versions.index(first) - 1] + ".9") as old,
        pytest.raises(ConfigurationError, match=message),
        open_index(settings(old, **index), SMALL),
    ):
        pass


def changed(exchange, path, value):
    """Return the exchange with another value at a path in its body."""
    body = copy.deepcopy(exchange.body)
    *way, last = path
    inner = body
    for key in way:
        inner = inner[key]
    inner[last] = value
    return dataclasses.replace(exchange, body=body)


@pytest.mark.parametrize(
    ("name", "mistake", "problem"),
    [
        ("PUT /collections/{}", lambda one: changed(one, ("vectors", "dense", "memmory"), "cold"), "memmory"),
        ("PUT /collections/{}", lambda one: changed(one, ("shard_number",), "three"), "shard_number"),
        ("PATCH /collections/{}", lambda one: changed(one, ("quantization_config",), {"turbo": {"bits": 3}}), "bits"),
        ("PUT /collections/{}/index", lambda one: changed(one, ("field_schema",), "keywords"), "field_schema"),
        ("PUT /collections/{}/points", lambda one: changed(one, ("points", 0, "id"), -1), "points"),
        ("POST /collections/{}/points/scroll", lambda one: changed(one, ("filter",), {"musst": []}), "musst"),
        ("POST /collections/{}/points/query/batch", lambda one: changed(one, ("searches", 0, "using"), 7), "using"),
        ("POST /collections/{}/points/count", lambda one: dataclasses.replace(one, path="/collections/a/points/counts"),
         "no such operation"),
        ("POST /collections/{}/facet", lambda one: dataclasses.replace(one, method="PUT"), "no such operation"),
        ("PUT /collections/{}/points", lambda one: dataclasses.replace(one, query="wait=perhaps"), "wait"),
        ("PUT /collections/{}/points", lambda one: dataclasses.replace(one, query="weit=true"), "weit"),
        ("GET /aliases", lambda one: dataclasses.replace(one, answer={"result": {"alias": []}}), "answer 200"),
    ],
    ids=["field", "type", "value", "enum", "id", "filter", "vector", "path", "method", "parameter", "name", "answer"],
)  # fmt: skip
def test_a_wrong_request_is_found(recorded, description, name, mistake, problem):
    right = next(one for one in recorded if operation(one) == name)
    assert description.problems(right) == []
    assert any(problem in found for found in description.problems(mistake(right)))


OWN = {
    "paths": {
        "/things/{id}": {
            "put": {
                "parameters": [{"name": "wait", "in": "query", "schema": {"type": "boolean"}}],
                "requestBody": {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/Thing"}}}},
                "responses": {"200": {"content": {"application/json": {"schema": {"type": "boolean"}}}}},
            }
        }
    },
    "components": {
        "schemas": {
            "Thing": {
                "type": "object",
                "required": ["size"],
                "properties": {
                    "size": {"type": "integer", "minimum": 1, "nullable": True},
                    "color": {"anyOf": [{"type": "string", "enum": ["red"]}, {"nullable": True}]},
                },
            }
        }
    },
}


@pytest.mark.parametrize(
    ("changes", "right"),
    [
        ({}, True),
        ({"body": {"size": None, "color": None}}, True),
        ({"query": "wait=true"}, True),
        ({"query": "wait=1"}, False),
        ({"query": "wait=true&when=now"}, False),
        ({"body": {"size": 0}}, False),
        ({"body": {"color": "red"}}, False),
        ({"body": {"size": 1, "color": "blue"}}, False),
        ({"body": {"size": 1, "weight": 1}}, False),
        ({"body": None}, False),
        ({"answer": None}, False),
        ({"status": 500}, False),
        ({"method": "GET"}, False),
        ({"path": "/things/a/b"}, False),
    ],
)
def test_the_check_knows_right_from_wrong(changes, right):
    exchange = dataclasses.replace(Exchange("PUT", "/things/a", "", {"size": 1}, 200, True), **changes)
    assert (Description(OWN).problems(exchange) == []) is right
