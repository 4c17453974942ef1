"""How a collection is laid out on a Qdrant server: when it is made, and where it exists already."""

import logging

import pytest
from pydantic import ValidationError

from clipdex.config import Index, Settings
from clipdex.errors import ConfigurationError
from clipdex.index import Query, Sparse, open_index
from clipdex.index.where import in_index, parse
from tests.support.indexes import SMALL, point
from tests.support.qdrant import QdrantServer

STRICT = {"enabled": True, "unindexed_filtering_retrieve": False, "unindexed_filtering_update": False,
          "search_max_hnsw_ef": 4096, "search_max_oversampling": 16.0, "upsert_max_batchsize": 1024}  # fmt: skip
PINNED = {"turbo": {"bits": "bits4", "memory": "pinned"}}


@pytest.fixture
def server():
    with QdrantServer(recorded=True) as server:
        yield server


def ensure(server, **index):
    """Ensure the collection, and return the bodies that laid it out."""
    before = len(server.exchanges)
    with open_index(Settings.load(index={"url": server.url, **index}), SMALL) as opened:
        opened.ensure()
    changes = [one for one in server.exchanges[before:] if one.path == f"/collections/{SMALL.name}"]
    return [one.body for one in changes if one.method in ("PUT", "PATCH")]


def test_a_collection_without_a_size_is_left_to_the_server_but_for_strict_mode(server):
    (made,) = ensure(server)
    assert made["strict_mode_config"] == STRICT
    assert set(made) - {"strict_mode_config"} == {"vectors", "sparse_vectors", "metadata"}
    assert made["vectors"] == {"dense": {"size": 8, "distance": "Cosine"}}


@pytest.mark.parametrize(
    ("points", "quantization", "memory", "shards"),
    [(1_000_000, None, None, None), (10_000_000, PINNED, "cold", 3), (100_000_000, PINNED, "cold", 12)],
)
def test_the_expected_points_give_the_layout(server, points, quantization, memory, shards):
    (made,) = ensure(server, expected_points=points)
    assert made.get("quantization_config") == quantization
    assert made["vectors"]["dense"].get("memory") == memory
    assert made.get("shard_number") == shards


def test_what_is_set_goes_before_the_expected_points(server):
    (made,) = ensure(
        server, expected_points=10_000_000, quantization="int8", vectors_on_disk=False, shard_number=2,
        replication_factor=2, write_consistency_factor=2, payload_on_disk=False, strict_mode=False,
    )  # fmt: skip
    assert made["quantization_config"] == {"scalar": {"type": "int8"}}
    assert made["vectors"]["dense"]["memory"] == made["payload"]["memory"] == "cached"
    assert (made["shard_number"], made["replication_factor"], made["write_consistency_factor"]) == (2, 2, 2)
    assert made["strict_mode_config"] == {"enabled": False}


def test_an_existing_collection_keeps_its_layout_unless_another_is_wanted(server):
    ensure(server, quantization="int8", vectors_on_disk=True, replication_factor=2, strict_mode=False)
    assert ensure(server) == ensure(server, timeout_s=9) == ensure(server, expected_points=1_000_000) == []


@pytest.mark.parametrize(
    ("before", "after", "sent"),
    [
        ({}, {"quantization": "turbo"}, {"quantization_config": {"turbo": {"bits": "bits4"}}}),
        ({"quantization": "int8"}, {"quantization": "none"}, {"quantization_config": "Disabled"}),
        ({"quantization": "int8"}, {"quantization": "turbo", "vectors_on_disk": True},
         {"quantization_config": PINNED, "vectors": {"dense": {"memory": "cold"}}}),
        ({"vectors_on_disk": True}, {"vectors_on_disk": False}, {"vectors": {"dense": {"memory": "cached"}}}),
        ({}, {"payload_on_disk": False}, {"params": {"payload": {"memory": "cached"}}}),
        ({}, {"replication_factor": 2, "write_consistency_factor": 2},
         {"params": {"replication_factor": 2, "write_consistency_factor": 2}}),
        ({"strict_mode": False}, {"strict_mode": True}, {"strict_mode_config": STRICT}),
        ({}, {"strict_mode": False}, {"strict_mode_config": {"enabled": False}}),
    ],
)  # fmt: skip
def test_an_existing_collection_is_changed_in_place_once(server, before, after, sent):
    ensure(server, **before)
    assert ensure(server, **after) == [sent]
    assert ensure(server, **after) == []


def test_shards_that_cannot_be_changed_are_named_with_what_to_do(server, caplog):
    ensure(server, shard_number=2)
    with caplog.at_level(logging.WARNING, "clipdex"):
        assert ensure(server, shard_number=6) == []
    (warning,) = [one.getMessage() for one in caplog.records]
    assert "has 2 shards instead of 6" in warning and "CLIPDEX_INDEX__ALIAS" in warning


def test_a_filter_of_a_field_that_is_not_indexed_yet_names_the_next_step(server):
    ensure(server)
    declared = Settings.load(index={"url": server.url}, source={"metadata": {"camera": "string"}})
    where = {"camera": "cam-7"}
    message = r'"camera" .*the next ingestion makes the payload indexes'
    with open_index(declared) as index, pytest.raises(ConfigurationError, match=message):
        index.count(parse(where, declared))
    with open_index(declared, SMALL) as index:
        index.ensure()
        index.upsert([point("a", "a red car", camera="cam-7")])
        assert index.count(parse(where, declared)) == 1


@pytest.mark.parametrize(
    "where",
    [{"width": "640"}, {"height": "..720"}, {"duration": "2..5"}, {"time": "22:00..04:00"}, {"source": "cams/a"},
     {"recorded_at": "2026-11-03"}, {"day": ["2026-11-03"]}, {"engine": "sglang", "model": "m"},
     {"clip_id": "a", "part_of": "b"}],
    ids=str,
)  # fmt: skip
def test_each_filter_of_a_user_passes_strict_mode(server, where):
    ensure(server)
    settings = Settings.load(index={"url": server.url})
    with open_index(settings) as index:
        kept = in_index(index, parse(where, settings))
        assert index.count(kept) == len(list(index.scroll(kept))) == 0


@pytest.mark.parametrize(
    ("index", "params"),
    [
        ({}, None),
        ({"quantization": "none"}, None),
        ({"expected_points": 10_000_000}, {"quantization": {"rescore": True}}),
        ({"quantization": "int8", "rescore": False}, {"quantization": {"rescore": False}}),
        ({"quantization": "turbo", "oversampling": 3.0}, {"quantization": {"rescore": True, "oversampling": 3.0}}),
        ({"hnsw_ef": 512, "exact": True}, {"hnsw_ef": 512, "exact": True}),
    ],
)
def test_a_search_rescores_what_is_quantized(server, index, params):
    ensure(server)
    with open_index(Settings.load(index={"url": server.url, **index})) as opened:
        opened.nearest(Query([1.0] * SMALL.dimension, Sparse((1,), (1.0,)), depth=5))
    dense, sparse = server.exchanges[-1].body["searches"]
    assert (dense.get("params"), sparse.get("params")) == (params, None)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"quantization": "int4"}, "none"),
        ({"oversampling": 17}, "less than or equal to 16"),
        ({"shard_number": 0}, "greater than or equal to 1"),
        ({"replication_factor": 2, "write_consistency_factor": 3}, "no write could count"),
    ],
)
def test_a_setting_that_cannot_be_is_refused(wrong, message):
    with pytest.raises(ValidationError, match=message):
        Index(**wrong)
