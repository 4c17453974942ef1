"""Litter in an archive: it turns no day red, and keeps no good clip from its caption."""

import re
import shutil
from collections import Counter
from pathlib import Path

import pytest

from clipdex import metrics
from clipdex.errors import BatchRejected
from clipdex.runs.outcomes import Outcome
from clipdex.runs.report import check_report
from tests.support.pipeline import DAY, Pipeline

REPOSITORY = Path(__file__).parents[2]
APPLE_DOUBLE = bytes.fromhex("0005160700020000") + b"Mac OS X        " + bytes(4072)
LITTER = [APPLE_DOUBLE, b"<html>404 Not Found</html>", bytes(5000), b"\xff\xd8\xff\xe0\0\x10JFIF" + bytes(99), b""]


def litter(pipeline: Pipeline, count: int, first: int = 0) -> list[Path]:
    """Write litter of each kind in turn, also copies of it, before the clips of the day in the order of their paths."""
    folder = pipeline.clips / DAY.replace("-", "/")
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"Icon-{number:02d}.mp4" for number in range(first, first + count)]
    for number, path in enumerate(paths):
        path.write_bytes(LITTER[number % len(LITTER)])
    return paths


def damaged(good: Path, count: int) -> list[Path]:
    """Write films without their end, before the good ones in the order of their paths."""
    paths = [good.with_name(f"a-{number:02d}.mp4") for number in range(count)]
    for number, path in enumerate(paths):
        path.write_bytes(good.read_bytes()[: 600 + number])
    return paths


def test_a_day_of_mostly_litter_is_green_and_its_clips_are_captioned(pipeline, engine):
    good, bad = pipeline.put(4), litter(pipeline, 15)
    report = pipeline.run()
    check_report(report, pipeline.settings.quarantine)
    assert (report.total("indexed"), report.total("quarantined"), report.total("unfinished")) == (4, 15, 0)
    outcomes = pipeline.outcomes()
    assert {outcomes[path.name].outcome for path in good} == {Outcome.INDEXED}
    assert {outcomes[path.name].reason for path in bad} == {"not_a_video", "empty_file"}
    assert (pipeline.plan("r.2").to_do, pipeline.plan("r.2").quarantined) == (0, 15)


class Counted(Counter[str]):
    """Add up the counters that are sent."""

    def incr(self, stat: str, count: int) -> None:
        self[f"airflow.{stat}".replace(".", "_")] += count

    def gauge(self, stat: str, value: float) -> None:
        pass


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Counted:
    counted = Counted()
    monkeypatch.setattr(metrics, "_sink", counted)  # as before at the end: other tests of this process count, too
    return counted


def test_the_alert_of_a_growing_quarantine_counts_damaged_films_and_no_litter(pipeline, counted):
    rules = (REPOSITORY / "docs/observability.md").read_text()
    rule = re.search(r"QuarantineGrows \| `increase\((\w+)\[1d\]\) > 0\.05 \* increase\((\w+)\[1d\]\)`", rules)
    good, _ = pipeline.put(4), litter(pipeline, 15)
    pipeline.run("r.1")
    assert [counted[name] for name in rule.groups()] == [0, 4]
    assert counted["airflow_clipdex_clips_quarantined"] == 15
    damaged(good[0], 2)
    pipeline.run("r.2")
    assert [counted[name] for name in rule.groups()] == [2, 4]


def test_a_night_that_finds_only_litter_is_green(pipeline):
    litter(pipeline, 10)
    report = pipeline.run()
    check_report(report, pipeline.settings.quarantine)
    assert report.conclusive == report.total("quarantined") == 10


def test_litter_beside_damaged_films_hides_none_of_them(pipeline):
    good = pipeline.put(4)
    damaged(good[0], 5)
    litter(pipeline, 30)
    (batch,) = pipeline.plan().batches
    with pytest.raises(BatchRejected, match="5 of 9 clips were refused as truncated_file"):
        pipeline.caption(batch)
    outcomes = pipeline.outcomes()
    assert {outcomes[path.name].outcome for path in good} == {Outcome.CAPTIONED}
    assert sum(one.outcome is Outcome.QUARANTINED for one in outcomes.values()) == 30


def test_litter_beside_an_engine_that_rejects_every_clip_changes_nothing(pipeline, engine):
    pipeline.put(6)
    bad = litter(pipeline, 6)
    (batch,) = pipeline.plan().batches
    engine.plan.set("400:1.0")
    with pytest.raises(BatchRejected, match="rejected_by_engine"):
        pipeline.caption(batch, 1)
    engine.plan.set("")
    assert pipeline.caption(batch, 2).new == 6
    assert {pipeline.outcomes()[path.name].outcome for path in bad} == {Outcome.QUARANTINED}


def test_good_clips_are_captioned_although_the_engine_rejects_too_many_that_come_first(tmp_path, engine):
    pipeline = Pipeline(tmp_path, [engine.url], engine={"in_flight": 2}, batches={"preparing": 1})
    clips = pipeline.put(16)
    engine.plan.set(",".join(f"400:digest={pipeline.proxy_digest(clip)}" for clip in clips[:8]))
    (batch,) = pipeline.plan().batches
    for number in range(1, 3):
        with pytest.raises(BatchRejected, match="rejected_by_engine"):
            pipeline.caption(batch, number)
    outcomes = pipeline.outcomes()
    assert {outcomes[clip.name].outcome for clip in clips[8:]} == {Outcome.CAPTIONED}
    assert not any(one.outcome is Outcome.QUARANTINED for one in outcomes.values())


def test_a_limit_that_is_raised_frees_the_clips_that_exceeded_it(tmp_path, engine):
    short = Pipeline(tmp_path, [engine.url], video={"max_duration_s": 0.5})
    (clip,) = short.put(1)
    short.run("r.1")
    assert short.outcomes("r.1")[clip.name].reason == "too_long"
    assert short.plan("r.2").to_do == 0
    longer = Pipeline(tmp_path, [engine.url], video={"max_duration_s": 60})
    assert longer.run("r.3").total("indexed") == 1
    small = Pipeline(tmp_path, [engine.url], video={"max_bytes": clip.stat().st_size - 1})
    shutil.copy(clip, clip.with_name("large.mp4"))
    with clip.with_name("large.mp4").open("ab") as file:
        file.write(b"\0\0\0\x08free")
    small.run("r.4")
    assert small.outcomes("r.4")["large.mp4"].reason == "too_large"
    assert longer.run("r.5").total("indexed") == 1
