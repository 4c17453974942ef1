"""Precision: fewer bits where the processor is faster with them, if the vectors are almost those of float32.

Processors with AVX512-BF16, AMX or Arm's BF16 embed about three times as many texts per second in bfloat16; others
emulate it, and are slower. On other x86 processors, weights in float16 make a query faster (half_weights.py). The
choice follows the processor, not a timing, because a busy machine would choose at random. Sums over the tokens stay in
float32.
"""

import copy
import functools
import logging
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from clipdex.config import Precision
from clipdex.errors import ConfigurationError

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

log = logging.getLogger(__name__)

TOLERANCE = 0.99
"""Lowest cosine of the vectors of one text in both precisions. Both models in packages have at least 0.9999."""

_TEXTS = [
    "A red car turns left at a wet crossing while two people with umbrellas wait; the light changes to green.",
    "The camera pans over a kitchen table. A woman in a blue apron cuts bread, then she lifts a cup and smiles.",
    "A close-up of a hand that writes numbers on a whiteboard: 17, 42, 5. A person off screen laughs.",
]
_FLAGS = re.compile(r"\b(avx512_bf16|amx_bf16|bf16)\b")


def in_precision(model: "SentenceTransformer", wanted: Precision, name: str) -> "SentenceTransformer":
    """Return the model, or a copy of it in another precision. name: of the model, for the log

    wanted: AUTO takes what the processor computes fastest if the vectors of some texts are within the tolerance
    """
    if wanted is not Precision.AUTO:
        return _in(model, wanted)
    fastest = _fastest() if model.device.type == "cpu" else Precision.FLOAT32
    if fastest is Precision.FLOAT32:
        return model
    try:
        fast = _in(model, fastest)
        cosine = float(np.min(np.sum(_vectors(model) * _vectors(fast), axis=1)))
    except (RuntimeError, ValueError, TypeError) as error:  # an operation of this model has no such precision
        log.info("embedding model %s: float32, %s fails (%s)", name, fastest, (str(error).splitlines() or [""])[0])
        return model
    taken = cosine >= TOLERANCE
    log.info("embedding model %s: %s, cosine %.4f", name, fastest if taken else Precision.FLOAT32, cosine)
    return fast if taken else model


def _fastest() -> Precision:
    """Return the precision in which this processor embeds fastest."""
    if computes_bfloat16():
        return Precision.BFLOAT16
    from clipdex.index import half_weights

    return Precision.FLOAT16 if half_weights.is_available() else Precision.FLOAT32


def _in(model: "SentenceTransformer", wanted: Precision) -> "SentenceTransformer":
    match wanted:
        case Precision.BFLOAT16:
            return _in_bfloat16(model)
        case Precision.FLOAT16:
            return _in_float16(model)
    return model


@functools.cache
def computes_bfloat16(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Return whether Linux reports a processor that computes bfloat16; False on other systems."""
    try:
        return _FLAGS.search(cpuinfo.read_text()) is not None
    except OSError:
        return False


def _in_bfloat16(model: "SentenceTransformer") -> "SentenceTransformer":
    """Return a copy whose first module, the transformer, computes in bfloat16 and gives float32 to the others."""
    import torch

    found = copy.deepcopy(model)
    encoder: Any = next(iter(found.children()))
    encoder.to(torch.bfloat16)
    encoder.register_forward_hook(_to_float32)
    return found


def _in_float16(model: "SentenceTransformer") -> "SentenceTransformer":
    """Return a copy whose linear layers have their weights in float16. Raises ConfigurationError where none compute."""
    from clipdex.index import half_weights

    if model.device.type != "cpu" or not half_weights.is_available():
        raise ConfigurationError(
            "CLIPDEX_EMBEDDING__PRECISION=float16 needs an x86 processor as the device: set auto, float32 or bfloat16"
        )
    found = copy.deepcopy(model)
    half_weights.halve(next(iter(found.children())))
    return found


def _to_float32(module: Any, given: Any, features: Any) -> Any:
    """Return the features with all vectors in float32. A hook of a module."""
    import torch

    return {
        name: value.float() if isinstance(value, torch.Tensor) and value.dtype is torch.bfloat16 else value
        for name, value in features.items()
    }


def _vectors(model: "SentenceTransformer") -> np.ndarray:
    return np.asarray(model.encode(_TEXTS, normalize_embeddings=True, show_progress_bar=False), np.float32)
