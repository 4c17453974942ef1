"""Folders that vanish between two listings are reported as suspicious, and change nothing."""

import json
import shutil

import pytest

from clipdex import cli
from clipdex.errors import SourceUnavailable
from clipdex.runs.outcomes import Outcome, ledger
from clipdex.runs.planning import load_plan
from clipdex.runs.report import check_report, load_report
from tests.support.engine import StandIn
from tests.support.pipeline import DAY, Pipeline

FOLDER = DAY.replace("-", "/")


@pytest.fixture
def pipeline(tmp_path):
    """Return a pipeline over an indexed day: two clips of camera a, one of camera b, one of camera c."""
    with StandIn(words=80) as engine:
        pipeline = Pipeline(tmp_path, [engine.url])
        for camera, clip in zip("aabc", pipeline.put(4), strict=True):
            (pipeline.clips / FOLDER / camera).mkdir(exist_ok=True)
            clip.rename(pipeline.clips / FOLDER / camera / clip.name)
        pipeline.run("r.1")
        yield pipeline


def test_a_folder_that_vanishes_is_reported_and_its_clips_stay(pipeline, caplog):
    points = pipeline.points()
    shutil.rmtree(pipeline.clips / FOLDER / "a")
    report = pipeline.run("r.2")
    check_report(report, pipeline.settings.quarantine)
    for record in (load_plan(pipeline.store, "r.2"), load_report(pipeline.store, "r.2")):
        assert [(gone.day, gone.folder, gone.clips) for gone in record.vanished] == [(DAY, f"{FOLDER}/a", 2)]
    assert caplog.text.count(f"suspicious: {DAY}: {FOLDER}/a has none of its 2 known clips") == 2
    assert pipeline.points() == points
    assert {one.outcome for one in ledger(pipeline.store, DAY).values()} == {Outcome.INDEXED}


@pytest.mark.parametrize(
    ("emptied", "vanished"), [("a", ["a"]), ("b", [])], ids=["a camera's clips", "the single clip of a folder"]
)
def test_an_empty_folder_is_suspicious_if_it_had_several_clips(pipeline, emptied, vanished):
    for clip in (pipeline.clips / FOLDER / emptied).iterdir():
        clip.unlink()
    assert [gone.folder for gone in pipeline.plan("r.2").vanished] == [f"{FOLDER}/{one}" for one in vanished]


def test_a_whole_day_that_vanishes_is_reported_by_folder(pipeline):
    shutil.move(pipeline.clips / FOLDER, pipeline.clips / "2026/11/04")
    vanished = pipeline.plan("r.2").vanished
    assert [(gone.folder[-1], gone.clips) for gone in vanished] == [("a", 2), ("b", 1), ("c", 1)]


def test_single_clips_that_are_deleted_or_renamed_are_not_suspicious(pipeline):
    first, second = sorted((pipeline.clips / FOLDER / "a").iterdir())
    first.unlink()
    second.rename(second.with_name("renamed.mp4"))
    assert pipeline.plan("r.2").vanished == ()


def test_a_root_that_is_away_at_discovery_stops_the_run(pipeline, tmp_path):
    pipeline.clips.rename(tmp_path / "away")
    with pytest.raises(SourceUnavailable, match="does not exist"):
        pipeline.plan("r.2")
    pipeline.clips.mkdir()
    for days in ([DAY], ["2026-12-24"]):
        with pytest.raises(SourceUnavailable, match="is empty"):
            pipeline.plan("r.2", days)


def test_a_dry_run_shows_vanished_folders(pipeline, monkeypatch, capsys):
    for name, value in pipeline.environment().items():
        monkeypatch.setenv(name, value)
    shutil.rmtree(pipeline.clips / FOLDER / "c")
    arguments = ["plan", str(pipeline.clips), "--from", DAY, "--to", DAY]
    assert cli.main([*arguments, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["vanished"] == [{"day": DAY, "folder": f"{FOLDER}/c", "clips": 1}]
    assert cli.main(arguments) == 0
    assert "has none of its 1 known clips any more" in capsys.readouterr().err
