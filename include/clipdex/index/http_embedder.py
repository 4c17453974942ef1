"""Embedder over HTTP: the protocol of embeddings.py over the servers of embedding_nodes.py.

An event loop in a thread of its own sends the requests of all threads. A forked child makes its own.
"""

import asyncio
import functools
import os
import threading
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, TypeVar

import numpy as np

from clipdex import config
from clipdex.errors import ConfigurationError, EmbeddingUnavailable
from clipdex.index import weights
from clipdex.index.embedding_nodes import EmbeddingNodes, Served, Use
from clipdex.index.tokens import Tokenizer, open_tokenizer

T = TypeVar("T")

_QUERY_DEADLINE_S = 20.0  # a person waits


class HttpEmbedder:
    """An Embedder (embeddings.py) over one gateway or several nodes. Nothing connects before the first call.

    If the weights are on this machine, its identity is that of the embedder in this process: their vectors are
    comparable. The tokenizer is read on first use.
    """

    def __init__(self, settings: config.Embedding, name: str, backoff_s: float = 0.5) -> None:
        self._settings, self._name, self._backoff_s = settings, name, backoff_s

    @functools.cached_property
    def identity(self) -> str:
        path = weights.find(self._name)
        return weights.identity(self._settings, self._name, path if path and weights.has_weights(path) else None)

    @property
    def dimension(self) -> int:
        return int(self.probe.shape[1])

    @property
    def probe(self) -> np.ndarray:
        return self._served().probe

    @property
    def max_tokens(self) -> int:
        return self._room(Use.DOCUMENT)

    @functools.cached_property
    def _longest(self) -> int:
        """Return the longest text that the model reads, with prompt and special tokens."""
        stated = (self._settings.max_tokens,) if self._settings.max_tokens else self._stated
        if not (longest := min((one for one in stated if one), default=0)):
            raise ConfigurationError(
                f"embedding model {self._name!r}: neither its folder nor its server states the longest text: set "
                "CLIPDEX_EMBEDDING__MAX_TOKENS"
            )
        return longest

    def _room(self, use: Use) -> int:
        """Return the tokens that the prompt and the special tokens leave."""
        return self._longest - self._tokenizer.count(self._prompts[use], special=True)

    def count_tokens(self, text: str) -> int:
        return self._tokenizer.count(text)

    def embed_documents(self, texts: Sequence[str]) -> np.ndarray:
        return self._run(lambda nodes: nodes.embed(texts, Use.DOCUMENT))

    def embed_query(self, text: str) -> np.ndarray:
        vector: np.ndarray = self.embed_queries([text])[0]
        return vector

    def embed_queries(self, texts: Sequence[str]) -> np.ndarray:
        cut = [self._cut(text) for text in texts]
        seconds = min(_QUERY_DEADLINE_S, self._settings.deadline_s)

        async def embedded(nodes: EmbeddingNodes) -> np.ndarray:
            try:
                async with asyncio.timeout(seconds):  # also of the first check of the nodes
                    return await nodes.embed(cut, Use.QUERY, seconds)
            except TimeoutError:
                raise EmbeddingUnavailable(f"no server embedded the query within {seconds:g} s") from None

        return self._run(embedded)

    @functools.cached_property
    def _prompts(self) -> tuple[str, str]:
        """Return the prompts of documents and of queries, as the model in this process gets them."""
        names = self._name, self._settings.tokenizer
        own = weights.own_prompts(next((path for name in names if name and (path := weights.find(name))), None))
        document = next((own[use] for use in ("document", "passage", "corpus") if use in own), "")
        changed = weights.prompts(self._settings, self._name)
        return changed.get("document", document), changed.get("query", own.get("query", ""))

    @functools.cached_property
    def _tokenizer(self) -> Tokenizer:
        name = self._settings.tokenizer or self._name
        path = weights.find(name)
        if path and (found := open_tokenizer(path)):
            return found
        raise ConfigurationError(
            f"embedding model {self._name!r}: chunks are sized in its tokens, and this machine has no tokenizer "
            f"{path or name}: download it (hf download {name} --include '*.json'), or set "
            "CLIPDEX_EMBEDDING__TOKENIZER to a folder with a tokenizer.json"
        )

    @property
    def _stated(self) -> tuple[int, int]:
        """Return the longest text of the model's folder and of its servers [tokens]; 0 if they do not state it."""
        return self._tokenizer.limit, self._served().max_tokens

    def _cut(self, text: str) -> str:
        """Return what the model in this process would read of a query: servers refuse a longer one."""
        if len(text.encode(errors="replace")) <= _SHORT:
            return text
        try:
            return self._tokenizer.cut(text, self._room(Use.QUERY))
        except ConfigurationError:  # a process that only searches needs no tokenizer
            return text

    def _served(self) -> Served:
        return self._run(lambda nodes: nodes.served())

    def _run(self, work: Callable[[EmbeddingNodes], Coroutine[Any, Any, T]]) -> T:
        """Run in the loop of this process, from any thread."""
        with _opening:
            if self not in _running:
                prompts = ("", "") if self._settings.server_prompts else self._prompts
                _running[self] = EmbeddingNodes(self._settings, self._name, prompts, self._backoff_s)
            future = asyncio.run_coroutine_threadsafe(work(_running[self]), _loop())
        try:
            return future.result()
        finally:
            future.cancel()  # if this thread is interrupted


_SHORT = 128  # bytes, and so at most as many tokens

_opening = threading.Lock()
_running: dict[HttpEmbedder, EmbeddingNodes] = {}
_loops: list[asyncio.AbstractEventLoop] = []  # at most one
_inherited: list[object] = []


def _loop() -> asyncio.AbstractEventLoop:
    if not _loops:
        _loops.append(asyncio.new_event_loop())
        threading.Thread(target=_loops[0].run_forever, name="clipdex-embedder", daemon=True).start()
    return _loops[0]


def _after_fork_in_child() -> None:
    """Forget the parent's loop and connections, without closing what is still in use there."""
    global _opening
    _opening = threading.Lock()
    _inherited.extend([*_loops, *_running.values()])
    _loops.clear()
    _running.clear()


os.register_at_fork(after_in_child=_after_fork_in_child)
