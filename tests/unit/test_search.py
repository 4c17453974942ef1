"""Test the hits of a search, over both backends and with the real embedding model."""

import pytest
from qdrant_client import QdrantClient

from clipdex.config import Chunking, Embedding, Search, Settings
from clipdex.errors import ConfigurationError, NothingIndexed
from clipdex.index import Collection, Range, make_points, replace
from clipdex.index.chunking import Chunk, split
from clipdex.index.edge import locked
from clipdex.index.embeddings import open_embedder
from clipdex.index.search import EmptyQuery, search, search_once
from clipdex.storage.caption import Segment
from tests.support.indexes import SCENES, SMALL, caption, clip_points, edge_opener, fill, server_opener

pytestmark = pytest.mark.filterwarnings("ignore:Payload indexes have no effect in the local Qdrant")


@pytest.fixture(scope="module")
def model():
    return open_embedder(Embedding())


@pytest.fixture(params=["edge", "server"])
def index(request, tmp_path, model):
    client = QdrantClient(":memory:")
    opener = edge_opener(tmp_path) if request.param == "edge" else server_opener(client)
    with opener(Collection.of(Settings(), model)) as index:
        index.ensure()
        yield index
    client.close()


def ids(hits):
    return [hit.clip_id for hit in hits]


def test_clip_is_found_by_its_content(index, model):
    fill(index, model, SCENES)
    hits = search(index, model, "cyclists on a street")
    assert hits[0].clip_id == "bikes"
    assert (hits[0].uri, hits[0].day, hits[0].duration_s) == ("bikes.mp4", "2026-11-03", 10.0)
    assert hits[0].hits[0].text == SCENES["bikes"]


def test_clip_is_found_by_words_on_screen(index, model):
    fill(index, model, SCENES)
    assert ids(search(index, model, "42B"))[0] == "sign"


def test_best_hit_comes_first_and_no_more_than_the_limit(index, model):
    fill(index, model, SCENES)
    hits = search(index, model, "a red car", limit=3, weak=True)
    assert ids(hits)[0] == "car"
    assert len(hits) == 3
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)


def test_chunks_of_one_clip_come_as_one_hit_with_their_times(index, model):
    parts = [f"In part {n} a red car passes the house number {n}." for n in range(12)]
    segments = tuple(Segment(n, n + 1.0, part) for n, part in enumerate(parts))
    stored = caption(" ".join(parts), key="long", duration_s=12.0, segments=segments)
    chunks = split(stored, model, Chunking(tokens=32, overlap=0))
    vectors = model.embed_documents([chunk.text for chunk in chunks])
    replace(index, {"long": make_points("long", "long.mp4", "2026-11-03", stored, chunks, vectors)})
    fill(index, model, SCENES)
    hit = search(index, model, "house number 7", limit=2)[0]
    assert (hit.clip_id, hit.duration_s) == ("long", 12.0)
    assert len(hit.hits) > 3
    assert len({each.text for each in hit.hits}) == len(hit.hits)
    assert "number 7." in hit.hits[0].text
    assert hit.hits[0].start_s <= 7 < 8 <= hit.hits[0].end_s
    assert hit.score == hit.hits[0].score


def test_enough_clips_are_returned_if_one_has_most_of_the_chunks(index, model):
    text = "A red car turns left."
    many = [Chunk(n, f"{text} Take {n}.", 0.0, 1.0) for n in range(150)]
    replace(index, {"many": clip_points(model, "many", text, many)})
    fill(index, model, {f"c{n}": f"{thing} on a table." for n, thing in enumerate(["Cup", "Book", "Lamp", "Pen"])})
    assert len(search(index, model, "a red car turns left", limit=5, weak=True)) == 5


def test_exact_copies_are_both_found(index, model):
    fill(index, model, {**SCENES, "copy": SCENES["car"]})
    assert sorted(ids(search(index, model, "red car turning", limit=2))) == ["car", "copy"]


def test_same_query_gets_the_same_hits(index, model):
    fill(index, model, {f"c{n}": SCENES["car"] for n in range(8)})
    answers = [ids(search(index, model, "red car", limit=8)) for _ in range(3)]
    assert answers[0] == answers[1] == answers[2]


