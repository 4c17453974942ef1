"""One backfill of a real Airflow over cameras, phones and the litter beside their films, in the days of Moscow."""

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from clipdex.runs.planning import run_label
from clipdex.runs.report import RunReport, load_report
from demo.airflow_api import AirflowApi, finished
from demo.local_airflow import LocalAirflow
from tests.support.engine import StandIn
from tests.support.litter import DAYS, Archive, contents_of, environment, phones, points_of, recorders, results_of
from tests.support.pipeline import Pipeline

DAG = "ingest_clips"
PATTERN = "**/{camera}/{year}-{month}-{day}/*_{hour}{minute}{second}"
SECONDS = 900

pytestmark = pytest.mark.live


@dataclass(frozen=True, slots=True)
class Backfilled:
    """What the backfill left. states: of its runs by day; reports: by day"""

    archive: Archive
    engine: StandIn
    pipeline: Pipeline
    states: dict[str, str]
    reports: dict[str, RunReport]


@pytest.fixture(scope="module")
def backfilled(tmp_path_factory) -> Iterator[Backfilled]:
    """Backfill three days of recorders with their day in the path, and of phones with modification times."""
    home = tmp_path_factory.mktemp("litter")
    archive = recorders(home / "archive/recorders") + phones(home / "archive/phones")
    with StandIn(words=80) as engine:
        pipeline = Pipeline(home, [engine.url], clips=archive.root)
        with (
            LocalAirflow(home / "airflow", environment(pipeline, PATTERN)) as airflow,
            AirflowApi(airflow.url, airflow.user, airflow.password) as api,
        ):
            airflow.airflow(
                "backfill", "create", "--dag-id", DAG, "--from-date", DAYS[0], "--to-date", DAYS[-1],
                "--reprocess-behavior", "none",
            )  # fmt: skip
            ended = lambda runs: sum(one["run_type"] == "backfill" and finished(one) for one in runs) >= len(DAYS)  # noqa: E731
            runs = {one["partition_key"]: one for one in api.wait(DAG, ended, SECONDS) if one["run_type"] == "backfill"}
            # On a busy machine a task may end before it begins, and the plan is that of a later try.
            tries = {day: len(api.tries(DAG, one["dag_run_id"], "discover")) for day, one in runs.items()}
        states = {day: one["state"] for day, one in runs.items()}
        labels = {day: run_label(one["dag_run_id"], tries[day]) for day, one in runs.items()}
        reports = {day: load_report(pipeline.store, labels[day]) for day in runs}
        yield Backfilled(archive, engine, pipeline, states, reports)


def test_every_day_is_green(backfilled):
    assert backfilled.states == dict.fromkeys(DAYS, "success")


def test_every_film_is_searchable_at_its_local_day_with_its_camera_and_nothing_else(backfilled):
    assert points_of(backfilled.pipeline) == backfilled.archive.points(*DAYS)


def test_every_film_is_captioned_once_and_nothing_else(backfilled):
    assert contents_of(backfilled.pipeline) == backfilled.archive.contents(*DAYS)
    assert len(backfilled.engine.chats) == len(backfilled.archive.of_days(*DAYS))


@pytest.mark.parametrize("day", DAYS)
def test_the_report_of_a_day_counts_its_films_and_litter(backfilled, day):
    archive, report = backfilled.archive, backfilled.reports[day]
    assert results_of(report) == (archive.counts(day), archive.quarantine(day))
    assert (report.excluded, report.skipped) == (len(archive.excluded), archive.skipped())
