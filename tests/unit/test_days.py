"""Test days in time zones: which day a moment has, and when a day begins, also where the clocks change at midnight."""

import json
import os
import subprocess
import sys
import time
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from clipdex.cli import main
from clipdex.config import Settings, source_timezone
from clipdex.days import day_of, days_nearby, parse_day, start_after, start_before, start_of
from clipdex.errors import ConfigurationError
from clipdex.storage.filesystem import modified
from clipdex.storage.source import Source

# Zones and a day on which, or next to which, their clocks change.
CHANGES = [
    ("UTC", "2026-03-29"),
    ("Europe/Berlin", "2026-03-29"),
    ("Europe/Berlin", "2026-10-25"),
    ("America/Los_Angeles", "2026-03-08"),
    ("America/Los_Angeles", "2026-11-01"),
    ("Australia/Lord_Howe", "2026-04-05"),  # by half an hour
    ("Asia/Kathmandu", "2026-03-29"),  # 5:45 from UTC
    ("Pacific/Kiritimati", "2026-03-29"),
    ("Pacific/Pago_Pago", "2026-03-29"),
    ("Africa/Cairo", "2026-04-24"),  # no midnight
    ("Africa/Cairo", "2026-10-30"),  # 23:00 twice
    ("Asia/Beirut", "2026-03-29"),  # no midnight
    ("America/Sao_Paulo", "2018-11-04"),  # no midnight
    ("America/Santiago", "2026-09-06"),  # no midnight
    ("America/Havana", "2026-11-01"),  # midnight twice
    ("Atlantic/Azores", "2026-10-25"),  # midnight twice
    ("America/St_Johns", "2010-11-07"),  # a minute after midnight, back to the day before
    ("Pacific/Apia", "2011-12-30"),  # no such day
    ("Asia/Pyongyang", "2018-05-04"),
]
changes = pytest.mark.parametrize(("zone", "around"), CHANGES)


def put(folder, name: str, moment: datetime) -> None:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"clip")
    os.utime(path, (moment.timestamp(),) * 2)


ZONES = [
    ("Europe/Moscow", "2026-11-04T01:30+03:00", "2026-11-04"),
    ("Asia/Tokyo", "2026-11-04T08:30+09:00", "2026-11-04"),
    ("America/Los_Angeles", "2026-11-04T17:30-08:00", "2026-11-04"),
    ("Asia/Kolkata", "2026-11-03T18:29+00:00", "2026-11-03"),
    ("Asia/Kolkata", "2026-11-03T18:30+00:00", "2026-11-04"),
    ("Pacific/Kiritimati", "2026-11-03T10:00+00:00", "2026-11-04"),
    ("Pacific/Pago_Pago", "2026-11-03T10:59+00:00", "2026-11-02"),
    ("Europe/Berlin", "2026-03-29T21:59+00:00", "2026-03-29"),  # a day of 23 hours
    ("Europe/Berlin", "2026-10-25T22:59+00:00", "2026-10-25"),  # a day of 25 hours
    ("Africa/Cairo", "2026-04-23T22:00+00:00", "2026-04-24"),  # 01:00, the first moment of the day
    ("UTC", "2026-11-04T00:30+03:00", "2026-11-03"),
]


@pytest.mark.parametrize("machine", ["UTC", "Asia/Tokyo", "America/Los_Angeles"])
def test_a_clip_has_the_day_of_its_time_in_the_zone_of_the_source(tmp_path, machine):
    """The time zone of the machine makes no difference."""
    cases = []
    for number, (zone, moment, day) in enumerate(ZONES):
        put(tmp_path / str(number), "a.mp4", datetime.fromisoformat(moment))
        cases.append((str(tmp_path / str(number)), zone, day))
    program = """
import json, sys
from clipdex.config import Settings
from clipdex.storage.source import Source
for url, zone, day in json.loads(sys.argv[1]):
    source = Source(Settings.load(source={"url": url, "day_pattern": "", "timezone": zone}))
    print(zone, [clip.day for clip in source.prefix("")], len(list(source.day(day))))
"""
    done = subprocess.run(
        [sys.executable, "-c", program, json.dumps(cases)],
        capture_output=True, text=True, env={**os.environ, "TZ": machine},
    )  # fmt: skip
    assert done.stdout.splitlines() == [f"{zone} [{day!r}] 1" for _, zone, day in cases], done.stderr


def test_a_modification_time_without_a_zone_is_utc_on_every_machine(monkeypatch):
    for machine in ("UTC", "Asia/Tokyo"):
        monkeypatch.setenv("TZ", machine)
        time.tzset()
        assert modified({"mtime": datetime(2026, 11, 4, 1, 30)}) == datetime(2026, 11, 4, 1, 30, tzinfo=UTC)
    monkeypatch.undo()
    time.tzset()


def test_a_day_in_a_path_is_a_local_day_in_every_zone(tmp_path):
    put(tmp_path, "2026/11/04/a.mp4", datetime(2026, 11, 3, 12, tzinfo=UTC))
    for zone in ("UTC", "Pacific/Kiritimati", "Pacific/Pago_Pago"):
        (clip,) = Source(Settings.load(source={"url": str(tmp_path), "timezone": zone})).day("2026-11-04")
        assert clip.day == "2026-11-04"


