"""Test a change of the time zone: clips get their new day, and nothing is captioned again."""

import json
import os
from datetime import UTC, datetime

import pytest

import clipdex
from clipdex import cli
from clipdex.runs.outcomes import Outcome, compact, ledger, ledger_days, whole_ledger
from clipdex.runs.planning import load_plan
from clipdex.runs.report import check_report, load_report
from tests.support.pipeline import Pipeline

MOMENTS = {
    "tiny-000000.mp4": datetime(2026, 11, 3, 10, 30, tzinfo=UTC),
    "tiny-000001.mp4": datetime(2026, 11, 3, 21, 30, tzinfo=UTC),
    "tiny-000002.mp4": datetime(2026, 11, 3, 23, 30, tzinfo=UTC),
    "tiny-000003.mp4": datetime(2026, 11, 4, 12, 0, tzinfo=UTC),
}
DAYS = {
    "UTC": ["2026-11-03", "2026-11-03", "2026-11-03", "2026-11-04"],
    "Europe/Moscow": ["2026-11-03", "2026-11-04", "2026-11-04", "2026-11-04"],
    "America/Los_Angeles": ["2026-11-03", "2026-11-03", "2026-11-03", "2026-11-04"],
    "Pacific/Kiritimati": ["2026-11-04", "2026-11-04", "2026-11-04", "2026-11-05"],
    "Pacific/Pago_Pago": ["2026-11-02", "2026-11-03", "2026-11-03", "2026-11-04"],
}


@pytest.fixture
def clips(tmp_path):
    """Write clips whose day is that of their modification time."""
    Pipeline(tmp_path, ["http://nowhere"]).put(len(MOMENTS))
    for path in sorted((tmp_path / "clips").rglob("*.mp4")):
        path = path.rename(tmp_path / "clips" / path.name)
        os.utime(path, (MOMENTS[path.name].timestamp(),) * 2)
    return tmp_path / "clips"


@pytest.fixture
def opened(tmp_path, engine, clips):
    """Open the archive with days of a time zone."""

    def opened(timezone: str) -> Pipeline:
        pipeline = Pipeline(tmp_path, [engine.url])
        source = pipeline.settings.source.model_copy(update={"timezone": timezone, "day_pattern": ""})
        pipeline.settings = pipeline.settings.model_copy(update={"source": source})
        return pipeline

    return opened


def days_of_points(pipeline) -> list[str]:
    return [day for _, day in sorted({(p["uri"].rpartition("/")[2], p["day"]) for p in pipeline.points().values()})]


def days_in_ledger(pipeline, outcome=Outcome.INDEXED) -> list[str]:
    found = [
        (one.uri.rpartition("/")[2], day)
        for day in ledger_days(pipeline.store)
        for one in ledger(pipeline.store, day).values()
        if one.outcome is outcome and one.day == day
    ]
    return [day for _, day in sorted(found)]


def nights(pipeline, run, **wishes):
    """Run each day by itself, as a backfill does; return the reports."""
    days = sorted({day for days in DAYS.values() for day in days})
    return [pipeline.run(f"{run}-{day}.1", days=(day,), **wishes) for day in days]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("UTC", "Europe/Moscow"),
        ("Europe/Moscow", "UTC"),
        ("Pacific/Pago_Pago", "Pacific/Kiritimati"),  # by two days
        ("Pacific/Kiritimati", "America/Los_Angeles"),
    ],
)
def test_another_zone_moves_days_in_ledger_points_and_reports_and_asks_for_nothing(opened, engine, before, after):
    nights(opened(before), "before")
    assert days_of_points(opened(before)) == days_in_ledger(opened(before)) == DAYS[before]
    ids, requests = set(opened(before).points()), len(engine.requests)
    moved = sum(old != new for old, new in zip(DAYS[before], DAYS[after], strict=True))
    reports = nights(opened(after), "after")
    assert len(engine.requests) == requests
    assert days_of_points(opened(after)) == days_in_ledger(opened(after)) == DAYS[after]
    assert set(opened(after).points()) == ids
    assert sum(report.moved for report in reports) == sum(report.total("stored") for report in reports) == moved
    assert sum(report.done_before for report in reports) == len(MOMENTS) - moved
    assert {report.timezone for report in reports} == {after}
    for report in nights(opened(after), "again"):
        assert (report.moved, report.total("planned")) == (0, 0)


