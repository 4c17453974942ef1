"""Precision: bfloat16 where the processor has it, with the vectors of float32."""

import numpy as np
import pytest
from sentence_transformers import SentenceTransformer

from clipdex.config import Embedding, Precision
from clipdex.index import precision
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


def is_float32(model: SentenceTransformer) -> bool:
    return str(next(model.parameters()).dtype) == "torch.float32"


@pytest.mark.parametrize("language", ["en", "ru"])
def test_vectors_are_those_of_float32(language):
    exact = open_embedder(Embedding(precision=Precision.FLOAT32), language).embed_documents(TEXTS)
    close = open_embedder(Embedding(precision=Precision.BFLOAT16), language).embed_documents(TEXTS)
    assert close.dtype == np.float32
    assert np.linalg.norm(close, axis=1) == pytest.approx(1, abs=1e-5)
    assert np.sum(exact * close, axis=1).min() > 0.9995
    assert np.abs(exact - close).max() > 0


@pytest.mark.parametrize(
    ("flags", "fast"),
    [
        ("flags\t\t: fpu avx512f avx512_bf16 clflush", True),
        ("flags\t\t: fpu amx_bf16 amx_tile", True),
        ("Features\t: fp asimd i8mm bf16", True),
        ("flags\t\t: fpu avx2 avx512f avx512_vnni", False),
    ],
)
def test_the_processor_decides(model, processor, flags, fast):
    processor(flags)
    assert is_float32(in_precision(model, Precision.AUTO, "model")) is not fast


def test_a_system_that_does_not_report_its_processor_computes_float32(tmp_path):
    assert computes_bfloat16(tmp_path / "missing") is False


def test_a_model_whose_vectors_would_change_keeps_float32(model, processor, monkeypatch):
    processor("flags : amx_bf16")
    monkeypatch.setattr(precision, "TOLERANCE", 1.1)
    assert in_precision(model, Precision.AUTO, "model") is model


def test_precision_changes_neither_identity_nor_limits(model):
    exact, fast = (open_embedder(Embedding(precision=one)) for one in (Precision.FLOAT32, Precision.BFLOAT16))
    assert (exact.identity, exact.dimension, exact.max_tokens) == (fast.identity, fast.dimension, fast.max_tokens)
