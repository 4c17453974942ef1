"""Load control: a node's reported load, its concurrency limit, and the GPU time per request."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Load:
    """A node's running and waiting requests of all clients, and its number of GPUs."""

    running: int
    waiting: int
    gpus: int = 1


def sglang_load(document: Mapping[str, Any]) -> Load | None:
    """Parse SGLang's /v1/loads, one row per data-parallel rank. Return None if the format differs."""
    running, waiting = [], []
    match document:
        case {"loads": [*ranks]} if ranks:
            for rank in ranks:
                match rank:
                    case {"num_running_reqs": int(one), "num_waiting_reqs": int(other)} if _plausible(one, other):
                        running.append(one)
                        waiting.append(other)
                    case _:
                        return None
        case _:
            return None
    gpus = document.get("num_accelerators")
    per_rank = gpus if isinstance(gpus, int) and 0 < gpus < _LIMIT else 1
    return Load(sum(running), sum(waiting), per_rank * len(ranks))


def adjust_concurrency(capacity: int, most: int, load: Load) -> int:
    """Return a node's new concurrency limit, at most `most`.

    A short queue in the node fills free places at once. A shorter queue raises the limit by an eighth of `most`. A
    queue of more than twice that length lowers the limit by a quarter, so that several clients share the node.
    """
    few = max(2, load.running // 8)
    if load.waiting < few:
        return min(most, capacity + max(1, most // 8))
    if load.waiting > 2 * few:
        return max(1, min(capacity, most) * 3 // 4)
    return capacity


class Meter:
    """GPU time of one request in flight: its share of the node's GPUs, integrated since the meter was created.

    The difference between two readings is the GPU time of a request between them.
    """

    def __init__(self) -> None:
        self._load: Load | None = None
        self._own = 0
        self._integral_s, self._since = 0.0, time.monotonic()

    def read(self) -> float | None:
        """Return the integral [GPU-seconds]; None until the node's load is known."""
        if self._load is None:
            return None
        return self._integral_s + (time.monotonic() - self._since) * self._share(self._load)

    def load(self, load: Load) -> None:
        """Set the node's current load."""
        self._integrate()
        self._load = load

    def own(self, requests: int) -> None:
        """Set the number of own requests in flight; the node's scheduler may not have all of them yet."""
        self._integrate()
        self._own = requests

    def _integrate(self) -> None:
        self._integral_s, self._since = self.read() or 0.0, time.monotonic()

    def _share(self, load: Load) -> float:
        return load.gpus / max(1, self._own, load.running + load.waiting)


def _plausible(*numbers: int) -> bool:
    return all(0 <= number < _LIMIT for number in numbers)


_LIMIT = 2**31
