"""Which refusals are believed, by their number."""

from collections import Counter

import pytest

from clipdex.config import Quarantine
from clipdex.errors import Reason
from clipdex.stages.rejection_policy import all_rejected, over_share

RULE = Quarantine(max_share=0.2, floor=4)
REFUSED, EMPTY = Reason.REJECTED_BY_ENGINE, Reason.EMPTY_FILE


@pytest.mark.parametrize(
    ("refused", "clips", "doubted"), [(4, 4, False), (5, 5, True), (12, 64, False), (13, 64, True)]
)
def test_a_few_are_believed_and_a_large_share_is_not(refused, clips, doubted):
    doubt = over_share(Counter({REFUSED: refused}), clips, RULE)
    assert (doubt is not None) is doubted
    if doubt:
        assert doubt.reason == REFUSED
        assert f"{refused} of {clips} clips were refused as rejected_by_engine, more than the credible" in doubt.why


def test_each_reason_counts_by_itself():
    assert over_share(Counter({REFUSED: 10, EMPTY: 10}), 64, RULE) is None


def test_our_own_decoder_may_be_believed_about_any_number():
    trusting = RULE.model_copy(update={"trust_decoder": True})
    assert over_share(Counter({EMPTY: 64}), 64, trusting) is None
    assert over_share(Counter({EMPTY: 51, REFUSED: 13}), 64, trusting).reason == REFUSED


def test_an_engine_that_captions_nothing_is_doubted_whatever_the_share():
    doubt = all_rejected(Counter({REFUSED: 2}), 0, RULE)
    assert doubt.reason == REFUSED
    assert "refused 2 clips as rejected_by_engine and captioned none" in doubt.why
    assert "20%" not in doubt.why


@pytest.mark.parametrize(
    ("refused", "captioned", "rule"),
    [
        (Counter({REFUSED: 1}), 0, RULE),
        (Counter({REFUSED: 2}), 1, RULE),
        (Counter({EMPTY: 2}), 0, RULE),
        (Counter({REFUSED: 2}), 0, Quarantine(max_share=1)),
    ],
)
def test_one_refusal_and_those_among_captions_are_believed_and_all_of_them_if_a_person_says_so(
    refused, captioned, rule
):
    assert all_rejected(refused, captioned, rule) is None
