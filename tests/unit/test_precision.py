"""Precision: bfloat16 where the processor has it, else weights in float16, with the vectors of float32."""

import numpy as np
import pytest
from sentence_transformers import SentenceTransformer

from clipdex.config import Embedding, Precision
from clipdex.errors import ConfigurationError
from clipdex.index import half_weights, precision
from clipdex.index.embeddings import open_embedder
from clipdex.index.precision import computes_bfloat16, in_precision
from clipdex.index.weights import MINILM, locate

TEXTS = ["A red car turns left.", "Two people ride bicycles over a bridge. " * 12, "17 geese", "a"]


@pytest.fixture(scope="module")
def model() -> SentenceTransformer:
    return SentenceTransformer(str(locate(MINILM.name)), device="cpu", local_files_only=True)


@pytest.fixture
def processor(monkeypatch, tmp_path):
    """Return a function that sets the flags of the processor that Linux reports."""

    def set_flags(line: str) -> None:
        file = tmp_path / "cpuinfo"
        file.write_text(f"processor : 0\n{line}\n")
        monkeypatch.setattr(precision, "computes_bfloat16", lambda: computes_bfloat16(file))

    return set_flags


def precision_of(model: SentenceTransformer) -> Precision:
    if any(isinstance(one, half_weights.HalfLinear) for one in model.modules()):
        return Precision.FLOAT16
    return Precision(str(next(model.parameters()).dtype).removeprefix("torch."))


halves = pytest.mark.skipif(not half_weights.is_available(), reason="FBGEMM is a part of PyTorch on x86")


@pytest.mark.parametrize("language", ["en", "ru"])
@pytest.mark.parametrize(
    ("fast", "lowest"), [(Precision.BFLOAT16, 0.9995), pytest.param(Precision.FLOAT16, 0.99999, marks=halves)]
)
def test_vectors_are_those_of_float32(language, fast, lowest):
    exact = open_embedder(Embedding(precision=Precision.FLOAT32), language).embed_documents(TEXTS)
    close = open_embedder(Embedding(precision=fast), language).embed_documents(TEXTS)
    assert close.dtype == np.float32
    assert np.linalg.norm(close, axis=1) == pytest.approx(1, abs=1e-5)
    assert np.sum(exact * close, axis=1).min() > lowest
    assert np.abs(exact - close).max() > 0


@pytest.mark.parametrize(
    ("flags", "fastest"),
    [
        ("flags\t\t: fpu avx512f avx512_bf16 clflush", Precision.BFLOAT16),
        ("flags\t\t: fpu amx_bf16 amx_tile", Precision.BFLOAT16),
        ("Features\t: fp asimd i8mm bf16", Precision.BFLOAT16),
        pytest.param("flags\t\t: fpu avx2 avx512f avx512_vnni", Precision.FLOAT16, marks=halves),
    ],
)
def test_the_processor_decides(model, processor, flags, fastest):
    processor(flags)
    assert precision_of(in_precision(model, Precision.AUTO, "model")) is fastest


def test_a_processor_without_either_computes_float32(model, processor, monkeypatch):
    processor("Features\t: fp asimd")
    monkeypatch.setattr(half_weights, "is_available", lambda: False)
    assert precision_of(in_precision(model, Precision.AUTO, "model")) is Precision.FLOAT32


def test_float16_where_it_cannot_be_computed_is_refused_with_what_to_set(model, monkeypatch):
    monkeypatch.setattr(half_weights, "is_available", lambda: False)
    with pytest.raises(ConfigurationError, match="x86 processor as the device: set auto"):
        in_precision(model, Precision.FLOAT16, "model")


def test_a_system_that_does_not_report_its_processor_has_no_bfloat16(tmp_path):
    assert computes_bfloat16(tmp_path / "missing") is False


def test_a_model_whose_vectors_would_change_keeps_float32(model, processor, monkeypatch):
    processor("flags : amx_bf16")
    monkeypatch.setattr(precision, "TOLERANCE", 1.1)
    assert in_precision(model, Precision.AUTO, "model") is model


def test_precision_changes_neither_identity_nor_limits(model):
    exact, fast = (open_embedder(Embedding(precision=one)) for one in (Precision.FLOAT32, Precision.AUTO))
    assert (exact.identity, exact.dimension, exact.max_tokens) == (fast.identity, fast.dimension, fast.max_tokens)
