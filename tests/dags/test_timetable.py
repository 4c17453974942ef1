"""Test the schedule in time zones with Airflow's own code: each local day has one run, after it is over."""

import subprocess
import sys
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pendulum
import pytest

from tests.dags.conftest import REPOSITORY, loaded_dag

# Zones, and a day on which or next to which their clocks change.
ZONES = [
    ("UTC", "2026-11-03"),
    ("Europe/Berlin", "2026-03-29"),
    ("Europe/Berlin", "2026-10-25"),
    ("America/Los_Angeles", "2026-03-08"),
    ("America/Los_Angeles", "2026-11-01"),
    ("Africa/Cairo", "2026-04-24"),  # no midnight
    ("Africa/Cairo", "2026-10-30"),
    ("Asia/Beirut", "2026-03-29"),  # no midnight
    ("America/Sao_Paulo", "2018-11-04"),  # no midnight
    ("America/Santiago", "2026-09-06"),  # no midnight
    ("America/Havana", "2026-11-01"),  # midnight twice
    ("Atlantic/Azores", "2026-10-25"),  # midnight twice
    ("Australia/Lord_Howe", "2026-04-05"),
    ("Asia/Kathmandu", "2026-03-29"),
    ("Pacific/Kiritimati", "2026-03-29"),
    ("Pacific/Pago_Pago", "2026-03-29"),
    ("Pacific/Apia", "2011-12-30"),  # no such day
]
zones = pytest.mark.parametrize(("zone", "around"), ZONES)


@pytest.fixture
def scheduled(monkeypatch):
    """Return the timetable of ingest_clips as the scheduler reads it, parsed with a time zone in the environment."""
    from airflow.serialization.serialized_objects import DagSerialization

    def scheduled(zone: str):
        monkeypatch.setenv("CLIPDEX_SOURCE__TIMEZONE", zone)
        return DagSerialization.deserialize_dag(DagSerialization.serialize_dag(loaded_dag("ingest_clips"))).timetable

    return scheduled


def local_days(zone: str, around: str) -> list[str]:
    """Return the days of the calendar near a day that exist in the zone: those of the noons."""
    first = datetime.fromisoformat(around) - timedelta(days=4)
    noons = (first + timedelta(days=n, hours=12) for n in range(9))
    exist = [noon for noon in noons if _exists(noon.replace(tzinfo=ZoneInfo(zone)))]
    return [noon.date().isoformat() for noon in exist]


def _exists(local: datetime) -> bool:
    return local.astimezone(UTC).astimezone(local.tzinfo).replace(tzinfo=None) == local.replace(tzinfo=None)


def day_in(moment: datetime, zone: str) -> str:
    return moment.astimezone(ZoneInfo(zone)).date().isoformat()


@zones
def test_each_local_day_has_one_scheduled_run_right_after_it_is_over(scheduled, zone, around):
    from airflow.timetables.base import TimeRestriction

    timetable, days = scheduled(zone), local_days(zone, around)
    start = pendulum.instance(datetime.fromisoformat(days[0]).replace(tzinfo=ZoneInfo(zone)) + timedelta(hours=3))
    runs, last = [], None
    for _ in days[:-1]:
        last = timetable.next_dagrun_info_v2(last_dagrun_info=last, restriction=TimeRestriction(start, None, True))
        runs.append(last)
    assert [run.partition_key for run in runs] == days[:-1]
    for run, (day, following) in zip(runs, pairwise(days), strict=True):
        assert day_in(run.run_after - timedelta(microseconds=1), zone) == day
        assert day_in(run.run_after, zone) == day_in(run.run_after + timedelta(hours=1), zone) == following
        assert day_in(run.partition_date, zone) == day


@zones
@pytest.mark.parametrize("chosen_in", ["UTC", "the zone"])
def test_a_backfill_has_each_chosen_day_once(scheduled, zone, around, chosen_in):
    """The UI sends a date as its midnight in the time zone that the user chose there."""
    days, chosen = local_days(zone, around), "UTC" if chosen_in == "UTC" else zone
    earliest, latest = (
        pendulum.instance(datetime.fromisoformat(day).replace(tzinfo=ZoneInfo(chosen)).astimezone(UTC))
        for day in (days[0], days[-1])
    )
    runs = list(scheduled(zone).iter_partition_dagrun_infos(earliest=earliest, latest=latest))
    assert [run.partition_key for run in runs] == days


@zones
def test_a_backfilled_and_a_scheduled_run_of_a_day_are_the_same_partition(scheduled, zone, around):
    """Airflow compares the moments, to leave out the days that have a run."""
    timetable, days = scheduled(zone), local_days(zone, around)
    midnights = (pendulum.parse(days[0]), pendulum.parse(days[-1]))
    for run in timetable.iter_partition_dagrun_infos(earliest=midnights[0], latest=midnights[1]):
        after = timetable._get_next(run.partition_date)
        assert timetable._get_partition_info(after) == (run.partition_date, run.partition_key)
        assert timetable.resolve_partition_date(run.partition_key) == run.partition_date


def test_the_schedule_continues_after_the_zone_was_changed(scheduled):
    """The first run in the new zone is of a day that the last run in the old zone did not have, or had in part."""
    from airflow.timetables.base import DagRunInfo, TimeRestriction

    for zone, first in (("Europe/Moscow", "2026-11-03"), ("America/Los_Angeles", "2026-11-02")):
        midnight = pendulum.datetime(2026, 11, 3)
        last = DagRunInfo(midnight, None, midnight.subtract(days=1), "2026-11-02")
        following = scheduled(zone).next_dagrun_info_v2(
            last_dagrun_info=last, restriction=TimeRestriction(None, None, True)
        )
        assert following.partition_key == first


def test_a_day_that_does_not_exist_has_no_partition(scheduled):
    from airflow.exceptions import InvalidPartitionKeyError

    for key in ("2011-12-30", "yesterday"):
        with pytest.raises(InvalidPartitionKeyError, match="not a day in Pacific/Apia"):
            scheduled("Pacific/Apia").resolve_partition_date(key)


def test_an_unknown_zone_is_an_import_error_that_names_it(monkeypatch):
    from airflow.dag_processing.dagbag import DagBag

    monkeypatch.setenv("CLIPDEX_SOURCE__TIMEZONE", "Europe/Moskow")
    (error,) = DagBag(REPOSITORY / "dags").import_errors.values()
    assert "ConfigurationError: settings: CLIPDEX_SOURCE__TIMEZONE" in error and "'Europe/Moskow'" in error


def test_airflow_knows_the_timetable_where_only_the_plugins_folder_is_set():
    program = """
from airflow.serialization.decoders import decode_timetable
from airflow.serialization.encoders import encode_timetable
from clipdex.airflow_timetable import DayTimetable
print(decode_timetable(encode_timetable(DayTimetable("Asia/Tokyo"))).description)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.splitlines()[-1:] == ["At the end of each day in Asia/Tokyo"], done.stderr


def test_noons_find_the_days_that_exist():
    assert date(2011, 12, 30).isoformat() not in local_days("Pacific/Apia", "2011-12-30")
    assert len(local_days("Africa/Cairo", "2026-04-24")) == 9
