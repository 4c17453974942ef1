"""Caption languages: English names for prompts, scripts for the language gate."""

from dataclasses import dataclass

from clipdex.errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class Language:
    """scripts: first words of the letters' Unicode names, such as LATIN or CJK."""

    name: str
    scripts: frozenset[str]


def language(code: str) -> Language:
    """Return the language of an ISO 639-1 code. Raises ConfigurationError if it is unknown."""
    try:
        return _LANGUAGES[code.lower()]
    except KeyError:
        known = ", ".join(sorted(_LANGUAGES))
        raise ConfigurationError(
            f"language {code!r} is unknown: set CLIPDEX_ENGINE__LANGUAGE to one of {known}"
        ) from None


_NAMES = {
    "LATIN": "ca Catalan, cs Czech, da Danish, de German, en English, es Spanish, et Estonian, fi Finnish, fr French, "
    "hr Croatian, hu Hungarian, id Indonesian, it Italian, lt Lithuanian, lv Latvian, ms Malay, nl Dutch, "
    "no Norwegian, pl Polish, pt Portuguese, ro Romanian, sk Slovak, sl Slovenian, sv Swedish, sw Swahili, "
    "tl Tagalog, tr Turkish, vi Vietnamese",
    "CYRILLIC": "be Belarusian, bg Bulgarian, kk Kazakh, mk Macedonian, ru Russian, uk Ukrainian",
    "LATIN CYRILLIC": "sr Serbian, uz Uzbek",
    "CJK BOPOMOFO": "zh Chinese",
    "CJK HIRAGANA KATAKANA": "ja Japanese",
    "HANGUL CJK": "ko Korean",
    "ARABIC": "ar Arabic, fa Persian, ur Urdu",
    "DEVANAGARI": "hi Hindi, mr Marathi, ne Nepali",
    "GREEK": "el Greek",
    "HEBREW": "he Hebrew",
    "THAI": "th Thai",
    "BENGALI": "bn Bengali",
    "TAMIL": "ta Tamil",
    "TELUGU": "te Telugu",
}
_LANGUAGES = {
    code: Language(name, frozenset(scripts.split()))
    for scripts, names in _NAMES.items()
    for code, name in (entry.split() for entry in names.split(", "))
}
CODES = tuple(sorted(_LANGUAGES))
"""ISO 639-1 codes of the languages that captions may have."""
