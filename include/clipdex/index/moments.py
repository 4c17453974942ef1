"""Moments: the time within a chunk of several timed paragraphs at which a query's words occur.

A chunk holds several paragraphs, because it is found better as a whole. Each paragraph has its own time range. The one
that has most of the query's words gives the time of the hit; a word counts more, the fewer paragraphs of the chunk have
it.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from clipdex.index.lexical import Sparse, sparse_document

Moment = tuple[int, int, float, float]
"""First and last character of a paragraph in its chunk, and its time range [s on a player's clock of the file]."""


def moment(payload: Mapping[str, Any], words: Sparse, language: str) -> tuple[float, float]:
    """Return the time range of the paragraph that has most of the words, of several if they are equal.

    payload: of a chunk; words: of a query. The range of the whole chunk without any of the words.
    """
    whole = payload["start_s"], payload["end_s"]
    paragraphs: Sequence[Moment] = payload.get("moments", ())
    if len(paragraphs) < 2 or not words.indices:
        return whole
    terms = [set(sparse_document(payload["text"][start:end], language).indices) for start, end, *_ in paragraphs]
    shared = [set(words.indices) & own for own in terms]
    counts = {term: sum(term in own for own in shared) for own in shared for term in own}
    scores = [round(sum(math.log(1 + len(shared) / counts[term]) for term in own), 9) for own in shared]
    if not max(scores):
        return whole
    best = [one for one, score in zip(paragraphs, scores, strict=True) if score == max(scores)]
    return min(start_s for _, _, start_s, _ in best), max(end_s for *_, end_s in best)
