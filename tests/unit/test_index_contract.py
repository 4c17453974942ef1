"""Test the contract of both index backends: Qdrant Edge, and a server over HTTP, which the stand-in plays."""

from dataclasses import replace as replaced

import numpy as np
import pytest

from clipdex.config import Search
from clipdex.errors import ConfigurationError, NothingIndexed
from clipdex.index import Collection, Query, Range, Sparse, overwrite, point_id, replace, sparse_document, sparse_query
from clipdex.index.ranking import rank
from tests.support.indexes import OTHER, SMALL, edge_opener, http_opener, point
from tests.support.qdrant import QdrantServer


@pytest.fixture
def server():
    with QdrantServer() as server:
        yield server


@pytest.fixture(params=["edge", "server"])
def opener(request, tmp_path):
    if request.param == "edge":
        return edge_opener(tmp_path)
    return http_opener(request.getfixturevalue("server").url)


@pytest.fixture
def index(opener):
    with opener(SMALL) as index:
        index.ensure()
        yield index


def found(index, filters=None):
    return {hit.id: hit.payload for hit in index.scroll(filters)}


def texts(hits):
    return [hit.payload["text"] for hit in hits]


def unit(vector):
    return (np.array(vector) / np.linalg.norm(vector)).tolist()


def run_query(index, text, *, vector=None, limit=10, filters=None, how=None):
    dense = unit(point("", text, vector=vector).dense)
    found = index.nearest(Query(dense, sparse_query(text), depth=50, filters=filters))
    return rank(found, dense, how or Search())[:limit]


def test_search_before_the_first_ingestion_names_the_next_step(opener):
    with pytest.raises(NothingIndexed, match="run an ingestion"), opener():
        pass


def test_first_collection_is_served_under_the_alias(opener):
    with opener(SMALL) as index:
        index.ensure()
    with opener() as served:
        assert served.collection == SMALL
        assert served.count() == 0


def test_written_points_are_there_when_the_index_is_opened_again(opener):
    with opener(SMALL) as index:
        index.ensure()
        index.upsert([point("a", "a red car", duration_s=3.5)])
    with opener() as served:
        assert list(found(served).values()) == [point("a", "a red car", duration_s=3.5).payload]


def test_writing_twice_is_writing_once(index):
    points = [point("a", "one", no=0), point("a", "two", no=1), point("b", "three")]
    index.upsert(points)
    once = found(index)
    index.ensure()
    index.upsert(points)
    assert found(index) == once
    assert len(once) == index.count() == 3


def test_new_caption_leaves_no_point_of_the_old_one(index):
    replace(index, {"a": [point("a", "old one", no=0, key="old"), point("a", "old two", no=1, key="old")]})
    replace(index, {"b": [point("b", "of another clip", key="old")]})
    gone = replace(index, {"a": [point("a", "new", key="new")]})
    assert gone == 2
    assert sorted(payload["text"] for payload in found(index).values()) == ["new", "of another clip"]


def test_new_payloads_replace_the_old_ones_and_leave_the_vectors(index):
    points = [point("a", f"a red car {no}", no=no, speed=1.0) for no in range(3)]
    replace(index, {"a": points, "b": [point("b", "a blue boat")]})
    before = run_query(index, "a red car 1")
    kept = {one.id: {**one.payload, "camera": "cam-1"} for one in points[:2]}
    for payload in kept.values():
        del payload["speed"]
    assert overwrite(index, {"a": kept}) == 1
    assert found(index) == {**kept, point("b", "").id: point("b", "a blue boat").payload}
    assert [hit.id for hit in run_query(index, "a red car 1")] == [hit.id for hit in before if hit.id != points[2].id]
    assert index.count({"camera": "cam-1"}) == 2


def test_shorter_caption_under_the_same_key_leaves_no_tail(index):
    replace(index, {"a": [point("a", f"part {no}", no=no) for no in range(3)]})
    replace(index, {"a": [point("a", "part 0", no=0)]})
    assert [payload["chunk_no"] for payload in found(index).values()] == [0]


def test_clip_without_points_loses_those_it_had(index):
    replace(index, {"a": [point("a", "one")], "b": [point("b", "two")]})
    assert replace(index, {"a": []}) == 1
    assert [payload["clip_id"] for payload in found(index).values()] == ["b"]


def test_replacement_that_was_interrupted_can_be_repeated(index):
    replace(index, {"a": [point("a", f"old {no}", no=no, key="old") for no in range(5)]})
    new = [point("a", f"new {no}", no=no, key="new") for no in range(3)]
    index.upsert(new[:2])
    replace(index, {"a": new})
    assert found(index) == {each.id: each.payload for each in new}


def test_replacing_nothing_changes_nothing(index):
    replace(index, {"a": [point("a", "one")]})
    assert replace(index, {}) == 0
    assert index.count() == 1