@pytest.mark.slow
def test_a_zone_that_is_changed_back_moves_the_clips_back(opened, engine):
    for run, zone in enumerate(["UTC", "Europe/Moscow", "UTC", "Pacific/Kiritimati", "Europe/Moscow"]):
        nights(opened(zone), f"r{run}")
        assert days_of_points(opened(zone)) == days_in_ledger(opened(zone)) == DAYS[zone]
    assert len(engine.chats) == len(MOMENTS)


def test_one_run_over_the_whole_archive_moves_all_days(opened, engine):
    clipdex.Pipeline(opened("UTC").settings).ingest()
    result = clipdex.Pipeline(opened("Europe/Moscow").settings).ingest()
    assert result.report.moved == 2 and len(engine.chats) == len(MOMENTS)
    assert {(one.uri.rpartition("/")[2], one.day) for one in result.clips} == set(
        zip(MOMENTS, DAYS["Europe/Moscow"], strict=True)
    )


def test_a_quarantined_clip_stays_quarantined_under_its_new_day_and_the_run_is_green(opened, engine, clips):
    for number in range(8):
        (clips / f"empty-{number}.mp4").touch()
        os.utime(clips / f"empty-{number}.mp4", (MOMENTS["tiny-000001.mp4"].timestamp(),) * 2)
    pipeline = opened("UTC")
    pipeline.settings = pipeline.settings.model_copy(
        update={"quarantine": pipeline.settings.quarantine.model_copy(update={"trust_decoder": True})}
    )
    nights(pipeline, "before")
    assert days_in_ledger(pipeline, Outcome.QUARANTINED) == ["2026-11-03"] * 8
    requests = len(engine.requests)
    pipeline = opened("Europe/Moscow")
    reports = nights(pipeline, "after")
    assert days_in_ledger(pipeline, Outcome.QUARANTINED) == ["2026-11-04"] * 8
    assert sum(report.known_quarantined for report in reports) == 8
    assert sum(report.total("quarantined") for report in reports) == 0 and len(engine.requests) == requests
    for report in reports:
        check_report(report, pipeline.settings.quarantine)
    again = pipeline.plan("retry.1", ["2026-11-04"], retry_quarantined=("empty_file",))
    assert again.to_do == 8


def test_a_clip_without_a_final_outcome_is_continued_under_its_new_day(opened, engine):
    pipeline = opened("UTC")
    for batch in pipeline.plan("stopped.1", ["2026-11-03", "2026-11-04"]).batches:
        pipeline.caption(batch)  # and then the run stops
    for day in ("2026-11-03", "2026-11-04"):
        compact(pipeline.store, day, "stopped.1")
    release(pipeline)
    nights(opened("Europe/Moscow"), "after")
    assert days_of_points(opened("Europe/Moscow")) == DAYS["Europe/Moscow"]
    assert days_in_ledger(opened("Europe/Moscow"), Outcome.CAPTIONED) == []
    assert len(engine.chats) == len(MOMENTS)


@pytest.mark.slow
@pytest.mark.parametrize("steps", range(5))
def test_a_move_that_is_killed_anywhere_is_continued(opened, engine, monkeypatch, steps):
    """The store dies after so many objects that planning wrote."""
    nights(opened("UTC"), "before")
    pipeline = opened("Europe/Moscow")
    found = pipeline.survey(["2026-11-04"], pipeline.criteria())
    write, written = pipeline.store.write, []

    def dying(key: str, data: bytes) -> None:
        if len(written) == steps:
            raise KeyboardInterrupt
        written.append(key)
        write(key, data)

    monkeypatch.setattr(pipeline.store, "write", dying)
    try:
        super(Pipeline, pipeline).plan("killed.1", found)
        died = False
    except KeyboardInterrupt:
        died = True
    assert died == (steps < 4), written
    nights(opened("Europe/Moscow"), "after")
    assert days_of_points(opened("Europe/Moscow")) == days_in_ledger(opened("Europe/Moscow")) == DAYS["Europe/Moscow"]
    assert len(engine.chats) == len(MOMENTS)


@pytest.mark.slow
def test_recaption_replaces_the_captions_of_moved_clips_as_of_others(opened, engine):
    nights(opened("UTC"), "before")
    nights(opened("Europe/Moscow"), "after", recaption=True)
    assert len(engine.chats) == 2 * len(MOMENTS)
    assert days_of_points(opened("Europe/Moscow")) == days_in_ledger(opened("Europe/Moscow")) == DAYS["Europe/Moscow"]


