"""Test filters of a search: how they are read, and that both backends keep to them."""

from datetime import UTC, date, datetime
from typing import Any

import pytest
from qdrant_client import QdrantClient

from clipdex.config import Settings
from clipdex.errors import ConfigurationError, InvalidFilter
from clipdex.index import Moments, Query, Range, Sparse
from clipdex.index.derived import DEEPEST, folders_of, local_minute
from clipdex.index.where import Days, fields_of, from_words, in_index, parse, to_word, with_days
from tests.support.indexes import SMALL, edge_opener, point, server_opener

pytestmark = pytest.mark.filterwarnings("ignore:Payload indexes have no effect in the local Qdrant")

BERLIN = "Europe/Berlin"


def settings(**source: Any) -> Settings:
    declared = {"camera": "string", "place": "string", "speed": "number", "taken": "time"}
    return Settings.load(source={"metadata": declared, "url": "s3://bucket/clips", **source})


@pytest.fixture(params=["edge", "server"], scope="module")
def opener(request, tmp_path_factory):
    if request.param == "edge":
        yield edge_opener(tmp_path_factory.mktemp("home"))
    else:
        client = QdrantClient(":memory:")
        yield server_opener(client)
        client.close()


def clip(number: int, **payload: Any) -> Any:
    uri = payload.pop("uri", f"s3://bucket/clips/2026/11/{number:02d}/c{number}.mp4")
    recorded_at = payload.get("recorded_at", "")
    minute = local_minute(recorded_at, BERLIN)
    derived = {"uri_folders": folders_of(uri), **({} if minute is None else {"local_minute": minute})}
    return point(f"c{number}", f"clip {number}", uri=uri, **{"day": f"2026-11-{number:02d}", **derived, **payload})


@pytest.fixture(scope="module")
def index(opener):
    """Five clips of five days; the hours of their recordings are 20, 23, 2, 4 and 12 in Berlin."""
    recorded = ["01T19:00", "02T22:30", "03T01:05", "04T03:00", "05T11:00"]
    with opener(SMALL) as index:
        index.ensure()
        index.upsert(
            [
                clip(
                    number, camera=f"cam-{number}", speed=10.0 * number, duration_s=5.0 * number, engine="sglang",
                    model=f"m{number % 2}", recorded_at=f"2026-11-{at}:00+00:00", taken=f"2026-11-{at}:00+00:00",
                    place=["Berlin, Mitte", 'the "old" bridge', "caf\u00e9", "cafe\u0301", "a..b"][number - 1],
                )
                for number, at in enumerate(recorded, 1)
            ]
        )  # fmt: skip
        yield index


def found(index, where: Any, **source: Any) -> str:
    """Return the numbers of the clips that match; check that scroll, count and both queries agree."""
    filters = in_index(index, parse(where, settings(timezone=BERLIN, **source)))
    clips = sorted(hit.payload["clip_id"][1:] for hit in index.scroll(filters))
    assert index.count(filters) == len(clips)
    near = index.nearest(Query([1.0] * 8, Sparse((), ()), 10, filters)).dense
    assert sorted(hit.payload["clip_id"][1:] for hit in near) == clips
    return "".join(clips)