def test_points_of_many_clips_are_found_past_one_page(index):
    clips = {f"c{n}": [point(f"c{n}", f"clip {n}", no=no) for no in range(2)] for n in range(700)}
    replace(index, clips)
    wanted = list(clips)[:600]
    assert index.point_ids(wanted) == {each.id for clip in wanted for each in clips[clip]}
    assert len(found(index)) == 1400


def test_delete_removes_only_the_named_points(index):
    first, second = point("a", "one"), point("b", "two")
    index.upsert([first, second])
    index.delete([first.id])
    assert list(found(index)) == [second.id]


def test_each_kind_of_filter_keeps_the_matching_points(index):
    index.upsert(
        [
            point("a", "one", day="2026-11-01", width=640, duration_s=2.5, engine="sglang"),
            point("b", "two", day="2026-11-02", width=640, duration_s=5.0, engine="detectors"),
            point("c", "three", day="2026-11-03", width=1280, duration_s=9.5, engine="detectors"),
        ]
    )
    kept = {
        "value": {"day": "2026-11-02"},
        "whole number": {"width": 640},
        "fraction": {"duration_s": 2.5},
        "one of": {"day": ["2026-11-01", "2026-11-03"]},
        "from": {"duration_s": Range(low=5)},
        "from to": {"duration_s": Range(2, 5)},
        "two fields": {"width": 640, "engine": "detectors"},
        "no such field": {"camera": "north"},
    }
    clips = {name: "".join(sorted(p["clip_id"] for p in found(index, by).values())) for name, by in kept.items()}
    assert clips == {
        "value": "b",
        "whole number": "ab",
        "fraction": "a",
        "one of": "ac",
        "from": "bc",
        "from to": "ab",
        "two fields": "b",
        "no such field": "",
    }
    assert {name: index.count(by) for name, by in kept.items()} == {name: len(clips[name]) for name in clips}


def test_query_finds_by_meaning_and_by_words(index):
    near, far = np.eye(8)[0], np.eye(8)[7]
    index.upsert(
        [
            point("meaning", "nothing in common", vector=near),
            point("words", "a zebra crossing", vector=-near),
            *(point(f"f{n}", f"filler {n}", vector=far + np.eye(8)[1 + n % 6] / 9) for n in range(20)),
        ]
    )
    hits = run_query(index, "zebra", vector=near)
    assert {hit.payload["clip_id"] for hit in hits[:2]} == {"meaning", "words"}
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)


def test_query_of_stop_words_alone_still_finds_by_meaning(index):
    index.upsert([point("a", "one", vector=np.eye(8)[0]), point("b", "two", vector=np.eye(8)[1])])
    assert sparse_query("the of and") == Sparse((), ())
    assert texts(run_query(index, "the of and", vector=np.eye(8)[1])) == ["two", "one"]


def test_query_keeps_to_its_filters(index):
    index.upsert([point(f"c{n}", f"red car {n}", day=f"2026-11-0{1 + n % 3}") for n in range(30)])
    hits = run_query(index, "red car", limit=20, filters={"day": "2026-11-02"})
    assert len(hits) == 10
    assert {hit.payload["day"] for hit in hits} == {"2026-11-02"}


def test_vectors_of_another_length_are_rejected_before_anything_is_written(opener):
    with opener(SMALL) as index:
        index.ensure()
    message = r"small@1/8 of 8 dimensions.*longer@1/16 of 16"
    with opener(Collection(SMALL.name, "longer@1/16", 16)) as other, pytest.raises(ConfigurationError, match=message):
        other.ensure()


def test_another_model_behind_the_same_name_is_rejected_before_anything_is_written(opener):
    probe, other = np.eye(2, 8).tolist(), np.eye(2, 8, 1).tolist()
    with opener(replaced(SMALL, probe=probe)) as index:
        index.ensure()
    with opener(replaced(SMALL, probe=other)) as index, pytest.raises(ConfigurationError, match=r"cosine 0\.000"):
        index.ensure()
    with opener() as served:
        served.collection.check(SMALL.embedder, 8, probe)
        with pytest.raises(ConfigurationError, match="another model behind the name small@1/8"):
            served.collection.check(SMALL.embedder, 8, other)


def test_a_collection_of_an_earlier_release_gets_the_probe_when_it_is_written(opener):
    with opener(SMALL) as index:
        index.ensure()
        index.upsert([point("a", "by an earlier release")])
    with opener() as served:
        assert not len(served.collection.probe)
    probe = np.eye(2, 8).tolist()
    with opener(replaced(SMALL, probe=probe)) as index:
        index.ensure()
    with opener() as served:
        assert served.collection == SMALL and served.collection.probe == probe
        assert texts(served.scroll()) == ["by an earlier release"]


def test_another_model_fills_its_own_collection_until_it_is_switched_to(opener):
    with opener(SMALL) as index:
        index.ensure()
        index.upsert([point("a", "by the old model")])
    with opener(OTHER) as index:
        index.ensure()
        index.upsert([point("a", "by the new model")])
    with opener() as served:
        assert texts(served.scroll()) == ["by the old model"]
    with opener(OTHER) as index:
        index.switch()
    with opener() as served:
        assert served.collection == OTHER
        assert texts(served.scroll()) == ["by the new model"]


