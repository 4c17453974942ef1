"""Write what release 0.1 left behind: clips, an artifact store, an embedded index and an Airflow database.

    git worktree add /tmp/before 01df17e
    cd /tmp/before && PYTHONPATH=include:. PYTHON /path/to/make_fixture.py OUT.tar.xz

Runs with the code of that release, not with today's. One day went through Airflow to its end; of a second day, the run
stopped after captioning.
"""

import os
import sqlite3
import sys
import tarfile
import tempfile
from pathlib import Path

HOME = Path(tempfile.mkdtemp(prefix="clipdex-release-"))
REPOSITORY = Path.cwd()
os.environ.update(
    AIRFLOW_HOME=str(HOME / "airflow"),
    AIRFLOW__CORE__DAGS_FOLDER=str(REPOSITORY / "dags"),
    AIRFLOW__CORE__PLUGINS_FOLDER=str(REPOSITORY / "plugins"),
    AIRFLOW__CORE__LOAD_EXAMPLES="False",
    AIRFLOW__DATABASE__SQL_ALCHEMY_CONN=f"sqlite:///{HOME}/airflow.db",
)
MOMENT = 1_762_128_000  # the clips' modification time: whole seconds survive an archive


def main(out: Path) -> None:
    from airflow.dag_processing.dagbag import DagBag
    from airflow.utils.db import initdb

    from tests.support.engine import StandIn
    from tests.support.pipeline import Pipeline

    with StandIn(words=80) as engine:
        pipeline = Pipeline(HOME, [engine.url])
        clips = pipeline.put(4)
        clips[0].with_name("empty.mp4").touch()
        pipeline.put(2, day="2026-11-04", first=4)
        for path in pipeline.clips.rglob("*.mp4"):
            os.utime(path, (MOMENT, MOMENT))
        os.environ.update(pipeline.environment())
        initdb()
        dag = DagBag(REPOSITORY / "dags").dags["ingest_clips"]
        dag.deadline = None
        done = dag.test(run_conf={"day": "2026-11-03"})
        assert done.state == "success", done.state
        for batch in pipeline.plan("stopped.1", days=("2026-11-04",)).batches:
            pipeline.caption(batch)
    whole = HOME / "whole.db"  # without the journal beside it
    sqlite3.connect(HOME / "airflow.db").execute("VACUUM INTO ?", (str(whole),)).close()
    whole.replace(HOME / "airflow.db")
    with tarfile.open(out, "w:xz") as archive:
        for name in ("clips", ".clipdex", "airflow.db"):
            archive.add(HOME / name, arcname=name)


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
