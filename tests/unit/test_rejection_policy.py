"""Test how many rejections per batch are accepted."""

from collections import Counter

import pytest

from clipdex.config import Quarantine
from clipdex.errors import Reason
from clipdex.stages.rejection_policy import all_rejected, over_share

RULE = Quarantine(max_share=0.2, floor=4)
REFUSED, EMPTY, LITTER = Reason.REJECTED_BY_ENGINE, Reason.EMPTY_FILE, Reason.NOT_A_VIDEO
DAMAGED = Reason.UNDECODABLE


@pytest.mark.parametrize(
    ("refused", "clips", "reported"), [(4, 4, False), (5, 5, True), (12, 64, False), (13, 64, True)]
)
def test_a_large_share_of_rejections_is_reported_and_a_few_are_not(refused, clips, reported):
    violation = over_share(Counter({REFUSED: refused}), clips, RULE)
    assert (violation is not None) is reported
    if violation:
        assert violation.reason == REFUSED
        assert f"{refused} of {clips} clips were refused as rejected_by_engine, more than the credible" in violation.why


def test_each_reason_counts_by_itself():
    assert over_share(Counter({REFUSED: 10, EMPTY: 10}), 64, RULE) is None


def test_a_trusted_decoder_may_reject_any_number_of_clips():
    trusting = RULE.model_copy(update={"trust_decoder": True})
    assert over_share(Counter({DAMAGED: 64}), 64, trusting) is None
    assert over_share(Counter({DAMAGED: 51, REFUSED: 13}), 64, trusting).reason == REFUSED


@pytest.mark.parametrize("reason", [LITTER, EMPTY])
def test_any_number_of_litter_is_accepted_and_counts_as_no_clip(reason):
    assert over_share(Counter({reason: 64}), 64, RULE) is None
    assert over_share(Counter({reason: 32, DAMAGED: 6}), 64, RULE) is None
    violation = over_share(Counter({reason: 32, DAMAGED: 7}), 64, RULE)
    assert "7 of 32 clips were refused as undecodable" in violation.why


def test_an_engine_that_rejects_every_clip_is_reported_whatever_the_share():
    violation = all_rejected(Counter({REFUSED: 2}), 0, RULE)
    assert violation.reason == REFUSED
    assert "refused 2 clips as rejected_by_engine and captioned none" in violation.why
    assert "20%" not in violation.why


@pytest.mark.parametrize(
    ("refused", "captioned", "rule"),
    [
        (Counter({REFUSED: 1}), 0, RULE),
        (Counter({REFUSED: 2}), 1, RULE),
        (Counter({EMPTY: 2}), 0, RULE),
        (Counter({REFUSED: 2}), 0, Quarantine(max_share=1)),
    ],
)
def test_single_or_mixed_rejections_are_accepted_and_all_rejections_if_so_configured(refused, captioned, rule):
    assert all_rejected(refused, captioned, rule) is None