def test_reindexing_after_a_move_keeps_the_new_days(opened, engine):
    nights(opened("UTC"), "before")
    nights(opened("Europe/Moscow"), "after")
    pipeline = opened("Europe/Moscow")
    chunking = pipeline.settings.chunking.model_copy(update={"tokens": 40, "overlap": 8})
    pipeline.settings = pipeline.settings.model_copy(update={"chunking": chunking})
    days = []
    pipeline.reindex(days.append)
    assert sum(day.clips for day in days) == len(MOMENTS)
    assert days_of_points(pipeline) == days_in_ledger(pipeline) == DAYS["Europe/Moscow"]


def test_captions_are_counted_once_and_under_the_new_day(opened, engine):
    nights(opened("UTC"), "before")
    nights(opened("Europe/Moscow"), "after")
    counted = {day.day: day.current for day in opened("Europe/Moscow").captions() if day.current}
    assert counted == {"2026-11-03": 1, "2026-11-04": 3}
    assert [one.moved_to for one in whole_ledger(opened("UTC").store, "2026-11-03").values() if one.moved_to] == [
        "2026-11-04", "2026-11-04",
    ]  # fmt: skip


def test_days_that_are_named_by_paths_do_not_move(tmp_path, engine):
    pipeline = Pipeline(tmp_path, [engine.url])
    pipeline.put(2)
    pipeline.run()
    source = pipeline.settings.source.model_copy(update={"timezone": "Pacific/Kiritimati"})
    pipeline.settings = pipeline.settings.model_copy(update={"source": source})
    report = pipeline.run("after.1", days=("2026-11-02", "2026-11-03", "2026-11-04"))
    assert (report.done_before, report.moved, report.total("planned")) == (2, 0, 0)


def test_a_report_and_a_plan_of_before_have_days_of_utc(opened):
    pipeline = opened("UTC")
    pipeline.run("r.1", days=("2026-11-03",))
    for key, load in (("runs/r.1.json", load_plan), ("reports/r.1.json", load_report)):
        record = pipeline.store.read_json(key)
        del record["timezone"], record["moved"]
        pipeline.store.write_json(key, record)
        assert (load(pipeline.store, "r.1").timezone, load(pipeline.store, "r.1").moved) == ("UTC", 0)


def test_a_dry_run_after_a_change_says_that_clips_only_move(opened, engine, clips, monkeypatch, capsys):
    nights(opened("UTC"), "before")
    for name, value in opened("UTC").environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("CLIPDEX_SOURCE__DAY_PATTERN", "")
    monkeypatch.setenv("CLIPDEX_SOURCE__TIMEZONE", "Europe/Moscow")
    assert cli.main(["plan", str(clips), "--day", "2026-11-04", "--json"]) == 0
    output = json.loads(capsys.readouterr().out)
    assert (output["discovered"], output["to_do"], output["moved"]) == (
        {"2026-11-04": 3}, {"2026-11-04": 0}, {"2026-11-04": 2},
    )  # fmt: skip
    assert cli.main(["plan", str(clips), "--day", "2026-11-04"]) == 0
    assert "2 clips were done under another day before the time zone became Europe/Moscow" in capsys.readouterr().out


def test_a_folder_is_ingested_day_by_day(opened, engine, clips, monkeypatch, capsys):
    for name, value in opened("UTC").environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("CLIPDEX_SOURCE__DAY_PATTERN", "")
    monkeypatch.setenv("CLIPDEX_SOURCE__TIMEZONE", "Europe/Moscow")
    assert cli.main(["ingest", str(clips), "--day", "2026-11-04", "--json"]) == 0
    assert {clip["day"] for clip in json.loads(capsys.readouterr().out)["clips"]} == {"2026-11-04"}
    assert len(engine.chats) == 3
    assert cli.main(["ingest", str(clips), "--day", "2026-11-01"]) == 0
    assert "no clip of 2026-11-01 in" in capsys.readouterr().err and len(engine.chats) == 3


def release(pipeline) -> None:
    """Give back the days of a run that stopped."""
    pipeline.store.delete(pipeline.store.list("leases"))
