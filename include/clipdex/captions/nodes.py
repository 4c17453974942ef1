"""The nodes of an engine: whom to ask next, what an answer means, when to ask again.

an answer       2xx with a JSON object
unavailable     connect, reset, timeout, 408 409 425 429 5xx, 2xx with anything else, and 404 model_not_found from a
                gateway that served the model before: asked again, elsewhere if there is a better node, with backoff,
                jitter and Retry-After; EngineUnavailable when tries or time are used up
about the clip  400 413 422: asked once more, elsewhere if there is another node; twice is ClipRejected. Until somebody
                confirms it, it counts against the node
configuration   anything else, such as 401 403 404, redirects and a certificate that nobody vouches for:
                ConfigurationError at once
"""

import asyncio
import logging
import math
import random
import ssl
import time
from collections import deque
from collections.abc import AsyncIterable, Awaitable, Callable, Generator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import httpx
from pydantic import SecretStr

from clipdex import tls
from clipdex.captions.load import Load, Meter, next_room
from clipdex.config import Engine
from clipdex.errors import ClipRejected, ConfigurationError, EngineUnavailable, Reason
from clipdex.shown import one_line

log = logging.getLogger(__name__)
logging.getLogger("httpx").setLevel(logging.WARNING)  # at INFO it writes a line a request into a task's log

Document = dict[str, Any]


