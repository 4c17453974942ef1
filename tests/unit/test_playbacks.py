"""Playbacks of a run: which clips get one, what it costs, what stays, and the command that makes missing ones."""

import json
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from clipdex.cli import main
from clipdex.errors import ConfigurationError
from clipdex.runs.outcomes import ledger
from clipdex.runs.retention import prune
from clipdex.storage.artifacts import playback_path
from clipdex.video import prepare
from tests.support.clips import write_clip
from tests.support.engine import StandIn
from tests.support.pipeline import DAY, Pipeline

FOLDER = DAY.replace("-", "/")
CUT: dict[str, Any] = {"split": "fixed", "max_duration_s": 8.0, "part_s": 4.0, "min_part_s": 1.0}


def opened(home: Path, stand_in: StandIn, playback: str = "proxy", **more: Any) -> Pipeline:
    return Pipeline(home, [stand_in.url], store={"playback": playback}, **more)


def contents(pipeline: Pipeline) -> set[str]:
    return {one.content for one in ledger(pipeline.store, DAY).values() if one.caption_key}


def expected(pipeline: Pipeline) -> list[str]:
    return sorted(map(playback_path, contents(pipeline)))


@pytest.mark.parametrize("strategy", ["video", "frames-concat", "frames-merge"])
def test_each_strategy_keeps_what_the_engine_saw(tmp_path, engine, strategy):
    pipeline = opened(tmp_path, engine, engine={"strategy": strategy})
    (clip,) = pipeline.put(1)
    pipeline.run()
    assert pipeline.store.list("playbacks") == expected(pipeline) != []
    (key,) = pipeline.store.list("playbacks")
    video = pipeline.settings.video
    assert pipeline.store.read(key) == prepare(clip, video, pipeline.settings.sampling, "proxy").playback


def test_the_embedded_engine_keeps_it_too(tmp_path, engine):
    pipeline = opened(tmp_path, engine, engine={"name": "detectors", "model": "", "base_urls": []})
    pipeline.put(1)
    pipeline.run()
    assert pipeline.store.list("playbacks") == expected(pipeline) != []


def test_the_setting_captions_nothing_again_and_off_deletes_nothing(tmp_path, engine):
    keys = []
    for number, playback in enumerate(("off", "480p", "proxy", "off")):
        pipeline = opened(tmp_path, engine, playback)
        pipeline.put(2)
        assert len(pipeline.plan(f"r.{number}").batches) == (0 if number else 1)
        pipeline.run(f"r.{number}")
        keys.append({one.caption_key for one in ledger(pipeline.store, DAY).values()})
        assert pipeline.store.list("playbacks") == []
    assert len(engine.chats) == 2 and keys == keys[:1] * 4
    pipeline = opened(tmp_path, engine)
    pipeline.put(1, first=7)
    pipeline.run("r.7")
    (kept,) = pipeline.store.list("playbacks")
    opened(tmp_path, engine, "off").run("r.8", recaption=True)
    assert pipeline.store.list("playbacks") == [kept]


def test_copies_have_one_playback_and_near_duplicates_their_own(tmp_path, engine):
    pipeline = opened(tmp_path, engine, video={"near_duplicates": 6.0})
    (clip,) = pipeline.put(1)
    shutil.copy(clip, clip.with_name("copy.mp4"))
    other = write_clip(clip.with_name("other.mp4"), seconds=1, fps=10, size=(64, 64))
    write_clip(other.with_name("alike.mp4"), seconds=1, fps=10, size=(64, 64), options={"crf": "30"})
    pipeline.run()
    assert len(ledger(pipeline.store, DAY)) == 4
    assert pipeline.store.list("playbacks") == expected(pipeline) and len(expected(pipeline)) == 3


def test_what_is_there_is_not_made_again(tmp_path, engine):
    pipeline = opened(tmp_path, engine, "480p")
    pipeline.put(1)
    pipeline.run()
    (key,) = pipeline.store.list("playbacks")
    pipeline.store.write(key, b"kept")
    opened(tmp_path, engine, "480p").run("r.2", recaption=True)
    opened(tmp_path, engine, "proxy").run("r.3", recaption=True)
    assert pipeline.store.read(key) == b"kept" and len(engine.chats) == 3


