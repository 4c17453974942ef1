"""Nodes: node selection, retries and hedged requests. client.py classifies the responses.

Unavailable         retried on the best node, with backoff, jitter and Retry-After, until tries or time are used up
Refused             retried once, on another node if there is one; the second is the error that the service
                    names. An unconfirmed refusal counts as a failure of the node
ConfigurationError  raised at once
"""

import asyncio
import logging
import math
import random
import time
from collections import deque
from collections.abc import AsyncIterable, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from clipdex.errors import ConfigurationError, Unavailable
from clipdex.nodes.client import Absent, Document, Endpoint, Refused, endpoints
from clipdex.nodes.load_control import Load, Meter, adjust_concurrency
from clipdex.nodes.service import Access, Service

log = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class Node:
    """An endpoint and its health. Times are of the monotonic clock.

    share: upper bound of capacity
    capacity: concurrency limit
    meter: GPU-seconds per request
    consecutive_failures: failures since its last answer
    cooldown_until: skip this node while another is available
    retry_after_until: send no request before, from Retry-After
    latency_ewma_s: moving average of its latency [s]; 0 before the first answer
    load_failed: its load could not be used, which is logged once
    """

    endpoint: Endpoint
    share: int
    capacity: int
    meter: Meter = field(default_factory=Meter)
    in_flight: int = 0
    consecutive_failures: int = 0
    cooldown_until: float = 0.0
    retry_after_until: float = 0.0
    latency_ewma_s: float = 0.0
    load_failed: bool = False

    @property
    def url(self) -> str:
        return self.endpoint.url

    @property
    def suspect(self) -> bool:
        """Return whether the node is in cooldown, or a request already probes it after one."""
        return time.monotonic() < self.cooldown_until or (self.consecutive_failures > 0 and self.in_flight > 0)

    def rank(self, penalty: int) -> tuple[float, ...]:
        """Return the sort key for selection; the lowest is next. penalty: this request's failures on the node."""
        closed = time.monotonic() < self.retry_after_until
        return penalty + closed, self.suspect, self.full, self.in_flight, random.random()

    @property
    def full(self) -> bool:
        return self.in_flight >= self.capacity

    def add_in_flight(self, requests: int) -> None:
        """Add to the requests in flight; a negative number removes."""
        self.in_flight += requests
        self.meter.own(self.in_flight)

    def record_failure(self, backoff_s: float, retry_after_s: float | None = None) -> None:
        now = time.monotonic()
        if now >= self.cooldown_until:
            self.consecutive_failures += 1
            self.cooldown_until = now + min(_MAX_PAUSE_S, backoff_s * 2**self.consecutive_failures)
        self.retry_after_until = max(self.retry_after_until, now + (retry_after_s or 0.0))

    def record_success(self, seconds: float) -> None:
        self.consecutive_failures = 0
        self.latency_ewma_s = 0.7 * self.latency_ewma_s + 0.3 * seconds if self.latency_ewma_s else seconds

    def clear_failures(self) -> None:
        self.consecutive_failures, self.cooldown_until = 0, 0.0


@dataclass(frozen=True, slots=True)
class Answer:
    """The document of an accepted response.

    seconds: from the request to its last byte [s]
    gpu_s: GPU time [GPU-seconds]; 0 if unknown
    attempts: requests sent, retries included
    node: host and port of the node that answered
    """

    document: Document
    seconds: float
    gpu_s: float
    attempts: int
    node: str