@pytest.mark.parametrize(
    ("where", "clips"),
    [
        ({}, "12345"),
        ({"day": "2026-11-02"}, "2"),
        ({"day": ["2026-11-02", "2026-11-05", "2027-01-01"]}, "25"),
        ({"day": "2026-11-02..2026-11-04"}, "234"),
        ({"day": "2026-11-02..<2026-11-04"}, "23"),
        ({"day": "..2026-11-02"}, "12"),
        ({"day": "2026-11-04.."}, "45"),
        ({"day": ["..2026-11-01", "2026-11-05.."]}, "15"),
        ({"day": "1999-01-01..1999-12-31"}, ""),
        ({"day": date(2026, 11, 3)}, "3"),
        ({"camera": "cam-3"}, "3"),
        ({"camera": ("cam-3", "cam-4")}, "34"),
        ({"camera": "CAM-3"}, ""),
        ({"camera": "cam"}, ""),
        ({"place": "Berlin, Mitte"}, "1"),
        ({"place": 'the "old" bridge'}, "2"),
        ({"place": "caf\u00e9"}, "34"),
        ({"place": "a..b"}, "5"),
        ({"place": "\ud800"}, ""),
        ({"engine": "sglang", "model": "m1"}, "135"),
        ({"engine": "detectors"}, ""),
        ({"speed": 30}, "3"),
        ({"speed": "30"}, "3"),
        ({"speed": "20..40"}, "234"),
        ({"speed": "20..<40"}, "23"),
        ({"speed": ["..10", "50..", 30.0]}, "135"),
        ({"speed": Range(low=40)}, "45"),
        ({"speed": "-1e3..1.5e1"}, "1"),
        ({"duration": "..10"}, "12"),
        ({"duration_s": Range(low=11)}, "345"),
        ({"duration": "10..20", "camera": "cam-3"}, "3"),
        ({"time": "19:00..21:00"}, "1"),
        ({"time": "22:00..04:00"}, "234"),
        ({"time": "22:00..03:59"}, "23"),
        ({"time": "22:00..<04:00"}, "23"),
        ({"time": "..04:00"}, "34"),
        ({"time": "20:00.."}, "12"),
        ({"time": "20:00"}, "1"),
        ({"time": "00:00..24:00"}, "12345"),
        ({"time": ["..03:00", "12:00..13:00"]}, "35"),
        ({"time_of_day": "12:00"}, "5"),
        ({"taken": "2026-11-02"}, "2"),
        ({"taken": "2026-11-02T23:30"}, "2"),
        ({"taken": "2026-11-02T22:30Z"}, "2"),
        ({"taken": datetime(2026, 11, 2, 22, 30, tzinfo=UTC)}, "2"),
        ({"taken": "2026-11-02T23:31..2026-11-04"}, "34"),
        ({"taken": "2026-11-04.."}, "45"),
        ({"recorded_at": "..2026-11-02"}, "12"),
        ({"source": "s3://bucket"}, "12345"),
        ({"source": "s3://bucket/clips/2026/11/03/"}, "3"),
        ({"source": "s3a://bucket//clips/2026/11/03"}, "3"),
        ({"source": "s3://bucket/clips/2026/11/0"}, ""),
        ({"source": "s3://other"}, ""),
        ({"source": ["2026/11/01", "2026/11/02"]}, "12"),
        ({"clip_id": ["c1", "c9"]}, "1"),
    ],
)
def test_a_filter_keeps_the_clips_that_match(index, where, clips):
    assert found(index, where) == clips


