"""Reindexing, over both backends: a collection made anew, and when searches read it."""

import json
import shutil

import pytest

from clipdex.cli import main
from clipdex.config import Settings
from clipdex.errors import ConfigurationError, IndexUnavailable, LeaseHeld, NothingIndexed, RunIncomplete
from clipdex.index import open_index
from clipdex.index.embeddings import open_embedder
from clipdex.runs import leases
from clipdex.runs.outcomes import Outcome, ledger
from clipdex.stages.reindex import days_to_reindex, reindex_day, serve
from clipdex.storage.artifacts import Store
from tests.support.engine import StandIn
from tests.support.pipeline import DAY, Pipeline
from tests.support.qdrant import QdrantServer

NEXT_DAY = "2026-11-04"
SMALLER = {"tokens": 40, "overlap": 8}

pytestmark = pytest.mark.filterwarnings("ignore:Payload indexes have no effect in the local Qdrant")


@pytest.fixture
def engine():
    with StandIn(words=80) as engine:
        yield engine


@pytest.fixture(params=["edge", "server"])
def index(request):
    """Where the index lies, as settings."""
    if request.param == "edge":
        yield {}
        return
    with QdrantServer() as server:
        yield {"url": server.url}


@pytest.fixture
def pipeline(tmp_path, engine, index):
    """Three clips of one day and two of the next, indexed."""
    pipeline = Pipeline(tmp_path, [engine.url], index=index)
    pipeline.put(3)
    pipeline.put(2, NEXT_DAY, first=3)
    pipeline.run(days=(DAY, NEXT_DAY))
    return pipeline


def again(pipeline, **overrides):
    """The same archive and store, under other settings."""
    index = {"url": pipeline.settings.index.url}
    return Pipeline(pipeline.home, pipeline.settings.engine.base_urls, index=index, **overrides)


def reindexed(pipeline, run="reindex-1"):
    embedder = open_embedder(pipeline.settings.embedding)
    return [
        reindex_day(pipeline.settings, pipeline.store, embedder, day, run) for day in days_to_reindex(pipeline.store)
    ]


def served(pipeline, days):
    return serve(pipeline.settings, open_embedder(pipeline.settings.embedding), days)


def undisturbed(tmp_path, engine, **overrides):
    """What an ingestion under these settings from the start would have left, but for the moment of the captions."""
    other = Pipeline(tmp_path / "other", [engine.url], tmp_path / "clips", **overrides)
    other.run(days=(DAY, NEXT_DAY))
    return other.points()


def test_reindexed_points_are_those_of_an_ingestion_from_the_start_and_no_engine_is_asked(pipeline, engine, tmp_path):
    asked = len(engine.requests)
    smaller = again(pipeline, chunking=SMALLER)
    served(smaller, reindexed(smaller))
    assert len(engine.requests) == asked
    assert smaller.points() == undisturbed(tmp_path, engine, chunking=SMALLER)


def test_searches_read_the_former_collection_until_all_is_there_and_it_is_kept(pipeline):
    former = pipeline.points()
    smaller = again(pipeline, chunking=SMALLER)
    days = reindexed(smaller)
    assert pipeline.points() == former
    told = served(smaller, days)
    assert set(pipeline.points()) > set(former)
    with open_index(pipeline.settings) as index:
        assert index.collection.name == told.collection
    served(again(pipeline), reindexed(again(pipeline), "back"))
    assert pipeline.points() == former


def test_collection_that_lost_points_is_not_served(pipeline):
    smaller = again(pipeline, chunking=SMALLER)
    days = reindexed(smaller)
    former = pipeline.points()
    with pytest.raises(IndexUnavailable, match="reindex again"):
        served(smaller, [*days, days[0]])
    assert pipeline.points() == former


