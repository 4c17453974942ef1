"""Files that are longer than the limit, cut into parts: each is captioned, indexed, reported and found as a clip."""

import asyncio
import hashlib
import os
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import av
import pytest
from starlette.testclient import TestClient

from clipdex.errors import EngineUnavailable
from clipdex.runs.outcomes import ClipOutcome, Outcome, ledger, run_outcomes
from clipdex.runs.report import RunReport, check_report
from clipdex.storage.clip import part_id
from clipdex.video import Prepared
from clipdex.video.sandbox.pool import DecoderPool
from clipdex.web.app import create_app
from tests.support.clips import scenes, write_clip
from tests.support.engine import StandIn
from tests.support.faults import Plan
from tests.support.killed import Task
from tests.support.pipeline import DAY, Pipeline

CUT: dict[str, Any] = {"split": "fixed", "max_duration_s": 8.0, "part_s": 4.0, "min_part_s": 1.0}
STARTS = (0.0, 4.0, 8.0, 12.0, 16.0)


@pytest.fixture
def long(tmp_path: Path, engine: StandIn) -> Pipeline:
    """Return a pipeline over two short clips and a film of 20 s."""
    pipeline = Pipeline(tmp_path, [engine.url], video=CUT)
    film(pipeline)
    pipeline.put(2)
    return pipeline


def film(pipeline: Pipeline, name: str = "film.mp4", seconds: float = 20, folder: str = "") -> Path:
    year, month, day = DAY.split("-")
    path = pipeline.clips / year / month / day / folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    return write_clip(path, seconds=seconds, fps=10, size=(160, 120))


def proxy_digests(path: Path, pipeline: Pipeline) -> list[str]:
    """Return the digest of the proxy of each part."""

    async def run() -> list[str]:
        settings = pipeline.settings
        async with DecoderPool(settings.video, settings.sampling, 1) as decoders:
            return [
                hashlib.sha256(one.windows[0].proxy).hexdigest()
                async for one in decoders.parts(path)
                if isinstance(one, Prepared)
            ]

    return asyncio.run(run())


def parts_of(pipeline: Pipeline, run: str = "r.1") -> dict[int, ClipOutcome]:
    return {one.part_no: one for one in run_outcomes(pipeline.store, DAY, run).values() if one.part_of}


def file_of(pipeline: Pipeline, run: str = "r.1") -> ClipOutcome:
    (file,) = (one for one in run_outcomes(pipeline.store, DAY, run).values() if one.parts)
    return file


def day_of(report: RunReport) -> dict[str, int]:
    (day,) = report.days
    names = ("discovered", "planned", "captioned", "asked", "stored", "copies", "indexed", "quarantined", "unfinished")
    return {name: getattr(day, name) for name in (*names, "cut", "parts")}


def test_a_long_file_becomes_clips_with_their_times_in_the_file(long: Pipeline, engine: StandIn) -> None:
    report = long.run()
    check_report(report, long.settings.quarantine)
    assert day_of(report) == {
        "discovered": 3, "planned": 7, "captioned": 7, "asked": 7, "stored": 0, "copies": 0, "indexed": 7,
        "quarantined": 0, "unfinished": 0, "cut": 1, "parts": 5,
    }  # fmt: skip
    assert len(engine.chats) == 7

    file, parts = file_of(long), parts_of(long)
    assert (file.outcome, file.parts, file.caption_key) == (Outcome.INDEXED, 5, "")
    assert sorted(parts) == [0, 1, 2, 3, 4]
    assert [parts[n].clip_id for n in range(5)] == [part_id(file.clip_id, n) for n in range(5)]
    assert [round(parts[n].start_s, 2) for n in range(5)] == list(STARTS)
    assert [round(parts[n].end_s, 2) for n in range(5)] == [4.0, 8.0, 12.0, 16.0, 20.0]
    for number, part in parts.items():
        caption = long.store.caption(part.caption_key)
        assert caption is not None and part.outcome is Outcome.INDEXED
        assert (caption.start_s, caption.duration_s) == (STARTS[number], 4.0)
        assert long.store.read(caption.poster)

    points = [point for point in long.points().values() if point.get("part_of")]
    assert {point["part_of"] for point in points} == {file.clip_id}
    assert file.clip_id not in {point["clip_id"] for point in long.points().values()}
    for point in points:
        start_s = STARTS[point["part_no"]]
        assert (point["clip_start_s"], point["start_s"], point["end_s"]) == (start_s, start_s, start_s + 4)


