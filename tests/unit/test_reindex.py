"""Test reindexing over both backends: the new collection, and when searches read it."""

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
from tests.support.pipeline import DAY, Pipeline
from tests.support.qdrant import QdrantServer

NEXT_DAY = "2026-11-04"
SMALLER = {"tokens": 40, "overlap": 8}

pytestmark = pytest.mark.filterwarnings("ignore:Payload indexes have no effect in the local Qdrant")


@pytest.fixture(params=["edge", pytest.param("server", marks=pytest.mark.slow)])
def index(request):
    """Return the settings of the index."""
    if request.param == "edge":
        yield {}
        return
    with QdrantServer() as server:
        yield {"url": server.url}


@pytest.fixture
def pipeline(tmp_path, engine, index):
    """Index three clips of one day and two of the next."""
    pipeline = Pipeline(tmp_path, [engine.url], index=index)
    pipeline.put(3)
    pipeline.put(2, NEXT_DAY, first=3)
    pipeline.run(days=(DAY, NEXT_DAY))
    return pipeline


def again(pipeline, **overrides):
    """Open the same archive and store with other settings."""
    index = {"url": pipeline.settings.index.url}
    return Pipeline(pipeline.home, pipeline.settings.engine.base_urls, index=index, **overrides)


def reindexed(pipeline, run="reindex-1"):
    embedder = open_embedder(pipeline.settings.embedding)
    return [
        reindex_day(pipeline.settings, pipeline.store, embedder, day, run) for day in days_to_reindex(pipeline.store)
    ]


def served(pipeline, days):
    return serve(pipeline.settings, open_embedder(pipeline.settings.embedding), days)


def ingested_from_scratch(tmp_path, engine, **overrides):
    """Return the points of a new ingestion of the same clips with these settings."""
    other = Pipeline(tmp_path / "other", [engine.url], tmp_path / "clips", **overrides)
    other.run(days=(DAY, NEXT_DAY))
    return other.points()


def test_reindexed_points_equal_those_of_a_new_ingestion_and_no_engine_gets_a_request(pipeline, engine, tmp_path):
    before = len(engine.requests)
    smaller = again(pipeline, chunking=SMALLER)
    served(smaller, reindexed(smaller))
    assert len(engine.requests) == before
    assert smaller.points() == ingested_from_scratch(tmp_path, engine, chunking=SMALLER)


def test_searches_read_the_former_collection_until_the_new_one_is_complete(pipeline):
    former = pipeline.points()
    smaller = again(pipeline, chunking=SMALLER)
    days = reindexed(smaller)
    assert pipeline.points() == former
    serving = served(smaller, days)
    assert set(pipeline.points()) > set(former)
    with open_index(pipeline.settings) as index:
        assert index.collection.name == serving.collection
    served(again(pipeline), reindexed(again(pipeline), "back"))
    assert pipeline.points() == former


def test_collection_with_missing_points_is_not_served(pipeline):
    smaller = again(pipeline, chunking=SMALLER)
    days = reindexed(smaller)
    former = pipeline.points()
    with pytest.raises(IndexUnavailable, match="reindex again"):
        served(smaller, [*days, days[0]])
    assert pipeline.points() == former


def test_interrupted_reindexing_resumes_and_embeds_nothing_twice(pipeline):
    smaller = again(pipeline, chunking=SMALLER)
    embedder = open_embedder(smaller.settings.embedding)
    assert reindex_day(smaller.settings, smaller.store, embedder, DAY, "stopped").written == 3
    assert [(day.day, day.clips, day.written) for day in reindexed(smaller)] == [(DAY, 3, 0), (NEXT_DAY, 2, 2)]


def test_emptied_collection_is_rebuilt(pipeline):
    former = pipeline.points()
    with open_index(pipeline.settings) as index:
        index.delete(list(former))
    served(pipeline, reindexed(pipeline))
    assert pipeline.points() == former


def test_deleted_folder_is_rebuilt(tmp_path, engine):
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


