"""Precision: bfloat16 where this machine computes it faster than float32, and the vectors are almost the same.

Processors with AVX512-BF16 or AMX embed about three times as many texts per second in bfloat16; others emulate it, and
are slower. So both are timed when the model is loaded, for about 0.1 s. Sums over the tokens stay in float32.
"""

import copy
import logging
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from clipdex.config import Precision

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

log = logging.getLogger(__name__)

TOLERANCE = 0.99
"""Lowest cosine of the vectors of one text in both precisions. MiniLM has 0.9999, and recall@10 is the same."""

_TEXTS = [
    "A red car turns left at a wet crossing while two people with umbrellas wait; the light changes to green.",
    "0:04 The camera pans over a kitchen table. A woman in a blue apron cuts bread, then she lifts a cup and smiles.",
    "Night, a parking lot from above. Headlights cross the picture from right to left, and a dog runs after a cyclist.",
    "A close-up of a hand that writes numbers on a whiteboard: 17, 42, 5. Somebody off screen laughs.",
]


def in_precision(model: "SentenceTransformer", wanted: Precision, name: str) -> "SentenceTransformer":
    """Return the model, or a copy of it in bfloat16. name: of the model, for the log

    wanted: AUTO takes the faster one that keeps the cosines of some texts within the tolerance
    """
    if wanted is Precision.FLOAT32:
        return model
    fast = _in_bfloat16(model)
    if wanted is Precision.BFLOAT16:
        return fast
    try:
        seconds, exact = _timed(model)
        fast_seconds, close = _timed(fast)
    except (RuntimeError, ValueError, TypeError) as error:  # an operation without bfloat16 on this device
        log.info("embedding model %s: float32, bfloat16 does not work here (%s)", name, str(error).splitlines()[0])
        return model
    cosine = float(np.min(np.sum(exact * close, axis=1)))
    taken = fast_seconds < seconds and cosine >= TOLERANCE
    log.info(
        "embedding model %s: %s; bfloat16 takes %.0f ms, float32 %.0f ms for %d texts, lowest cosine %.4f",
        name, "bfloat16" if taken else "float32", 1000 * fast_seconds, 1000 * seconds, len(_TEXTS), cosine,
    )  # fmt: skip
    return fast if taken else model


def _in_bfloat16(model: "SentenceTransformer") -> "SentenceTransformer":
    """Return a copy whose first module, the transformer, computes in bfloat16 and gives float32 to the others."""
    import torch

    found = copy.deepcopy(model)
    encoder: Any = next(iter(found.children()))
    encoder.to(torch.bfloat16)
    encoder.register_forward_hook(_to_float32)
    return found


def _to_float32(module: Any, given: Any, features: Any) -> Any:
    """Return the features with all vectors in float32. A hook of a module."""
    import torch

    return {
        name: value.float() if isinstance(value, torch.Tensor) and value.dtype is torch.bfloat16 else value
        for name, value in features.items()
    }


def _timed(model: "SentenceTransformer") -> tuple[float, np.ndarray]:
    """Return the seconds for the texts, the better of two times, and their vectors."""

    def once() -> np.ndarray:
        return np.asarray(model.encode(_TEXTS, normalize_embeddings=True, show_progress_bar=False), np.float32)

    once()  # the first call sets things up
    return min((_seconds(once) for _ in range(2)), key=lambda found: found[0])


def _seconds(call: Callable[[], np.ndarray]) -> tuple[float, np.ndarray]:
    started = time.perf_counter()
    found = call()
    return time.perf_counter() - started, found