@pytest.mark.slow
def test_shots_become_clips_and_a_killed_try_keeps_their_times(tmp_path: Path, engine: StandIn) -> None:
    pipeline = Pipeline(tmp_path, [engine.url], video={**CUT, "split": "shots"})
    path = film(pipeline)
    write_clip(path, seconds=20, fps=10, size=(160, 120), picture=scenes(30, 55, 130))
    engine.latency_s = 0.3
    (batch,) = pipeline.plan().batches
    assert Task(pipeline, "caption", die_at="os.rename:captions/:3").wait() < 0
    pipeline.caption(batch, 2)
    pipeline.index(batch)
    assert day_of(pipeline.report("r.1"))["parts"] == 6
    starts = [round(parts_of(pipeline)[n].start_s, 2) for n in range(6)]
    assert starts == [0.0, 3.0, 5.5, 9.5, 13.0, 17.0]  # shots begin at 3, 5.5 and 13 s; the longest part has 4 s

    fresh = Pipeline(tmp_path / "fresh", [engine.url], pipeline.clips, video={**CUT, "split": "shots"})
    fresh.run()
    assert [round(parts_of(fresh)[n].start_s, 2) for n in range(6)] == starts


def test_the_next_run_skips_it(long: Pipeline, engine: StandIn) -> None:
    long.run()
    again = long.plan("r.2")
    assert (again.to_do, again.done) == (0, 3)
    assert len(engine.chats) == 7


def test_a_part_is_found_and_its_page_counts_from_its_start(long: Pipeline) -> None:
    long.run()
    part = parts_of(long)[3]
    caption = long.store.caption(part.caption_key)
    assert caption is not None
    hit = long.search(caption.text, limit=1)[0]
    assert (hit.clip_id, hit.part_no, hit.clip_start_s, hit.start_s) == (part.clip_id, 3, 12.0, 12.0)
    assert hit.metadata == {}

    with TestClient(create_app(lambda: long.settings, lambda: None, lambda request: "/login")) as client:
        page = client.get("/", params={"q": caption.text, "limit": 1}).text
        assert "part 4, from 0:12 of the file" in page
        assert "<time>0:00–0:04</time>" in page
        (batch,) = long.plan("r.2", recaption=True).batches
        first = file_of(long).batch
        rows = client.get(f"/batches/r.1/{DAY}/{first}").text
        assert "cut into 5 parts" in rows
        assert re.search(r"film.mp4 \(0:12–0:16\)", rows)
        assert "<b>7</b> clips" in rows
        waiting = client.get(f"/api/batches/r.2/{DAY}/{batch.batch}").json()
        assert waiting["counts"] == {"waiting": 3}


@pytest.mark.slow
def test_a_killed_try_continues_with_the_next_part(long: Pipeline, engine: StandIn) -> None:
    engine.latency_s = 0.3
    plan = long.plan()
    task = Task(long, "caption", die_at="os.rename:captions/:4")
    assert task.wait() < 0
    stored = sum(key.startswith("captions/") for key in long.store.list("captions"))
    assert 0 < stored < 7
    totals = long.caption(plan.batches[0], 2)
    assert (totals.new, totals.before + totals.stored) == (7 - stored, stored)
    long.index(plan.batches[0])
    assert day_of(long.report("r.1"))["indexed"] == 7
    assert [round(parts_of(long)[n].start_s, 2) for n in range(5)] == list(STARTS)


@pytest.mark.parametrize("split", ["fixed", "shots"])
def test_a_try_killed_after_the_last_part_only_records_the_file(tmp_path: Path, engine: StandIn, split: str) -> None:
    pipeline = Pipeline(tmp_path, [engine.url], video={**CUT, "split": split})
    film(pipeline)
    (batch,) = pipeline.plan().batches
    assert Task(pipeline, "caption", die_at="call:BatchState.record_cut:1").wait() < 0
    parts = len(engine.chats)
    pipeline.caption(batch, 2)
    pipeline.index(batch)
    report = day_of(pipeline.report("r.1"))
    assert len(engine.chats) == parts == report["indexed"] == file_of(pipeline).parts


def test_the_cut_is_the_same_after_a_killed_try(long: Pipeline, engine: StandIn) -> None:
    engine.latency_s = 0.3
    plan = long.plan()
    assert Task(long, "caption", die_at="os.rename:captions/:5").wait() < 0
    long.caption(plan.batches[0], 2)
    file = file_of(long)
    assert [tuple(round(t, 2) for t in span) for span in long.store.cut(file.content, file.cut) or ()] == [
        (start_s, start_s + 4) for start_s in STARTS
    ]


