"""Tokens: count the tokens of a model without its weights."""

from pathlib import Path
from typing import TYPE_CHECKING

from clipdex.index.weights import read_json

if TYPE_CHECKING:
    from tokenizers import Tokenizer as Fast

_ANY = 10**6  # tokenizers without a limit state a huge one


class Tokenizer:
    """Count the tokens of texts, and cut texts. Thread-safe.

    limit: longest text of the model, with special tokens, as its folder or file states it; 0 if it does not
    """

    def __init__(self, tokenizer: "Fast", limit: int) -> None:
        tokenizer.no_truncation()
        tokenizer.no_padding()
        self._tokenizer, self.limit = tokenizer, limit

    def count(self, text: str, special: bool = False) -> int:
        """Return the number of tokens. special: with those that the model adds"""
        return len(self._tokenizer.encode(text, add_special_tokens=special).ids)

    def cut(self, text: str, tokens: int) -> str:
        """Return the beginning of a text that has at most this many tokens."""
        offsets = self._tokenizer.encode(text, add_special_tokens=False).offsets
        return text if len(offsets) <= tokens else text[: offsets[tokens - 1][1]]


def open_tokenizer(path: Path) -> Tokenizer | None:
    """Return the tokenizer in a model's folder, or in the file of quantized_file.py; None if it has none."""
    from tokenizers import Tokenizer as Fast

    if path.is_file():
        from clipdex.index import quantized_file

        file = quantized_file.read(path)
        return Tokenizer(quantized_file.tokenizer(file), file.positions)
    if (path / "tokenizer.json").is_file():
        return Tokenizer(Fast.from_file(str(path / "tokenizer.json")), _limit(path))
    from transformers import AutoTokenizer

    try:
        found = AutoTokenizer.from_pretrained(str(path), local_files_only=True)
    except (OSError, ValueError):
        return None
    return Tokenizer(found.backend_tokenizer, _limit(path)) if found.is_fast else None


def _limit(path: Path) -> int:
    if limit := _number(path / "sentence_bert_config.json", "max_seq_length"):
        return limit
    limits = _number(path / "tokenizer_config.json", "model_max_length"), _number(path / "config.json", _POSITIONS)
    return min((one for one in limits if one), default=0)


_POSITIONS = "max_position_embeddings"


def _number(file: Path, field: str) -> int:
    found = read_json(file).get(field)
    return int(found) if isinstance(found, int | float) and 0 < found < _ANY else 0
