"""Embedding nodes: requests to OpenAI's /v1/embeddings of SGLang, vLLM or text-embeddings-inference, and their check.

The first input of each request is the text of probe.py, and its vector must be the one that was found at first. So a
node that serves another model, or begins to, is noticed before a vector of it is used. clipdex.nodes classifies
responses and retries.
"""

import asyncio
import base64
import binascii
import json
import logging
from collections.abc import AsyncIterator, Coroutine, Sequence
from dataclasses import dataclass
from enum import IntEnum
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from clipdex import config
from clipdex.errors import ConfigurationError, EmbeddingUnavailable
from clipdex.index.points import in_batches
from clipdex.index.probe import PROBE, difference
from clipdex.nodes.client import Document
from clipdex.nodes.pool import Node, Nodes
from clipdex.nodes.service import Service

T = TypeVar("T")

log = logging.getLogger(__name__)


def _refused(text: str) -> ConfigurationError:
    return ConfigurationError(
        f"{text}; check CLIPDEX_EMBEDDING__MODEL, and that the server takes CLIPDEX_EMBEDDING__BATCH_SIZE texts of "
        "CLIPDEX_CHUNKING__TOKENS tokens"
    )


SERVICE = Service(
    name="embedding server",
    settings="CLIPDEX_EMBEDDING",
    connection="clipdex_embedding",
    unavailable=EmbeddingUnavailable,
    refused=_refused,
)


class Use(IntEnum):
    """Name what a text is. The value is its row of a probe."""

    DOCUMENT = 0
    QUERY = 1


@dataclass(frozen=True, slots=True)
class Served:
    """What the nodes serve.

    probe: float32, of shape (2, dimension)
    max_tokens: the lowest limit that a node states [tokens]; 0 if none does
    """

    probe: np.ndarray
    max_tokens: int


class EmbeddingNodes:
    """Embed texts on one gateway or several nodes. One object serves one event loop.

    prompts: prepended to documents and to queries
    backoff_s: see Nodes
    """

    def __init__(
        self, settings: config.Embedding, model: str, prompts: tuple[str, str], backoff_s: float = 0.5
    ) -> None:
        self._settings, self._model, self._prompts = settings, model, prompts
        in_flight = settings.in_flight or _IN_FLIGHT_PER_NODE * len(settings.base_urls)
        self._nodes = Nodes(settings, SERVICE, in_flight, backoff_s)
        self._slots, self._checking = asyncio.Semaphore(in_flight), asyncio.Lock()
        self._served: Served | None = None
        self._names = {_last(model)}

    async def aclose(self) -> None:
        await self._nodes.aclose()

    async def served(self) -> Served:
        """Return what the nodes serve, which the first call finds out.

        Raises ConfigurationError if a node serves another model than the settings or another node, and
        EmbeddingUnavailable if no node answers. Nodes that do not answer are checked by their first answer.
        """
        async with self._checking:
            if self._served is None:
                self._served = await self._check()
            return self._served

    async def embed(self, texts: Sequence[str], use: Use, deadline_s: float | None = None) -> np.ndarray:
        """Return one row per text, float32, of length 1. deadline_s: of each request [s]; None for the setting's"""
        served = await self.served()
        found = np.empty((len(texts), served.probe.shape[1]), np.float32)
        longest_first = sorted(range(len(texts)), key=lambda one: -len(texts[one]))

        async def embed(some: Sequence[int]) -> None:
            async with self._slots:
                found[some] = await self._post([texts[one] for one in some], use, served.probe, deadline_s=deadline_s)

        # One text less than a server takes at once: the probe is the first.
        await _all([embed(some) for some in in_batches(longest_first, max(1, self._settings.batch_size - 1))])
        return found

    async def _check(self) -> Served:
        nodes = self._nodes.all
        found = await asyncio.gather(*map(self._check_node, nodes), return_exceptions=True)
        for error in found:
            if isinstance(error, BaseException) and not isinstance(error, EmbeddingUnavailable):
                raise error
        good = [(node, one) for node, one in zip(nodes, found, strict=True) if isinstance(one, Served)]
        unavailable = [error for error in found if isinstance(error, EmbeddingUnavailable)]
        if not good:
            raise unavailable[0]
        for error in unavailable:
            log.warning("%s; continuing with the other nodes", error)
        (first, served), *others = good
        for node, other in others:
            if why := difference(served.probe, other.probe):
                raise self._another(node.url, f"that of {first.url}", why)
        limits = [one.max_tokens for _, one in good if one.max_tokens]
        return Served(served.probe, min(limits, default=0))

    async def _check_node(self, node: Node) -> Served:
        models = await self._nodes.get(node, _MODELS, _CHECK_S)
        cards = models.get("data") if models else None
        served = {str(card["id"]): card for card in cards or () if isinstance(card, dict) and "id" in card}
        if served and self._model not in served:
            raise ConfigurationError(
                f"{node.url}{_MODELS}: serves {', '.join(served)}, wanted {self._model}: set CLIPDEX_EMBEDDING__MODEL, "
                "or start the server with that name"
            )
        rows = await asyncio.gather(*(self._post([], use, None, node=node, named=bool(served)) for use in Use))
        node.endpoint.model_seen = True
        limit = served.get(self._model, {}).get("max_model_len")
        return Served(np.concatenate(rows), limit if isinstance(limit, int) else 0)

    async def _post(
        self,
        texts: Sequence[str],
        use: Use,
        probe: np.ndarray | None,
        *,
        node: Node | None = None,
        named: bool = False,
        deadline_s: float | None = None,
    ) -> np.ndarray:
        """Return one row per text; without a probe to compare with, that of the probe.

        named: the node lists the model, so that its answers may call it otherwise, as SGLang's do
        """
        inputs = [self._prompts[use] + text for text in (PROBE, *texts)]
        own = {"input_type": use.name.lower()} if self._settings.server_prompts else {}
        body = _Body({"model": self._model, "input": inputs, "encoding_format": "base64", **own})
        vectors: list[np.ndarray] = []

        def accept(url: str, document: Document) -> None:
            self._check_name(url, document, named)
            rows = _rows(url, document, len(inputs))
            if probe is not None and (why := difference(probe[use], rows[0])):
                raise self._another(url, "the first one", why)
            vectors[:] = [rows]

        await self._nodes.post(_EMBEDDINGS, body, len(body.text), accept, node=node, deadline_s=deadline_s)
        return vectors[0][1:] if probe is not None else vectors[0]

    def _check_name(self, url: str, document: Document, named: bool) -> None:
        found = document.get("model") or self._model
        if named:
            self._names.add(_last(found))
        elif _last(found) not in self._names:
            raise ConfigurationError(
                f"{url}: requested model {self._model!r}, found {found!r}: set CLIPDEX_EMBEDDING__MODEL, or start the "
                "server with the requested model"
            )

    def _another(self, url: str, other: str, why: str) -> ConfigurationError:
        return ConfigurationError(
            f"{url}: another model behind the name {self._model}: its vector of one text differs from {other} ({why}); "
            "serve the same model on all nodes; if it was changed on purpose, give it another name, and reindex"
        )


