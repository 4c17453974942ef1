"""Serve /v1/embeddings with the vectors of the embedder in this process, for tests.

    with EmbeddingServer("503:2") as server:
        server.url; server.requests; server.vectors = other_vectors

Faults are those of faults.py, of the requests for embeddings. Prompts arrive as part of the texts, as from any client.
"""

import asyncio
import base64
import functools
import json
import threading
from collections.abc import Callable, Sequence
from itertools import count
from typing import Any

import numpy as np

from clipdex.config import Embedding, Precision
from clipdex.evaluation.embedding import SharedEmbedder
from clipdex.index.embeddings import open_embedder
from tests.support.faults import Plan, broken, error
from tests.support.wire import Answer, Call, converse

MODEL = "all-MiniLM-L6-v2"  # it has no prompts

Vectors = Callable[[Sequence[str]], np.ndarray]


_computing = threading.Lock()


def minilm(texts: Sequence[str]) -> np.ndarray:
    with _computing:
        return _minilm().embed_documents(texts)


@functools.cache
def _minilm() -> SharedEmbedder:
    """Return the embedder that computes each text once."""
    return SharedEmbedder(open_embedder(Embedding(model=MODEL, precision=Precision.FLOAT32)))


def other_model(texts: Sequence[str]) -> np.ndarray:
    """Return vectors of the same dimension that mean something else."""
    return minilm(texts)[:, ::-1]


class EmbeddingServer:
    """Run the server in a thread of this process.

    vectors: make the vectors; it may be replaced while the server runs
    changed: change a document before it is sent
    model: its name at /v1/models; calls: its name in answers, as SGLang's is the folder of the model
    models: whether it has the page /v1/models
    limit: the longest text [tokens], stated at /v1/models; a longer one is refused
    floats: send numbers, not base64, as SGLang does
    slow_s: time per request [s]
    """

    def __init__(
        self,
        faults: str = "",
        *,
        vectors: Vectors = minilm,
        changed: Callable[[dict[str, Any]], None] = lambda _: None,
        model: str = MODEL,
        calls: str = "",
        models: bool = True,
        limit: int | None = 256,
        floats: bool = False,
        slow_s: float = 0.0,
        api_key: str = "",
        port: int = 0,
    ) -> None:
        self.plan = Plan(faults)
        self.vectors, self.changed, self.model, self.calls, self.models = vectors, changed, model, calls, models
        self.limit, self.floats, self.slow_s, self.api_key, self.port = limit, floats, slow_s, api_key, port
        self.requests: list[dict[str, Any]] = []
        self.running = self.peak_running = 0
        self._stop, self._tasks, self._connections = asyncio.Event(), set[asyncio.Task[None]](), count(1)

    def __enter__(self) -> "EmbeddingServer":
        started = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run(started)), daemon=True)
        self._thread.start()
        if not started.wait(30):
            raise RuntimeError("the embedding server did not start")
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def kill(self) -> None:
        """Stop at once, in the middle of answers."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join(30)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def texts(self) -> list[str]:
        """Return the texts of all requests, without the first of each."""
        return [text for request in self.requests for text in request["input"][1:]]

    async def _run(self, started: threading.Event) -> None:
        self._loop = asyncio.get_running_loop()
        server = await asyncio.start_server(self._connected, "127.0.0.1", self.port, limit=2**20)
        self.port = server.sockets[0].getsockname()[1]
        started.set()
        async with server:
            await self._stop.wait()
            server.close()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(converse(next(self._connections), self._answer, reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer(self, call: Call) -> Answer:
        if self.api_key and call.headers.get("authorization") != f"Bearer {self.api_key}":
            return error(401, f"wrong key {call.headers.get('authorization')}")
        if (call.method, call.path) == ("GET", "/v1/models") and self.models:
            return Answer.of({"data": [{"id": self.model, "max_model_len": self.limit}]})
        if (call.method, call.path) != ("POST", "/v1/embeddings"):
            return error(404, "Not Found")
        request = json.loads(call.body)
        self.requests.append(request)
        self.running += 1
        self.peak_running = max(self.peak_running, self.running)
        try:
            return await self._embed(request)
        finally:
            self.running -= 1

    async def _embed(self, request: dict[str, Any]) -> Answer:
        texts = request["input"]
        if self.limit and any(len(text.split()) > self.limit for text in texts):
            return error(400, f"the input is longer than the model's context of {self.limit} tokens")
        await asyncio.sleep(self.slow_s)
        rows = await asyncio.to_thread(self.vectors, texts)
        data = [{"object": "embedding", "index": at, "embedding": self._numbers(row)} for at, row in enumerate(rows)]
        document = {"object": "list", "model": self.calls or request["model"], "data": data, "usage": {}}
        self.changed(document)
        fault = self.plan.next("chat")
        return await broken(fault, Answer.of(document)) if fault else Answer.of(document)

    def _numbers(self, row: np.ndarray) -> Any:
        return row.tolist() if self.floats else base64.b64encode(row.astype("<f4").tobytes()).decode()
