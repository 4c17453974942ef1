"""A batch from end to end: no clip is lost or captioned twice, and a bad clip or node affects no other clip."""

import json
import shutil
import time
from collections.abc import Callable

import pytest
import qdrant_edge

from clipdex import cli
from clipdex.errors import BatchRejected, ConfigurationError, EngineUnavailable, RunIncomplete
from clipdex.runs import leases
from clipdex.runs.outcomes import Origin, Outcome
from clipdex.runs.report import check_report, report_run
from tests.support.engine import CLIENT_LEFT, StandIn
from tests.support.faults import Fault
from tests.support.gateway import Gateway
from tests.support.pipeline import DAY, Pipeline, asked_twice


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_every_clip_becomes_searchable(pipeline, engine):
    pipeline.put(6)
    report = pipeline.run()
    check_report(report, pipeline.settings.quarantine)
    assert (report.total("captioned"), report.total("indexed"), report.total("unfinished")) == (6, 6, 0)
    assert len({payload["clip_id"] for payload in pipeline.points().values()}) == 6
    assert len(engine.chats) == 6


def test_a_second_run_of_a_day_sends_no_request_and_keeps_the_points(pipeline, engine):
    pipeline.put(5)
    pipeline.run("r.1")
    before, requests = pipeline.points(), len(engine.chats)
    plan = pipeline.plan("r.2")
    report = report_run(pipeline.store, "r.2")
    assert plan.batches == () and plan.done == 5
    assert report.total("captioned") == 0
    assert pipeline.points() == before and len(engine.chats) == requests


def test_an_exact_copy_is_not_captioned_again_and_both_are_found(pipeline, engine):
    (clip,) = pipeline.put(1)
    shutil.copy(clip, clip.with_name("copy.mp4"))
    report = pipeline.run()
    assert len(engine.chats) == 1
    assert (report.total("captioned"), report.total("copies")) == (2, 1)
    assert {payload["uri"].rpartition("/")[2] for payload in pipeline.points().values()} == {clip.name, "copy.mp4"}


def test_a_copy_in_a_later_run_uses_the_stored_caption(pipeline, engine):
    (clip,) = pipeline.put(1)
    pipeline.run("r.1")
    shutil.copy(clip, clip.with_name("copy.mp4"))
    report = pipeline.run("r.2")
    assert len(engine.chats) == 1
    assert (report.total("asked"), report.total("stored"), report.total("indexed")) == (0, 1, 1)


def test_a_retry_continues_where_the_last_try_stopped(pipeline, engine, caplog):
    pipeline.put(8)
    (batch,) = pipeline.plan().batches
    engine.plan.set("503:1.0")
    with pytest.raises(EngineUnavailable, match="8 of 8 clips are left"):
        pipeline.caption(batch, 1)
    engine.plan.set("")
    caplog.set_level("INFO")
    assert pipeline.caption(batch, 2).new == 8
    requests = len(engine.chats)
    totals = pipeline.caption(batch, 3)
    assert (totals.before, totals.new) == (8, 0) and len(engine.chats) == requests
    assert "earlier tries captioned 8 of 8 clips" in caplog.text


def test_an_engine_that_fails_half_way_leaves_only_unfinished_clips_to_the_next_try(pipeline, engine):
    pipeline.put(12)
    (batch,) = pipeline.plan().batches
    engine.latency_s = 0.1
    answered = 0

    def fail_after_five(at: str, digest: str = ""):
        nonlocal answered
        if at != "chat":
            return None
        answered += 1
        if answered > 5:
            engine.plan.set("503:1.0")
        return None

    original = engine.plan.next
    engine.plan.next = lambda at, digest="": fail_after_five(at, digest) or original(at, digest)
    with pytest.raises(EngineUnavailable, match="clips are left for the next try"):
        pipeline.caption(batch, 1)
    done = sum(one.outcome is Outcome.CAPTIONED for one in pipeline.outcomes().values())
    assert 0 < done < 12
    engine.plan.next = original
    engine.plan.set("")
    assert pipeline.caption(batch, 2).new == 12 - done
    assert asked_twice(engine.chats) == []


def test_transient_errors_are_retried_until_every_clip_is_captioned(tmp_path, engine):
    pipeline = Pipeline(tmp_path, [engine.url], engine={"tries": 6})
    pipeline.put(6)
    engine.plan.set("503:2,garbage:1,empty_choices:1,reset:1,429:1:retry_after=0,truncated_json:1")
    report = pipeline.run()
    assert (report.total("captioned"), report.total("quarantined")) == (6, 0)


