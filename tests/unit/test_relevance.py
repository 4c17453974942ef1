"""Test that a query without a match gets no hit, and what decides it."""

import math
import random
from dataclasses import replace

import pytest

from clipdex.config import Search, Settings
from clipdex.index import Collection
from clipdex.index.embeddings import open_embedder
from clipdex.index.relevance import CALIBRATIONS, Calibration, Evidence, fit
from clipdex.index.search import search
from tests.support.indexes import SCENES, edge_opener, fill

NONSENSE = [
    "zebras and elephants",
    "how do I reset my router password",
    "xqvzt brmlk",
    "quarterly earnings of a bank",
]


@pytest.fixture(scope="module")
def model():
    return open_embedder(Settings().embedding, "en")


@pytest.fixture
def index(tmp_path, model):
    with edge_opener(tmp_path)(Collection.of(Settings.load(home=tmp_path), model)) as index:
        index.ensure()
        fill(index, model, SCENES)
        yield index


@pytest.mark.parametrize("query", NONSENSE)
def test_a_query_that_no_clip_answers_has_no_hit_unless_weak_ones_are_wanted(index, model, query):
    assert search(index, model, query) == []
    nearest = search(index, model, query, weak=True)
    assert len(nearest) == len(SCENES)
    assert all(hit.weak and hit.relevance < Search().min_relevance for hit in nearest)


@pytest.mark.parametrize(
    ("query", "clip"), [("a red car turning", "car"), ("a kitten takes a nap", "cat"), ("waves on a beach", "sea")]
)
def test_a_query_that_a_clip_answers_has_it_first(index, model, query, clip):
    first = search(index, model, query)[0]
    assert (first.clip_id, first.weak) == (clip, False)
    assert first.relevance >= Search().min_relevance


def test_the_limit_of_relevance_is_a_setting(index, model):
    assert search(index, model, "a red car turning", how=Search(min_relevance=1.0)) == []
    assert len(search(index, model, NONSENSE[0], how=Search(min_relevance=0.0))) == len(SCENES)


def test_a_model_without_calibration_leaves_nothing_out(index, model, monkeypatch):
    monkeypatch.delitem(CALIBRATIONS, model.identity)
    hits = search(index, model, NONSENSE[0])
    assert len(hits) == len(SCENES)
    assert {(hit.relevance, hit.weak) for hit in hits} == {(None, False)}


def test_a_weak_first_clip_hides_no_match_below_it(tmp_path, model):
    """The order is that of scores; the most relevant clip may be second."""
    texts = {"words": "zebra", **{f"ride-{n}": f"A cyclist rides a bicycle past a shop, take {n}." for n in range(10)}}
    how = Search(mode="dense", density_weight=0, calibration=(0.0, 20.0, -6.0))
    with edge_opener(tmp_path)(Collection.of(Settings.load(home=tmp_path), model)) as index:
        index.ensure()
        fill(index, model, texts)
        first, second, *_ = search(index, model, "zebra, or a cyclist on a bicycle", how=how, weak=True)
        assert (first.clip_id, first.weak, second.weak) == ("words", True, False)
        (hit,) = search(index, model, "zebra, or a cyclist on a bicycle", how=how, limit=1)
    assert hit.clip_id == second.clip_id


def test_a_calibration_of_ones_own_counts(index, model):
    how = Search(calibration=(0.0, 0.0, 3.0))
    odds = math.exp(3) / math.sqrt(16)
    (relevance,) = {hit.relevance for hit in search(index, model, NONSENSE[0], how=how)}
    assert relevance == pytest.approx(odds / (1 + odds))


def test_the_more_chunks_were_searched_the_more_a_match_needs(index, model):
    """Of many chunks, a wrong one is near by chance. A filter leaves few."""
    query = "a kitten takes a nap"
    fill(index, model, {f"street-{n}": f"A red car passes house number {n}." for n in range(50)})
    of_all = search(index, model, query)[0]
    (of_one,) = search(index, model, query, filters={"clip_id": ["cat"]})
    assert of_one.clip_id == of_all.clip_id == "cat" and of_one.relevance > of_all.relevance
    (of_few_candidates,) = search(index, model, query, limit=1, how=Search(depth=1))
    assert of_few_candidates.relevance == of_all.relevance


