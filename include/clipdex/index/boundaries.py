"""Boundaries: where a text of any script may be split, as regular expressions of `re`, the best first."""

import functools
import unicodedata

_LATIN_STOPS = ".!?…"  # also inside words and numbers: white space must follow
# Danda, Urdu and Arabic, Armenian, Ethiopic, Burmese, Khmer, Tibetan, Mongolian, Syriac, CJK: white space is optional.
_STOPS = "।॥۔؟։።፧፨။។៕༎᠃᠉܀。！？｡"
_CLOSING = r")\]\"'”’»›"
_WIDE_CLOSING = "」』）〉》】"
# Thai and Lao have spaces between sentences and phrases alone. ๆ repeats the word before it, and has spaces around it.
_PHRASED = "\u0e01-\u0e45\u0e47-\u0e4e\u0e81-\u0ec5\u0ec7-\u0edf"

SENTENCE = "|".join(
    (
        r"\n+",
        rf"(?<=[{_LATIN_STOPS}][{_CLOSING}])\s+",
        rf"(?<=[{_LATIN_STOPS}])\s+",
        rf"(?<=[{_STOPS}][{_CLOSING}])\s+",
        rf"(?<=[{_STOPS}][”{_WIDE_CLOSING}])\s*",
        rf"(?<=[{_STOPS}])(?![{_STOPS}”{_WIDE_CLOSING}]|[{_CLOSING}](?:\s|$))\s*",
        r"(?<=[\u0370-\u03ff\u1f00-\u1fff][;\u037e])\s+",  # a Greek question
        r"(?<=[\u0561-\u0587]:)\s+",  # Armenian, with the colon of another keyboard
        rf"(?<=[{_PHRASED}])[ \u00a0\u200b]+(?=[{_PHRASED}])",
    )
)
"""The end of a sentence, with the white space after it."""

CLAUSE = r"(?<=[,;:–—،؛၊፣፤·])\s+|(?<=[，、；：])"
SPACE = r"\s+"
ANYWHERE = ""


@functools.cache
def between_graphemes() -> str:
    """Return the expression of a place between two characters as people count them.

    Not before a mark, a joiner or a variant, and not after a joiner, a virama, a vowel that is written first, or a
    letter of a flag.
    """
    return rf"(?<![\u200d{_VIRAMAS}{_LEADING_VOWELS}{_FLAGS}])(?![{_continuing()}])"


_VIRAMAS = "\u094d\u09cd\u0a4d\u0acd\u0b4d\u0bcd\u0c4d\u0ccd\u0d4d\u0dca\u1039\u17d2"
_FLAGS = "\U0001f1e6-\U0001f1ff"
_LEADING_VOWELS = "\u0e40-\u0e44\u0ec0-\u0ec4"


def _continuing() -> str:
    """Return a class of the characters that continue a grapheme, as ranges."""
    more = {0x200C, 0x200D, 0x0E33, 0x0EB3, *range(0xFF9E, 0xFFA0), *range(0x1160, 0x1200), *range(0x1F3FB, 0x1F400)}
    codes = (*range(0x300, 0x20000), *range(0xE0020, 0xE01F0))
    found = [code for code in codes if code in more or unicodedata.category(chr(code)) in ("Mn", "Mc", "Me")]
    ranges: list[list[int]] = []
    for code in found:
        if ranges and code == ranges[-1][1] + 1:
            ranges[-1][1] = code
        else:
            ranges.append([code, code])
    return "".join(f"{chr(first)}-{chr(last)}" for first, last in ranges)