@pytest.mark.parametrize(
    "how",
    [
        Search(),
        Search(density_weight=0, sparse_weight=0.5),
        Search(fusion="rrf"),
        Search(fusion="rrf", dense_weight=3, sparse_weight=0.5),
        Search(fusion="rrf", sparse_weight=0),
    ],
    ids=["default", "scores", "ranks", "weighted ranks", "ranks by meaning"],
)
def test_both_backends_rank_alike(tmp_path, server, how):
    words = [f"word{n}" for n in range(18)]
    rng = np.random.default_rng(7)
    # Texts differ in length, so that no two are equally near.
    points = [point(f"c{n}", " ".join(rng.choice(words, 3 + n))) for n in range(200)]
    answers = []
    for opener in (edge_opener(tmp_path), http_opener(server.url)):
        with opener(SMALL) as index:
            index.ensure()
            replace(index, {each.payload["clip_id"]: [each] for each in points})
            queries = [points[n].payload["text"] for n in range(0, 60, 3)]
            hits = [run_query(index, text, limit=40, how=how) for text in queries]
        answers.append([{hit.id: hit.score for hit in each} for each in hits])
    for one, other in (answers, answers[::-1]):
        for scores, others in zip(one, other, strict=True):
            best = sorted(scores, key=scores.__getitem__, reverse=True)[:10]
            assert len(best) == 10
            assert [scores[id] for id in best] == pytest.approx([others[id] for id in best], abs=0.002)


@pytest.mark.parametrize("fusion", ["score", "rrf"])
def test_weights_decide_between_the_rankings(index, fusion):
    by_words, by_meaning = (
        point("words", "a red car", vector=[0.0] * 7 + [1.0]),
        point("meaning", "sea", vector=[1.0] * 8),
    )
    index.upsert([by_words, by_meaning])

    def first(dense, sparse):
        how = Search(fusion=fusion, dense_weight=dense, sparse_weight=sparse, rrf_k=1)
        return run_query(index, "a red car", vector=[1.0] * 8, how=how)[0].payload["clip_id"]

    found = [first(*weights) for weights in ((5.0, 1.0), (1.0, 5.0), (1.0, 0.0), (0.0, 1.0))]
    assert found == ["meaning", "words", "meaning", "words"]


def test_a_query_without_any_ranking_has_no_hit(index):
    index.upsert([point("a", "a red car")])
    found = index.nearest(Query((), Sparse((), ()), depth=50))
    assert (list(found.dense), list(found.sparse)) == ([], [])
    assert rank(found, (), Search()) == []


def test_dropping_a_collection_leaves_the_others(opener):
    with opener(SMALL) as index:
        index.ensure()
        index.upsert([point("a", "kept")])
    with opener(OTHER) as index:
        index.ensure()
        index.upsert([point("a", "dropped")])
        index.drop()
        index.drop()
        index.ensure()
        assert index.count() == 0
    with opener() as served:
        assert texts(served.scroll()) == ["kept"]


def test_dropping_the_served_collection_removes_the_alias(opener):
    with opener(SMALL) as index:
        index.ensure()
        index.drop()
    with pytest.raises(NothingIndexed, match="run an ingestion"), opener():
        pass


def test_point_is_named_for_its_clip_its_caption_and_its_place():
    assert point_id("a", "k", 0) == "ff6cbc18-c03c-5b9a-a73d-0ec578f94ca1"
    assert len({point_id(*by) for by in [("a", "k", 0), ("b", "k", 0), ("a", "l", 0), ("a", "k", 1)]}) == 4


def test_sparse_weights_of_a_document_and_a_query_meet():
    document, query = sparse_document("Two people are riding bicycles."), sparse_query("a bicycle rider")
    assert set(sparse_query("bicycle ride").indices) <= set(document.indices)
    assert set(query.values) == {1.0}


def test_words_are_split_in_languages_without_spaces():
    document = sparse_document("一辆红色的汽车在街上左转。一个人在跑步。")
    assert set(sparse_query("汽车").indices) <= set(document.indices)
    assert not set(sparse_query("飞机").indices) & set(document.indices)


def test_hits_have_the_wanted_fields_and_their_payloads_are_read_by_id(index):
    index.ensure()
    points = [point("a", "a red car"), point("b", "a blue boat")]
    index.upsert(points)
    hits = index.nearest(Query(points[0].dense, sparse_query("red boat"), depth=5, fields=("clip_id",)))
    assert {hit.id: hit.payload for hit in (*hits.dense, *hits.sparse)} == {
        points[0].id: {"clip_id": "a"},
        points[1].id: {"clip_id": "b"},
    }
    assert index.payloads([points[1].id, point("c", "gone").id]) == {points[1].id: points[1].payload}
    assert index.payloads([]) == {}