def test_days_without_bounds_are_all_days(index):
    assert in_index(index, {"day": [Days()]}) == {"day": [f"2026-11-0{number}" for number in range(1, 6)]}


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ({"colour": "red"}, "there is no field colour; the fields are day, source, engine, model, duration, time"),
        ({"camra": "cam-1"}, "there is no field camra; did you mean camera? The fields are day"),
        ({"text": "x"}, "there is no field text"),
        ({3: "x"}, "there is no field 3;"),
        ({"camera": 7}, "camera: 7 is not text, such as 'cam-7'"),
        ({"camera": None}, "camera: None is not text"),
        ({"camera": "x" * 5000}, "camera: 5000 characters; a value has at most 1,000"),
        ({"camera": []}, "camera: an empty list; give a value, or leave the filter out"),
        ({"camera": ["cam-1", ""]}, "camera: a value is empty; give one, or leave the filter out"),
        ({"speed": ""}, "speed: a value is empty"),
        ({"day": ""}, "day: a value is empty"),
        ({"day": ["2026-11-03", ""]}, "day: a value is empty"),
        ({"recorded_at": ""}, "recorded_at: a value is empty"),
        ({"taken": ("",)}, "taken: a value is empty"),
        ({"time": ""}, "time: a value is empty"),
        ({"source": ""}, "source: a value is empty"),
        ({"source": " "}, "source: ' ' is not a folder"),
        ({"camera": ["x"] * 1001}, "camera: 1001 values; give at most 1,000"),
        ({"speed": "fast"}, "speed: fast is not a number or a range, such as 30, 10..20 or ..30"),
        ({"speed": True}, "speed: True is not a number"),
        ({"speed": "nan"}, "speed: nan is not a number"),
        ({"speed": float("inf")}, "speed: inf is not a number"),
        ({"speed": 10**400}, "speed: 1000"),
        ({"speed": 10**5000}, "speed: a very long int is not a number"),
        ({"speed": ".."}, "speed: '..' is not a number"),
        ({"speed": "1..x"}, "speed: '1..x' is not a number"),
        ({"speed": "20..10"}, "speed: '20' is after '10'; give the lower end first"),
        ({"speed": "10..<10"}, "speed: '10' is after '10'"),
        ({"speed": Range(20, 10)}, "speed: '20' is after '10'"),
        ({"speed": Range()}, "speed: Range("),
        ({"speed": "\u0661"}, "speed: '\u0661' is not a number"),
        ({"day": "3.11.2026"}, "day: '3.11.2026' is not a day or a range of days, such as 2026-11-03"),
        ({"day": "2026-02-30"}, "day: '2026-02-30' is not a day"),
        ({"day": "2026-11-05..2026-11-01"}, "day: '2026-11-05' is after '2026-11-01'"),
        ({"day": 20261103}, "day: 20261103 is not a day"),
        ({"day": "..<0001-01-01"}, "day: '..<0001-01-01' is not a day"),
        ({"time": "25:00..26:00"}, "time: '25:00..26:00' is not a range of the day, such as 08:00..17:30"),
        ({"time": "22..04"}, "time: '22..04' is not a range of the day"),
        ({"time": 22}, "time: 22 is not a range of the day"),
        ({"taken": "yesterday evening"}, "taken: 'yesterday evening' is not a day, a time or a range"),
        ({"taken": "2026-11-05..2026-11-01"}, "taken: '2026-11-05' is after '2026-11-01'"),
        ({"taken": "9999-12-31"}, "taken: '9999-12-31' is not a day"),
        ({"source": "/"}, "source: '/' is not a folder"),
        ({"source": "s3://"}, "source: 's3://' is not a folder"),
        ({"source": "s3://b" + "/x" * 70}, "source: more than 64 folders deep; give one further up"),
        ({"source": 3}, "source: 3 is not a folder"),
        ({"source": "a\ud800"}, "source: 'a\\ud800' is not a folder"),
        ({"duration": "1", "duration_s": "2"}, "duration_s: given twice"),
        ({"camera": {"$ne": "x"}}, "camera: {'$ne': 'x'} is not text"),
        ({"camera\x1b[2J\n": "x"}, "there is no field 'camera\\x1b[2J\\n'; did you mean camera? The"),
    ],
)  # fmt: skip
def test_a_wrong_filter_is_one_line_with_the_field_the_reason_and_the_next_step(where, message):
    with pytest.raises(InvalidFilter) as raised:
        parse(where, settings())
    assert str(raised.value).startswith(message)
    assert len(str(raised.value)) < 700 and str(raised.value).isprintable()
    assert isinstance(raised.value, ConfigurationError)


