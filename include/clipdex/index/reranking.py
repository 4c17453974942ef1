"""Reranking: the best clips in the order of a cross-encoder, which reads query and chunk together.

It is slower than a search by orders of magnitude, so it reads the best chunk of the first clips alone. None is shipped:
CLIPDEX_SEARCH__RERANKER names one, as a folder or a name in the local Hugging Face cache.
"""

import functools
import threading
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from clipdex.errors import ConfigurationError
from clipdex.index.points import Hit
from clipdex.index.weights import local_folder

if TYPE_CHECKING:
    from sentence_transformers import CrossEncoder

_SETTING = "CLIPDEX_SEARCH__RERANKER"


def reranked(model: str, query: str, clips: Sequence[list[Hit]], count: int) -> list[list[Hit]]:
    """Return the first clips in the order of the model, with its scores.

    clips: the hits of each, best first; count: number of them. Raises ConfigurationError if the model cannot be loaded.
    """
    first = clips[:count]
    if not first:
        return []
    with _loading:  # functools.cache alone loads in every thread that misses
        encoder = _encoder(model)
    scores = encoder.predict([(query, hits[0].payload["text"]) for hits in first], show_progress_bar=False)
    scored = [[replace(hits[0], score=float(score)), *hits[1:]] for hits, score in zip(first, scores, strict=True)]
    return sorted(scored, key=lambda hits: -hits[0].score)


_loading = threading.Lock()


@functools.cache
def _encoder(model: str) -> "CrossEncoder":
    from sentence_transformers import CrossEncoder

    folder = local_folder(model, "reranker", _SETTING)
    try:
        encoder: CrossEncoder = CrossEncoder(str(folder), local_files_only=True, device="cpu")
    except (OSError, ValueError) as error:
        raise ConfigurationError(
            f"{_SETTING}: {model!r} cannot be loaded from {folder}: {str(error).splitlines()[0]}; name a complete "
            "cross-encoder for sentence-transformers"
        ) from error
    return encoder
