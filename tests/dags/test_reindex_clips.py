"""A run of reindex_clips, each task as Airflow runs it: what searches read before and afterwards."""

import json

import pytest

from clipdex.config import Settings
from clipdex.index import open_index
from clipdex.index.points import PAYLOAD_INDEXES
from tests.dags.conftest import loaded_dag
from tests.support.engine import StandIn
from tests.support.pipeline import DAY, Pipeline

NEXT_DAY = "2026-11-04"


@pytest.fixture
def pipeline(tmp_path, monkeypatch) -> Pipeline:
    """Return the pipeline that has indexed three clips of two days, in whose environment the runs are."""
    from airflow.utils.db import initdb

    initdb()
    with StandIn(words=80) as engine:
        pipeline = Pipeline(tmp_path, [engine.url])
        pipeline.put(2)
        pipeline.put(1, NEXT_DAY, first=2)
        pipeline.run(days=(DAY, NEXT_DAY))
    for name, value in pipeline.environment().items():
        monkeypatch.setenv(name, value)
    return pipeline


@pytest.mark.parametrize("source", ["clipdex_source", "clipdex_other"])
def test_the_new_collection_has_payload_indexes_of_what_the_connection_of_the_source_declares(
    pipeline, monkeypatch, source
):
    declared = {"metadata": {"speed": "number"}, "day_pattern": "{camera}/{year}/{month}/{day}"}
    monkeypatch.setenv(f"AIRFLOW_CONN_{source.upper()}", json.dumps({"extra": declared}))
    done = loaded_dag("reindex_clips").test(run_conf={"source": source, "chunk_tokens": 40, "chunk_overlap": 8})
    assert done.state == "success"
    with pipeline.open_index() as index:
        fields = index._shard.info().payload_schema
    assert set(fields) == {*PAYLOAD_INDEXES, "camera", "speed"}


@pytest.mark.slow
def test_smaller_chunks_of_every_day_are_served_and_no_engine_is_asked(pipeline, tmp_path):
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
