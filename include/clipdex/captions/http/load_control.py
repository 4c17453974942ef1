"""Load: what a node says it works on; from it, how many requests it gets, and what a request takes of its GPUs."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Load:
    """What a node works on, for whoever asked. gpus: how many do it."""

    running: int
    waiting: int
    gpus: int = 1


def sglang_load(document: Mapping[str, Any]) -> Load | None:
    """SGLang's /v1/loads: a row for each data-parallel rank. None where it is something else."""
    match document:
        case {"loads": [*ranks]} if ranks:
            counts = [(rank.get("num_running_reqs"), rank.get("num_waiting_reqs")) for rank in ranks]
            if all(isinstance(count, int) for pair in counts for count in pair):
                gpus = document.get("num_accelerators")
                gpus = gpus * len(ranks) if isinstance(gpus, int) and gpus > 0 else len(ranks)
                return Load(sum(running for running, _ in counts), sum(waiting for _, waiting in counts), gpus)
    return None


def adjust_concurrency(capacity: int, most: int, load: Load) -> int:
    """How many requests a node gets from now on, at most so many.

    A few shall wait in the node, so that a place that gets free is filled at once. Where fewer do, it gets more; where
    many more do, it gets a quarter fewer, so that several clients come to share it.
    """
    few = max(2, load.running // 8)
    if load.waiting < few:
        return min(most, capacity + max(1, most // 8))
    if load.waiting > 2 * few:
        return max(1, min(capacity, most) * 3 // 4)
    return capacity


class Meter:
    """What one request in flight has taken of a node's GPUs since the node was first looked at: its share, over time.

    The difference between two moments is what a request took between them.
    """

    def __init__(self) -> None:
        self._load: Load | None = None
        self._own = 0
        self._taken_s, self._since = 0.0, time.monotonic()

    def read(self) -> float | None:
        """GPU-seconds; None as long as the node's load is not known."""
        if self._load is None:
            return None
        return self._taken_s + (time.monotonic() - self._since) * self._share(self._load)

    def load(self, load: Load) -> None:
        """What the node works on now."""
        self._note()
        self._load = load

    def own(self, requests: int) -> None:
        """How many of ours are in flight now; they need not all be with the node's scheduler yet."""
        self._note()
        self._own = requests

    def _note(self) -> None:
        self._taken_s, self._since = self.read() or 0.0, time.monotonic()

    def _share(self, load: Load) -> float:
        return load.gpus / max(1, self._own, load.running + load.waiting)
