"""Test embeddings over HTTP, against a server with the vectors of the embedder in this process."""

import logging
import multiprocessing
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import numpy as np
import pytest

from clipdex.config import Embedding, Settings
from clipdex.errors import ConfigurationError, EmbeddingUnavailable
from clipdex.index import Collection, open_index
from clipdex.index.embeddings import open_embedder
from clipdex.index.http_embedder import HttpEmbedder
from clipdex.index.search import search_once
from tests.support.embedding import MODEL, EmbeddingServer, minilm, other_model
from tests.support.indexes import SCENES, caption, fill

KEY = "canary-7b3d"
TEXTS = [f"{text} {number}" for number in range(4) for text in SCENES.values()]


@pytest.fixture
def serve() -> Iterator[Callable[..., EmbeddingServer]]:
    """Start servers, and stop all at the end of the test."""
    with ExitStack() as stack:
        yield lambda *args, **options: stack.enter_context(EmbeddingServer(*args, **options))


def over_http(*servers: EmbeddingServer | str, **settings: Any) -> HttpEmbedder:
    urls = [one if isinstance(one, str) else one.url for one in servers]
    return HttpEmbedder(Embedding(base_urls=tuple(urls), **{"model": MODEL, "batch_size": 4, **settings}), MODEL, 0.01)


def same(vectors: np.ndarray, texts: list[str]) -> bool:
    return bool(np.abs(vectors - minilm(texts)).max() < 1e-3)


# Vectors


@pytest.mark.parametrize("floats", [True, False])
def test_vectors_are_those_of_the_embedder_in_this_process_in_order(serve, floats):
    server = serve(floats=floats)
    model = over_http(server)
    assert same(model.embed_documents(TEXTS), TEXTS)
    assert same(model.embed_queries(TEXTS[:3]), TEXTS[:3])
    assert same(model.embed_query(TEXTS[0])[None], TEXTS[:1])
    assert model.embed_documents([]).shape == (0, 384)
    assert max(len(request["input"]) for request in server.requests) == 4