def test_a_copy_of_a_long_file_costs_nothing(long: Pipeline, engine: StandIn) -> None:
    path = next(long.clips.rglob("film.mp4"))
    path.with_name("copy.mp4").write_bytes(path.read_bytes())
    report = day_of(long.run())
    assert (report["asked"], report["copies"], report["indexed"], report["cut"]) == (7, 5, 12, 2)
    assert len(engine.chats) == 7


def test_a_long_file_in_another_day_reuses_the_parts(long: Pipeline, engine: StandIn) -> None:
    long.run()
    path = next(long.clips.rglob("film.mp4"))
    other = long.clips / "2026" / "11" / "04" / "again.mp4"
    other.parent.mkdir(parents=True)
    other.write_bytes(path.read_bytes())
    report = day_of(long.run("r.2", days=("2026-11-04",)))
    assert (report["asked"], report["stored"], report["indexed"]) == (0, 5, 5)
    assert len(engine.chats) == 7


def test_a_part_that_the_engine_rejects_costs_only_itself(tmp_path: Path) -> None:
    with StandIn(words=80) as engine:
        pipeline = Pipeline(tmp_path, [engine.url], video=CUT)
        digest = proxy_digests(film(pipeline), pipeline)[2]
        engine.plan = Plan(f"400:digest={digest}")
        report = pipeline.run()
        check_report(report, pipeline.settings.quarantine)
        outcomes = [str(parts_of(pipeline)[n].outcome) for n in range(5)]
        assert outcomes == ["indexed", "indexed", "quarantined", "indexed", "indexed"]
        assert (day_of(report)["planned"], day_of(report)["quarantined"]) == (5, 1)
        assert [line["detail"].startswith("8.0-12.0 s: ") for line in report.quarantine] == [True]
        assert file_of(pipeline).outcome is Outcome.INDEXED
        assert pipeline.plan("r.2").to_do == 0

        engine.plan = Plan("")
        requests = len(engine.chats)
        report = pipeline.run("r.3", retry_quarantined=("all",))
        assert (day_of(report)["asked"], day_of(report)["stored"], day_of(report)["indexed"]) == (1, 4, 5)
        assert len(engine.chats) == requests + 1


def test_an_engine_that_rejects_at_random_costs_no_part(tmp_path: Path) -> None:
    with StandIn("400:2", words=80) as engine:
        pipeline = Pipeline(tmp_path, [engine.url], video=CUT)
        film(pipeline)
        assert day_of(pipeline.run())["indexed"] == 5


def test_a_damaged_part_costs_only_itself(tmp_path: Path, engine: StandIn) -> None:
    pipeline = Pipeline(tmp_path, [engine.url], video=CUT)
    path = film(pipeline)
    with av.open(path) as container:
        packets = [
            (packet.pos, packet.size, packet.pts * packet.time_base) for packet in container.demux() if packet.size
        ]
    data = bytearray(path.read_bytes())
    for position, size, time_s in packets:
        if 8 <= time_s < 12:
            data[position : position + size] = bytes(size)
    path.write_bytes(data)
    report = pipeline.run()
    assert [str(parts_of(pipeline)[n].outcome) for n in range(5)].count("quarantined") <= 1
    assert file_of(pipeline).outcome is Outcome.INDEXED
    assert day_of(report)["indexed"] >= 4


def test_a_file_that_is_replaced_by_a_shorter_one_keeps_no_old_part(long: Pipeline) -> None:
    long.run()
    film(long, seconds=12)
    report = day_of(long.run("r.2"))
    assert (report["cut"], report["parts"], report["indexed"], report["asked"]) == (1, 3, 3, 3)
    assert sorted({point["part_no"] for point in long.points().values() if "part_no" in point}) == [0, 1, 2]
    assert sum(bool(one.part_of) for one in ledger(long.store, DAY).values()) == 3


def test_a_file_that_becomes_short_is_one_clip_again(long: Pipeline) -> None:
    long.run()
    film(long, seconds=6)
    assert day_of(long.run("r.2"))["parts"] == 0
    assert not [point for point in long.points().values() if "part_of" in point]
    (whole,) = (one for one in ledger(long.store, DAY).values() if one.uri.endswith("film.mp4"))
    assert (whole.outcome, whole.parts) == (Outcome.INDEXED, 0)


