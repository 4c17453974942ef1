"""Identification: whether a caption is in the language that was asked for, part by part.

py3langid (BSD-3-Clause) knows all languages of languages.py; its model lies inside the package. What is quoted is left
out: it was read on screen. A few foreign words, such as names, change nothing.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterator
from functools import cache, lru_cache
from typing import TYPE_CHECKING

from clipdex.captions.languages import CODES, Language, language

if TYPE_CHECKING:
    from py3langid.langid import LanguageIdentifier


def foreign(text: str, code: str) -> str:
    """Return why a text is not in the language of the code, or "" if it is. Takes time in proportion to its length."""
    wanted = language(code)
    bare = _QUOTED.sub(" ", text)
    if _weight(bare) < _FEW_LETTERS:
        bare = text  # all of it is quoted
    if _weight(bare) < _FEW_LETTERS:
        return ""
    if why := _other_script(bare, wanted):
        return why
    for part in _parts(bare):
        found = likelihoods(part)
        best = max(found, key=lambda one: found[one])
        if best != code and found[code] < _UNLIKELY and found[best] > _LIKELY:
            return f"{part[:40].strip()!r}… is {language(best).name}, not {wanted.name}"
    return ""


def load() -> None:
    """Load the model, which takes 1 s and 100 MB, so that the first caption does not wait for it."""
    _identifier()


def likelihoods(text: str) -> dict[str, float]:
    """Return how likely each known language is, by code; the sum is 1."""
    return dict(_identifier().rank(text))


@cache
def _identifier() -> "LanguageIdentifier":
    # Imported on first use: planning a day identifies nothing.
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    identifier = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
    identifier.set_languages(CODES)
    return identifier


_FEW_LETTERS = 20
_UNLIKELY, _LIKELY = 0.1, 0.5

# Words on screen, in the quotation marks of any language.
_QUOTED = re.compile(
    '"[^"\n]{1,300}"|“[^”\n]{1,300}”|„[^“”\n]{1,300}[“”]|«[^»\n]{1,300}»|»[^«\n]{1,300}«|‹[^›\n]{1,300}›|「[^」\n]{1,300}」'
    r"|『[^』\n]{1,300}』|《[^》\n]{1,300}》|`[^`\n]{1,300}`|‘[^’\n]{1,300}’(?!\w)|(?<!\w)'[^'\n]{1,300}'(?!\w)"
)


# Scripts


def _other_script(text: str, wanted: Language) -> str:
    """Return why a text is in another script, mostly or in the middle."""
    letters = [(place, char) for place, char in enumerate(unicodedata.normalize("NFKC", text)) if char.isalpha()]
    scripts = Counter(_script(char) for _, char in letters)
    share = sum(scripts[script] for script in wanted.scripts) / max(1, len(letters))
    if share < _LEAST_SCRIPT:
        most = scripts.most_common(1)[0][0].lower()
        return f"{share:.0%} of its letters are in the script of {wanted.name}; most are {most}"
    for run in _foreign_runs(unicodedata.normalize("NFKC", text), wanted):
        if _weight(run) >= _LONG_RUN and not _is_sign(run):
            return f"{run[:40].strip()!r}… is not in the script of {wanted.name}"
    return ""


def _foreign_runs(text: str, wanted: Language) -> Iterator[str]:
    """Yield the parts of a text between letters of the wanted scripts."""
    begin: int | None = None
    for place, char in enumerate(text):
        if not char.isalpha():
            continue
        if _script(char) in wanted.scripts:
            if begin is not None:
                yield text[begin:place]
            begin = None
        elif begin is None:
            begin = place
    if begin is not None:
        yield text[begin:]


def _is_sign(run: str) -> bool:
    """Return whether a short run in capitals was read from a sign."""
    letters = [char for char in run if char.isalpha()]
    return len(letters) <= _LONGEST_SIGN and 2 * sum(char.isupper() for char in letters) > len(letters)


def _weight(text: str) -> int:
    """Return the number of letters; a letter of a script of syllables or words counts as three."""
    return sum(3 if _script(char) in _DENSE else 1 for char in text if char.isalpha())


_DENSE = {"CJK", "HIRAGANA", "KATAKANA", "HANGUL", "BOPOMOFO"}
_LEAST_SCRIPT = 0.5
_LONG_RUN, _LONGEST_SIGN = 45, 120


@lru_cache(maxsize=8192)
def _script(char: str) -> str:
    return re.split("[ -]", unicodedata.name(char, "UNKNOWN"), maxsplit=1)[0]


# Parts


def _parts(text: str) -> Iterator[str]:
    """Yield the text in parts that are long enough to identify: sentences of one paragraph, together 100 letters.

    A short rest belongs to the part before it, and a short paragraph to the next one.
    """
    waiting = ""
    for paragraph in re.split(r"\n\s*\n", text):
        parts: list[str] = []
        for sentence in _SENTENCE.findall(paragraph):
            waiting += " " + sentence
            if _weight(waiting) >= _ENOUGH:
                parts.append(waiting)
                waiting = ""
        if waiting and parts:
            parts[-1] += waiting
            waiting = ""
        if _weight(waiting) >= _SHORT:
            parts.append(waiting)
            waiting = ""
        yield from parts
    if _weight(waiting) >= _FEW_LETTERS:
        yield waiting


_ENOUGH, _SHORT = 100, 50  # letters
_SENTENCE = re.compile(r"[^.!?…。！？।॥؟۔\n]+[.!?…。！？।॥؟۔\n]*")
