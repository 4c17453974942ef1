"""One ahead: a step computes the next item while the caller works on the last."""

import threading

import pytest

from clipdex.stages.ahead import one_ahead

LIMIT_S = 60.0


def test_items_come_in_order():
    assert list(one_ahead(iter("abc"), "step")) == ["a", "b", "c"]
    assert list(one_ahead((), "step")) == []


def test_the_next_item_is_computed_while_the_caller_works():
    computed = [threading.Event() for _ in range(3)]

    def step():
        for number, event in enumerate(computed):
            event.set()
            yield number

    for number in one_ahead(step(), "step"):
        assert all(event.wait(LIMIT_S) for event in computed[: number + 2])
        assert not any(event.is_set() for event in computed[number + 2 :])


def test_an_error_is_raised_where_the_item_is_wanted():
    def step():
        yield "a"
        raise OSError("gone")

    found = []
    with pytest.raises(OSError, match="gone"):
        for item in one_ahead(step(), "step"):
            found.append(item)
    assert found == ["a"]


def test_a_caller_that_stops_leaves_no_thread():
    before = threading.active_count()
    items = one_ahead(iter("abcd"), "step")
    next(items)
    items.close()
    assert threading.active_count() == before


def test_a_caller_that_fails_stops_the_steps_before_its_own():
    computed = []

    def first():
        for number in range(9):
            computed.append(number)
            yield number

    second = (number for number in one_ahead(first(), "first"))
    with pytest.raises(OSError, match="full") as held:  # the traceback keeps the frame alive
        for _ in one_ahead(second, "second"):
            raise OSError("full")
    reached = len(computed)
    assert not any(thread.name.startswith(("first", "second")) for thread in threading.enumerate())
    assert len(computed) == reached and held.value is not None