def test_a_quarantined_long_file_is_cut_once_splitting_is_on(tmp_path: Path, engine: StandIn) -> None:
    refusing = Pipeline(tmp_path, [engine.url], video={**CUT, "split": None})
    film(refusing)
    assert day_of(refusing.run())["quarantined"] == 1
    cutting = Pipeline(tmp_path, [engine.url], video=CUT)
    assert cutting.plan("r.2").to_do == 1
    assert day_of(cutting.run("r.3"))["indexed"] == 5
    back = Pipeline(tmp_path, [engine.url], video={**CUT, "split": None})
    assert back.plan("r.4").to_do == 0  # nothing is cut or refused again because of a setting that is off


def test_another_way_of_cutting_cuts_again(long: Pipeline, tmp_path: Path, engine: StandIn) -> None:
    long.run()
    other = Pipeline(tmp_path, [engine.url], video={**CUT, "part_s": 5.0})
    report = day_of(other.run("r.2"))
    assert (report["planned"], report["parts"], report["indexed"]) == (4, 4, 4)
    assert sorted({point["part_no"] for point in other.points().values() if "part_no" in point}) == [0, 1, 2, 3]


def test_changed_metadata_captions_no_part_again(
    tmp_path: Path, engine: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLIPDEX_SOURCE__METADATA", '{"place": "string"}')
    pipeline = Pipeline(tmp_path, [engine.url], video=CUT)
    path = film(pipeline)
    pipeline.run()
    path.with_name("film.mp4.json").write_text('{"place": "harbour"}')
    report = day_of(pipeline.run("r.2"))
    assert (report["asked"], report["stored"], report["indexed"]) == (0, 5, 5)
    assert {point["place"] for point in pipeline.points().values()} == {"harbour"}
    assert len(engine.chats) == 5


def test_another_time_zone_moves_the_parts_without_a_request(tmp_path: Path, engine: StandIn) -> None:
    def opened(timezone: str) -> Pipeline:
        pipeline = Pipeline(tmp_path, [engine.url], video=CUT)
        source = pipeline.settings.source.model_copy(update={"timezone": timezone, "day_pattern": ""})
        pipeline.settings = pipeline.settings.model_copy(update={"source": source})
        return pipeline

    before, after = opened("UTC"), opened("Europe/Moscow")
    path = film(before)
    moment = datetime(2026, 11, 3, 22, 30, tzinfo=UTC).timestamp()
    path = path.rename(before.clips / path.name)
    os.utime(path, (moment, moment))
    before.run("r.1")
    report = day_of(after.run("r.2", days=("2026-11-04",)))
    assert (report["asked"], report["stored"], report["indexed"]) == (0, 5, 5)
    assert len(engine.chats) == 5
    assert {point["day"] for point in after.points().values()} == {"2026-11-04"}
    assert len(after.points()) == len({point["clip_id"] for point in after.points().values()}) == 5
    assert not ledger(after.store, DAY)
    assert [after.plan("r.3", (day,)).to_do for day in (DAY, "2026-11-04")] == [0, 0]


def test_the_engine_goes_away_in_the_middle(tmp_path: Path) -> None:
    with StandIn(words=80, latency_s=0.05) as engine:
        pipeline = Pipeline(tmp_path, [engine.url], video=CUT, engine={"in_flight": 1, "tries": 1})
        film(pipeline)
        plan = pipeline.plan()
        engine.plan = Plan("503:1.0")
        with pytest.raises(EngineUnavailable):
            pipeline.caption(plan.batches[0])
        engine.plan = Plan("")
        pipeline.caption(plan.batches[0], 2)
        pipeline.index(plan.batches[0])
    assert day_of(pipeline.report("r.1"))["indexed"] == 5


@pytest.mark.slow
def test_the_index_is_rebuilt_with_the_parts(long: Pipeline, engine: StandIn) -> None:
    long.run()
    film(long, seconds=12)
    long.run("r.2")
    before = long.points()
    other = Pipeline(long.home, [engine.url], video=CUT, chunking={"tokens": 64, "overlap": 8})
    totals = other.reindex_day(DAY, "x.1")
    assert totals.clips == 5
    other.serve([totals])
    assert other.plan("r.3").to_do == 0
    assert {(p["clip_id"], p.get("part_no")) for p in other.points().values()} == {
        (p["clip_id"], p.get("part_no")) for p in before.values()
    }
