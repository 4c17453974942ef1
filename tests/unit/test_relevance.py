"""Test that a query without a match gets no hit, and what decides it."""

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


def test_a_calibration_of_ones_own_counts(index, model):
    how = Search(calibration=(0.0, 0.0, 3.0))
    assert {round(hit.relevance, 2) for hit in search(index, model, NONSENSE[0], how=how)} == {0.95}


def test_words_alone_have_no_relevance(index, model):
    (hit,) = search(index, model, "EXIT", how=Search(mode="sparse"))
    assert (hit.clip_id, hit.relevance, hit.weak) == ("sign", None, False)


def test_a_fit_separates_what_it_was_given():
    matches = [Evidence(0.5 + n / 100, 0.6) for n in range(30)]
    others = [Evidence(0.2 + n / 100, 0.1) for n in range(20)]
    fitted = fit(matches, others)
    assert min(map(fitted.probability, matches)) > 0.5 > max(map(fitted.probability, others))


def test_a_probability_stays_between_0_and_1():
    steep = Calibration(1e6, 0.0, 0.0)
    assert steep.probability(Evidence(-1.0, 0.0)) < 1e-9
    assert steep.probability(Evidence(1.0, 0.0)) > 1 - 1e-9