@dataclass(slots=True, eq=False)
class Node:
    """One base URL, with connections of its own. Times are of the monotonic clock.

    room: requests that it gets at once, at most its share of ours; meter: what a request takes of its GPUs; troubles:
    rests in a row; rests_until: until then it is asked only if nobody else can be; closed_until: it said so itself, by
    Retry-After, and is not asked before; usual_s: what an answer took of late, 0 before the first.
    """

    url: str
    client: httpx.AsyncClient
    share: int
    room: int
    meter: Meter = field(default_factory=Meter)
    in_flight: int = 0
    troubles: int = 0
    rests_until: float = 0.0
    closed_until: float = 0.0
    usual_s: float = 0.0

    @property
    def doubtful(self) -> bool:
        """It rests, or is back from it and one request is already finding out how it does."""
        return time.monotonic() < self.rests_until or (self.troubles > 0 and self.in_flight > 0)

    def rank(self, against: int) -> tuple[float, ...]:
        """The lowest is asked next, as soon as it has room. against: what the clip in question has met here."""
        closed = time.monotonic() < self.closed_until
        return against + closed, self.doubtful, self.full, self.in_flight, random.random()

    @property
    def full(self) -> bool:
        return self.in_flight >= self.room

    def took(self, requests: int) -> None:
        """One more, or one fewer."""
        self.in_flight += requests
        self.meter.own(self.in_flight)

    def trouble(self, backoff_s: float, retry_after_s: float | None = None) -> None:
        now = time.monotonic()
        if now >= self.rests_until:
            self.troubles += 1
            self.rests_until = now + min(_LONGEST_PAUSE_S, backoff_s * 2**self.troubles)
        self.closed_until = max(self.closed_until, now + (retry_after_s or 0.0))

    def answered(self, seconds: float) -> None:
        self.troubles = 0
        self.usual_s = 0.7 * self.usual_s + 0.3 * seconds if self.usual_s else seconds

    def trusted(self) -> None:
        self.troubles, self.rests_until = 0, 0.0


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
        self._engine, self._backoff_s, self._key = engine, backoff_s, _checked_key(engine.api_key)
        urls = dict.fromkeys(map(_base_url, engine.base_urls))
        room = math.ceil(in_flight / len(urls))
        certificates = tls.certificates(engine.ca_file, _CA_FILE)
        self.all = [Node(url, self._client(room, certificates), room, room) for url in urls]
        self.serving: Sequence[Node] = self.all
        self.model_seen = False
        self._waiting: deque[tuple[asyncio.Future[Node], dict[Node, int]]] = deque()
        self._races: set[_Race] = set()

    def _client(self, room: int, certificates: ssl.SSLContext) -> httpx.AsyncClient:
        """One a node, since httpx looks at every connection of a client for each request."""
        engine = self._engine
        return httpx.AsyncClient(
            auth=_Bearer(self._key),
            verify=certificates,
            timeout=httpx.Timeout(
                connect=engine.connect_timeout_s,
                read=engine.request_timeout_s,
                write=engine.request_timeout_s,
                pool=engine.connect_timeout_s,
            ),
            # Idle connections are closed before uvicorn does it (5 s), maybe in the moment of their next use.
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=room, keepalive_expiry=4.0),
        )

    async def aclose(self) -> None:
        await asyncio.gather(*(node.client.aclose() for node in self.all))

    async def watch(self, page: str, read: Callable[[Document], Load | None]) -> None:
        """Give each node as many requests as it takes, until cancelled; its share where it tells no load."""
        while True:
            await asyncio.gather(*(self._look(node, page, read) for node in self.serving))
            await asyncio.sleep(_LOOK_S)

    async def _look(self, node: Node, page: str, read: Callable[[Document], Load | None]) -> None:
        try:
            async with asyncio.timeout(_LOOK_S):
                load = read(self._read(node, page, await self._sent(node, "GET", page)))
        except (EngineUnavailable, ConfigurationError, TimeoutError):
            return  # what asks it for captions finds out
        if load:
            node.meter.load(load)
            node.room = next_room(node.room, node.share, load)
            self._hand_out()

    async def get(self, node: Node, path: str, deadline_s: float) -> Document | None:
        """What one node says, or None if it has no such page. It needs no room: it is no work."""

        async def send(one: Node) -> Document:
            return self._read(one, path, await self._sent(one, "GET", path))

        try:
            return (await self._persist([Node(node.url, node.client, share=1, room=1)], deadline_s, send)).document
        except _Absent:
            return None

    async def post(
        self, path: str, body: AsyncIterable[bytes], size: int, accept: Callable[[str, Document], None]
    ) -> Answer:
        """The first answer that is accepted.

        accept(url, document): raises EngineUnavailable or ConfigurationError if it is none.
        """
        headers = {"Content-Type": "application/json", "Content-Length": str(size)}

        async def send(node: Node) -> Document:
            response = await self._sent(node, "POST", path, content=body, headers=headers)
            if response.status_code in _ABOUT_THE_CLIP:
                raise _Refused(self._told(node, path, response))
            document = self._read(node, path, response)
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
            except _Refused as refusal:
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
        """The best node, with one of its requests taken, as soon as it has room."""
        node = _best(against)
        if node.full:
            node = await self._room(against, left_s)
        else:
            node.took(1)
        try:
            await self._open(node, left_s)
        except BaseException:
            self._free(node)
            raise
        return node

    async def _room(self, against: dict[Node, int], left_s: float) -> Node:
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
                raise EngineUnavailable(f"no node had room within {left_s:.0f} s") from None
            raise

    def _free(self, node: Node) -> None:
        node.took(-1)
        self._hand_out()
        self._let_in(node)

    def _hand_out(self) -> None:
        """What has room goes to who waits. Those without a history all wait for the same nodes."""
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

    def _let_in(self, idle: Node) -> None:
        """Let an idle node in on the request that will take longest elsewhere, if it can clearly win."""
        if idle.full or idle.doubtful or not idle.usual_s:
            return
        now = time.monotonic()
        slowest = max(self._races, key=lambda race: race.left_s(now), default=None)
        if slowest and slowest.left_s(now) > _CLEARLY * idle.usual_s:
            self._races.discard(slowest)
            idle.took(1)
            slowest.rival.set_result(idle)

    async def _open(self, node: Node, left_s: float) -> None:
        """Wait as long as the node asked for, and a little more, so that not everybody comes back at once."""
        wait = node.closed_until - time.monotonic()
        if wait <= 0:
            return
        if wait >= left_s:
            raise EngineUnavailable(f"{node.url}: asked us to stay away for {wait:.0f} s more", wait)
        await asyncio.sleep(min(wait + random.uniform(0, self._backoff_s), left_s))

    async def _timed(
        self, node: Node, send: Callable[[Node], Awaitable[Document]], left_s: float, attempts: int
    ) -> Answer:
        """One request, whole: the client's own timeouts begin anew with each byte that trickles in.

        What it tells of the node is noted before its room goes to the next.
        """
        limit_s = min(self._engine.request_timeout_s, left_s)
        started, before = time.monotonic(), node.meter.read()
        try:
            async with asyncio.timeout(limit_s):
                document = await self._raced(node, send)
        except TimeoutError:
            node.trouble(self._backoff_s)
            raise EngineUnavailable(f"{node.url}: no whole answer within {limit_s:.1f} s") from None
        except EngineUnavailable as error:
            node.trouble(self._backoff_s, error.retry_after_s)
            raise
        except _Refused:
            node.trouble(self._backoff_s)  # one that refuses everything is always free: it would get every clip
            raise
        finally:
            self._free(node)
        after = node.meter.read()
        gpu_s = after - before if before is not None and after is not None else 0.0
        return Answer(document, time.monotonic() - started, gpu_s, attempts)

    async def _raced(self, node: Node, send: Callable[[Node], Awaitable[Document]]) -> Document:
        """The answer of this node, or of a rival that is idle before it has answered, and quicker."""
        race = _Race(node, time.monotonic(), asyncio.get_running_loop().create_future())
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

    async def _sent(self, node: Node, method: str, path: str, **options: Any) -> httpx.Response:
        try:
            return await node.client.request(method, node.url + path, **options)
        except httpx.HTTPError as error:
            if why := tls.distrust(error):
                raise ConfigurationError(
                    f"{node.url}: its certificate is not trusted ({why}): if a private authority signed it, name that "
                    f"authority's file in {_CA_FILE}"
                ) from None
            text = f"{node.url}: {type(error).__name__} {self._short(str(error))}".rstrip()
            raise EngineUnavailable(text) from None

    def _read(self, node: Node, path: str, response: httpx.Response) -> Document:
        """The JSON object of a 200; what else came is raised by its meaning."""
        status, told = response.status_code, self._told(node, path, response)
        if response.is_success:
            try:
                document = response.json()
            except (ValueError, RecursionError):
                document = None
            if not isinstance(document, dict):
                raise EngineUnavailable(f"{told}: not the JSON object that an engine answers with")
            return document
        if status in _ABSENT and response.request.method == "GET":
            raise _Absent(told)
        if status in _LATER or status >= 500:
            raise EngineUnavailable(told, _retry_after(response))
        if status == 404 and self.model_seen and "model_not_found" in response.text:
            raise EngineUnavailable(f"{told} (the model was served before: the gateway has lost its nodes)")
        raise ConfigurationError(f"{told}; {_advice(response)}")

    def _told(self, node: Node, path: str, response: httpx.Response) -> str:
        return f"{node.url}{path}: {response.status_code} {self._short(_message(response))}".rstrip()

    def _short(self, text: str) -> str:
        """One line, and never the key, which servers repeat when they refuse it."""
        line = one_line(" ".join(text.split()))
        if key := self._key.get_secret_value():
            line = line.replace(key, "**********")
        return line if len(line) <= _LONGEST_MESSAGE else line[: _LONGEST_MESSAGE - 1] + "…"


