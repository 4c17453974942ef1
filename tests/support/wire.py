"""Serve HTTP/1.1 on asyncio and h11, with low-level access to inject faults."""

import asyncio
import json
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import h11


@dataclass(slots=True)
class Call:
    """A received request. connection: number of the TCP connection."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    connection: int


@dataclass(slots=True)
class Answer:
    """A response. sending: "" (normal), "reset", "cut" (half of the body) or "drip" (one byte every drip_s seconds)."""

    status: int
    body: bytes
    kind: str = "application/json"
    headers: dict[str, str] = field(default_factory=dict)
    sending: str = ""
    drip_s: float = 0.05

    @classmethod
    def of(cls, document: Any, status: int = 200) -> "Answer":
        return cls(status, json.dumps(document).encode())


Handler = Callable[[Call], Awaitable[Answer]]


async def converse(number: int, handle: Handler, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Handle the requests of one connection. Cancel the handler when the client disconnects."""
    connection = h11.Connection(h11.SERVER)
    try:
        while (call := await _received(number, connection, reader)) is not None:
            answer = await _while_connected(handle(call), reader)
            if answer is None or not await _send(answer, connection, writer):
                return
            connection.start_next_cycle()
    except (ConnectionError, h11.RemoteProtocolError):
        return  # the client disconnected
    finally:
        writer.close()


async def _received(number: int, connection: h11.Connection, reader: asyncio.StreamReader) -> Call | None:
    head, chunks = None, []
    async for event in _events(connection, reader):
        if isinstance(event, h11.Request):
            head = event
        elif isinstance(event, h11.Data):
            chunks.append(bytes(event.data))
    if head is None:
        return None
    headers = {name.decode(): value.decode("latin-1") for name, value in head.headers}
    return Call(head.method.decode(), head.target.decode().partition("?")[0], headers, b"".join(chunks), number)


async def _events(connection: h11.Connection, reader: asyncio.StreamReader) -> AsyncIterator[Any]:
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            connection.receive_data(await reader.read(2**18))
            continue
        yield event
        if isinstance(event, h11.EndOfMessage | h11.ConnectionClosed):
            return


async def _while_connected(work: Awaitable[Answer], reader: asyncio.StreamReader) -> Answer | None:
    """Return the response, or None if the client disconnects first."""
    answering = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(reader.read(1))
    try:
        await asyncio.wait({answering, leaving}, return_when=asyncio.FIRST_COMPLETED)
        return answering.result() if answering.done() else None
    finally:
        answering.cancel()
        leaving.cancel()
        await asyncio.gather(answering, leaving, return_exceptions=True)


async def _send(answer: Answer, connection: h11.Connection, writer: asyncio.StreamWriter) -> bool:
    """Send a response; return whether the connection can be reused."""
    if answer.sending == "reset":
        linger = struct.pack("ii", 1, 0)
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        writer.transport.abort()
        return False
    headers = {"Content-Type": answer.kind, "Content-Length": str(len(answer.body))} | answer.headers
    writer.write(connection.send(h11.Response(status_code=answer.status, headers=list(headers.items()))) or b"")
    if answer.sending == "cut":
        writer.write(answer.body[: len(answer.body) // 2])
        await writer.drain()
        return False
    if answer.sending == "drip":
        for byte in answer.body:
            writer.write(bytes([byte]))
            await writer.drain()
            await asyncio.sleep(answer.drip_s)
        return False
    for event in (h11.Data(data=answer.body), h11.EndOfMessage()):
        writer.write(connection.send(event) or b"")
    await writer.drain()
    return connection.our_state is h11.DONE and connection.their_state is h11.DONE
