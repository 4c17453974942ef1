"""A run of reindex_clips, each task as Airflow runs it: what searches read before and afterwards."""

from clipdex.config import Settings
from clipdex.index import open_index
from tests.dags.conftest import loaded_dag
from tests.support.engine import StandIn
from tests.support.pipeline import DAY, Pipeline

NEXT_DAY = "2026-11-04"


def test_smaller_chunks_of_every_day_are_served_and_no_engine_is_asked(tmp_path, monkeypatch):
    from airflow.utils.db import initdb

    initdb()
    with StandIn(words=80) as engine:
        pipeline = Pipeline(tmp_path, [engine.url])
        pipeline.put(2)
        pipeline.put(1, NEXT_DAY, first=2)
        pipeline.run(days=(DAY, NEXT_DAY))
    for name, value in pipeline.environment().items():
        monkeypatch.setenv(name, value)
    former = pipeline.points()
    done = loaded_dag("reindex_clips").test(run_conf={"chunk_tokens": 40, "chunk_overlap": 8})
    assert done.state == "success"
    assert {task.task_id: task.state for task in done.get_task_instances()} == {
        "days_to_reindex": "success", "reindex": "success", "serve": "success"
    }  # fmt: skip
    now = pipeline.points()
    assert {(point["clip_id"], point["day"]) for point in now.values()} == {
        (point["clip_id"], point["day"]) for point in former.values()
    }
    assert len(now) > len(former)
    with open_index(Settings.load(home=tmp_path)) as index:
        assert index.count() == len(now)