@pytest.mark.parametrize(
    ("words", "where"),
    [
        (["camera=cam-7"], {"camera": ["cam-7"]}),
        (["camera=cam-7,cam-8", "camera=cam-9"], {"camera": ["cam-7", "cam-8", "cam-9"]}),
        (["speed=10..20", "time=22:00..04:00"], {"speed": ["10..20"], "time": ["22:00..04:00"]}),
        (['place="Berlin, Mitte",Rome'], {"place": ["Berlin, Mitte", "Rome"]}),
        (["place=a=b"], {"place": ["a=b"]}),
        (["source=s3://bucket/a b"], {"source": ["s3://bucket/a b"]}),
        ([], {}),
    ],
)
def test_words_of_a_command_line_are_filters(words, where):
    assert from_words(words) == where


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("camera", "camera is not FIELD=VALUE"),
        ("=x", "'=x' is not FIELD=VALUE"),
        ("camera=", "camera: a value is empty"),
        ("camera=a,,b", "camera: a value is empty"),
        ('place="Berlin', "place: the quotes of '\"Berlin' do not match"),
        ("x" * 500, "xxxx"),
    ],
)
def test_a_wrong_word_names_what_is_expected(word, message):
    with pytest.raises(InvalidFilter) as raised:
        parse(from_words([word]), settings())
    assert message in str(raised.value) and len(str(raised.value)) < 300


@pytest.mark.parametrize(
    "value", ["cam-7", "Berlin, Mitte", 'the "old" one', "a=b", " padded ", "two\nlines", "..", "ü", 'a"b', ","]
)
def test_a_value_written_as_a_word_is_read_again(value):
    assert from_words([to_word("place", value)]) == {"place": [value]}


def test_declared_metadata_goes_before_a_name_of_clipdex():
    own = settings(metadata={"time": "number", "source": "string"})
    assert parse({"time": 3, "source": "x", "time_of_day": "08:00"}, own) == {
        "time": [Range(3, 3)],
        "source": ["x"],
        "local_minute": [Range(480, 480)],
    }
    assert {"time", "source", "camera"} & set(fields_of(settings())) == {"time", "source", "camera"}


def test_a_field_of_the_path_needs_no_declaration():
    own = settings(metadata={}, day_pattern="{site}/{year}/{month}/{day}")
    assert parse({"site": "north"}, own) == {"site": ["north"]}


def test_a_day_covers_25_hours_where_the_clocks_go_back():
    assert parse({"taken": "2026-10-25"}, settings(timezone=BERLIN)) == {
        "taken": [Moments("2026-10-24T22:00:00+00:00", below="2026-10-25T23:00:00+00:00")]
    }


def test_days_are_given_once():
    assert with_days({"camera": "x"}, first="2026-11-01") == {"camera": "x", "day": "2026-11-01.."}
    for again in ({"day": "2026-11-01"}, {"last": "2026-11-01"}):
        with pytest.raises(InvalidFilter, match="day: given twice"):
            with_days({"day": "2026-11-02"}, **again)


@pytest.mark.parametrize(
    ("uri", "folders"),
    [
        ("s3://bucket/a/b/c.mp4", ["s3://bucket", "s3://bucket/a", "s3://bucket/a/b"]),
        ("file:///mnt/clips/c.mp4", ["file:///mnt", "file:///mnt/clips"]),
        ("s3://bucket//a/c.mp4", ["s3://bucket", "s3://bucket/a"]),
        ("c.mp4", []),
        ("", []),
    ],
)
def test_the_folders_of_a_clip_are_those_above_it(uri, folders):
    assert folders_of(uri) == folders


def test_a_very_deep_clip_keeps_its_outer_folders():
    assert len(folders_of("s3://b" + "/x" * 2000)) == DEEPEST


@pytest.mark.parametrize(
    ("recorded_at", "minute"),
    [
        ("2026-11-03T22:30:59+00:00", 23 * 60 + 30),
        ("2026-07-03T22:30:00+00:00", 30),
        ("", None),
        ("yesterday", None),
    ],
)
def test_the_minute_of_the_day_is_local(recorded_at, minute):
    assert local_minute(recorded_at, BERLIN) == minute