def test_pruning_keeps_playbacks(tmp_path, engine):
    pipeline = opened(tmp_path, engine)
    pipeline.put(2)
    pipeline.run()
    kept = pipeline.store.list("playbacks")
    assert prune(pipeline.store, 90, datetime.now(UTC) + timedelta(days=400)).runs == 1
    assert pipeline.store.list("playbacks") == kept == expected(pipeline)


def test_parts_have_playbacks_also_after_a_run_without(tmp_path, engine):
    pipeline = opened(tmp_path, engine, "off", video=CUT)
    (pipeline.clips / FOLDER).mkdir(parents=True)
    write_clip(pipeline.clips / FOLDER / "film.mp4", seconds=20, fps=10, size=(96, 64))
    pipeline.run()
    assert len(contents(pipeline)) == 5 and pipeline.store.list("playbacks") == []
    pipeline = opened(tmp_path, engine, video=CUT)
    done = pipeline.make_playbacks(DAY)
    assert (done.made, done.there, done.troubles) == (5, 0, [])
    assert pipeline.store.list("playbacks") == expected(pipeline)
    pipeline.store.delete(expected(pipeline)[2:3])
    done = pipeline.make_playbacks(DAY)
    assert (done.made, done.there) == (1, 4)
    assert pipeline.store.list("playbacks") == expected(pipeline)
    pipeline.store.delete(expected(pipeline)[:1])
    done = opened(tmp_path, engine, video={**CUT, "part_s": 5.0}).make_playbacks(DAY)
    assert done.made == 0 and "CLIPDEX_VIDEO__SPLIT" in done.troubles[0].detail


def test_missing_playbacks_are_made_without_the_engine_and_bad_files_cost_only_themselves(tmp_path, engine):
    pipeline = opened(tmp_path, engine, "off")
    good, gone, replaced, copied, _ = pipeline.put(5)
    shutil.copy(copied, copied.with_name("copy.mp4"))
    pipeline.run()
    requests, before = len(engine.chats), pipeline.store.list("")
    gone.unlink()
    replaced.write_bytes(good.read_bytes())
    pipeline = opened(tmp_path, engine)
    done = pipeline.make_playbacks(DAY)
    assert (done.made, done.there, done.unfinished) == (3, 0, 0)
    assert {(one.uri.rpartition("/")[2], one.reason) for one in done.troubles} == {
        (gone.name, "missing"), (replaced.name, "missing"),
    }  # fmt: skip
    made = pipeline.store.list("playbacks")
    assert len(made) == 3 and sorted([*before, *made]) == pipeline.store.list("")
    assert len(engine.chats) == requests and not pipeline.plan("r.2").batches[1:]
    again = pipeline.make_playbacks(DAY)
    assert (again.made, again.there, len(again.troubles)) == (0, 3, 2)
    pipeline.store.write(made[0], b"old")
    assert pipeline.make_playbacks(DAY, again=True).made == 3
    assert pipeline.store.read(made[0]) != b"old"
    with pytest.raises(ConfigurationError, match="CLIPDEX_STORE__PLAYBACK is off"):
        opened(tmp_path, engine, "off").make_playbacks(DAY)


def test_the_command_counts_what_it_made(tmp_path, engine, monkeypatch, capsys):
    pipeline = opened(tmp_path, engine, "off")
    pipeline.put(2)
    pipeline.put(1, day="2026-11-04", first=5)
    pipeline.run(days=(DAY, "2026-11-04"))
    for name, value in pipeline.environment().items():
        monkeypatch.setenv(name, value)
    assert main(["playback", "--day", DAY, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["made"], found["there"], found["failed"]) == (2, 0, 0) and found["bytes"] > 0
    assert main(["playback", "--from", DAY]) == 0
    output = capsys.readouterr()
    assert "1 playbacks made" in output.out and "2 there before, 0 files without one" in output.out
    assert output.err.splitlines()[0] == f"{DAY}: 0 made (0 bytes), 2 there before"
    (elsewhere := tmp_path / "elsewhere").mkdir()
    pipeline.store.delete(pipeline.store.list("playbacks")[:1])
    assert main(["playback", str(elsewhere)]) == 0
    assert "1 clips are not in" in capsys.readouterr().out
    assert main(["playback", "--day", DAY, "--to", DAY]) == 2
    monkeypatch.setenv("CLIPDEX_STORE__PLAYBACK", "off")
    assert main(["playback"]) == 2
    assert "set it to proxy or 480p" in capsys.readouterr().err