@dataclass(frozen=True, slots=True, eq=False)
class _Race:
    """A request under way, and who else may answer it. since: of the monotonic clock."""

    node: Node
    since: float
    rival: asyncio.Future[Node]

    def left_s(self, now: float) -> float:
        return self.node.usual_s - (now - self.since)


class _Refused(Exception):
    """400, 413 or 422, for the first time."""


class _Absent(ConfigurationError):
    """The server is there, the page is not."""


class _Bearer(httpx.Auth):
    """Adds the key as the request goes out, so that it lies in no header that could be shown."""

    def __init__(self, key: SecretStr) -> None:
        self._key = key

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        if key := self._key.get_secret_value():
            request.headers["Authorization"] = f"Bearer {key}"
        yield request


_CA_FILE = "CLIPDEX_ENGINE__CA_FILE"
_ABOUT_THE_CLIP = {400, 413, 422}
_LATER = {408, 409, 425, 429}
_ABSENT = {404, 405, 501}
_LOOK_S = 2.0
_LONGEST_PAUSE_S, _LONGEST_RETRY_AFTER_S = 30.0, 120.0
_LONGEST_MESSAGE = 300
_CLEARLY = 1.5


async def _noted(node: Node, send: Callable[[Node], Awaitable[Document]]) -> Document:
    started = time.monotonic()
    document = await send(node)
    node.answered(time.monotonic() - started)
    return document


