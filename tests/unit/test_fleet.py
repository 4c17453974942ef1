"""The list schedule that captioning on many nodes is measured against, by cases that can be counted by hand."""

from benchmarks.fleet import CAPACITY, FOREVER, HEALTHY, REFUSING, SLOW, Behaviour, list_schedule


def test_full_rounds_take_a_caption_each():
    assert list_schedule([HEALTHY, HEALTHY], 3 * 2 * CAPACITY) == 3 * 8.0


def test_a_slow_node_takes_part_at_its_pace():
    assert list_schedule([HEALTHY, SLOW], 4 * CAPACITY) == 24.0


def test_what_a_node_drops_is_done_by_the_others():
    dying = Behaviour(down=((4.0, FOREVER),))
    assert list_schedule([HEALTHY, dying], 2 * CAPACITY) == 16.0


def test_a_node_that_is_back_goes_on_at_once():
    flapping = Behaviour(down=((4.0, 6.0),))
    assert list_schedule([flapping], CAPACITY) == 6.0 + 8.0


def test_a_node_that_refuses_everything_does_nothing():
    assert list_schedule([HEALTHY, REFUSING], 2 * CAPACITY) == 16.0
