"""The nodes of an engine: whom to ask next, and when to ask again. What an answer means is told in endpoint.py.

unavailable     asked again, elsewhere if there is a better node, with backoff, jitter and Retry-After;
                EngineUnavailable when tries or time are used up
about the clip  asked once more, elsewhere if there is another node; twice is ClipRejected. Until somebody confirms it,
                it counts against the node
configuration   ConfigurationError at once
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

from clipdex.captions.http.client import Absent, Document, Endpoint, Refused, endpoints
from clipdex.captions.http.load_control import Load, Meter, adjust_concurrency
from clipdex.config import Engine
from clipdex.errors import ClipRejected, ConfigurationError, EngineUnavailable, Reason

log = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class Node:
    """An endpoint, and how it does. Times are of the monotonic clock.

    capacity: requests that it gets at once, at most its share of in_flight; meter: GPU-seconds per request.
    consecutive_failures: since its last answer. cooldown_until: skip this node while another is available.
    retry_after_until: its own Retry-After; it gets no request before. latency_ewma_s: average of its latest answers, 0
    before the first.
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

    @property
    def url(self) -> str:
        return self.endpoint.url

    @property
    def suspect(self) -> bool:
        """It rests, or is back from it and one request is already finding out how it does."""
        return time.monotonic() < self.cooldown_until or (self.consecutive_failures > 0 and self.in_flight > 0)

    def rank(self, against: int) -> tuple[float, ...]:
        """The lowest is asked next, as soon as it has capacity. against: what the clip in question has met here."""
        closed = time.monotonic() < self.retry_after_until
        return against + closed, self.suspect, self.full, self.in_flight, random.random()

    @property
    def full(self) -> bool:
        return self.in_flight >= self.capacity

    def took(self, requests: int) -> None:
        """One more, or one fewer."""
        self.in_flight += requests
        self.meter.own(self.in_flight)

    def trouble(self, backoff_s: float, retry_after_s: float | None = None) -> None:
        now = time.monotonic()
        if now >= self.cooldown_until:
            self.consecutive_failures += 1
            self.cooldown_until = now + min(_LONGEST_PAUSE_S, backoff_s * 2**self.consecutive_failures)
        self.retry_after_until = max(self.retry_after_until, now + (retry_after_s or 0.0))

    def answered(self, seconds: float) -> None:
        self.consecutive_failures = 0
        self.latency_ewma_s = 0.7 * self.latency_ewma_s + 0.3 * seconds if self.latency_ewma_s else seconds

    def trusted(self) -> None:
        self.consecutive_failures, self.cooldown_until = 0, 0.0


@dataclass(frozen=True, slots=True)
class Answer:
    """seconds: from the request to its last byte; gpu_s: what it took of the node's GPUs [GPU-seconds], 0 where that
    is not known; attempts: how many requests were sent until it came."""

    document: Document
    seconds: float
    gpu_s: float
    attempts: int