class _Body:
    """A request body that can be sent again."""

    def __init__(self, document: Document) -> None:
        self.text = json.dumps(document, separators=(",", ":")).encode()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield self.text


_EMBEDDINGS, _MODELS = "/v1/embeddings", "/v1/models"
_IN_FLIGHT_PER_NODE = 8
_CHECK_S = 10.0


async def _all(work: Sequence[Coroutine[Any, Any, T]]) -> list[T]:
    """Return all results; at the first error, cancel the others."""
    tasks = [asyncio.ensure_future(one) for one in work]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _last(name: object) -> str:
    """Return the last part of a name: servers name a model by its repository, or by its folder."""
    return Path(str(name)).name.lower()


def _rows(url: str, document: Document, count: int) -> np.ndarray:
    """Return the vectors of a document, float32, of length 1, in the order of the inputs.

    Raises EmbeddingUnavailable if they are not `count` vectors of one length.
    """
    expected = partial("{0}: expected {1} vectors, found {2}".format, url, count)
    items = document.get("data")
    if not isinstance(items, list) or len(items) != count:
        raise EmbeddingUnavailable(expected(len(items) if isinstance(items, list) else "none"))
    try:
        rows: list[Any] = [None] * count
        for place, item in enumerate(items):
            rows[item.get("index", place)] = _vector(item["embedding"])
        found = np.array(rows, np.float32)
    except (AttributeError, KeyError, IndexError, TypeError, ValueError, binascii.Error):
        raise EmbeddingUnavailable(expected("others")) from None
    lengths = np.linalg.norm(found, axis=1, keepdims=True) if found.ndim == 2 else np.zeros(1)
    if not (np.isfinite(lengths).all() and lengths.all()):
        raise EmbeddingUnavailable(expected("one without a direction"))
    normal: np.ndarray = found / lengths
    return normal


def _vector(embedding: object) -> np.ndarray:
    """Return a vector given as numbers, or as base64 of float32."""
    if isinstance(embedding, str):
        return np.frombuffer(base64.b64decode(embedding, validate=True), "<f4")
    return np.array(embedding, np.float32)