def _best(against: dict[Node, int]) -> Node:
    return min(against, key=lambda node: node.rank(against[node]))


def _base_url(text: str) -> str:
    """http://node:30000 of what people write, such as http://node:30000/v1/."""
    try:
        url = httpx.URL(text.strip().rstrip("/").removesuffix("/v1"))
    except httpx.InvalidURL:
        url = httpx.URL("")
    if url.scheme not in ("http", "https") or not url.host or url.query or url.userinfo:
        shown = url.copy_with(userinfo=None, query=None) if url.host else "one of base_urls"
        raise ConfigurationError(
            f"{shown}: an engine's address looks like http://gpu-1:30000, without query, user or password; "
            "the key goes into CLIPDEX_ENGINE__API_KEY or the password of the connection clipdex_engine"
        )
    return str(url).rstrip("/")


def _checked_key(key: SecretStr) -> SecretStr:
    """Keys that come from files end with a newline; other characters no header can carry."""
    value = key.get_secret_value().strip()
    if not (value.isascii() and value.isprintable()):
        raise ConfigurationError("the engine's API key has characters that no header can carry: set it again")
    return SecretStr(value)


def _message(response: httpx.Response) -> str:
    """What an error says: SGLang's message, the nested one of gateways and vLLM, or the text itself."""
    if response.is_success:
        return str(response.headers.get("content-type", ""))
    try:
        said = response.json()
    except (ValueError, RecursionError):
        return response.text
    for _ in range(2):
        if isinstance(said, dict):
            said = said.get("message") or said.get("error") or said.get("detail") or said
    return str(said)


def _retry_after(response: httpx.Response) -> float | None:
    """Seconds, from seconds or a date; a server does not get to stop us for hours."""
    value = response.headers.get("retry-after", "").strip()
    try:
        seconds = float(value)
    except ValueError:
        try:
            date = parsedate_to_datetime(value)
        except ValueError:
            return None
        seconds = ((date if date.tzinfo else date.replace(tzinfo=UTC)) - datetime.now(UTC)).total_seconds()
    return min(max(seconds, 0.0), _LONGEST_RETRY_AFTER_S) if seconds == seconds else None


def _advice(response: httpx.Response) -> str:
    if response.status_code in (401, 403):
        return "check the key: CLIPDEX_ENGINE__API_KEY or the password of the connection clipdex_engine"
    if response.has_redirect_location:
        return f"base_urls must name the engine itself, not what redirects to {_host(response.headers['location'])}"
    return "check that base_urls name the engine, and that it serves the model"


def _host(location: str) -> str:
    """Not the rest: an address of a login page may carry secrets."""
    try:
        return httpx.URL(location).host or "another path"
    except httpx.InvalidURL:
        return "an address that is none"