def test_a_clip_that_the_engine_keeps_rejecting_is_quarantined_alone(pipeline, engine):
    clips = pipeline.put(6)
    digest = pipeline.proxy_digest(clips[2])
    engine.plan.set(f"400:digest={digest}")
    report = pipeline.run()
    assert [(line["uri"].rpartition("/")[2], line["reason"]) for line in report.quarantine] == [
        (clips[2].name, "rejected_by_engine")
    ]
    assert report.total("indexed") == 5
    assert sum(request.digest == digest for request in engine.chats) == 4


def test_clips_rejected_by_chance_are_captioned_when_retried_at_the_end_of_the_batch(pipeline, engine):
    clips = pipeline.put(6)
    rejected_twice, rejected_often = map(pipeline.proxy_digest, clips[:2])
    engine.plan.set(f"400:2:digest={rejected_twice},400:4:digest={rejected_often}")
    report = pipeline.run()
    assert (report.total("captioned"), report.total("quarantined")) == (6, 0)


def test_a_rejection_is_final_only_after_a_try_that_completes_the_batch(pipeline, engine):
    clips = pipeline.put(10)
    (batch,) = pipeline.plan().batches
    rejected, *unanswered = map(pipeline.proxy_digest, [clips[0], *clips[6:]])
    engine.plan.set(",".join([f"400:2:digest={rejected}", *(f"503:digest={digest}" for digest in unanswered)]))
    with pytest.raises(EngineUnavailable, match="4 of 10 clips are left"):
        pipeline.caption(batch, 1)
    assert pipeline.outcomes()[clips[0].name].outcome is Outcome.REJECTED
    engine.plan.set("")
    totals = pipeline.caption(batch, 2)
    assert (totals.before, totals.new, totals.quarantined) == (5, 5, 0)


def test_a_node_that_rejects_everything_behind_a_gateway_quarantines_no_clip(tmp_path, engine):
    with StandIn("400:1.0") as wrong, Gateway([wrong, wrong, *[engine] * 8]) as gateway:
        pipeline = Pipeline(tmp_path, [gateway.url], engine={"in_flight": 1})
        pipeline.put(20)
        report = pipeline.run()
        assert len(wrong.chats) >= 4, "no clip was refused twice"
    assert (report.total("captioned"), report.total("quarantined")) == (20, 0)


def test_a_caption_written_while_the_batch_fails_is_searchable_in_the_same_run(pipeline, engine):
    pipeline.put(3)
    (batch,) = pipeline.plan().batches
    engine.capacity, engine.latency_s = 1, 0.2
    good = iter([None])
    engine.plan.next = lambda at, digest="": next(good, Fault("wrong_model")) if at == "chat" else None
    write = pipeline.store.write_caption

    def write_after_the_failure(caption):
        wait_until(lambda: any(request.status == CLIENT_LEFT for request in engine.chats))
        write(caption)

    pipeline.store.write_caption = write_after_the_failure
    with pytest.raises(ConfigurationError, match="requested model"):
        pipeline.caption(batch)
    pipeline.index(batch)
    assert len({payload["clip_id"] for payload in pipeline.points().values()}) == 1


@pytest.mark.parametrize(
    ("clips", "message"),
    [
        (2, "the engine refused 2 clips as rejected_by_engine and captioned none"),
        (8, "of 8 clips were refused as rejected_by_engine, more than the credible share of 20%"),
    ],
)
def test_a_node_that_rejects_everything_fails_the_batch_and_quarantines_no_clip(pipeline, engine, clips, message):
    pipeline.put(clips)
    (batch,) = pipeline.plan().batches
    engine.plan.set("400:1.0")
    with pytest.raises(BatchRejected, match=message):
        pipeline.caption(batch, 1)
    assert not any(one.outcome is Outcome.QUARANTINED for one in pipeline.outcomes().values())
    engine.plan.set("")
    assert pipeline.caption(batch, 2).new == clips


def test_the_log_counts_only_clips_that_earlier_tries_captioned(pipeline, engine, caplog):
    pipeline.put(8)
    (batch,) = pipeline.plan().batches
    engine.plan.set("400:1.0")
    with pytest.raises(BatchRejected):
        pipeline.caption(batch, 1)
    engine.plan.set("")
    caplog.set_level("INFO")
    pipeline.caption(batch, 2)
    assert "earlier tries captioned 0 of 8 clips and refused 0; 8 to do" in caplog.text


