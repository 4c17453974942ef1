"""Words: texts and queries as BM25 vectors, analysed by the captions' language, for both backends alike.

Qdrant's own analysis has the stemmers and the stop words. Before it, a text is normalised and split here:

- Unicode NFKC, case folding, ASCII digits; no joiners and other invisible characters
- ё → е; Arabic without vowel marks and tatweel, with one form of alef, yeh, kaf and teh marbuta; Hebrew without points;
  Devanagari without nukta, with one sign for a nasal
- a word with accents counts in both spellings, "café" and "cafe"
- scripts without spaces (Chinese, Japanese, Thai, Lao, Khmer, Burmese), and Korean, whose particles have none: each
  grapheme and each pair of neighbours is a term
- Latin words in another script, such as a sign: English stems; a plate has Latin letters in place of Cyrillic ones that
  look the same
- languages without a stemmer in Qdrant: one of snowballstemmer, or else words and their first letters

English texts in ASCII are Qdrant's alone.
"""

import functools
import importlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import regex

from clipdex.index.spelling import STEMS, folded, normalized, unaccented

if TYPE_CHECKING:
    from qdrant_edge import Bm25

ENGLISH = "en"

_Terms = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Sparse:
    """Hold a BM25 vector: word hashes and weights. The index applies the inverse document frequency at query time."""

    indices: tuple[int, ...]
    values: tuple[float, ...]


def analysis(language: str) -> str:
    """Return a name of what words become in this language; "" for English. Vectors of one name are comparable."""
    return "" if language.lower() == ENGLISH else f"{language.lower()}-1"


def sparse_document(text: str, language: str = ENGLISH) -> Sparse:
    """Return BM25 weights by the formula of the Qdrant server's model Qdrant/bm25. language: an ISO 639-1 code"""
    if _qdrant_alone(text, language):
        return _sparse(_bm25_english(not text.isascii()).embed_document(text))
    words = _words(text, language.lower())
    counts: Counter[int] = Counter()
    for terms in words:
        counts.update(terms)
    norm = _K * (1 - _B + _B * len(words) / _AVERAGE)
    return Sparse(tuple(counts), tuple(n * (_K + 1) / (n + norm) for n in counts.values()))


def sparse_query(text: str, language: str = ENGLISH) -> Sparse:
    """Return the BM25 query vector; empty if the text has no indexable word. language: that of the captions

    A word counts 1, or its spellings together, if there are several.
    """
    if _qdrant_alone(text, language):
        return _sparse(_bm25_english(not text.isascii()).embed_query(text))
    weights: dict[int, float] = {}
    for terms in _words(text, language.lower()):
        for term in terms:
            weights[term] = max(weights.get(term, 0.0), 1 / len(terms))
    return Sparse(tuple(weights), tuple(weights.values()))


def query_words(text: str, language: str = ENGLISH) -> tuple[_Terms, ...]:
    """Return the terms of each word of a query, its spellings; a text that has one of them has the word.

    Of scripts without spaces, only pairs of graphemes are words: a text has most letters of Thai by chance.
    """
    if _qdrant_alone(text, language):
        return tuple((index,) for index in sparse_query(text).indices)
    return tuple(dict.fromkeys(_words(text, language.lower(), pairs_alone=True)))


def unspaced(text: str) -> bool:
    """Return whether a text has letters of a script without spaces."""
    return _HAS_UNSPACED.search(text) is not None


_K, _B, _AVERAGE = 1.2, 0.75, 256.0  # of Qdrant/bm25

# ISO 639-1 code → name in Qdrant; it has a stemmer for the first, and stop words alone for the others.
_STEMMED = {
    "ar": "arabic", "da": "danish", "nl": "dutch", "en": "english", "fi": "finnish", "fr": "french", "de": "german",
    "el": "greek", "hu": "hungarian", "it": "italian", "no": "norwegian", "pt": "portuguese", "ro": "romanian",
    "ru": "russian", "es": "spanish", "sv": "swedish", "tr": "turkish",
}  # fmt: skip
_STOPPED = {
    "bn": "bengali", "ca": "catalan", "he": "hebrew", "id": "indonesian", "kk": "kazakh", "ne": "nepali",
    "sl": "slovene",
}  # fmt: skip
# Modules of snowballstemmer, for languages that Qdrant has no stemmer for.
_SNOWBALL = {
    "ca": "catalan", "cs": "czech", "et": "estonian", "fa": "persian", "hi": "hindi", "id": "indonesian",
    "lt": "lithuanian", "ne": "nepali", "pl": "polish", "sr": "serbian", "ta": "tamil",
}  # fmt: skip
_UNINFLECTED = ("vi",)
_BEGINNINGS = 5, 4  # letters that endings leave of most words, where no stemmer removes them
# In captions of these languages, a Latin word is a foreign one.
_NOT_LATIN = (
    "ar", "be", "bg", "bn", "el", "fa", "he", "hi", "ja", "kk", "ko", "mk", "mr", "ne", "ru", "ta", "te", "th", "uk",
    "ur", "zh",
)  # fmt: skip

