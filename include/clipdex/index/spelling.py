"""Spelling: the forms in which words are compared, whatever keyboard, font or habit wrote them."""

import unicodedata
from collections.abc import Callable

import regex


def normalized(text: str, language: str) -> str:
    """Return a text in Unicode NFKC, in small letters, with ASCII digits, and without invisible characters."""
    if language in _HALF_SPACED:
        text = text.replace("\u200c", " ")
    if language in _APOSTROPHES_INSIDE:
        text = _APOSTROPHE.sub("", text)
    if not text.isascii():
        text = _composed(_INVISIBLE.sub("", text))
        text = _DIGIT.sub(lambda found: str(unicodedata.decimal(found[0])), text)
    if language in _DOTLESS_I:
        text = text.replace("İ", "i").replace("I", "ı")
    return text.casefold() if text.isascii() else _composed(text.casefold())


def _composed(text: str) -> str:
    """Return a text in NFKC, but with the vowels am of Thai and Lao in one piece."""
    return unicodedata.normalize("NFKC", text).replace("\u0e4d\u0e32", "\u0e33").replace("\u0ecd\u0eb2", "\u0eb3")


def folded(word: str) -> str:
    """Return the one form of a normalized word that has several spellings in its script."""
    if word.isascii():
        return word
    word = word.translate(_SAME)
    if _DEVANAGARI.search(word):
        word = _NASAL.sub("ं", word)
    if _DIGITS.search(word) and (plate := word.translate(_LOOKALIKES)).isascii():
        return plate
    return str(_STRESS.sub("", word))


def unaccented(word: str) -> str:
    """Return a Latin or Greek word without accents; another word unchanged. й and other letters of their own stay."""
    if word.isascii() or not _ACCENTED.match(word):
        return word
    plain = (one for one in unicodedata.normalize("NFD", word) if unicodedata.category(one) != "Mn")
    return "".join(plain).translate(_PLAIN)


def arabic_stem(word: str) -> str:
    """Return a folded Arabic word without article, conjunction and common endings (Larkey's light10)."""
    if len(word) > 3 and word.startswith("و"):
        word = word[1:]
    for article in ("وال", "بال", "كال", "فال", "ال", "لل"):
        if word.startswith(article) and len(word) - len(article) >= 2:
            word = word[len(article) :]
            break
    for ending in ("ها", "ان", "ات", "ون", "ين", "يه", "ه", "ي"):
        if word.endswith(ending) and len(word) - len(ending) >= 2:
            word = word[: -len(ending)]
    return word


def hebrew_stem(word: str) -> str:
    """Return a Hebrew word without a prefix of one letter, such as an article."""
    return word[1:] if len(word) > 3 and word[0] in "הובכלמש" else word


STEMS: dict[str, Callable[[str], str]] = {"ar": arabic_stem, "he": hebrew_stem}
"""By language: what an own rule leaves of a folded word."""

_DOTLESS_I = ("tr",)
_HALF_SPACED = ("fa", "ur")  # a joiner of no width between words and parts of one
_APOSTROPHES_INSIDE = ("be", "uk", "uz")  # a sign of their spelling, by one of many characters
_APOSTROPHE = regex.compile(r"(?<=\p{L})['’ʼʻ‘`](?=\p{L})")
_INVISIBLE = regex.compile(r"[\p{Cf}\p{Variation_Selector}]")
_DIGIT = regex.compile(r"[^\P{Nd}0-9]")
_DIGITS = regex.compile(r"[0-9]")
_DEVANAGARI = regex.compile(r"\p{Devanagari}")
_NASAL = regex.compile("ँ|[ङञणनम]्(?=[क-ह])")
_STRESS = regex.compile(r"(?<=\p{Cyrillic})[\u0300\u0301]")
_ACCENTED = regex.compile(r"[\p{Latin}\p{Greek}]")
_PLAIN = str.maketrans({"ł": "l", "đ": "d", "ø": "o", "æ": "ae", "œ": "oe", "ı": "i", "ð": "d", "þ": "th", "ħ": "h"})
_SAME: dict[int, str | None] = {
    **dict(zip(map(ord, "ёѝ"), "еи", strict=True)),
    # Arabic, Persian and Urdu: alef, yeh, kaf, heh
    **dict(zip(map(ord, "أإآٱىیؤئکةہھە"), "ااااييويكهههه", strict=True)),
    ord("ـ"): None,
    **dict.fromkeys([*range(0x064B, 0x0660), 0x0670, *range(0x06D6, 0x06EE)]),
    # Hebrew points
    **dict.fromkeys([*range(0x0591, 0x05BE), 0x05BF, 0x05C1, 0x05C2, 0x05C4, 0x05C5, 0x05C7]),
    # nukta
    0x093C: None,
}
# Letters of plates that look like Latin ones.
_LOOKALIKES = str.maketrans("авекмнорстухαβεζηικμνορτυχ", "abekmhopctyxabezhikmnoptyx")
