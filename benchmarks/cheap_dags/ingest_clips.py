"""Run the DAG (an airflow.sdk dag) of dags/ingest_clips.py with the stand-ins of benchmarks/cheap.py."""

from benchmarks.cheap import install
from clipdex.config import REPOSITORY

install()
exec(compile((REPOSITORY / "dags/ingest_clips.py").read_text(), __file__, "exec"))
