"""Marking: where a text has the words of a query, by the analysis that search uses (lexical.py).

Each word is analysed where it stands in the text, so that a mark covers it as it is written: "ran" is no "running", but
"Running" is "run", and "Café" is "cafe".
"""

import functools
from collections.abc import Iterator
from itertools import pairwise

import regex

from clipdex.index.lexical import query_words, unspaced

_WORD = regex.compile(r"[\p{Alphabetic}\p{N}\p{M}](?:['’ʼ]?[\p{Alphabetic}\p{N}\p{M}\p{Cf}\p{Variation_Selector}])*")
_GRAPHEME = regex.compile(r"\X")
_MOST = 200_000  # characters of a text that are read


def marked(text: str, query: str, language: str) -> list[tuple[str, bool]]:
    """Return a text in pieces, each with whether it is a word of the query. Joined, they are the text.

    language: of the captions, ISO 639-1
    """
    wanted = frozenset(term for word in query_words(query, language) for term in word)
    pieces, end = list[tuple[str, bool]](), 0
    for first, last in _joined(_spans(text[:_MOST], wanted, language)) if wanted else ():
        pieces += [(text[end:first], False), (text[first:last], True)]
        end = last
    return [(piece, match) for piece, match in [*pieces, (text[end:], False)] if piece]


def _spans(text: str, wanted: frozenset[int], language: str) -> Iterator[tuple[int, int]]:
    """Yield first and last character of each word that matches; words of scripts without spaces may overlap."""
    for found in _WORD.finditer(text):
        word = found[0]
        if unspaced(word):
            yield from _of_graphemes(word, found.start(), wanted, language)
        elif not wanted.isdisjoint(_terms(word, language)):
            yield found.span()


def _of_graphemes(word: str, start: int, wanted: frozenset[int], language: str) -> Iterator[tuple[int, int]]:
    """Yield the graphemes and the pairs of them that match; the whole word if that matches alone."""
    graphemes = [found.span() for found in _GRAPHEME.finditer(word)]
    pairs = ((one[0], other[1]) for one, other in pairwise(graphemes))
    found = [
        (start + first, start + last)
        for first, last in [*graphemes, *pairs]
        if not wanted.isdisjoint(_terms(word[first:last], language))
    ]
    yield from found
    if not found and not wanted.isdisjoint(term for one in query_words(word, language) for term in one):
        yield start, start + len(word)


def _joined(spans: Iterator[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return the spans in order, with those that touch as one."""
    joined: list[tuple[int, int]] = []
    for first, last in sorted(spans):
        if joined and first <= joined[-1][1]:
            joined[-1] = joined[-1][0], max(joined[-1][1], last)
        else:
            joined.append((first, last))
    return joined


@functools.lru_cache(1 << 15)
def _terms(word: str, language: str) -> frozenset[int]:
    """Return the terms of a word, its spellings; none of a stop word, and of what the analysis splits."""
    words = query_words(word, language)
    return frozenset() if len(words) > 1 and unspaced(word) else frozenset(term for one in words for term in one)