def test_new_caption_replaces_the_one_reindexed_before(pipeline):
    smaller = again(pipeline, chunking=SMALLER)
    reindexed(smaller)
    again(pipeline, engine={"max_tokens": 512}).run("r.2", days=(DAY,), recaption=True)
    served(smaller, reindexed(smaller, "reindex-2"))
    keys = {one.clip_id: one.caption_key for day in (DAY, NEXT_DAY) for one in ledger(pipeline.store, day).values()}
    assert {(point["clip_id"], point["caption_key"]) for point in smaller.points().values()} == set(keys.items())


def test_reindexed_clips_are_not_planned_again(pipeline):
    smaller = again(pipeline, chunking=SMALLER)
    reindexed(smaller)
    assert smaller.plan("r.2", days=(DAY, NEXT_DAY)).to_do == 0


def test_payloads_of_an_earlier_release_are_brought_up_to_date_without_embedding(pipeline, monkeypatch):
    now = pipeline.points()
    folder = pipeline.clips / DAY.replace("-", "/")
    before = {id: {name: value for name, value in one.items() if name not in NEW} for id, one in now.items()}
    with pipeline.open_index() as index:
        index.overwrite(before)
    assert pipeline.points() == before
    assert pipeline.search("a clip", where={"source": str(folder)}) == []
    embedder = open_embedder(pipeline.settings.embedding)
    embedded: list[str] = []
    monkeypatch.setattr(type(embedder), "embed_documents", lambda self, texts: embedded.extend(texts))
    days = reindexed(pipeline)
    assert [(day.clips, day.written) for day in days] == [(3, 3), (2, 2)]
    assert pipeline.points() == now
    assert [day.written for day in reindexed(pipeline, "reindex-2")] == [0, 0]
    assert embedded == []
    assert len(pipeline.search("a clip", where={"source": str(folder)})) == 3


NEW = ("uri_folders", "local_minute")


def test_clips_without_rebuild_data_are_reindexed_from_their_captions(pipeline):
    pipeline.store.delete(pipeline.store.list("rebuild"))
    smaller = again(pipeline, chunking=SMALLER)
    assert [day.clips for day in reindexed(smaller)] == [3, 2]


def test_missing_captions_are_reported_and_the_other_clips_are_reindexed(pipeline):
    one, *_ = ledger(pipeline.store, DAY).values()
    pipeline.store.delete([*pipeline.store.list("rebuild"), f"captions/{one.caption_key[:2]}/{one.caption_key}.json"])
    smaller = again(pipeline, chunking=SMALLER)
    with pytest.raises(RunIncomplete, match=r"the captions of 1 clips are gone .*tiny-.*ingest the day"):
        reindexed(smaller)
    known = ledger(pipeline.store, DAY).values()
    assert [outcome.uri for outcome in known if outcome.collection == one.collection] == [one.uri]
    assert {outcome.outcome for outcome in known} == {Outcome.INDEXED}


def test_day_held_by_an_ingestion_is_not_reindexed(pipeline):
    leases.acquire(pipeline.store, DAY, "ingestion", 60)
    with pytest.raises(LeaseHeld, match="worked on by ingestion"):
        reindexed(pipeline)


def test_reindexing_an_empty_store_raises_an_error_with_the_next_step(tmp_path):
    with pytest.raises(NothingIndexed, match="run an ingestion first"):
        days_to_reindex(Store.open(Settings.load(home=tmp_path)))


def test_command_prints_the_former_and_the_new_collection(pipeline, monkeypatch, capsys):
    with open_index(pipeline.settings) as index:
        former = index.collection.name
    for name, value in pipeline.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("CLIPDEX_INDEX__URL", pipeline.settings.index.url)
    monkeypatch.setenv("CLIPDEX_CHUNKING__TOKENS", "40")
    monkeypatch.setenv("CLIPDEX_CHUNKING__OVERLAP", "8")
    assert main(["reindex", "--json"]) == 0
    output = json.loads(capsys.readouterr().out)
    assert output["before"] == former != output["collection"]
    assert output["points"] == len(pipeline.points()) == sum(day["chunks"] for day in output["days"])
