"""Test how the chunks found by meaning and by words become one ranking, and what a query without a match gets."""

import numpy as np
import pytest

from clipdex.config import Search
from clipdex.index.points import Candidates, Hit
from clipdex.index.ranking import rank


def unit(*values):
    vector = np.array(values, np.float32)
    return (vector / np.linalg.norm(vector)).tolist()


QUERY = unit(1, 0, 0, 0)


def hit(name, vector, *, words=None):
    """Return a chunk with its cosine to QUERY as score, or with a BM25 score. name: of the clip, and its chunk"""
    return Hit(name, float(vector[0]) if words is None else words, {"clip_id": name.split("/")[0]}, vector)


def order(candidates, query=QUERY, **how):
    return [hit.id for hit in rank(candidates, query, Search(**how))]


def test_nothing_found_is_an_empty_ranking():
    assert rank(Candidates(), QUERY, Search()) == []


def test_meaning_alone_ranks_by_cosine():
    found = Candidates([hit("near", unit(9, 1, 0, 0)), hit("far", unit(1, 9, 0, 0))])
    assert order(found, mode="dense") == ["near", "far"]


def test_words_alone_rank_by_bm25():
    found = Candidates((), [Hit("a", 2.0, {"clip_id": "a"}), Hit("b", 7.0, {"clip_id": "b"})])
    assert order(found, query=(), mode="sparse") == ["b", "a"]


def test_a_chunk_of_another_rank_wins_by_its_words():
    near, worded = unit(9, 3, 0, 0), unit(9, 0, 4, 0)
    found = Candidates([hit("near", near), hit("worded", worded)], [hit("worded", worded, words=5.0)])
    assert order(found) == ["worded", "near"]
    assert order(found, sparse_weight=0) == ["near", "worded"]


def test_a_chunk_found_by_words_alone_counts_by_its_cosine_too():
    pool = [hit(f"p{n}", unit(5, 5 - n, n, 0)) for n in range(5)]
    near, far = unit(5, 0, 0, 5), unit(-5, 0, 0, 1)
    found = Candidates(pool, [hit("far", far, words=5.0), hit("near", near, words=5.0)])
    ranked = order(found)
    assert ranked.index("near") < ranked.index("far")


def test_a_chunk_like_many_others_makes_room_for_one_like_none():
    crowd = [hit(f"crowd{n}", unit(10, 5, 0.01 * n, 0)) for n in range(30)]
    found = Candidates([*crowd, hit("alone", unit(10, 0, 0, 5.5))])
    assert order(found, density_weight=0)[-1] == "alone"
    assert order(found)[0] == "alone"


def test_chunks_of_one_clip_are_not_its_crowd():
    own = [hit(f"a/{n}", unit(10, 5, 0.1 * n, 0)) for n in range(30)]
    found = Candidates([*own, hit("b/0", unit(10, 0, 0, 5.5))])
    assert order(found)[0] == "a/0"


def test_cosines_of_another_scale_rank_alike():
    """E5's cosines lie between 0.7 and 0.9, those of MiniLM between 0 and 0.8."""
    generator = np.random.default_rng(1)
    wide, words = generator.uniform(0, 0.8, 50), generator.choice(50, 10, replace=False)

    def ranked(cosines):
        vectors = [unit(cosine, np.sqrt(1 - cosine**2), 0, 0) for cosine in cosines]
        by_meaning = sorted((hit(f"c{n}", vector) for n, vector in enumerate(vectors)), key=lambda one: -one.score)
        by_words = [hit(f"c{n}", vectors[n], words=float(10 - place)) for place, n in enumerate(words)]
        return order(Candidates(by_meaning, by_words), density_weight=0)

    assert ranked(wide) == ranked(0.7 + wide / 4)


def test_equal_vectors_are_ranked_by_words_then_by_id():
    same = unit(1, 1, 0, 0)
    found = Candidates([hit(name, same) for name in "cab"], [hit("c", same, words=1.0)])
    assert order(found) == ["c", "a", "b"]


@pytest.mark.parametrize(("dense", "sparse", "first"), [(5, 1, "near"), (1, 5, "worded"), (1, 0, "near")])
def test_ranks_are_fused_with_weights(dense, sparse, first):
    near, worded = unit(1, 0, 0, 0), unit(0, 1, 0, 0)
    found = Candidates([hit("near", near), hit("worded", worded)], [hit("worded", worded, words=9.0)])
    assert order(found, fusion="rrf", rrf_k=1, dense_weight=dense, sparse_weight=sparse)[0] == first


def test_ranks_count_however_large_the_constant_is():
    found = Candidates((), [Hit(f"c{n}", 10.0 - n, {"clip_id": f"c{n}"}) for n in reversed(range(10))][::-1])
    assert order(found, query=(), mode="sparse", fusion="rrf", rrf_k=100_000) == [f"c{n}" for n in range(10)]
