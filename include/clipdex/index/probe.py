"""Probe: the vectors of a fixed text, kept with a collection, show whether an embedder is the one that made it.

A name and a digest of weights do not show what a server computes with. Vectors of another model have cosines near 0.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

PROBE = "A red car turns left at a wet crossing while a dog runs after a cyclist."

TOLERANCE = 0.99
"""Lowest cosine of one model. bfloat16 has 0.9999."""


def kept(probe: np.ndarray) -> list[list[float]]:
    """Return a probe as it is kept: four digits, as JSON."""
    return [[round(float(number), 4) for number in row] for row in probe]


def cosine(one: np.ndarray | Sequence[Any], other: np.ndarray | Sequence[Any]) -> float:
    """Return the lowest cosine of the rows of two probes, -1 if their shapes differ."""
    first, second = np.atleast_2d(np.asarray(one, np.float32)), np.atleast_2d(np.asarray(other, np.float32))
    if first.shape != second.shape:
        return -1.0
    lengths = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
    return float(np.min(np.sum(first * second, axis=1) / np.maximum(lengths, 1e-12)))