_UNSPACED = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}\p{Hangul}ー々"
_HAS_UNSPACED = regex.compile(rf"[{_UNSPACED}]")
_WORD = regex.compile(r"[\p{Alphabetic}\p{N}\p{M}]+")
# Parts of a word where the script changes: 药店PHARMACY has two.
_RUN = regex.compile(rf"[{_UNSPACED}][{_UNSPACED}\p{{M}}]*|[^{_UNSPACED}]+")
_GRAPHEME = regex.compile(r"\X")


def _qdrant_alone(text: str, language: str) -> bool:
    """Return whether the analysis is that of release 0.1: points that it wrote are found."""
    return language.lower() == ENGLISH and (text.isascii() or _HAS_UNSPACED.search(text) is not None)


def _words(text: str, language: str, *, pairs_alone: bool = False) -> list[_Terms]:
    """Return the terms of each word of a text, without stop words. pairs_alone: leave out single graphemes of _parts"""
    terms = _analyzer(language)
    found = (terms(part) for word in _WORD.findall(normalized(text, language)) for part in _parts(word, pairs_alone))
    return [one for one in found if one]


def _parts(word: str, pairs_alone: bool) -> Iterator[str]:
    """Yield the word; of a script without spaces, the graphemes and the pairs of neighbours."""
    if not _HAS_UNSPACED.search(word):
        yield word
        return
    for run in _RUN.findall(word):
        if _HAS_UNSPACED.match(run):
            graphemes = _GRAPHEME.findall(run)
            if not pairs_alone or len(graphemes) == 1:
                yield from graphemes
            yield from map("".join, pairwise(graphemes))
        else:
            yield run


@functools.cache
def _analyzer(language: str) -> Callable[[str], _Terms]:
    """Return a function from a normalized word to its terms; a stop word has none."""
    name = _STEMMED.get(language) or _STOPPED.get(language)
    forms = _forms(language)

    @functools.lru_cache(1 << 16)
    def terms(word: str) -> _Terms:
        one = folded(word)
        if _HAS_UNSPACED.match(word):
            return _ids("", one)
        if language in _NOT_LATIN and one.isascii():
            return _ids("english", one)
        if name and not (_ids(name, word) and _ids(name, one)):
            return ()
        stemmer = name if language in _STEMMED else None
        return tuple(dict.fromkeys(id for form in forms(word) for id in _ids(stemmer or "", form)))

    return terms


def _forms(language: str) -> Callable[[str], Iterator[str]]:
    """Return a function from a normalized word to the forms that Qdrant's stemmer, if it has one, gets."""
    own = STEMS.get(language)
    snowball = _snowball(_SNOWBALL[language]) if language in _SNOWBALL else None
    cut = not (language in _STEMMED or snowball or language in _UNINFLECTED)

    def forms(word: str) -> Iterator[str]:
        if language == ENGLISH:
            yield word
        for spelling in (folded(word), unaccented(folded(word))):
            stem = own(spelling) if own else spelling
            yield snowball(stem) if snowball else stem
            if cut:
                yield spelling
                yield from (one[:letters] for one in (spelling, stem) for letters in _BEGINNINGS)

    return forms


def _ids(stemmer: str, word: str) -> _Terms:
    """Return the hash of a word by Qdrant; none of a stop word. stemmer: "" for neither stemmer nor stop words"""
    return tuple(_bm25(stemmer).embed_query(word).indices)


@functools.cache
def _bm25(language: str) -> "Bm25":
    from qdrant_edge import Bm25, Bm25Config, DisabledStemmer, StopwordsSet, TokenizerType

    if not language:
        plain = Bm25Config(tokenizer=TokenizerType.Whitespace, stemmer=DisabledStemmer(), stopwords=StopwordsSet())
        return Bm25(plain)
    return Bm25(Bm25Config(tokenizer=TokenizerType.Whitespace, language=language))


@functools.cache
def _bm25_english(unspaced: bool) -> "Bm25":
    from qdrant_edge import Bm25, Bm25Config, TokenizerType

    return Bm25(Bm25Config(tokenizer=TokenizerType.Multilingual if unspaced else TokenizerType.Word))


def _sparse(vector: Any) -> Sparse:
    return Sparse(tuple(vector.indices), tuple(vector.values))


def _snowball(name: str) -> Callable[[str], str]:
    # Not by snowballstemmer.stemmer(), which prefers the algorithms of another package where that is installed.
    module = importlib.import_module(f"snowballstemmer.{name}_stemmer")
    kind = getattr(module, f"{name.capitalize()}Stemmer")

    def stem(word: str) -> str:
        found: str = kind().stemWord(word)  # it keeps the word while it works: one per call, for threads
        return found

    return stem
