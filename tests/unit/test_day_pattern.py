"""Test what a path gives under a pattern, and that the listing of a day and that of everything agree."""

import os
import random
from collections import defaultdict
from pathlib import Path

import pytest

from clipdex.config import Settings
from clipdex.errors import ConfigurationError
from clipdex.storage.day_pattern import DayPattern
from clipdex.storage.source import Source

DAY = "2026-11-03"


def source(root: Path, pattern: str, **more) -> Source:
    return Source(Settings.load(source={"url": str(root), "day_pattern": pattern, **more}))


def put(root: Path, *paths: str) -> None:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(b"clip")


@pytest.mark.parametrize(
    ("pattern", "path", "day"),
    [
        ("{year}/{month}/{day}", "2026/11/03/a.mp4", DAY),
        ("{year}/{month}/{day}", "2026/11/3/a.mp4", DAY),
        ("{year}/{month}/{day}", "2026/3/9/a.mp4", "2026-03-09"),
        ("{year}/{month}/{day}", "2026/11/003/a.mp4", None),
        ("{year}/{month}/{day}", "2026/11/031/a.mp4", None),
        ("{year}-{month}-{day}", "2026-1-2/a.mp4", "2026-01-02"),
        ("{year}{month}{day}", "20261103/a.mp4", DAY),
        ("{year}{month}{day}", "2026113/a.mp4", None),
        ("{year}/{month}{day}", "2026/1103/a.mp4", DAY),
        ("{year}/{month}/{day}", "2026/02/30/a.mp4", None),
        ("{year}/{month}/{day}", "2026/02/29/a.mp4", None),
        ("{year}/{month}/{day}", "2024/02/29/a.mp4", "2024-02-29"),
        ("{year}/{month}/{day}", "2026/13/01/a.mp4", None),
        ("{year}/{month}/{day}", "0000/01/01/a.mp4", None),
        ("*/dt={year}-{month}-{day}", "cam/dt=2026-11-03/deep/a.mp4", DAY),
        ("/{year}/{month}/{day}/", "2026/11/03/a.mp4", DAY),
        ("{year}/{month}/{day}/**", "2026/11/03/x/y/a.mp4", DAY),
        ("**/{day}.{month}.{year}", "Архив/03.11.2026/видео.mp4", DAY),
        ("**/*{day}.{month}.{year}*", "cam13.11.2026.mp4", "2026-11-13"),
        ("**/*{day}.{month}.{year}*", "cam 3.1.2026 b.mp4", "2026-01-03"),
        ("**/*{year}-{month}-{day}*", "2026-11-03.mp4", DAY),
        ("**/*{year}-{month}-{day}*", "DCIM/Screen Recording 2026-11-03 at 10.15.00.mov", DAY),
        ("*_{year}{month}{day}_*", "VID_20261103_101500.mp4", DAY),
        ("cam[12]/{year}/{month}/{day}", "cam1/2026/11/03/a.mp4", DAY),
        ("cam[12]/{year}/{month}/{day}", "cam3/2026/11/03/a.mp4", None),
        ("cam[!12]/{year}/{month}/{day}", "cam3/2026/11/03/a.mp4", DAY),
        ("Camera [front]/{year}/{month}/{day}", "Camera [front]/2026/11/03/a.mp4", DAY),
        ("a[/{year}/{month}/{day}", "a[/2026/11/03/a.mp4", DAY),
        ("a]+(b)/{year}/{month}/{day}", "a]+(b)/2026/11/03/a.mp4", DAY),
        ("cam?/{year}/{month}/{day}", "cam7/2026/11/03/a.mp4", DAY),
        ("cam?/{year}/{month}/{day}", "cam/2026/11/03/a.mp4", None),
        ("{year}-{month}-{day}.mp4", "2026-11-03.mp4", DAY),
        ("{year}/{month}/{day}", "x/2026/11/03/a.mp4", None),
    ],
)
def test_the_day_of_a_path(tmp_path, pattern, path, day):
    reading = DayPattern(pattern).read(path)
    assert (reading.day if reading else None) == day
    put(tmp_path, path)
    os.utime(tmp_path / path, (43200, 43200))
    opened = source(tmp_path, pattern)
    if day:
        assert [clip.path for clip in opened.day(day)] == [path]
    assert [(clip.path, clip.day) for clip in opened.prefix("")] == [(path, day or "1970-01-01")]


