"""An Airflow of the tests' own: its home is set before anything imports Airflow."""

import os
import tempfile
from pathlib import Path
from typing import Any

from demo.local_airflow import database_url

REPOSITORY = Path(__file__).parents[2]
HOME = Path(tempfile.mkdtemp(prefix="clipdex-dags-"))

os.environ.update(
    AIRFLOW_HOME=str(HOME),
    AIRFLOW__CORE__DAGS_FOLDER=str(REPOSITORY / "dags"),
    AIRFLOW__CORE__PLUGINS_FOLDER=str(REPOSITORY / "plugins"),
    AIRFLOW__CORE__LOAD_EXAMPLES="False",
    AIRFLOW__CORE__UNIT_TEST_MODE="False",
    AIRFLOW__DATABASE__SQL_ALCHEMY_CONN=database_url(HOME),
)


def loaded_dag(dag_id: str) -> Any:
    """A DAG as it is loaded anew, for dag.test(): one that has run keeps the params of that run.

    Without its deadline: in Airflow 3.3 test() ends every run of a DAG that has one with an error of the database's.
    """
    from airflow.dag_processing.dagbag import DagBag

    dag = DagBag(REPOSITORY / "dags").dags[dag_id]
    dag.deadline = None
    return dag
