"""Run a gateway in front of stand-in engines that forwards each request to the next node in turn."""

import asyncio
import threading
from collections.abc import Sequence
from itertools import count, cycle

import httpx

from tests.support.engine import StandIn
from tests.support.faults import error
from tests.support.wire import Answer, Call, converse


class Gateway:
    """Forward requests to nodes in order; a node that is listed twice gets two requests per round."""

    def __init__(self, nodes: Sequence[StandIn]) -> None:
        self._first, self._turns = nodes[0], cycle(nodes)
        self._started, self._connections = threading.Event(), count(1)

    def __enter__(self) -> "Gateway":
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), daemon=True)
        self._thread.start()
        if not self._started.wait(10):
            raise RuntimeError("the gateway did not start")
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)

    async def _run(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()

        async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await converse(next(self._connections), self._handle, reader, writer)

        async with httpx.AsyncClient(timeout=None) as self._client:
            server = await asyncio.start_server(connected, "127.0.0.1", 0, limit=2**20)
            self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            self._started.set()
            await self._stop.wait()
            server.close()

    async def _handle(self, call: Call) -> Answer:
        if (call.method, call.path) not in (("POST", "/v1/chat/completions"), ("GET", "/v1/models")):
            return error(404, "Not Found")
        node = next(self._turns) if call.method == "POST" else self._first
        answer = await self._client.request(call.method, node.url + call.path, content=call.body)
        return Answer(answer.status_code, answer.content)