@pytest.mark.parametrize(
    ("pattern", "path", "moment"),
    [
        ("{year}/{month}/{day}/{hour}", "2026/11/03/07/a.mp4", "2026-11-03T07:00:00+00:00"),
        ("{year}/{month}/{day}/{hour}", "2026/11/03/7/a.mp4", "2026-11-03T07:00:00+00:00"),
        ("**/*_{year}{month}{day}_{hour}{minute}{second}*", "VID_20261103_101502.mp4", "2026-11-03T10:15:02+00:00"),
        ("{year}{month}{day}_{hour}{minute}{second}", "20261103_101502.mp4", "2026-11-03T10:15:02+00:00"),
        ("{year}-{month}-{day} {hour}-{minute}-{second}", "2026-11-03 10-15-02.mkv", "2026-11-03T10:15:02+00:00"),
        ("{year}-{month}-{day}/{hour}/*/{minute}.{second}", "2026-11-03/07/d/15.02.mp4", "2026-11-03T07:15:02+00:00"),
        ("{year}/{month}/{day}/{hour}", "2026/11/03/25/a.mp4", None),
        ("{year}{month}{day}_{hour}{minute}{second}", "20261103_109900.mp4", None),
        ("{year}/{month}/{day}/{hour}", "2026/11/03/a.mp4", None),
        ("{year}/{month}/{day}", "2026/11/03/a.mp4", None),
    ],
)  # fmt: skip
def test_the_time_of_a_path_and_a_wrong_time_costs_only_itself(tmp_path, pattern, path, moment):
    reading = DayPattern(pattern).read(path)
    assert reading is not None and reading.day == DAY
    assert (reading.moment and reading.moment.isoformat()) == moment
    put(tmp_path, path)
    assert [clip.path for clip in source(tmp_path, pattern).day(DAY)] == [path]


@pytest.mark.parametrize(
    ("pattern", "path", "fields"),
    [
        ("{camera}/{year}/{month}/{day}", "cam-1/2026/11/03/a.mp4", {"camera": "cam-1"}),
        ("{site}/{camera}/{year}/{month}/{day}", "Тула/вход 2/2026/11/03/a.mp4", {"site": "Тула", "camera": "вход 2"}),
        ("{year}/{month}/{day}/{camera}", "2026/11/03/cam-1/x/a.mp4", {"camera": "cam-1"}),
        ("{year}/{month}/{day}/{camera}", "2026/11/03/a.mp4", {}),
        ("{site}/{year}/{month}/{day}/{camera}/{hour}", "s/2026/11/03/c/a.mp4", {"site": "s", "camera": "c"}),
        ("{camera}_{year}{month}{day}_*", "front_door_20261103_101500.mp4", {"camera": "front_door"}),
        ("{year}/{month}/{day}/{camera}-*", "2026/11/03/c1-0001.mp4", {"camera": "c1"}),
        ("**/{camera}/{year}-{month}-{day}", "a/b/c/2026-11-03/x.mp4", {"camera": "c"}),
        ("{камера}/{year}/{month}/{day}", "вход/2026/11/03/a.mp4", {"камера": "вход"}),
        ("{Year}/{year}/{month}/{day}", "x/2026/11/03/a.mp4", {"Year": "x"}),
    ],
)  # fmt: skip
def test_named_fields_of_a_path(pattern, path, fields):
    reading = DayPattern(pattern).read(path)
    assert reading is not None and (reading.day, reading.fields) == (DAY, fields)


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("{year}/{month}", "lacks day"),
        ("cam-1", "lacks year, month, day"),
        ("{year}/{month}/{day", "has a { without its other brace"),
        ("{year}/{month}/day}/{day}", "has a } without its other brace"),
        ("{{year}}/{month}/{day}", "has a { without its other brace"),
        ("{}/{year}/{month}/{day}", "has the field {}: expected a name"),
        ("{year:04d}/{month}/{day}", "has the field {year:04d}: expected a name"),
        ("{cam-1}/{year}/{month}/{day}", "has the field {cam-1}: expected a name"),
        ("{ year }/{month}/{day}/{year}", "has the field { year }: expected a name"),
        ("{year}/{month}/{day}/{day}", "has the field {day} 2 times"),
        ("{camera}/{camera}/{year}/{month}/{day}", "has the field {camera} 2 times"),
        ("{text}/{year}/{month}/{day}", "has the field {text}, a name that clipdex uses itself"),
        ("{uri}/{year}/{month}/{day}", "has the field {uri}, a name that clipdex uses itself"),
        ("{year}/{month}/{day}/{minute}", "has the field {minute} without {hour}"),
        ("{year}/{month}/{day}/{hour}{second}", "has the field {second} without {minute}"),
    ],
)
def test_a_pattern_that_cannot_be_read_is_a_configuration_error_that_names_the_field(tmp_path, pattern, message):
    with pytest.raises(ConfigurationError) as error:
        source(tmp_path, pattern)
    assert message in str(error.value) and repr(pattern) in str(error.value)


