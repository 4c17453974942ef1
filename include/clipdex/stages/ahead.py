"""Ahead: steps of a batch that overlap, each in a thread of its own, one item ahead of the next step."""

from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


def one_ahead(items: Iterable[T], name: str) -> Iterator[T]:
    """Yield the items; the next one is computed in a thread while the caller works on the last.

    name: of the thread. What the computation raises is raised here. Closing waits for the item that is computed.
    """
    computed = iter(items)
    try:
        with ThreadPoolExecutor(1, name) as thread:
            coming = thread.submit(next, computed, None)
            while (item := coming.result()) is not None:
                coming = thread.submit(next, computed, None)
                yield item
    finally:
        if isinstance(computed, Generator):  # and with it the step before this one, whose thread must not go on
            computed.close()