def test_stopped_half_way_it_goes_on_and_embeds_nothing_twice(pipeline):
    smaller = again(pipeline, chunking=SMALLER)
    embedder = open_embedder(smaller.settings.embedding)
    assert reindex_day(smaller.settings, smaller.store, embedder, DAY, "stopped").written == 3
    assert [(day.day, day.clips, day.written) for day in reindexed(smaller)] == [(DAY, 3, 0), (NEXT_DAY, 2, 2)]


def test_lost_collection_is_made_again(pipeline):
    former = pipeline.points()
    with open_index(pipeline.settings) as index:
        index.delete(list(former))
    served(pipeline, reindexed(pipeline))
    assert pipeline.points() == former


def test_lost_folder_is_made_again(tmp_path, engine):
    pipeline = Pipeline(tmp_path, [engine.url])
    pipeline.put(2)
    pipeline.run()
    former = pipeline.points()
    for folder in (tmp_path / ".clipdex/index").glob("clips-*"):
        shutil.rmtree(folder)
    with pytest.raises(ConfigurationError):
        pipeline.points()
    served(pipeline, reindexed(pipeline))
    assert pipeline.points() == former


def test_new_caption_takes_the_place_of_the_one_reindexed_before(pipeline):
    smaller = again(pipeline, chunking=SMALLER)
    reindexed(smaller)
    again(pipeline, engine={"max_tokens": 512}).run("r.2", days=(DAY,), recaption=True)
    served(smaller, reindexed(smaller, "reindex-2"))
    keys = {one.clip_id: one.caption_key for day in (DAY, NEXT_DAY) for one in ledger(pipeline.store, day).values()}
    assert {(point["clip_id"], point["caption_key"]) for point in smaller.points().values()} == set(keys.items())


def test_what_is_reindexed_is_done_for_later_runs(pipeline):
    smaller = again(pipeline, chunking=SMALLER)
    reindexed(smaller)
    assert smaller.plan("r.2", days=(DAY, NEXT_DAY)).to_do == 0


def test_clip_of_which_nothing_was_kept_is_found_by_its_caption(pipeline):
    pipeline.store.delete(pipeline.store.list("rebuild"))
    smaller = again(pipeline, chunking=SMALLER)
    assert [day.clips for day in reindexed(smaller)] == [3, 2]


def test_captions_that_are_gone_are_told_and_the_others_are_there(pipeline):
    one, *_ = ledger(pipeline.store, DAY).values()
    pipeline.store.delete([*pipeline.store.list("rebuild"), f"captions/{one.caption_key[:2]}/{one.caption_key}.json"])
    smaller = again(pipeline, chunking=SMALLER)
    with pytest.raises(RunIncomplete, match=r"the captions of 1 clips are gone .*tiny-.*ingest the day"):
        reindexed(smaller)
    known = ledger(pipeline.store, DAY).values()
    assert [said.uri for said in known if said.collection == one.collection] == [one.uri]
    assert {said.outcome for said in known} == {Outcome.INDEXED}


def test_day_that_an_ingestion_works_on_waits(pipeline):
    leases.acquire(pipeline.store, DAY, "ingestion", 60)
    with pytest.raises(LeaseHeld, match="worked on by ingestion"):
        reindexed(pipeline)


def test_empty_store_says_to_ingest_first(tmp_path):
    with pytest.raises(NothingIndexed, match="run an ingestion first"):
        days_to_reindex(Store.open(Settings.load(home=tmp_path)))


def test_command_says_what_searches_read_now_and_what_is_kept(pipeline, monkeypatch, capsys):
    with open_index(pipeline.settings) as index:
        former = index.collection.name
    for name, value in pipeline.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("CLIPDEX_INDEX__URL", pipeline.settings.index.url)
    monkeypatch.setenv("CLIPDEX_CHUNKING__TOKENS", "40")
    monkeypatch.setenv("CLIPDEX_CHUNKING__OVERLAP", "8")
    assert main(["reindex", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["before"] == former != told["collection"]
    assert told["points"] == len(pipeline.points()) == sum(day["chunks"] for day in told["days"])