PATTERNS = [
    "{year}/{month}/{day}", "{year}-{month}-{day}", "{year}{month}{day}", "*/{year}/{month}/{day}",
    "{camera}/{year}/{month}/{day}/{hour}", "**/{year}/{month}/{day}", "x/**/{year}-{month}-{day}",
    "*_{year}{month}{day}_*", "{camera}_{year}{month}{day}_{hour}{minute}{second}", "**/VID_{year}{month}{day}_*",
    "{year}/{month}/*_{day}_*", "{year}/{month}/{day}/{hour}/{minute}.{second}", "cam[12]/{year}/{month}/{day}",
    "dt={year}-{month}-{day}", "*/{day}.{month}.{year}", "{year}/{month}{day}", "cam?/{year}/*{month}-{day}*",
    "{year}-{month}-{day}.*",
]  # fmt: skip


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("seed", range(3))
def test_the_days_together_are_everything(tmp_path, pattern, seed):
    rng, root = random.Random(f"{pattern}{seed}"), tmp_path / "Camera [front] what?"
    dated = [filled(pattern, rng) for _ in range(30)]
    put(root, *dated, "2026/02/30/impossible.mp4", "loose.mp4")
    opened = source(root, pattern)
    everything = defaultdict(set)
    for clip in opened.prefix(""):
        everything[clip.day].add(clip.path)
    assert set().union(*everything.values()) >= set(dated)
    for day in sorted(everything):
        of_day = {path for path in everything[day] if DayPattern(pattern).read(path)}
        listed = [clip.path for clip in opened.day(day)]
        assert len(listed) == len(set(listed))
        assert {path for path in listed if DayPattern(pattern).read(path)} == of_day
    assert all(DayPattern(pattern).read(path) for path in dated)


def filled(pattern: str, rng: random.Random) -> str:
    """Return the path of a clip under a pattern."""
    number = {"month": rng.randint(1, 12), "day": rng.randint(1, 28), "hour": rng.randint(0, 23)}
    number |= {"minute": rng.randint(0, 59), "second": rng.randint(0, 59)}
    path = pattern.replace("{year}", str(rng.choice([2025, 2026])))
    for name, value in number.items():
        alone = "}{" not in pattern and rng.random() < 0.5
        path = path.replace(f"{{{name}}}", str(value) if alone else f"{value:02d}")
    path = path.replace("**/", rng.choice(["", "DCIM/", "a b/c/"])).replace("{camera}", rng.choice(["cam-1", "вход"]))
    path = (
        path.replace("[12]", rng.choice("12")).replace("?", rng.choice("ab7")).replace("*", rng.choice(["x", "cam y"]))
    )
    return path + rng.choice(["/clip.mp4", "/deeper/clip.MOV"]) if rng.random() < 0.7 else f"{path}/{rng.random()}.mkv"


def test_fields_in_the_name_of_a_file_are_read_from_files_and_folders(tmp_path):
    put(tmp_path, "VID_20261103_1.mp4", "VID_20261103_x/deep/b.mp4", "VID_20261104_1.mp4", "VID_20261103_1.jpg")
    assert sorted(clip.path for clip in source(tmp_path, "*_{year}{month}{day}_*").day(DAY)) == [
        "VID_20261103_1.mp4", "VID_20261103_x/deep/b.mp4",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("pattern", "path", "listed"),
    [
        ("{year}/{month}/{day}", "2026/11/03/a.mp4", {"2026/11/03", "2026/11/3"}),
        ("cam*/{year}/{month}/{day}", "cam/2026/11/03/a.mp4", {"", "cam/2026/11/03", "cam/2026/11/3"}),
        ("{year}/{month}/*_{day}_*", "2026/11/x_03_y.mp4", {"2026/11"}),
        ("cam/**/{year}-{month}-{day}", "cam/x/2026-11-03/a.mp4", {"cam", "cam/x", "cam/x/2026-11-03"}),
    ],
)  # fmt: skip
def test_a_day_lists_only_folders_that_can_hold_it(tmp_path, monkeypatch, pattern, path, listed):
    put(tmp_path, path, "other/2025/01/01/b.mp4", "2025/12/31/c.mp4", "2026/10/03/d.mp4")
    opened, seen = source(tmp_path, pattern), set()
    ls = opened._fs.ls

    def recorded(folder, **options):
        seen.add(os.path.relpath(folder, tmp_path).removeprefix("."))
        return ls(folder, **options)

    monkeypatch.setattr(opened._fs, "ls", recorded)
    assert [clip.path for clip in opened.day(DAY)] == [path]
    assert seen == listed
