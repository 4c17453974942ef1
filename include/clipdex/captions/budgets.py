"""Budgets: the number of words that a prompt asks for, so that the caption fits into max_tokens in any language.

The tokens of a word differ by a factor of ten between languages, and by two between tokenizers. With a tokenizer
(that of the engine transformers, or CLIPDEX_ENGINE__TOKENIZER), they are measured; else a table has them.
"""

import tomllib
from functools import cache
from importlib import resources
from pathlib import Path

from clipdex.errors import ConfigurationError


def words_for(tokens: int, code: str, tokenizer: Path | None = None) -> tuple[int, int]:
    """Return the fewest and the most words to ask for in a language; of Chinese, characters. tokens: of the answer"""
    each = tokens_per_word(code, tokenizer) if tokenizer else TOKENS_PER_WORD[code]
    share = 1 / (_MARGIN * each)
    most = min(_MOST_WORDS, int(tokens * (share if code == "zh" else min(_WORDS_A_TOKEN, share))))
    return min(_FEWEST_CHARACTERS if code == "zh" else _FEWEST_WORDS, most // 2), most


# Of English: 300 to 2,000 tokens.
_FEWEST_WORDS, _MOST_WORDS, _WORDS_A_TOKEN = 230, 1400, 0.55
_FEWEST_CHARACTERS = 380
_MARGIN = 1.5  # models write more words than they are asked for, and rare words have more tokens

TOKENS_PER_WORD = {
    "ar": 2.25, "be": 3.76, "bg": 2.65, "bn": 5.9, "ca": 1.79, "cs": 2.64, "da": 1.91, "de": 1.56, "el": 5.07,
    "en": 1.11, "es": 1.44, "et": 2.79, "fa": 3.06, "fi": 3.05, "fr": 1.46, "he": 2.26, "hi": 4.48, "hr": 2.4,
    "hu": 2.44, "id": 2.1, "it": 1.78, "ja": 1.5, "kk": 4.51, "ko": 3.23, "lt": 2.93, "lv": 3.02, "mk": 2.47,
    "mr": 5.98, "ms": 2.1, "ne": 6.37, "nl": 1.59, "no": 1.8, "pl": 2.35, "pt": 1.55, "ro": 2.24, "ru": 2.74,
    "sk": 2.58, "sl": 2.38, "sr": 2.81, "sv": 1.98, "sw": 2.57, "ta": 9.0, "te": 9.68, "th": 2.76, "tl": 2.13,
    "tr": 2.24, "uk": 3.49, "ur": 3.24, "uz": 3.14, "vi": 1.21, "zh": 0.72,
}  # fmt: skip
"""Measured with Qwen2.5-VL's tokenizer on samples.toml, by `python -m benchmarks.gates --tokenizer FOLDER`."""


@cache
def samples() -> dict[str, str]:
    """Return a caption in each language, by code."""
    file = resources.files("clipdex.captions") / "samples.toml"
    return tomllib.loads(file.read_text(encoding="utf-8"))


@cache
def tokens_per_word(code: str, tokenizer: Path) -> float:
    """Return the tokens of a word of the language, measured on its sample. tokenizer: its file, or the model's folder

    Raises ConfigurationError if it cannot be read.
    """
    text = samples()[code]
    return _tokens(text, tokenizer) / count_words(text, code)


def count_words(text: str, code: str) -> float:
    """Return the number of words; in languages without spaces, estimated from the characters."""
    if code not in _CHARACTERS_PER_WORD:
        return len(text.split())
    return sum(char.isalnum() for char in text) / _CHARACTERS_PER_WORD[code]


_CHARACTERS_PER_WORD = {"ja": 2, "th": 4, "zh": 1}


def _tokens(text: str, tokenizer: Path) -> int:
    # Imported on use: a server counts the tokens of most engines.
    from tokenizers import Tokenizer

    file = tokenizer / "tokenizer.json" if tokenizer.is_dir() else tokenizer
    try:
        return len(Tokenizer.from_file(str(file)).encode(text, add_special_tokens=False).ids)
    except Exception as error:  # tokenizers raises Exception itself
        raise ConfigurationError(
            f"tokenizer {str(file)!r} cannot be read ({error}): set CLIPDEX_ENGINE__TOKENIZER to a tokenizer.json, or "
            "to the folder of the model that has it"
        ) from None