def test_day_and_filters_restrict_the_hits(index, model):
    fill(index, model, SCENES, day="2026-11-01")
    fill(index, model, {f"later-{name}": text for name, text in SCENES.items()}, day="2026-11-02")
    assert {hit.day for hit in search(index, model, "a red car", filters={"day": "2026-11-02"}, weak=True)} == {
        "2026-11-02"
    }
    assert ids(
        search(index, model, "a cat", filters={"clip_id": ["car", "later-sea"], "day": "2026-11-01"}, weak=True)
    ) == ["car"]
    assert search(index, model, "a cat", filters={"duration_s": Range(low=11)}, weak=True) == []
    assert search(index, model, "a cat", filters={"day": "2030-01-01"}, weak=True) == []


@pytest.mark.parametrize("query", ["", "  \n"])
def test_empty_query_is_rejected(index, model, query):
    with pytest.raises(EmptyQuery, match="enter words"):
        search(index, model, query)


def test_the_mode_selects_the_ranking(index, model):
    fill(index, model, SCENES)
    found = {
        mode: ids(search(index, model, "a kitten takes a nap, EXIT", how=Search(mode=mode), weak=True))
        for mode in ("dense", "sparse", "hybrid")
    }
    assert found["sparse"] == ["sign"]
    assert found["dense"][0] == "cat" and len(found["dense"]) == len(SCENES)
    assert set(found["hybrid"][:2]) == {"cat", "sign"}


def test_weights_move_a_clip_up(index, model):
    fill(index, model, SCENES)
    for dense, sparse, first in ((5, 1, "cat"), (1, 5, "sign"), (1, 0, "cat"), (0, 1, "sign")):
        how = Search(dense_weight=dense, sparse_weight=sparse, rrf_k=1)
        assert ids(search(index, model, "a kitten takes a nap, EXIT", how=how, weak=True))[0] == first


def test_a_query_without_indexable_words_finds_nothing_by_words_alone(index, model):
    fill(index, model, SCENES)
    assert search(index, model, "what is it", how=Search(mode="sparse")) == []


def test_settings_of_search_count_in_a_search(tmp_path, model):
    settings = Settings.load(home=tmp_path, search={"mode": "sparse"})
    with edge_opener(tmp_path)(Collection.of(settings, model)) as index:
        index.ensure()
        fill(index, model, SCENES)
    assert ids(search_once(settings, model, "a kitten takes a nap, EXIT")) == ["sign"]


def test_a_query_of_stop_words_has_weak_hits_alone(index, model):
    fill(index, model, SCENES)
    assert search(index, model, "what is it", limit=2) == []
    assert len(search(index, model, "what is it", limit=2, weak=True)) == 2


def test_empty_index_has_no_hit(index, model):
    assert search(index, model, "a red car") == []


def test_index_of_another_model_is_not_searched(tmp_path, model):
    with edge_opener(tmp_path)(SMALL) as index:
        index.ensure()
        with pytest.raises(ConfigurationError, match=r"made by the embedding model small@1/8"):
            search(index, model, "a red car")


def test_search_before_the_first_ingestion_names_the_next_step(tmp_path, model):
    with pytest.raises(NothingIndexed, match="run an ingestion first"):
        search_once(Settings.load(home=tmp_path), model, "a red car")


def test_search_needs_only_settings_and_a_query(tmp_path, model):
    settings = Settings.load(home=tmp_path)
    with edge_opener(tmp_path)(Collection.of(settings, model)) as index:
        index.ensure()
        fill(index, model, SCENES)
    assert ids(search_once(settings, model, "a red car", limit=1, filters={"day": "2026-11-03"})) == ["car"]


class LockWatcher:
    """Use an embedder; at each use, take the lock of the embedded index, as another process would."""

    def __init__(self, model, folder):
        self._model, self._folder, self.uses = model, folder, 0

    def __getattr__(self, name):
        with locked(self._folder, 0):
            self.uses += 1
        return getattr(self._model, name)


def test_a_search_does_not_lock_the_index_while_the_model_works(tmp_path, model):
    settings = Settings.load(home=tmp_path)
    with edge_opener(tmp_path)(Collection.of(settings, model)) as index:
        index.ensure()
        fill(index, model, SCENES)
    watcher = LockWatcher(model, settings.edge_path)
    assert ids(search_once(settings, watcher, "a red car", limit=1)) == ["car"]
    assert watcher.uses
