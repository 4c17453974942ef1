"""The list schedule, the reference for captioning on many nodes, in cases that can be calculated by hand."""

from benchmarks.fleet import CAPACITY, FOREVER, HEALTHY, REFUSING, SLOW, Behaviour, list_schedule


def test_each_full_round_takes_the_time_of_one_caption():
    assert list_schedule([HEALTHY, HEALTHY], 3 * 2 * CAPACITY) == 3 * 8.0


def test_a_slow_node_contributes_at_its_own_speed():
    assert list_schedule([HEALTHY, SLOW], 4 * CAPACITY) == 24.0


def test_clips_that_a_node_drops_are_captioned_by_the_others():
    dying = Behaviour(down=((4.0, FOREVER),))
    assert list_schedule([HEALTHY, dying], 2 * CAPACITY) == 16.0


def test_a_recovered_node_continues_immediately():
    flapping = Behaviour(down=((4.0, 6.0),))
    assert list_schedule([flapping], CAPACITY) == 6.0 + 8.0


def test_a_node_that_rejects_everything_captions_nothing():
    assert list_schedule([HEALTHY, REFUSING], 2 * CAPACITY) == 16.0
