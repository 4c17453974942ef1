"""What every DAG of this project must be."""

import json
import subprocess
import sys
from datetime import timedelta

import pytest

from tests.dags.conftest import REPOSITORY


@pytest.fixture(scope="module")
def bag():
    from airflow.dag_processing.dagbag import DagBag

    return DagBag(REPOSITORY / "dags")


@pytest.fixture(scope="module", params=["ingest_clips", "prune_clips", "reindex_clips"])
def a_dag(bag, request):
    return bag.dags[request.param]


def test_every_file_imports_and_holds_one_dag_of_its_name(bag):
    assert bag.import_errors == {}
    assert sorted(bag.dags) == sorted(path.stem for path in (REPOSITORY / "dags").glob("*.py"))


def test_a_person_can_see_what_it_does_and_whose_it_is(a_dag):
    assert a_dag.doc_md and a_dag.doc_md.startswith("# ")
    assert a_dag.tags
    assert {task.owner for task in a_dag.tasks} == {"clipdex"}


def test_it_never_catches_up_by_itself(a_dag):
    assert a_dag.catchup is False


def test_every_task_is_retried_with_the_policy_and_ends_in_time(a_dag):
    from clipdex.airflow_tasks import RETRY_POLICY

    for task in a_dag.tasks:
        assert task.retries >= 1, task.task_id
        assert task.retry_policy is RETRY_POLICY, task.task_id
        assert timedelta(0) < task.execution_timeout <= timedelta(hours=3), task.task_id


def test_every_pool_that_a_task_names_is_made_at_deployment(bag):
    pools = json.loads((REPOSITORY / "docker/airflow/pools.json").read_text())
    named = {task.pool for dag in bag.dags.values() for task in dag.tasks} - {"default_pool"}
    assert named and named <= set(pools)


def test_a_batch_is_finished_before_the_next_is_begun(bag):
    dag = bag.dags["ingest_clips"]
    assert {dag.task_dict[f"process.{name}"].weight_rule for name in ("caption", "index")} == {"upstream"}


def test_an_index_is_served_after_every_day_is_there(bag):
    dag = bag.dags["reindex_clips"]
    assert dag.task_dict["reindex"].pool == "indexing"
    assert dag.task_dict["serve"].trigger_rule == "all_success"
    assert dag.task_dict["serve"].upstream_task_ids == {"reindex"}


def test_a_day_with_unfinished_clips_is_red(bag):
    """The report decides: it runs whatever happened before, and what follows it does not run without it."""
    dag = bag.dags["ingest_clips"]
    assert dag.task_dict["process.index"].trigger_rule == "all_done"
    assert dag.task_dict["report"].trigger_rule == "all_done"
    assert dag.task_dict["publish"].trigger_rule == "all_success"
    assert dag.task_dict["publish"].upstream_task_ids == {"report"}
    assert [task.task_id for task in dag.leaves] == ["publish"]


def test_one_task_tells_the_asset(bag):
    dag = bag.dags["ingest_clips"]
    assert [task.task_id for task in dag.tasks if task.outlets] == ["publish"]


def test_the_schedule_has_the_days_of_utc_unless_a_zone_is_set(bag):
    timetable = bag.dags["ingest_clips"].timetable
    assert timetable.partitioned and timetable.description == "At the end of each day in UTC"


def test_parsing_loads_no_model_and_takes_milliseconds():
    """What clipdex adds to a parse, in a process that has Airflow already."""
    program = """
import sys, time
import airflow.sdk, airflow.sdk.exceptions
started = time.process_time()
import clipdex.airflow_tasks
print(time.process_time() - started)
print(sorted({"torch", "av", "cv2", "sentence_transformers", "qdrant_edge", "onnxruntime"} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    seconds, heavy = done.stdout.strip().splitlines()[-2:]
    assert heavy == "[]"
    assert float(seconds) < 1.5