@pytest.mark.parametrize("status", [401, 403])
def test_a_wrong_key_stops_the_task_before_any_clip_has_an_outcome(pipeline, engine, status):
    pipeline.put(3)
    (batch,) = pipeline.plan().batches
    engine.plan.set(f"{status}:1.0")
    with pytest.raises(ConfigurationError):
        pipeline.caption(batch)
    assert pipeline.outcomes() == {}


def test_a_clip_whose_requests_fail_while_others_succeed_is_quarantined(pipeline, engine):
    clips = pipeline.put(10)
    engine.latency_s = 0.05
    engine.plan.set(f"500:digest={pipeline.proxy_digest(clips[0])}")
    report = pipeline.run()
    assert [(line["uri"].rpartition("/")[2], line["reason"]) for line in report.quarantine] == [
        (clips[0].name, "engine_failed")
    ]
    assert report.total("indexed") == 9


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("loop", "caption_looping"),
        ("refusal", "caption_refused"),
        ("cyrillic", "caption_language"),
        ("empty", "caption_empty"),
    ],
)
def test_a_caption_that_fails_a_gate_is_requested_once_more_then_quarantined(pipeline, engine, fault, reason):
    clips = pipeline.put(4)
    digest = pipeline.proxy_digest(clips[1])
    engine.plan.set(f"{fault}:digest={digest}")
    pipeline.run()
    outcome = pipeline.outcomes()[clips[1].name]
    assert (outcome.outcome, outcome.reason) == (Outcome.QUARANTINED, reason)
    assert bool(outcome.text.strip()) is (fault != "empty")
    assert sum(request.digest == digest for request in engine.chats) == 2


def test_a_caption_that_fails_a_gate_once_is_replaced_by_the_second_attempt(pipeline, engine):
    pipeline.put(3)
    engine.plan.set("loop:1")
    report = pipeline.run()
    assert (report.total("indexed"), report.total("quarantined")) == (3, 0)
    assert len(engine.chats) == 4


def test_quarantined_clips_are_not_read_again_unless_their_reason_is_retried(pipeline, engine):
    pipeline.put(2)
    empty = pipeline.clips / DAY.replace("-", "/") / "empty.mp4"
    empty.touch()
    pipeline.run("r.1")
    assert (pipeline.plan("r.2").to_do, pipeline.plan("r.2").quarantined) == (0, 1)
    assert pipeline.plan("r.3", retry_quarantined=("empty_file",)).to_do == 1


def test_recaptioning_requests_each_clip_once_even_if_the_task_is_retried(pipeline, engine):
    pipeline.put(3)
    pipeline.run("r.1")
    points = pipeline.points()
    (batch,) = pipeline.plan("r.2", recaption=True).batches
    pipeline.caption(batch, 1)
    pipeline.caption(batch, 2)
    pipeline.index(batch)
    assert len(engine.chats) == 6
    assert {one.origin for one in pipeline.outcomes("r.2").values()} == {Origin.NEW}
    assert pipeline.points().keys() == points.keys()


def test_a_caption_replaced_without_being_indexed_gets_vectors_of_its_own(pipeline, engine):
    """Its key and its points' ids are those of the caption before: only the text differs."""
    pipeline.put(2)
    pipeline.run()
    engine.words = 70
    for batch in pipeline.plan("r.2", recaption=True).batches:
        pipeline.caption(batch)
    leases.release(pipeline.store, DAY, "r.2")
    pipeline.run("r.3")
    with pipeline.open_index() as index:
        points, _ = index._shard.scroll(qdrant_edge.ScrollRequest(limit=10, with_payload=True, with_vector=True))
    texts = [point.payload["text"] for point in points]
    assert all(len(text.split()) < 75 for text in texts)  # 80 words before
    for point, vector in zip(points, pipeline.embedder.embed_documents(texts), strict=True):
        assert point.vector["dense"] == pytest.approx(vector.tolist(), abs=1e-3)