def test_of_collections_that_were_not_measured_the_nearest_measured_size_counts():
    match = [Calibration(10.0, 5.0, 0.0).probability(Evidence(0.5, 0.5, n)) for n in (1, 16, 100, 10_000, 500_000)]
    assert match[0] == match[1] > match[2] > match[3] == match[4]


PLAIN = {
    "bicycle": "0.0-2.5 s: a person, possibly on a bicycle. The picture is mostly grey. "
    "2.5-3.8 s: two cars; the camera moves a little. Mostly grey in colour.",
    "exit": '0.0-4.0 s: the text "EXIT" can be read; the background is dark green.',
    "person": "0.0-3.7 s: a person; the camera is still. The person moves from right to left.",
    "nothing": "0.0-2.6 s: no object was recognised in the picture; parts of it move; the camera is still.",
    "animal": "0.0-3.0 s: what looks like an animal; the camera moves a little. The picture is mostly green and grey.",
    "tie": "0.0-4.0 s: a close-up of a person with a tie; the camera is still. The picture is mostly grey and black.",
}


@pytest.mark.parametrize(
    ("query", "clips"),
    [
        ("people riding bicycles", {"bicycle"}),
        ("EXIT", {"exit"}),
        ("a person walking from right to left", {"person"}),
        ("cars", {"bicycle"}),
        ("zebra crossing elephants", set()),
        ("quarterly earnings of a bank", set()),
        ("xqvzt brmlk", set()),
    ],
)
def test_a_few_words_find_a_plain_caption_or_nothing(tmp_path, model, query, clips):
    with edge_opener(tmp_path)(Collection.of(Settings.load(home=tmp_path), model)) as index:
        index.ensure()
        fill(index, model, PLAIN)
        hits = search(index, model, query)
    assert {hit.clip_id for hit in hits[:1]} == clips


def test_words_alone_have_no_relevance(index, model):
    (hit,) = search(index, model, "EXIT", how=Search(mode="sparse"))
    assert (hit.clip_id, hit.relevance, hit.weak) == ("sign", None, False)


def test_a_fit_separates_what_it_was_given():
    right = [Evidence(0.4 + n / 100, 0.6, 50) for n in range(30)]
    wrong = [[Evidence(0.25 + n / 100, 0.1, 50), Evidence(0.1, 0.1, 50)] for n in range(30)]
    fitted = fit([(right, wrong)])
    assert [fitted.probability(one) > 0.5 for one in right] == [True] * 30
    assert [max(map(fitted.probability, hits)) < 0.5 for hits in wrong] == [True] * 30


def test_a_fit_to_a_larger_collection_has_the_same_relevance_there():
    chance = random.Random(1)
    right = [Evidence(chance.gauss(0.5, 0.1), chance.gauss(0.5, 0.2), 50) for _ in range(200)]
    wrong = [[Evidence(chance.gauss(0.3, 0.1), chance.gauss(0.2, 0.2), 50)] for _ in range(200)]
    fitted = fit([(right, wrong)])
    of_more = fit([([replace(one, chunks=5000) for one in right], [[replace(one, chunks=5000)] for (one,) in wrong])])
    assert of_more.bias == pytest.approx(fitted.bias + math.log(100) / 2, abs=0.05)
    assert of_more.probability(replace(right[0], chunks=5000)) == pytest.approx(fitted.probability(right[0]), abs=0.01)


def test_a_probability_stays_between_0_and_1():
    steep = Calibration(1e6, 0.0, 0.0)
    assert steep.probability(Evidence(-1.0, 0.0)) < 1e-9
    assert steep.probability(Evidence(1.0, 0.0)) > 1 - 1e-9
