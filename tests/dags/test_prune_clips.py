"""A run of prune_clips, as Airflow runs it: what it finds in the store afterwards."""

import os
import time

from clipdex.config import Settings
from clipdex.storage.artifacts import Store
from tests.dags.conftest import REPOSITORY


def test_old_reports_are_gone_after_a_night_and_captions_are_not(tmp_path, monkeypatch):
    from airflow.dag_processing.dagbag import DagBag
    from airflow.utils.db import initdb

    initdb()
    monkeypatch.setenv("CLIPDEX_HOME", str(tmp_path))
    monkeypatch.setenv("CLIPDEX_STORE__RETENTION_DAYS", "30")
    store = Store.open(Settings.load())
    for key in ("reports/old.1.json", "reports/new.1.json", "captions/ab/abcd.json"):
        store.write_json(key, {})
    long_ago = time.time() - 31 * 86400
    for key in ("reports/old.1.json", "captions/ab/abcd.json"):
        os.utime(tmp_path / ".clipdex/store" / key, (long_ago, long_ago))
    done = DagBag(REPOSITORY / "dags").dags["prune_clips"].test()
    assert done.state == "success"
    assert store.list("") == ["captions/ab/abcd.json", "reports/new.1.json", "summaries/usage.json"]
