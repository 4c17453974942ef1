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


def difference(expected: np.ndarray | Sequence[Any], found: np.ndarray | Sequence[Any]) -> str:
    """Return how two probes, or two rows of them, differ more than those of one model do; "" if they do not."""
    first, second = np.atleast_2d(np.asarray(expected, np.float32)), np.atleast_2d(np.asarray(found, np.float32))
    if first.shape != second.shape:
        return f"{second.shape[1]} dimensions, expected {first.shape[1]}"
    lengths = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
    cosine = float(np.min(np.sum(first * second, axis=1) / np.maximum(lengths, 1e-12)))
    return "" if cosine >= TOLERANCE else f"cosine {cosine:.3f}, expected at least {TOLERANCE}"