def test_captions_from_before_the_clock_stay_until_recaptioning_is_requested(tmp_path, engine, capsys, monkeypatch):
    before = Pipeline(tmp_path, [engine.url], engine={"clock": "engine"})  # the fingerprint of release 0.1
    before.put(2)
    before.run("r.1")
    now = Pipeline(tmp_path, [engine.url])
    now.put(1, first=2)
    assert now.run("r.2").total("asked") == 1
    assert len(engine.chats) == 3

    for name, value in now.environment().items():
        monkeypatch.setenv(name, value)
    assert cli.main(["captions", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == [{"day": DAY, "current": 1, "flawed": {"clock": 2}, "other": 0}]

    assert now.run("r.3", recaption_for=("clock",)).total("asked") == 2
    assert len(engine.chats) == 5
    assert cli.main(["captions"]) == 0
    assert "flaw clock" not in capsys.readouterr().out


def test_a_copy_of_a_clip_from_before_the_clock_reuses_its_caption(tmp_path, engine):
    before = Pipeline(tmp_path, [engine.url], engine={"clock": "engine"})
    [path] = before.put(1)
    before.run("r.1")
    now = Pipeline(tmp_path, [engine.url])
    path.with_name("copy.mp4").write_bytes(path.read_bytes())
    now.run("r.2")
    assert len(engine.chats) == 1
    assert now.plan("r.3").to_do == 0
    assert now.plan("r.4", recaption_for=("clock",)).to_do == 2


def test_another_prompt_replaces_the_points_of_the_old_caption(pipeline, engine, tmp_path):
    pipeline.put(3)
    pipeline.run("r.1")
    old = pipeline.points()
    other = Pipeline(tmp_path, [engine.url], engine={"max_tokens": 512})
    report = other.run("r.2")
    new = other.points()
    assert report.total("captioned") == 3
    assert not old.keys() & new.keys()
    assert {point["clip_id"] for point in new.values()} == {point["clip_id"] for point in old.values()}


def test_a_file_replaced_after_discovery_is_captioned_as_it_is_now(pipeline, engine):
    clips = pipeline.put(2)
    (batch,) = pipeline.plan().batches
    shutil.copy(clips[1], clips[0])
    pipeline.caption(batch)
    outcomes = pipeline.outcomes()
    assert outcomes[clips[0].name].version == pipeline.clip_of(clips[0]).version
    assert outcomes[clips[0].name].content == outcomes[clips[1].name].content
    pipeline.index(batch)
    report_run(pipeline.store, "r.1")
    assert pipeline.plan("r.2").to_do == 0


def test_a_file_deleted_after_discovery_is_quarantined_as_missing(pipeline, engine):
    clips = pipeline.put(3)
    (batch,) = pipeline.plan().batches
    clips[0].unlink()
    pipeline.caption(batch)
    assert pipeline.outcomes()[clips[0].name].reason == "missing"


def test_a_caption_lost_from_the_store_fails_the_run_and_the_next_run_repairs_it(pipeline, engine):
    pipeline.put(3)
    (batch,) = pipeline.plan("r.1").batches
    pipeline.caption(batch)
    pipeline.store.delete(pipeline.store.list("captions")[:1])
    pipeline.index(batch)
    with pytest.raises(RunIncomplete, match="1 of 3 planned clips have no final outcome"):
        check_report(report_run(pipeline.store, "r.1"), pipeline.settings.quarantine)
    report = pipeline.run("r.2")
    assert (report.total("planned"), report.total("indexed"), len(engine.chats)) == (1, 1, 4)


def test_a_batch_of_mostly_damaged_films_captions_the_good_ones_and_fails(pipeline):
    day = pipeline.clips / DAY.replace("-", "/")
    good = pipeline.put(2)
    for number in range(8):
        (day / f"a-{number}.mp4").write_bytes(good[0].read_bytes()[: 600 + number])
    (batch,) = pipeline.plan().batches
    with pytest.raises(BatchRejected, match="8 of 10 clips were refused as truncated_file"):
        pipeline.caption(batch)
    outcomes = pipeline.outcomes()
    assert {outcomes[path.name].outcome for path in good} == {Outcome.CAPTIONED}
    assert not any(one.outcome is Outcome.QUARANTINED for one in outcomes.values())


def test_requests_in_flight_are_bounded(pipeline, engine):
    pipeline.put(16)
    engine.latency_s = 0.05
    pipeline.run()
    assert engine.peak_running <= 4


def test_the_api_key_is_neither_stored_nor_logged(tmp_path, caplog):
    caplog.set_level("DEBUG")
    with StandIn(words=80, api_key="canary-7f3a") as engine:
        pipeline = Pipeline(tmp_path, [engine.url], engine={"api_key": "canary-7f3a"})
        pipeline.put(2)
        engine.plan.set("500:1,400:1")
        pipeline.run()
    kept = b"".join(path.read_bytes() for path in (tmp_path / ".clipdex").rglob("*") if path.is_file())
    assert b"canary-7f3a" not in kept
    assert "canary-7f3a" not in caplog.text
    assert "canary-7f3a" not in repr(pipeline.settings)