class Nodes:
    """Sends each request to the node with the fewest own requests in flight. One object serves one event loop.

    Each node's concurrency limit is an equal share of in_flight; further requests wait here, not in a slow node's
    queue. When a node becomes idle, a request on a slower node is hedged: the first answer is used, the other request
    is cancelled.

    backoff_s: the longest pause before the second try; it doubles per try [s]
    serving: the nodes that get requests
    """

    def __init__(self, access: Access, service: Service, in_flight: int, backoff_s: float) -> None:
        self._access, self._service, self._backoff_s = access, service, backoff_s
        found = endpoints(access, service)
        capacity = math.ceil(in_flight / len(found))
        self.all = [Node(endpoint, capacity, capacity) for endpoint in found]
        self.serving: Sequence[Node] = self.all
        self._waiting: deque[tuple[asyncio.Future[Node], dict[Node, int]]] = deque()
        self._hedges: set[_Hedge] = set()

    async def aclose(self) -> None:
        await asyncio.gather(*(node.endpoint.aclose() for node in self.all))

    async def watch(self, page: str, read: Callable[[Document], Load | None]) -> None:
        """Adjust each node's concurrency limit to its load, until cancelled. Without a load it keeps its limit.

        The first unexpected document or error of a node is logged; polling goes on.
        """
        while True:
            nodes = list(self.serving)
            polls = (self._poll_load(node, page, read) for node in nodes)
            for node, error in zip(nodes, await asyncio.gather(*polls, return_exceptions=True), strict=True):
                if error is not None and not node.load_failed:
                    node.load_failed = True
                    log.warning(
                        "%s%s: %s; this node keeps its limit of %d requests until it reports its load",
                        node.url, page, str(error) or type(error).__name__, node.capacity,
                        exc_info=None if isinstance(error, _UnexpectedLoad) else error,
                    )  # fmt: skip
            await asyncio.sleep(_LOAD_POLL_S)

    async def _poll_load(self, node: Node, page: str, read: Callable[[Document], Load | None]) -> None:
        try:
            async with asyncio.timeout(_LOAD_POLL_S):
                load = read(await node.endpoint.get(page))
        except (Unavailable, ConfigurationError, TimeoutError):
            return  # the requests handle failures
        if load is None:
            raise _UnexpectedLoad("expected the numbers of running and waiting requests, found none")
        node.meter.load(load)
        node.capacity = adjust_concurrency(node.capacity, node.share, load)
        self._assign_waiting()

    async def get(self, node: Node, path: str, deadline_s: float) -> Document | None:
        """Return the document of one node's page, or None if it does not exist. It uses no capacity."""
        try:
            return (
                await self._send_with_retries([_apart(node)], deadline_s, lambda one: one.endpoint.get(path))
            ).document
        except Absent:
            return None

    async def post(
        self,
        path: str,
        body: AsyncIterable[bytes],
        size: int,
        accept: Callable[[str, Document], None],
        *,
        node: Node | None = None,
        deadline_s: float | None = None,
    ) -> Answer:
        """Return the first accepted answer.

        accept(url, document): raises Unavailable or ConfigurationError for an invalid document.
        node: of this node alone, without using its capacity
        deadline_s: instead of that of the settings [s]
        """

        async def send(node: Node) -> Document:
            document = await node.endpoint.post(path, body, size)
            accept(node.url, document)
            return document

        nodes = self.serving if node is None else [_apart(node)]
        return await self._send_with_retries(nodes, self._access.deadline_s if deadline_s is None else deadline_s, send)

    async def _send_with_retries(
        self, nodes: Sequence[Node], deadline_s: float, send: Callable[[Node], Awaitable[Document]]
    ) -> Answer:
        """Retry until there is an answer, or tries or time are used up."""
        began = time.monotonic()
        penalties = dict.fromkeys(nodes, 0)
        failures = attempts = 0
        refused_by: Node | None = None
        while True:
            node = await self._acquire(penalties, deadline_s - (time.monotonic() - began))
            attempts += 1
            try:
                return await self._send_once(node, send, deadline_s - (time.monotonic() - began), attempts)
            except Refused as refusal:
                if refused_by:
                    refused_by.clear_failures()
                    node.clear_failures()
                    raise self._service.refused(f"rejected twice, last: {refusal}") from None
                refused_by = node
                penalties[node] += 2  # prefer any other node, even one in cooldown, to confirm
            except Unavailable as error:
                penalties[node] += 1
                failures += 1
                pause = random.uniform(0, min(_MAX_PAUSE_S, self._backoff_s * 2 ** (failures - 1)))
                spent = time.monotonic() - began
                if failures >= self._access.tries or spent + pause >= deadline_s:
                    text = f"{error}; given up after {attempts} requests in {spent:.1f} s"
                    raise self._service.unavailable(text, error.retry_after_s) from None
                log.debug("%s; retrying in %.1f s", error, pause)
                await asyncio.sleep(pause)

    async def _acquire(self, penalties: dict[Node, int], left_s: float) -> Node:
        """Reserve capacity on the best node and return it; wait until it has capacity."""
        node = _best(penalties)
        if node.full:
            node = await self._wait_for_capacity(penalties, left_s)
        else:
            node.add_in_flight(1)
        try:
            await self._wait_for_retry_after(node, left_s)
        except BaseException:
            self._release(node)
            raise
        return node

    async def _wait_for_capacity(self, penalties: dict[Node, int], left_s: float) -> Node:
        """Wait in FIFO order for a node with capacity; retries go first."""
        assigned: asyncio.Future[Node] = asyncio.get_running_loop().create_future()
        if any(penalties.values()):
            self._waiting.appendleft((assigned, penalties))
        else:
            self._waiting.append((assigned, penalties))
        try:
            async with asyncio.timeout(left_s):
                return await assigned
        except BaseException as error:
            if not assigned.cancel() and not assigned.cancelled():  # a node was assigned just before the timeout
                self._release(assigned.result())
            if isinstance(error, TimeoutError):
                raise self._service.unavailable(f"no node had capacity within {left_s:.0f} s") from None
            raise

    def _release(self, node: Node) -> None:
        node.add_in_flight(-1)
        self._assign_waiting()
        self._start_hedge(node)

    def _assign_waiting(self) -> None:
        """Assign nodes with capacity to waiting requests. All requests without failures wait for the same nodes."""
        for waiting in list(self._waiting):
            assigned, penalties = waiting
            best = _best(penalties)
            if best.full and not assigned.cancelled():
                if any(penalties.values()):
                    continue
                return
            self._waiting.remove(waiting)
            if not assigned.cancelled():
                best.add_in_flight(1)
                assigned.set_result(best)

    def _start_hedge(self, idle: Node) -> None:
        """Hedge the request with the longest expected time left on the idle node, if that node is clearly faster."""
        if idle.full or idle.suspect or not idle.latency_ewma_s:
            return
        now = time.monotonic()
        slowest = max(self._hedges, key=lambda hedge: hedge.left_s(now), default=None)
        if slowest and slowest.left_s(now) > _HEDGE_FACTOR * idle.latency_ewma_s:
            self._hedges.discard(slowest)
            idle.add_in_flight(1)
            slowest.node_assigned.set_result(idle)

    async def _wait_for_retry_after(self, node: Node, left_s: float) -> None:
        """Wait for the node's Retry-After plus jitter."""
        wait = node.retry_after_until - time.monotonic()
        if wait <= 0:
            return
        if wait >= left_s:
            raise self._service.unavailable(f"{node.url}: Retry-After ends in {wait:.0f} s, after the deadline", wait)
        await asyncio.sleep(min(wait + random.uniform(0, self._backoff_s), left_s))

    async def _send_once(
        self, node: Node, send: Callable[[Node], Awaitable[Document]], left_s: float, attempts: int
    ) -> Answer:
        """Send one request with a total time limit; the client's timeouts restart with each byte.

        The node's health is updated before its capacity is released.
        """
        limit_s = min(self._access.request_timeout_s, left_s)
        started, before = time.monotonic(), node.meter.read()
        try:
            async with asyncio.timeout(limit_s):
                answered, document = await self._hedged(node, send)
            after = node.meter.read()  # before the release, which gives the share of this request to the others
        except TimeoutError:
            node.record_failure(self._backoff_s)
            raise self._service.unavailable(f"{node.url}: no complete answer within {limit_s:.1f} s") from None
        except Unavailable as error:
            node.record_failure(self._backoff_s, error.retry_after_s)
            raise
        except Refused:
            # A node that refuses everything is always idle and would get every clip.
            node.record_failure(self._backoff_s)
            raise
        finally:
            self._release(node)
        gpu_s = after - before if before is not None and after is not None else 0.0
        return Answer(document, time.monotonic() - started, gpu_s, attempts, answered.endpoint.name)

    async def _hedged(self, node: Node, send: Callable[[Node], Awaitable[Document]]) -> tuple[Node, Document]:
        """Return the first answer and its node: this one, or the hedge node if one joins."""
        hedge = _Hedge(node, time.monotonic(), asyncio.get_running_loop().create_future())
        self._hedges.add(hedge)
        tasks = [asyncio.ensure_future(_measured(node, send))]
        try:
            either: list[asyncio.Future[Any]] = [*tasks, hedge.node_assigned]
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if not tasks[0].done():
                tasks.append(asyncio.ensure_future(_measured(hedge.node_assigned.result(), send)))
                await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            good = [task for task in tasks if not task.done() or not task.exception()]
            return await min(good or tasks[:1], key=lambda task: not task.done())
        finally:
            self._hedges.discard(hedge)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            if not hedge.node_assigned.cancel():
                self._release(hedge.node_assigned.result())


@dataclass(frozen=True, slots=True, eq=False)
class _Hedge:
    """A request in flight and the node that may hedge it. since: start, on the monotonic clock [s]."""

    node: Node
    since: float
    node_assigned: asyncio.Future[Node]

    def left_s(self, now: float) -> float:
        return self.node.latency_ewma_s - (now - self.since)


class _UnexpectedLoad(Exception):
    """Signal a page that does not have the load in the expected format."""


_LOAD_POLL_S = 2.0
_MAX_PAUSE_S = 30.0
_HEDGE_FACTOR = 1.5


async def _measured(node: Node, send: Callable[[Node], Awaitable[Document]]) -> tuple[Node, Document]:
    started = time.monotonic()
    document = await send(node)
    node.record_success(time.monotonic() - started)
    return node, document


def _apart(node: Node) -> Node:
    """Return the same node with a capacity of its own."""
    return Node(node.endpoint, share=1, capacity=1)


def _best(penalties: dict[Node, int]) -> Node:
    return min(penalties, key=lambda node: node.rank(penalties[node]))
