"""The quick part of the fault suite: one seed and one signal of each fault that passes quickly. All: `make faults`."""

import pytest

from tests.faults.scenarios import SCENARIOS
from tests.faults.suite import Suite

QUICK = [one for one in SCENARIOS.values() if one.quick and not one.name.startswith("SIGTERM")]


@pytest.fixture(scope="module")
def suite(tmp_path_factory) -> Suite:
    return Suite(tmp_path_factory.mktemp("faults"))


@pytest.mark.parametrize("scenario", QUICK, ids=lambda one: one.name)
def test_nothing_is_lost_or_asked_for_twice(suite, scenario):
    verdict = suite.play(scenario, seed=1)
    assert verdict.wrong() == {}
    assert verdict.faults
