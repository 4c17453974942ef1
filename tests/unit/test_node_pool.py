"""Test a pool of several nodes: which node gets a request, and what a slow, missing or faulty node costs the others."""

import asyncio
import base64
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import ExitStack
from hashlib import sha256
from typing import Any, TypeVar

import pytest

from clipdex.captions.http.model import ENGINE
from clipdex.config import Sampling, Settings, VideoLimits
from clipdex.errors import ClipRejected
from clipdex.nodes.pool import Answer, Nodes
from clipdex.video import prepare
from tests.support.clips import plain, write_clip
from tests.support.engine import CLIENT_LEFT, MODEL, StandIn

T = TypeVar("T")
CHAT = "/v1/chat/completions"


@pytest.fixture(scope="module")
def videos(tmp_path_factory) -> list[bytes]:
    """Prepare two proxies of different colours."""
    folder = tmp_path_factory.mktemp("clips")
    paths = [write_clip(folder / f"{red}.mp4", picture=plain((red, 30, 30))) for red in (90, 200)]
    return [prepare(path, VideoLimits(), Sampling(short_side=64)).windows[0].proxy for path in paths]


@pytest.fixture
def video(videos) -> bytes:
    return videos[0]


@pytest.fixture
def serve() -> Iterator[Callable[..., StandIn]]:
    """Start stand-ins, and stop all at the end of the test."""
    with ExitStack() as stack:
        yield lambda *args, **options: stack.enter_context(StandIn(*args, **options))


def using(what: Callable[[Nodes], Awaitable[T]], *serving: StandIn, in_flight: int, **engine: Any) -> T:
    """Call a function with these nodes, and close the nodes."""
    urls = [node.url for node in serving]
    settings = Settings.load(engine={"name": "sglang", "model": MODEL, "base_urls": urls, **engine})

    async def work() -> T:
        nodes = Nodes(settings.engine, ENGINE, in_flight, backoff_s=0.01)
        try:
            return await what(nodes)
        finally:
            await nodes.aclose()

    return asyncio.run(work())


class Body:
    """A request body that can be read again for each try."""

    def __init__(self, document: dict[str, Any]) -> None:
        self.text = json.dumps(document).encode()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield self.text


async def send(nodes: Nodes, video: bytes) -> Answer:
    url = f"data:video/mp4;base64,{base64.b64encode(video).decode()}"
    content = [{"type": "text", "text": "Describe."}, {"type": "video_url", "video_url": {"url": url}}]
    body = Body({"model": MODEL, "messages": [{"role": "user", "content": content}]})
    return await nodes.post(CHAT, body, len(body.text), lambda url, document: None)


async def send_all(nodes: Nodes, videos: list[bytes]) -> list[Answer]:
    return await asyncio.gather(*(send(nodes, video) for video in videos))


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not true():  # noqa: ASYNC110 (the engine runs in another thread)
            await asyncio.sleep(0.005)


def test_no_node_exceeds_its_concurrency_limit(serve, video):
    serving = [serve(latency_s=0.02) for _ in range(3)]
    using(lambda nodes: send_all(nodes, [video] * 30), *serving, in_flight=6)
    assert [node.peak_running for node in serving] == [2, 2, 2]


def test_no_clip_waits_for_a_slow_node_while_others_are_free(serve, video):
    slow, fast = serve("hang:1.0"), serve(latency_s=0.01)

    async def work(nodes: Nodes) -> None:
        sending = asyncio.create_task(send_all(nodes, [video] * 30))
        await until(lambda: sum(request.status == 200 for request in fast.chats) == 28)
        sending.cancel()
        await asyncio.wait([sending])

    using(work, slow, fast, in_flight=4)
    assert (len(slow.chats), len(fast.chats)) == (2, 28)


def test_requests_on_a_slow_node_are_hedged_to_an_idle_node(serve, video):
    slow, fast = serve("hang:1.0"), serve(latency_s=0.01)

    async def work(nodes: Nodes) -> list[Answer]:
        nodes.all[0].record_success(3600.0)
        async with asyncio.timeout(60):
            return await send_all(nodes, [video] * 12)

    assert len(using(work, slow, fast, in_flight=4, request_timeout_s=600, deadline_s=600)) == 12
    deadline = time.monotonic() + 60
    while None in (request.status for request in slow.chats) and time.monotonic() < deadline:
        time.sleep(0.01)  # the server notices later that the client has left
    assert [request.status for request in slow.chats] == [CLIENT_LEFT, CLIENT_LEFT]


def test_nodes_of_equal_speed_get_no_hedged_requests(serve, video):
    serving = [serve(latency_s=1.0) for _ in range(3)]  # a busy machine adds less than half of it
    using(lambda nodes: send_all(nodes, [video] * 13), *serving, in_flight=6)
    assert sum(len(node.chats) for node in serving) == 13


def test_a_node_that_rejects_everything_soon_gets_no_requests(serve, video):
    wrong, good = serve("400:1.0"), serve(latency_s=0.02)
    answers = using(lambda nodes: send_all(nodes, [video] * 60), wrong, good, in_flight=4)
    assert len(answers) == 60
    assert len(wrong.chats) <= 10


def test_a_node_that_rejected_a_bad_clip_keeps_its_share(serve, videos):
    good, bad = videos
    fault = f"400:digest={sha256(bad).hexdigest()}"
    serving = [serve(fault, latency_s=0.1) for _ in range(2)]

    async def work(nodes: Nodes) -> None:
        with pytest.raises(ClipRejected):
            await send(nodes, bad)
        await send_all(nodes, [good] * 4)

    using(work, *serving, in_flight=4)
    assert [len(node.chats) for node in serving] == [3, 3]


def test_a_node_that_comes_back_is_used_again(serve, video):
    steady = serve(latency_s=0.01)
    with StandIn() as flapping:
        pass

    async def work(nodes: Nodes) -> int:
        await send_all(nodes, [video] * 8)
        with StandIn(port=flapping.port, latency_s=0.01) as back:
            async with asyncio.timeout(60):
                while back.peak_running < 2:
                    await send_all(nodes, [video] * 8)
            return len(back.chats)

    assert using(work, steady, flapping, in_flight=4) >= 2


def test_a_cancelled_request_leaves_its_slot_to_the_next(serve, video):
    engine = serve(latency_s=0.2)

    async def work(nodes: Nodes) -> Answer:
        first, second, third = (asyncio.create_task(send(nodes, video)) for _ in range(3))
        await until(lambda: engine.running == 1)
        second.cancel()
        await first
        return await third

    using(work, engine, in_flight=1)
    assert len(engine.chats) == 2
    assert engine.peak_running == 1
