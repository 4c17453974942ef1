"""Test the concurrency limit of a node, and the GPU seconds of a request."""

import asyncio
import time

import pytest

from clipdex.captions.engines import open_captioner
from clipdex.captions.http.model import ENGINE
from clipdex.config import Sampling, Settings, VideoLimits
from clipdex.nodes.load_control import Load, Meter, adjust_concurrency, sglang_load
from clipdex.nodes.pool import Nodes
from clipdex.video import prepare
from tests.support.clips import write_clip
from tests.support.engine import MODEL, StandIn


def test_concurrency_of_a_node_without_a_queue_grows_to_its_share():
    capacity, seen = 8, []
    for _ in range(12):
        capacity = adjust_concurrency(capacity, 64, Load(running=capacity, waiting=0))
        seen.append(capacity)
    assert seen == sorted(seen) and seen[-1] == 64


def test_clients_that_share_a_node_converge_to_its_capacity_and_a_short_queue():
    capacity, capacities = 128, [96, 64, 8, 96]
    for _ in range(60):
        total = sum(capacities)
        load = Load(min(capacity, total), max(0, total - capacity))
        capacities = [adjust_concurrency(one, 96, load) for one in capacities]
    assert capacity <= sum(capacities) <= 1.35 * capacity


@pytest.mark.parametrize(
    "answer",
    [
        {},
        {"loads": []},
        {"loads": "none"},
        {"loads": [None]},
        {"loads": [3]},
        {"loads": [{"num_running_reqs": None}]},
        {"loads": [{"num_running_reqs": 3, "num_waiting_reqs": -1}]},
        {"loads": [{"num_running_reqs": 2**40, "num_waiting_reqs": 1}]},
    ],
)
def test_an_answer_without_a_load_is_ignored(answer):
    assert sglang_load(answer) is None


def test_the_loads_of_all_ranks_and_gpus_count():
    rank = {"num_running_reqs": 3, "num_waiting_reqs": 2}
    assert sglang_load({"loads": [rank, rank], "num_accelerators": 2}) == Load(6, 4, gpus=4)


@pytest.mark.parametrize("gpus", [None, 0, "2", 2**40])
def test_unexpected_numbers_of_gpus_count_as_one_per_rank(gpus):
    rank = {"num_running_reqs": 3, "num_waiting_reqs": 2}
    assert sglang_load({"loads": [rank, rank], "num_accelerators": gpus}) == Load(6, 4, gpus=2)


def test_an_unexpected_load_is_logged_once_and_later_ones_count(caplog):
    with StandIn("null_loads:2:at=loads") as node:
        asyncio.run(_watch_until_loaded(node, sglang_load))
    (record,) = caplog.records
    assert f"{node.url}/v1/loads: expected the numbers of running and waiting requests" in record.message
    assert record.exc_info is None


def test_an_error_of_the_load_parser_is_logged_once_with_its_traceback_and_later_loads_count(caplog):
    documents = []

    def read(document):
        documents.append(document)
        if len(documents) < 3:
            raise ZeroDivisionError
        return sglang_load(document)

    with StandIn() as node:
        asyncio.run(_watch_until_loaded(node, read))
    (record,) = caplog.records
    assert record.exc_info[0] is ZeroDivisionError


def test_no_task_is_left_of_a_closed_engine():
    async def work(node):
        captioner = open_captioner(_settings(node.url))
        await captioner.check()
        await _until(lambda: any(request.path == "/v1/loads" for request in node.requests))
        await captioner.aclose()
        assert asyncio.all_tasks() == {asyncio.current_task()}

    with StandIn("hang:1:at=loads") as node:
        asyncio.run(work(node))


def test_a_request_takes_its_share_of_a_gpu():
    meter = Meter()
    assert meter.read() is None
    meter.own(2)
    meter.load(Load(running=3, waiting=1))
    started = time.monotonic()
    before = meter.read()
    began = time.monotonic()
    while time.monotonic() - began < 0.05:
        pass
    ended = time.monotonic()
    after = meter.read()
    assert (ended - began) / 4 <= after - before <= (time.monotonic() - started) / 4


def test_gpu_seconds_of_captions_add_up_to_the_time_the_gpu_was_busy(tmp_path):
    clip = prepare(write_clip(tmp_path / "a.mp4"), VideoLimits(), Sampling(short_side=64))

    async def work(url):
        captioner = open_captioner(_settings(url))
        try:
            await captioner.check()
            async with asyncio.timeout(60):
                while not (await captioner.caption(clip)).gpu_s:
                    pass  # until the load was read once
            started = time.monotonic()
            replies = await asyncio.gather(*(captioner.caption(clip) for _ in range(8)))
            return replies, time.monotonic() - started
        finally:
            await captioner.aclose()

    with StandIn(latency_s=1.0, capacity=8) as node:
        replies, seconds = asyncio.run(work(node.url))
    # Each of 8 requests has at least an eighth of the GPU for at least a second.
    assert 0.99 <= sum(reply.gpu_s for reply in replies) <= seconds


def _settings(url):
    return Settings.load(engine={"name": "sglang", "model": MODEL, "base_urls": [url], "in_flight": 8})


async def _watch_until_loaded(node, read):
    """Poll a node's load until one reading counts."""
    nodes = Nodes(_settings(node.url).engine, ENGINE, in_flight=8, backoff_s=0.01)
    watch = asyncio.create_task(nodes.watch("/v1/loads", read))
    await _until(lambda: watch.done() or nodes.all[0].meter.read() is not None)
    assert not watch.done(), watch.exception()
    watch.cancel()
    await asyncio.gather(watch, return_exceptions=True)
    await nodes.aclose()


async def _until(true):
    async with asyncio.timeout(30):
        while not true():  # noqa: ASYNC110 (the engine runs in another thread)
            await asyncio.sleep(0.01)
