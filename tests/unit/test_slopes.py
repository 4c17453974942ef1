"""Test leak detection in a soak test: growth is detected, fluctuation is not."""

import numpy as np
import pytest

from benchmarks.slopes import slope

TIMES = np.arange(0.0, 900.0, 5.0)


def noisy(an_hour: float, noise: float, seed: int = 1) -> np.ndarray:
    return 500 + TIMES * an_hour / 3600 + np.random.default_rng(seed).normal(0, noise, len(TIMES))


@pytest.mark.parametrize("seed", range(5))
def test_a_leak_of_100_mb_an_hour_is_caught_under_noise(seed):
    assert slope(TIMES, noisy(100, 10, seed), 300).breaks(60)


@pytest.mark.parametrize("seed", range(5))
def test_memory_that_only_fluctuates_is_no_leak(seed):
    assert not slope(TIMES, noisy(0, 30, seed), 300).breaks(60)


def test_growth_during_the_warm_up_is_no_leak():
    values = np.where(TIMES < 300, TIMES, 300)
    found = slope(TIMES, values, 300)
    assert (found.an_hour, found.first, found.last) == (0, 300, 300)


def test_a_file_left_behind_every_minute_is_caught():
    assert slope(TIMES, TIMES // 60, 300).breaks(6)


def test_a_peak_in_one_of_ten_samples_is_no_leak():
    values = np.where(np.arange(len(TIMES)) % 10 == 9, 900, 500)
    assert not slope(TIMES, values, 300).breaks(60)


def test_too_few_samples_are_rejected():
    with pytest.raises(ValueError, match="expected at least ten"):
        slope(TIMES[:5], TIMES[:5], 0)
