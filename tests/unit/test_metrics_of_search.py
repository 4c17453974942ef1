"""Test the metrics of an evaluation against values computed by hand, and their intervals against theory."""

from math import log2

import pytest

from clipdex.evaluation.metrics import Answer, differences, figures


def answer(rank, clip_id="a", kept=True):
    """Answer a query with the clip at this rank, from 1; 0 for nowhere."""
    ranking = [f"other{n}" for n in range(12)]
    if rank:
        ranking.insert(rank - 1, clip_id)
    shown = tuple(each for each in ranking if kept or each != clip_id)
    return Answer(clip_id, tuple(ranking), shown)


def nothing(shown=()):
    """Answer a query that no clip answers."""
    return Answer("", ("x", "y"), shown)


def each(ranks):
    return [answer(rank, f"clip{n}") for n, rank in enumerate(ranks)]


def values(answers):
    return {name: one.value if one else None for name, one in figures(answers).items()}


def test_figures_are_those_computed_by_hand():
    found = values(each([1, 2, 4, 7, 10, 11, 0, 1]))
    assert found["recall@1"] == pytest.approx(100 * 2 / 8)
    assert found["recall@5"] == pytest.approx(100 * 4 / 8)
    assert found["recall@10"] == pytest.approx(100 * 6 / 8)
    assert found["mrr@10"] == pytest.approx(100 * (1 + 1 / 2 + 1 / 4 + 1 / 7 + 1 / 10 + 1) / 8)
    gains = [1, 1 / log2(3), 1 / log2(5), 1 / log2(8), 1 / log2(11), 1]
    assert found["ndcg@10"] == pytest.approx(100 * sum(gains) / 8)


def test_kept_counts_found_clips_and_empty_counts_queries_without_a_clip():
    answers = [answer(1, "a"), answer(3, "b", kept=False), answer(0, "c"), answer(12, "d"), nothing(), nothing(("x",)),
               nothing(("x", "y"))]  # fmt: skip
    found = values(answers)
    assert found["kept"] == pytest.approx(100 * 1 / 2)
    assert found["empty"] == pytest.approx(100 * 1 / 3)
    assert found["recall@10"] == pytest.approx(100 * 2 / 4)


def test_a_measure_without_a_query_has_no_figure():
    assert values(each([1, 0]))["empty"] is None
    assert values(each([0, 0]))["kept"] is None
    assert {name for name, value in values([nothing()]).items() if value is not None} == {"empty"}


def test_an_interval_is_as_wide_as_theory_says():
    figure = figures(each([1] * 240 + [0] * 160))["recall@1"]
    half = 100 * 1.96 * (0.6 * 0.4 / 400) ** 0.5
    assert (figure.value - figure.low, figure.high - figure.value) == pytest.approx((half, half), rel=0.1)


def test_more_queries_of_the_same_clips_do_not_make_the_interval_narrower():
    once = each([1, 3, 0, 7, 0, 2, 1, 0, 5, 1] * 4)
    more, fewer = figures(once * 9)["ndcg@10"], figures(once)["ndcg@10"]
    assert (more.low, more.high) == pytest.approx((fewer.low, fewer.high))


def test_the_same_answers_give_the_same_figures():
    answers = each([1, 3, 0, 7] * 20)
    assert figures(answers) == figures(list(answers))
    other = each([1, 1, 0, 7] * 20)
    assert differences(answers, other) == differences(answers, other)


def test_a_variant_that_answers_alike_has_no_difference():
    answers = each([1, 3, 0, 7])
    found = differences(answers, answers)["recall@1"]
    assert (found.value, found.low, found.high, found.p) == (0, 0, 0, 1)


@pytest.mark.parametrize("better", [3, 5, 8])
def test_p_is_that_of_all_permutations(better):
    """Of the 2^n swaps of n clips that only the variant finds, 2 are as extreme as the observed one."""
    same = [1] * 20
    found = differences(each([*same, *[0] * better]), each([*same, *[1] * better]))["recall@1"]
    assert found.value == pytest.approx(100 * better / (20 + better))
    assert found.p == pytest.approx(2 / 2**better, abs=0.012)
    assert found.low <= found.value <= found.high


def test_queries_of_one_clip_are_swapped_together():
    default = [answer(0, "a")] * 8 + [answer(1, "b")]
    variant = [answer(1, "a")] * 8 + [answer(1, "b")]
    assert differences(default, variant)["recall@1"].p == pytest.approx(1)


def test_a_clear_difference_has_an_interval_without_zero():
    found = differences(each([0, 1] * 100), each([1, 1, 0, 1] * 50))["recall@1"]
    assert found.value == pytest.approx(25) and 15 < found.low < found.value < found.high < 35 and found.p < 0.001


def test_a_paired_interval_is_narrower_than_the_difference_of_two():
    default = each([1, 0] * 100)
    variant = each([1, 0] * 90 + [1, 1] * 10)
    paired = differences(default, variant)["recall@1"]
    alone = [figures(answers)["recall@1"] for answers in (default, variant)]
    assert paired.low > 0 and paired.high - paired.low < min(one.high - one.low for one in alone)


def test_kept_of_variants_is_compared_although_they_find_different_clips():
    default = each([1] * 40 + [0] * 10)
    variant = [answer(1, f"clip{n}", kept=n % 2 == 0) for n in range(50)]
    found = differences(default, variant)["kept"]
    assert found.value == pytest.approx(-50) and found.p < 0.001
