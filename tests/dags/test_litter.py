"""Runs of ingest_clips over archives of several cameras with litter of devices and shares, in the days of Moscow."""

import pytest

from clipdex.runs.planning import run_label
from clipdex.runs.report import RunReport, load_report
from tests.dags.conftest import loaded_dag
from tests.support.litter import DAYS, Archive, contents_of, environment, phones, points_of, recorders, results_of
from tests.support.pipeline import Pipeline


@pytest.fixture
def deployed(engine, tmp_path, monkeypatch):
    """Return a function that sets the environment of an archive, and returns its pipeline."""

    def deployed(archive: Archive, pattern: str) -> Pipeline:
        pipeline = Pipeline(tmp_path, [engine.url], clips=archive.root)
        for name, value in environment(pipeline, pattern).items():
            monkeypatch.setenv(name, value)
        return pipeline

    return deployed


def run(pipeline: Pipeline, day: str) -> tuple[str, RunReport]:
    from airflow.utils.db import initdb

    initdb()
    done = loaded_dag("ingest_clips").test(run_conf={"day": day})
    return done.state, load_report(pipeline.store, run_label(done.run_id, 1))


def test_films_with_their_day_in_the_path_are_found_among_litter(deployed, engine, tmp_path):
    archive, day = recorders(tmp_path / "archive"), DAYS[1]
    pipeline = deployed(archive, "{camera}/{year}-{month}-{day}/*_{hour}{minute}{second}")
    state, report = run(pipeline, day)
    assert state == "success"
    assert results_of(report) == (archive.counts(day), archive.quarantine(day))
    assert points_of(pipeline) == archive.points(day)
    assert contents_of(pipeline) == archive.contents(day)
    assert len(engine.chats) == len(archive.of_days(day))


def test_films_beside_midnight_are_found_among_litter_at_their_local_day(deployed, engine, tmp_path):
    archive = phones(tmp_path / "archive")
    pipeline, days = deployed(archive, ""), DAYS[:2]
    for day in days:
        state, report = run(pipeline, day)
        assert state == "success"
        assert results_of(report) == (archive.counts(day), archive.quarantine(day))
        assert (report.excluded, report.skipped) == (len(archive.excluded), archive.skipped())
    assert points_of(pipeline) == archive.points(*days)
    assert contents_of(pipeline) == archive.contents(*days)
    assert len(engine.chats) == len(archive.of_days(*days))
