"""What release 0.1 left behind (make_fixture.py) is opened, searched and continued."""

import json
import os
import sqlite3
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from clipdex import cli
from clipdex.runs.planning import BatchRef, load_plan, manifest
from tests.support.engine import StandIn
from tests.support.pipeline import DAY, Pipeline

REPOSITORY = Path(__file__).parents[2]
STOPPED = "stopped.1"
NEXT_DAY = "2026-11-04"

# A day that Airflow has run before, once more.
AGAIN = """
import sys
from airflow.dag_processing.dagbag import DagBag
dag = DagBag(sys.argv[1]).dags["ingest_clips"]
dag.deadline = None
assert dag.test(run_conf={"day": "2026-11-03"}).state == "success"
"""


@pytest.fixture
def engine() -> Iterator[StandIn]:
    with StandIn(words=80) as engine:
        yield engine


@pytest.fixture
def pipeline(tmp_path, engine, monkeypatch) -> Pipeline:
    """Its state under today's code, with the same settings."""
    with tarfile.open(Path(__file__).with_name("release-0.1.tar.xz")) as archive:
        archive.extractall(tmp_path, filter="data")
    pipeline = Pipeline(tmp_path, [engine.url])
    for name, value in pipeline.environment().items():
        monkeypatch.setenv(name, value)
    return pipeline


def test_its_index_is_searched(pipeline, capsys):
    assert len(pipeline.points()) == 4
    assert cli.main(["search", "what is to be seen", "--limit", "9", "--weak", "--json"]) == 0
    hits = json.loads(capsys.readouterr().out)
    assert sorted(hit["uri"].rpartition("/")[2] for hit in hits) == [f"tiny-00000{n}.mp4" for n in range(4)]


@pytest.mark.slow
def test_its_points_are_filtered_and_after_a_reindex_by_source_too(pipeline, engine, capsys):
    def found(*filters: str) -> tuple[int, str]:
        """Search in another process, whose log is not pytest's."""
        words = [part for word in filters for part in ("--where", word)]
        command = [
            sys.executable,
            "-m",
            "clipdex.cli",
            "search",
            "what is to be seen",
            "--limit",
            "9",
            "--weak",
            "--json",
            *words,
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        return len(json.loads(done.stdout)), done.stderr

    assert found(f"day={DAY}..", "engine=sglang", "duration=..60") == (4, "")
    folder = next(iter(pipeline.points().values()))["uri"].rpartition("/")[0]
    count, note = found(f"source={folder}")
    assert count == 0 and "cannot be filtered by source" in note and note.endswith("run clipdex reindex once\n")
    assert cli.main(["reindex"]) == 0
    capsys.readouterr()
    assert found(f"source={folder}", f"day={DAY}") == (4, "")
    assert not engine.chats


def test_a_day_that_is_done_costs_a_listing(pipeline, engine):
    plan = pipeline.plan("r.2")
    assert (plan.done, plan.quarantined, plan.to_do) == (4, 1, 0)
    assert not engine.requests


def test_a_run_that_stopped_after_captioning_goes_on_without_asking_the_engine(pipeline, engine):
    (batch,) = load_plan(pipeline.store, STOPPED).batches
    assert pipeline.caption(batch, 2).before == 2
    pipeline.index(batch)
    assert len(pipeline.points()) == 6
    assert not engine.chats
    assert pipeline.plan("r.2", days=(NEXT_DAY,)).to_do == 0


def test_its_captions_have_a_flaw_that_is_counted_and_mended_on_request(pipeline, engine, capsys):
    assert cli.main(["captions", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == [
        {"day": DAY, "current": 0, "flawed": {"clock": 4}, "other": 0},
        {"day": NEXT_DAY, "current": 0, "flawed": {"clock": 2}, "other": 0},
    ]
    assert pipeline.run("r.2", recaption_for=("clock",)).total("asked") == 4
    assert len(pipeline.points()) == 4


@pytest.mark.slow
def test_its_airflow_database_runs_the_day_again(pipeline, engine):
    with sqlite3.connect(pipeline.home / "airflow.db") as database:
        [(pointers,)] = database.execute("SELECT value FROM xcom WHERE task_id = 'discover' AND key = 'return_value'")
    [pointer] = json.loads(pointers)
    assert [clip.day for clip in manifest(pipeline.store, BatchRef.from_json(pointer))] == [DAY] * 5
    environment = os.environ | {
        "AIRFLOW_HOME": str(pipeline.home / "airflow"),
        "AIRFLOW__CORE__DAGS_FOLDER": str(REPOSITORY / "dags"),
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(REPOSITORY / "plugins"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{pipeline.home}/airflow.db",
    }
    done = subprocess.run(
        [sys.executable, "-c", AGAIN, str(REPOSITORY / "dags")], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert not engine.chats


def test_the_prompt_of_this_release_captions_and_embeds_nothing_again(pipeline, engine):
    """Its captions asked for no times: their hits cover their clips until recaption is requested."""
    before = pipeline.points()
    assert {one["start_s"] for one in before.values()} == {0.0}
    path = next(pipeline.clips.rglob("tiny-000000.mp4"))
    path.with_name("copy.mp4").write_bytes(path.read_bytes())
    assert pipeline.run("r.2").total("stored") == 1
    assert not engine.chats
    assert before.items() <= pipeline.points().items()

    engine.marks = "[{start}-{end}] "
    report = pipeline.run("r.3", recaption=True)
    assert (report.total("asked"), report.total("copies")) == (4, 1)
    assert report.total("paragraphs") == 12