class Nodes:
    """Sends requests, each to the node that has the fewest of ours in flight. One object serves one event loop.

    in_flight is shared out evenly: a node gets no more than its part at once, and what finds no room waits here. So a
    slow node has no queue in which the last clips of a batch would wait, while others are idle. What a slow node has
    just begun when others become idle is asked there, too: the first answer counts, the other request is cancelled.

    backoff_s: the longest pause before the second try; it doubles with each further one. serving: those to ask.
    """

    def __init__(self, engine: Engine, in_flight: int, backoff_s: float) -> None:
        self._engine, self._backoff_s = engine, backoff_s
        those = endpoints(engine)
        capacity = math.ceil(in_flight / len(those))
        self.all = [Node(one, capacity, capacity) for one in those]
        self.serving: Sequence[Node] = self.all
        self._waiting: deque[tuple[asyncio.Future[Node], dict[Node, int]]] = deque()
        self._races: set[_Hedge] = set()

    async def aclose(self) -> None:
        await asyncio.gather(*(node.endpoint.aclose() for node in self.all))

    async def watch(self, page: str, read: Callable[[Document], Load | None]) -> None:
        """Give each node as many requests as it takes, until cancelled; its share where it tells no load."""
        while True:
            await asyncio.gather(*(self._look(node, page, read) for node in self.serving))
            await asyncio.sleep(_LOOK_S)

    async def _look(self, node: Node, page: str, read: Callable[[Document], Load | None]) -> None:
        try:
            async with asyncio.timeout(_LOOK_S):
                load = read(await node.endpoint.get(page))
        except (EngineUnavailable, ConfigurationError, TimeoutError):
            return  # what asks it for captions finds out
        if load:
            node.meter.load(load)
            node.capacity = adjust_concurrency(node.capacity, node.share, load)
            self._hand_out()

    async def get(self, node: Node, path: str, deadline_s: float) -> Document | None:
        """What one node says, or None if it has no such page. It needs no room: it is no work."""
        alone = [Node(node.endpoint, share=1, capacity=1)]
        try:
            return (await self._persist(alone, deadline_s, lambda one: one.endpoint.get(path))).document
        except Absent:
            return None

    async def post(
        self, path: str, body: AsyncIterable[bytes], size: int, accept: Callable[[str, Document], None]
    ) -> Answer:
        """The first answer that is accepted.

        accept(url, document): raises EngineUnavailable or ConfigurationError if it is none.
        """

        async def send(node: Node) -> Document:
            document = await node.endpoint.post(path, body, size)
            accept(node.url, document)
            return document

        return await self._persist(self.serving, self._engine.deadline_s, send)

    async def _persist(
        self, nodes: Sequence[Node], deadline_s: float, send: Callable[[Node], Awaitable[Document]]
    ) -> Answer:
        """Ask until there is an answer, or tries or time are used up."""
        began = time.monotonic()
        against = dict.fromkeys(nodes, 0)
        failures = attempts = 0
        refused_by: Node | None = None
        while True:
            node = await self._taken(against, deadline_s - (time.monotonic() - began))
            attempts += 1
            try:
                return await self._timed(node, send, deadline_s - (time.monotonic() - began), attempts)
            except Refused as refusal:
                if refused_by:
                    refused_by.trusted()
                    node.trusted()
                    raise ClipRejected(Reason.REJECTED_BY_ENGINE, f"twice, at last by {refusal}") from None
                refused_by = node
                against[node] += 2  # a second opinion is worth more than a node at rest
            except EngineUnavailable as error:
                against[node] += 1
                failures += 1
                pause = random.uniform(0, min(_LONGEST_PAUSE_S, self._backoff_s * 2 ** (failures - 1)))
                spent = time.monotonic() - began
                if failures >= self._engine.tries or spent + pause >= deadline_s:
                    text = f"{error}; given up after {attempts} requests in {spent:.1f} s"
                    raise EngineUnavailable(text, error.retry_after_s) from None
                log.debug("%s; asking again in %.1f s", error, pause)
                await asyncio.sleep(pause)

    async def _taken(self, against: dict[Node, int], left_s: float) -> Node:
        """The best node, with one of its requests taken, as soon as it has capacity."""
        node = _best(against)
        if node.full:
            node = await self._wait_for_capacity(against, left_s)
        else:
            node.took(1)
        try:
            await self._open(node, left_s)
        except BaseException:
            self._free(node)
            raise
        return node

    async def _wait_for_capacity(self, against: dict[Node, int], left_s: float) -> Node:
        """Who came first gets the first that is free; clips that met trouble elsewhere stand in front."""
        handed: asyncio.Future[Node] = asyncio.get_running_loop().create_future()
        if any(against.values()):
            self._waiting.appendleft((handed, against))
        else:
            self._waiting.append((handed, against))
        try:
            async with asyncio.timeout(left_s):
                return await handed
        except BaseException as error:
            if not handed.cancel() and not handed.cancelled():  # it came in the moment of giving up
                self._free(handed.result())
            if isinstance(error, TimeoutError):
                raise EngineUnavailable(f"no node had capacity within {left_s:.0f} s") from None
            raise

    def _free(self, node: Node) -> None:
        node.took(-1)
        self._hand_out()
        self._start_hedge(node)

    def _hand_out(self) -> None:
        """What has capacity goes to who waits. Those without a history all wait for the same nodes."""
        for waiting in list(self._waiting):
            handed, against = waiting
            best = _best(against)
            if best.full and not handed.cancelled():
                if any(against.values()):
                    continue
                return
            self._waiting.remove(waiting)
            if not handed.cancelled():
                best.took(1)
                handed.set_result(best)

    def _start_hedge(self, idle: Node) -> None:
        """Let an idle node in on the request that will take longest elsewhere, if it can clearly win."""
        if idle.full or idle.suspect or not idle.latency_ewma_s:
            return
        now = time.monotonic()
        slowest = max(self._races, key=lambda race: race.left_s(now), default=None)
        if slowest and slowest.left_s(now) > _CLEARLY * idle.latency_ewma_s:
            self._races.discard(slowest)
            idle.took(1)
            slowest.rival.set_result(idle)

    async def _open(self, node: Node, left_s: float) -> None:
        """Wait as long as the node asked for, and a little more, so that not everybody comes back at once."""
        wait = node.retry_after_until - time.monotonic()
        if wait <= 0:
            return
        if wait >= left_s:
            raise EngineUnavailable(f"{node.url}: asked us to stay away for {wait:.0f} s more", wait)
        await asyncio.sleep(min(wait + random.uniform(0, self._backoff_s), left_s))

    async def _timed(
        self, node: Node, send: Callable[[Node], Awaitable[Document]], left_s: float, attempts: int
    ) -> Answer:
        """One request, whole: the client's own timeouts begin anew with each byte that trickles in.

        What it tells of the node is noted before its capacity goes to the next.
        """
        limit_s = min(self._engine.request_timeout_s, left_s)
        started, before = time.monotonic(), node.meter.read()
        try:
            async with asyncio.timeout(limit_s):
                document = await self._hedged(node, send)
        except TimeoutError:
            node.trouble(self._backoff_s)
            raise EngineUnavailable(f"{node.url}: no whole answer within {limit_s:.1f} s") from None
        except EngineUnavailable as error:
            node.trouble(self._backoff_s, error.retry_after_s)
            raise
        except Refused:
            node.trouble(self._backoff_s)  # one that refuses everything is always free: it would get every clip
            raise
        finally:
            self._free(node)
        after = node.meter.read()
        gpu_s = after - before if before is not None and after is not None else 0.0
        return Answer(document, time.monotonic() - started, gpu_s, attempts)

    async def _hedged(self, node: Node, send: Callable[[Node], Awaitable[Document]]) -> Document:
        """The answer of this node, or of a rival that is idle before it has answered, and quicker."""
        race = _Hedge(node, time.monotonic(), asyncio.get_running_loop().create_future())
        self._races.add(race)
        asked = [asyncio.ensure_future(_noted(node, send))]
        try:
            either: list[asyncio.Future[Any]] = [*asked, race.rival]
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if not asked[0].done():
                asked.append(asyncio.ensure_future(_noted(race.rival.result(), send)))
                await asyncio.wait(asked, return_when=asyncio.FIRST_COMPLETED)
            good = [one for one in asked if not one.done() or not one.exception()]
            return await min(good or asked[:1], key=lambda one: not one.done())
        finally:
            self._races.discard(race)
            for one in asked:
                one.cancel()
            await asyncio.gather(*asked, return_exceptions=True)
            if not race.rival.cancel():
                self._free(race.rival.result())


@dataclass(frozen=True, slots=True, eq=False)
class _Hedge:
    """A request under way, and who else may answer it. since: of the monotonic clock."""

    node: Node
    since: float
    rival: asyncio.Future[Node]

    def left_s(self, now: float) -> float:
        return self.node.latency_ewma_s - (now - self.since)


_LOOK_S = 2.0
_LONGEST_PAUSE_S = 30.0
_CLEARLY = 1.5


async def _noted(node: Node, send: Callable[[Node], Awaitable[Document]]) -> Document:
    started = time.monotonic()
    document = await send(node)
    node.answered(time.monotonic() - started)
    return document


def _best(against: dict[Node, int]) -> Node:
    return min(against, key=lambda node: node.rank(against[node]))
