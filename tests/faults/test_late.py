"""Test an ingestion that is delayed for longer than its lease while another one takes its day."""

import time
from collections.abc import Callable

import pytest

from tests.support.killed import LATER, Task
from tests.support.pipeline import Pipeline

CLIPS, IN_FLIGHT, LEASE_S = 8, 4, 2.0


@pytest.fixture
def pipeline(tmp_path, engine) -> Pipeline:
    settings = {"engine": {"in_flight": IN_FLIGHT, "request_timeout_s": 30.0}, "batches": {"lease_s": LEASE_S}}
    pipeline = Pipeline(tmp_path, [engine.url], **settings)
    pipeline.put(CLIPS)
    return pipeline


def wait_until(true: Callable[[], bool], task: Task) -> None:
    deadline = time.monotonic() + 120
    while not true():
        assert task.running and time.monotonic() < deadline, task.log.read_text()[-2000:]
        time.sleep(0.01)


def test_of_two_ingestions_of_a_day_one_works_and_a_delayed_one_ends(pipeline, engine):
    engine.latency_s = 0.5
    late = Task(pipeline, "ingest")
    wait_until(lambda: engine.running >= IN_FLIGHT, late)
    late.stop()
    engine.latency_s = 0.0
    before = len(engine.chats)

    while (other := Task(pipeline, "ingest").ended()) == LATER:
        pass
    assert other == 0
    points, requests = pipeline.points(), len(engine.chats)
    assert len({point["clip_id"] for point in points.values()}) == CLIPS
    assert requests - before <= CLIPS

    late.go_on()
    assert late.ended() == LATER
    assert "LeaseLost" in late.log.read_text()
    assert "took the day over" in late.log.read_text()
    assert len(engine.chats) == requests
    assert pipeline.points() == points
    assert len(pipeline.store.list("captions")) == CLIPS
    assert len(pipeline.store.list("reports")) == 1


def test_the_second_of_two_ingestions_of_a_day_is_refused_before_it_reads_what_is_done(pipeline, engine):
    engine.latency_s = 0.5
    first = Task(pipeline, "ingest")
    wait_until(lambda: engine.running >= IN_FLIGHT, first)
    second = Task(pipeline, "ingest")
    assert second.ended() == LATER
    assert "is worked on by ingest-" in second.log.read_text()
    assert len(pipeline.store.list("runs")) == 1
    engine.latency_s = 0.0
    assert first.wait() == 0
    assert len(engine.chats) == CLIPS
