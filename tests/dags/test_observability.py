"""What somebody sees who watches from outside: metrics through Airflow's own StatsD, and a run that is late."""

import asyncio
import logging
import re
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.dags.conftest import REPOSITORY, loaded_dag
from tests.support.engine import StandIn
from tests.support.pipeline import DAY, Pipeline


@pytest.fixture(scope="module")
def database():
    from airflow.utils.db import initdb

    initdb()


@pytest.fixture
def a_dag_as_stored(database) -> Any:
    """ingest_clips as the scheduler knows it."""
    from airflow.dag_processing.dagbag import DagBag, sync_bag_to_db
    from airflow.models.dagbag import DBDagBag
    from airflow.models.dagbundle import DagBundleModel
    from airflow.utils.session import create_session

    with create_session() as session:
        if session.get(DagBundleModel, "clipdex") is None:
            session.add(DagBundleModel(name="clipdex"))
    sync_bag_to_db(DagBag(REPOSITORY / "dags"), "clipdex", None)
    with create_session() as session:
        return DBDagBag().get_latest_version_of_dag("ingest_clips", session=session)


class Watcher:
    """A StatsD server that remembers: counters summed up, gauges as they were last and at most."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        self.counters: Counter[str] = Counter()
        self.last: dict[str, float] = {}
        self.most: dict[str, float] = {}
        self.tokens = 0
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def _listen(self) -> None:
        while (packet := self._socket.recv(65536)) != b"end":
            for line in packet.decode().splitlines():
                name, value, kind = line.replace(":", "|").split("|")[:3]
                if kind == "c":
                    self.counters[name] += int(value)
                elif kind == "g":
                    self.last[name] = float(value)
                    self.most[name] = max(self.most.get(name, 0), float(value))

    def stop(self) -> None:
        """After all that was sent before."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.sendto(b"end", ("127.0.0.1", self.port))
        self._thread.join(10)
        self._socket.close()


@pytest.fixture(scope="module")
def patched() -> Iterator[pytest.MonkeyPatch]:
    with pytest.MonkeyPatch.context() as patch:
        yield patch


@pytest.fixture(scope="module")
def watched(database, patched) -> Iterator[Watcher]:
    """Airflow sends to it what tasks tell, as in the process of a task."""
    from airflow.sdk.observability import stats
    from airflow.sdk.observability.metrics import stats_utils

    watcher = Watcher()
    for name, value in {"STATSD_ON": "True", "STATSD_HOST": "127.0.0.1", "STATSD_PORT": str(watcher.port)}.items():
        patched.setenv(f"AIRFLOW__METRICS__{name}", value)
    stats.initialize(factory=stats_utils.get_stats_factory(), export_legacy_names=False)
    yield watcher
    patched.undo()
    stats.initialize(factory=stats_utils.get_stats_factory(), export_legacy_names=False)


@pytest.fixture(scope="module")
def after_a_run(watched, tmp_path_factory, patched) -> Watcher:
    """A day of five clips, a copy of one of them, one without its end, and a file that is no clip."""
    with StandIn(words=80, latency_s=0.02) as engine:
        pipeline = Pipeline(tmp_path_factory.mktemp("watched"), [engine.url])
        for name, value in pipeline.environment().items():
            patched.setenv(name, value)
        clips = pipeline.put(5)
        clips[0].with_name("copy.mp4").write_bytes(clips[0].read_bytes())
        clips[0].with_name("empty.mp4").touch()
        clips[0].with_name("truncated.mp4").write_bytes(clips[0].read_bytes()[:600])
        done = loaded_dag("ingest_clips").test(run_conf={"day": DAY})
        assert done.state == "success"
        watched.stop()
        watched.tokens = sum(request.completion_tokens for request in engine.chats)
    return watched


def test_a_run_is_told_in_numbers_by_outcome_tokens_and_phase(after_a_run):
    seen = after_a_run.counters
    assert {name: seen[f"airflow.clipdex.{name}"] for name in (
        "clips.captioned.new", "clips.captioned.copy", "clips.quarantined", "clips.quarantined.films",
        "quarantined.empty_file", "quarantined.truncated_file", "clips.indexed", "unanswered", "tokens.completion",
    )} == {
        "clips.captioned.new": 5, "clips.captioned.copy": 1, "clips.quarantined": 2, "clips.quarantined.films": 1,
        "quarantined.empty_file": 1, "quarantined.truncated_file": 1, "clips.indexed": 6, "unanswered": 0,
        "tokens.completion": after_a_run.tokens,
    }  # fmt: skip
    assert all(seen[f"airflow.clipdex.ms.{phase}"] > 0 for phase in ("preparing", "engine", "indexing"))
    assert seen["airflow.clipdex.ms.engine"] >= 5 * 20
    assert 1 <= after_a_run.most["airflow.clipdex.in_flight"] <= 4
    assert {name: after_a_run.last[f"airflow.clipdex.{name}"] for name in (
        "in_flight", "quarantine", "run.planned", "run.unfinished",
    )} == {"in_flight": 0, "quarantine": 2, "run.planned": 8, "run.unfinished": 0}  # fmt: skip


def test_every_metric_that_is_sent_is_told_in_the_documents_and_no_other(after_a_run):
    told = set(re.findall(r"^\| `([a-z_.]+)", (REPOSITORY / "docs/observability.md").read_text(), re.MULTILINE))
    sent = {name.removeprefix("airflow.clipdex.") for name in (*after_a_run.counters, *after_a_run.last)
            if name.startswith("airflow.clipdex.")}  # fmt: skip
    groups = {name.rpartition(".")[0] + "." if name.startswith("quarantined.") else name for name in sent}
    assert groups - told == set()


@pytest.mark.parametrize(("run_type", "level"), [("scheduled", logging.ERROR), ("backfill", logging.INFO)])
def test_a_run_that_is_late_is_an_error_in_the_log_if_it_is_the_nightly_one(a_dag_as_stored, caplog, run_type, level):
    """From the DAG to the callback's words by Airflow's own steps: a run is queued, its deadline passes."""
    from airflow.models import Deadline
    from airflow.triggers.callback import CallbackTrigger
    from airflow.utils.session import create_session
    from airflow.utils.state import DagRunState
    from airflow.utils.types import DagRunTriggeredByType, DagRunType

    with create_session() as session:
        run = a_dag_as_stored.create_dagrun(
            run_id=f"{run_type}__late", run_type=DagRunType(run_type), state=DagRunState.QUEUED, partition_key=DAY,
            run_after=datetime.now(UTC), triggered_by=DagRunTriggeredByType.TEST, session=session,
        )  # fmt: skip
        session.flush()
        (deadline,) = session.query(Deadline).filter_by(dagrun_id=run.id)
        assert deadline.deadline_time - run.queued_at == timedelta(hours=12)
        deadline.handle_miss(session)
        said = deadline.callback.data
        session.rollback()

    async def called() -> list[Any]:
        return [event.payload async for event in CallbackTrigger(said["path"], said["kwargs"]).run()]

    with caplog.at_level(logging.INFO, logger="clipdex"):
        assert asyncio.run(called())[-1]["state"] == "success"
    (record,) = [record for record in caplog.records if record.name == "clipdex.airflow_tasks"]
    assert record.levelno == level
    assert f"{run_type}__late of {DAY}: not searchable by" in record.message and "queued now" in record.message