@changes
def test_days_follow_each_other_without_gap_or_overlap(zone, around):
    first = date.fromisoformat(around) - timedelta(days=4)
    starts = {day: start_of(day, zone) for day in (first + timedelta(days=n) for n in range(9))}
    existing = {day: start for day, start in starts.items() if start is not None}
    for (day, start), end in zip(existing.items(), [*existing.values()][1:], strict=False):
        hours = (end - start) / timedelta(hours=1)
        assert 22.5 <= hours <= 25.5, (day, hours)
        assert day_of(start, zone) == day_of(end - timedelta(seconds=1), zone) == day.isoformat()
        moment = start
        while moment < end + timedelta(days=1):  # no moment after the start is of a day before
            assert day_of(moment, zone) >= day.isoformat()
            moment += timedelta(minutes=7)
    assert [day for day, start in starts.items() if start is None] == [
        date(2011, 12, 30) for _ in range(1) if zone == "Pacific/Apia"
    ]


@changes
def test_the_next_and_the_former_start_of_a_day_are_inverse(zone, around):
    moment = datetime.fromisoformat(around).replace(tzinfo=UTC) - timedelta(days=4)
    while moment < datetime.fromisoformat(around).replace(tzinfo=UTC) + timedelta(days=4):
        following = start_after(moment, zone)
        assert start_before(following, zone) <= moment < following
        assert start_after(start_before(following, zone), zone) == following
        moment += timedelta(minutes=95)


def test_other_zones_move_a_moment_to_the_days_nearby_and_no_further():
    moment = datetime(2026, 11, 3, tzinfo=UTC)
    while moment < datetime(2026, 11, 4, tzinfo=UTC):
        days = {day_of(moment, zone) for zone in ("Etc/GMT+12", "Pacific/Pago_Pago", "UTC", "Pacific/Kiritimati")}
        for day in days:
            assert days - {day} <= set(days_nearby(day))
        moment += timedelta(minutes=30)
    assert days_nearby("2026-03-01") == ["2026-02-28", "2026-03-02", "2026-02-27", "2026-03-03"]


@pytest.mark.parametrize("name", ["Europe/Moskow", "europe/berlin", "MSK", "localtime", "../etc/passwd", "+03:00", ""])
def test_an_unknown_zone_is_a_configuration_error_that_names_it(monkeypatch, name):
    monkeypatch.setenv("CLIPDEX_SOURCE__TIMEZONE", name)
    for read in (Settings.load, source_timezone):
        with pytest.raises(ConfigurationError, match="CLIPDEX_SOURCE__TIMEZONE") as raised:
            read()
        assert repr(name) in str(raised.value) and "IANA name such as Europe/Berlin" in str(raised.value)
    monkeypatch.delenv("CLIPDEX_SOURCE__TIMEZONE")
    with pytest.raises(ConfigurationError, match="CLIPDEX_SOURCE__TIMEZONE"):
        Settings.load(source={"timezone": name})


def test_the_zone_of_the_schedule_is_read_where_other_settings_are_incomplete(monkeypatch):
    """The rest may come from Connections, which are not read when a DAG is parsed."""
    monkeypatch.setenv("CLIPDEX_ENGINE__NAME", "sglang")
    monkeypatch.setenv("CLIPDEX_SOURCE__KEY", "half of a key")
    assert source_timezone() == "UTC"
    monkeypatch.setenv("CLIPDEX_SOURCE__TIMEZONE", "Europe/Moscow")
    assert source_timezone() == "Europe/Moscow"


def test_today_and_yesterday_are_those_of_the_zone(time_machine):
    time_machine.move_to(datetime(2026, 3, 28, 23, 30, tzinfo=ZoneInfo("UTC")))
    assert parse_day("today", "UTC") == date(2026, 3, 28)
    assert parse_day("today", "Europe/Berlin") == date(2026, 3, 29)
    assert parse_day("yesterday", "Pacific/Pago_Pago") == date(2026, 3, 27)
    assert parse_day("2026-11-03", "UTC") == date(2026, 11, 3)


def test_a_dry_run_of_yesterday_finds_the_clips_of_the_local_day(tmp_path, monkeypatch, capsys, time_machine):
    time_machine.move_to(datetime(2026, 11, 4, 22, 0, tzinfo=ZoneInfo("UTC")))  # the 5th in Moscow
    put(tmp_path / "clips", "night.mp4", datetime(2026, 11, 3, 21, 30, tzinfo=ZoneInfo("UTC")))
    put(tmp_path / "clips", "evening.mp4", datetime(2026, 11, 3, 20, 30, tzinfo=ZoneInfo("UTC")))
    monkeypatch.setenv("CLIPDEX_HOME", str(tmp_path))
    monkeypatch.setenv("CLIPDEX_SOURCE__DAY_PATTERN", "")
    for zone, found in (("Europe/Moscow", {"2026-11-04": 1}), ("UTC", {"2026-11-03": 2})):
        monkeypatch.setenv("CLIPDEX_SOURCE__TIMEZONE", zone)
        assert main(["plan", str(tmp_path / "clips"), "--day", "yesterday", "--json"]) == 0
        assert '"discovered": ' + str(found).replace("'", '"') in capsys.readouterr().out


@pytest.mark.parametrize("option", [["--day", "tomorrow"], ["--day", "2026-02-30"], ["--from", "04.11.2026"]])
def test_a_day_that_cannot_be_read_is_an_error_that_names_it(tmp_path, capsys, option):
    with pytest.raises(SystemExit) as ended:
        main(["plan", str(tmp_path), *option])
    assert ended.value.code == 2
    assert f"{option[1]!r} is not a date such as 2026-11-03, today or yesterday" in capsys.readouterr().err
