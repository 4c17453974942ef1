"""Test facets, similar clips and diverse hits, over both backends."""

from dataclasses import astuple
from typing import Any

import numpy as np
import pytest
from qdrant_client import QdrantClient

from clipdex.config import Settings
from clipdex.errors import ConfigurationError, InvalidFilter, UnknownClip
from clipdex.index import open_index, payload_indexes
from clipdex.index.derived import folders_of, local_minute
from clipdex.index.diversity import diversity_of
from clipdex.index.facets import default_fields, facets, facets_once
from clipdex.index.search import search
from clipdex.index.server import ServerIndex
from clipdex.index.similar import similar
from clipdex.index.where import in_index, parse
from tests.support.indexes import SMALL, point

pytestmark = pytest.mark.filterwarnings("ignore:Payload indexes have no effect in the local Qdrant")

SETTINGS = Settings.load(
    source={"metadata": {"camera": "string", "speed": "number", "taken": "time"}, "url": "s3://bucket/clips"}
)


@pytest.fixture(params=["edge", "server"])
def index(request, tmp_path):
    if request.param == "edge":
        with open_index(SETTINGS.model_copy(update={"home": tmp_path}), SMALL) as index:
            index.ensure()
            yield index
        return
    client = QdrantClient(":memory:")
    index = ServerIndex(client, "clips", SMALL, payload_indexes(SETTINGS))
    index.ensure()
    yield index
    client.close()


def points(clip_id: str, *vectors: Any, **payload: Any) -> list[Any]:
    """Return the chunks of a clip, one per vector."""
    uri = payload.pop("uri", f"s3://bucket/clips/{clip_id}.mp4")
    recorded_at = payload.get("recorded_at", "2026-11-03T10:00:00+00:00")
    more = {
        "uri": uri, "uri_folders": folders_of(uri), "duration_s": 10.0, "engine": "sglang", "model": "m", "poster": "",
        "start_s": 0.0, "end_s": 10.0, "local_minute": local_minute(recorded_at, "UTC"), "recorded_at": recorded_at,
        "caption_key": clip_id,
    }  # fmt: skip
    return [
        point(clip_id, f"{clip_id} part {no}", no=no, key=clip_id, vector=vector, **{**more, **payload})
        for no, vector in enumerate(vectors or [np.eye(8)[0]] * 3)
    ]


def put(index: Any, *clips: list[Any]) -> None:
    index.upsert([one for clip in clips for one in clip])


def counts(index: Any, field: str, where: Any = None, **how: Any) -> dict[str, int]:
    [facet] = facets(index, SETTINGS, [field], where, **how)
    assert facet.field == field
    return {one.value: one.clips for one in facet.values}


def fill(index: Any) -> None:
    """Six clips of three chunks each; the last one has neither camera nor speed."""
    for number in range(6):
        own = {"camera": f"cam-{number % 2}", "speed": float(number * 10)} if number < 5 else {}
        put(
            index,
            points(
                f"c{number}", uri=f"s3://bucket/clips/{'north' if number < 4 else 'south/old'}/c{number}.mp4",
                day=f"2026-11-0{1 + number // 2}", duration_s=4.0 + 5 * number, model="m1" if number else "m0",
                recorded_at=f"2026-11-03T{4 * number:02d}:30:00+00:00", **own,
            ),
        )  # fmt: skip


def test_a_facet_counts_clips_not_chunks(index):
    fill(index)
    assert counts(index, "camera") == {"cam-0": 3, "cam-1": 2}
    assert counts(index, "model") == {"m1": 5, "m0": 1}
    assert counts(index, "day") == {"2026-11-03": 2, "2026-11-02": 2, "2026-11-01": 2}
    [camera] = facets(index, SETTINGS, ["camera"])
    assert (camera.clips, camera.without, camera.more) == (6, 1, False)


def test_a_facet_counts_under_filters(index):
    fill(index)
    assert counts(index, "camera", {"day": "2026-11-01..2026-11-02"}) == {"cam-0": 2, "cam-1": 2}
    assert counts(index, "camera", {"duration": "20.."}) == {"cam-0": 1}
    assert counts(index, "camera", {"camera": "cam-1"}) == {"cam-1": 2}
    assert counts(index, "camera", {"camera": "nobody"}) == {}
    assert counts(index, "time", {"time": "08:00..17:00"}) == {"08:00..08:59": 1, "12:00..12:59": 1, "16:00..16:59": 1}
    assert counts(index, "duration", {"duration": ["..5", "16..20"]}) == {"0..<5": 1, "15..<20": 1}


@pytest.mark.parametrize("field", [*default_fields(SETTINGS), "clip_id"])
def test_each_value_filters_to_as_many_clips_as_it_counts(index, field):
    fill(index)
    for where in ({}, {"speed": "..30"}, {"time": "20:00..13:00", "day": "2026-11-01.."}):
        [facet] = facets(index, SETTINGS, [field], where)
        for one in facet.values:
            kept = in_index(index, parse({**where, field: one.value}, SETTINGS))
            found = {hit.payload["clip_id"] for hit in index.scroll(kept)}
            assert len(found) >= one.clips > 0 if field in where else len(found) == one.clips > 0
        if field not in ("source", "duration"):
            assert sum(one.clips for one in facet.values) + facet.without == facet.clips


def test_folders_are_counted_step_by_step(index):
    fill(index)
    assert counts(index, "source") == {"s3://bucket/clips/north": 4, "s3://bucket/clips/south": 2}
    assert counts(index, "source", {"source": "s3://bucket/clips/south"}) == {"s3://bucket/clips/south/old": 2}


def test_folders_of_several_roots_are_counted(index):
    folders = ["data/one"] * 3 + ["data/one/deep"] * 2 + ["srv"] * 3
    put(index, *(points(f"c{number}", uri=f"file:///{folder}/c{number}.mp4") for number, folder in enumerate(folders)))
    assert counts(index, "source") == {"file:///data": 5, "file:///srv": 3}
    assert counts(index, "source", {"source": "file:///data"}) == {"file:///data/one/deep": 2}
    assert counts(index, "source", {"source": "file:///srv"}) == {"file:///srv": 3}
    assert counts(index, "source", {"source": ["/srv", "/data/one/deep"]}) == {"file:///data": 2, "file:///srv": 3}


def test_clips_without_folders_change_no_count_of_folders(index):
    put(index, points("old", uri_folders=[]), points("a"), points("b"))
    [facet] = facets(index, SETTINGS, ["source"])
    assert [astuple(one) for one in facet.values] == [("s3://bucket/clips", 2)]
    assert (facet.clips, facet.without) == (3, 1)


def test_unicode_forms_of_one_folder_are_one_value(index):
    for number, folder in enumerate(["caf\u00e9/x", "cafe\u0301", "cafe\u0301", "other"]):
        put(index, points(f"c{number}", uri=f"s3://bucket/{folder}/c{number}.mp4"))
    assert counts(index, "source") == {"s3://bucket/cafe\u0301": 3, "s3://bucket/other": 1}


def test_a_number_that_some_clips_lack_is_counted_without_them(index):
    put(index, points("a", speed=5.0), points("b", speed=5.0), points("c"))
    [facet] = facets(index, SETTINGS, ["speed"])
    assert [astuple(one) for one in facet.values] == [("5", 2)]
    assert (facet.clips, facet.without) == (3, 1)


def test_numbers_are_counted_in_ranges_that_share_no_value(index):
    fill(index)
    assert counts(index, "speed") == {"0..<5": 1, "10..<15": 1, "20..<25": 1, "30..<35": 1, "40..<45": 1}
    assert counts(index, "speed", {"camera": "cam-1", "speed": "..20"}) == {"10": 1}


@pytest.mark.parametrize(
    "values",
    [
        (-1e308, 1e308),
        (5e-324, 1e-323),
        (1e15, 1e15 + 1),
        (0.0, 0.0),
        (-0.1, 0.2),
        (1e-13, 9e-13),
        (0.0, 1e-300),
        (1.7e12, 1.7e12 + 100),
        (4e213, 4.0005e213),
    ],
)
def test_numbers_of_any_size_are_counted(index, values):
    put(index, *(points(f"c{number}", speed=value) for number, value in enumerate(values)))
    [facet] = facets(index, SETTINGS, ["speed"])
    assert sum(one.clips for one in facet.values) == 2
    for one in facet.values:
        clips = {hit.payload["clip_id"] for hit in index.scroll(parse({"speed": one.value}, SETTINGS))}
        assert len(clips) == one.clips


def test_the_most_frequent_values_come_first_and_the_rest_is_said(index):
    for number in range(12):
        put(index, points(f"c{number}", camera=f"cam-{number // 2 if number < 6 else number}"))
    [facet] = facets(index, SETTINGS, ["camera"], limit=3)
    assert [astuple(one) for one in facet.values] == [("cam-0", 2), ("cam-1", 2), ("cam-2", 2)]
    assert facet.more


def test_unicode_forms_of_one_text_are_one_value(index):
    for number, camera in enumerate(["caf\u00e9", "cafe\u0301", "cafe\u0301", "cafe"]):
        put(index, points(f"c{number}", camera=camera))
    assert counts(index, "camera") == {"cafe\u0301": 3, "cafe": 1}
    assert index.count(parse({"camera": "caf\u00e9"}, SETTINGS)) == 9


def test_points_of_an_earlier_release_are_left_out_of_a_filter_by_source_with_a_warning(index, caplog):
    old = [point("old", "an old one", uri="s3://bucket/clips/old.mp4", no=no) for no in range(2)]
    put(index, old, points("new"))
    assert counts(index, "source", {"source": "s3://bucket"}) == {"s3://bucket/clips": 1}
    [message] = {record.getMessage() for record in caplog.records}
    assert message.startswith("2 chunks of an earlier release cannot be filtered by source")
    assert "clipdex reindex" in message
    [facet] = facets(index, SETTINGS, ["source"])
    assert (facet.clips, facet.without) == (2, 1)


def test_a_field_that_was_declared_after_the_last_ingestion_is_counted_after_the_next(tmp_path):
    def opened(**metadata: str) -> Any:
        return Settings.load(home=tmp_path, source={"metadata": metadata})

    with open_index(opened(), SMALL) as index:
        index.ensure()
        put(index, points("a", camera="cam-1"))
    declared = opened(camera="string", speed="number")
    with open_index(declared) as index:
        assert {"camera", "speed"}.isdisjoint(facet.field for facet in facets(index, declared))
        assert index.count(parse({"camera": "cam-1"}, declared)) == 3
        for field in ("camera", "speed"):
            with pytest.raises(ConfigurationError, match=f"no payload index for {field} yet; the next ingestion"):
                facets(index, declared, [field])
    with open_index(declared, SMALL) as index:
        index.ensure()
        assert {"camera", "speed"} <= {facet.field for facet in facets(index, declared)}


def test_an_empty_index_has_facets_without_values(index):
    assert {facet.values for facet in facets(index, SETTINGS)} == {()}


@pytest.mark.parametrize("field", ["colour", "taken", "text", "width", "\x1b[2J"])
def test_a_field_that_cannot_be_counted_is_refused(index, field):
    with pytest.raises(InvalidFilter, match="values are counted of day, source"):
        facets(index, SETTINGS, [field])


def test_a_field_that_cannot_be_counted_is_refused_before_the_index_is_opened(tmp_path):
    with pytest.raises(InvalidFilter, match="'colour' is not a field; values are counted of day, source"):
        facets_once(SETTINGS.model_copy(update={"home": tmp_path}), ["colour"])


# More like this


def around(angle: float) -> list[float]:
    """Return a vector at this angle from the first axis."""
    return [float(np.cos(angle)), float(np.sin(angle)), *[0.0] * 6]


def ids(hits: Any) -> list[str]:
    return [hit.clip_id for hit in hits]


def test_similar_clips_come_in_order_without_the_clip_itself(index):
    put(index, *(points(f"c{number}", around(number / 5)) for number in range(6)))
    hits = similar(index, "c0", limit=3)
    assert ids(hits) == ["c1", "c2", "c3"]
    assert [hit.score for hit in hits] == pytest.approx([np.cos(0.2), np.cos(0.4), np.cos(0.6)], abs=1e-5)
    assert set(ids(similar(index, "c3", limit=2))) == {"c2", "c4"}


def test_all_chunks_of_a_clip_count(index):
    put(index, points("both", around(0.0), around(1.0)), points("middle", around(0.5)), points("end", around(1.1)))
    assert ids(similar(index, "both")) == ["middle", "end"]


def test_copies_and_parts_of_the_same_file_are_left_out_unless_wanted(index):
    put(
        index,
        points("a", around(0.0), poster="posters/aa/a.jpg", caption_key="k"),
        points("copy", around(0.0), caption_key="k"),
        points("recaptioned", around(0.01), poster="posters/aa/a.jpg"),
        points("other", around(0.3)),
        *(points(f"p{no}", around(0.1 * no), part_of="film", part_no=no) for no in range(3)),
    )
    assert ids(similar(index, "a", limit=2)) == ["p0", "p1"]
    assert set(ids(similar(index, "a", related=True, limit=3))) == {"copy", "recaptioned", "p0"}
    assert set(ids(similar(index, "p1"))) == {"a", "copy", "recaptioned", "other"}
    assert {"p0", "p2"} <= set(ids(similar(index, "p1", related=True)))
    assert not {"p0", "p1", "p2"} & set(ids(similar(index, "film", related=True)))


def parts(file: str, **more: Any) -> list[Any]:
    return [
        points(
            f"{file}{no}", around(0.2 * no), part_of=file, part_no=no,
            **{name: value.format(no) for name, value in more.items()},
        )
        for no in range(3)
    ]  # fmt: skip


@pytest.mark.parametrize("shared", [{"caption_key": "key-{}"}, {"poster": "posters/aa/{}.jpg"}])
def test_all_parts_of_a_copy_of_a_file_are_left_out(index, shared):
    put(index, *parts("f", **shared), *parts("g", **shared), points("other", around(0.3)))
    assert ids(similar(index, "f")) == ["other"]
    assert set(ids(similar(index, "f", related=True))) == {"g0", "g1", "g2", "other"}


def test_clips_without_a_poster_are_no_copies(index):
    put(index, *parts("f"), *parts("g"))
    assert set(ids(similar(index, "f"))) == {"g0", "g1", "g2"}
    assert set(ids(similar(index, "f1"))) == {"g0", "g1", "g2"}


def test_enough_clips_are_found_behind_many_copies(index):
    copies = [points(f"copy{number}", around(0.0), caption_key="k") for number in range(80)]
    put(index, *copies, points("x", around(1.0)), points("y", around(1.2)))
    assert ids(similar(index, "copy0", limit=2)) == ["x", "y"]


def test_similar_clips_keep_to_filters(index):
    put(index, *(points(f"c{number}", around(number / 5), day=f"2026-11-0{1 + number % 3}") for number in range(6)))
    filters = parse({"day": "2026-11-02..2026-11-03"}, SETTINGS)
    assert ids(similar(index, "c0", filters=filters)) == ["c1", "c2", "c4", "c5"]


@pytest.mark.parametrize("clip_id", ["nobody", "", "\x1b[2J", "x" * 5000])
def test_an_unknown_clip_is_one_line(index, clip_id):
    put(index, points("a"))
    with pytest.raises(UnknownClip) as raised:
        similar(index, clip_id)
    assert "the index has no clip" in str(raised.value) and "clipdex search --json" in str(raised.value)
    assert len(str(raised.value)) < 300 and str(raised.value).isprintable()


# Diverse hits


class Fixed:
    """Embed every query as the first axis."""

    identity, dimension, probe = SMALL.embedder, SMALL.dimension, ()

    def embed_query(self, text: str) -> Any:
        return np.eye(8)[0]


@pytest.fixture
def neighbours(index):
    """Ten near-identical clips, and three others that match less."""
    near = [points(f"near{number}", around(0.3 + number / 1000)) for number in range(10)]
    others = [points(f"other{axis}", np.eye(8)[0] * 0.6 + np.eye(8)[axis] * 0.8) for axis in (2, 3, 4)]
    put(index, *near, *others)
    return index


def test_diverse_hits_show_each_scene_once_before_its_neighbours(neighbours):
    by_relevance = ids(search(neighbours, Fixed(), "a car", limit=4))
    assert all(one.startswith("near") for one in by_relevance)
    diverse = search(neighbours, Fixed(), "a car", limit=4, diversity=0.5)
    assert diverse[0].clip_id == by_relevance[0]
    assert {one.rstrip("0123456789") for one in ids(diverse[1:])} == {"other"}
    assert ids(search(neighbours, Fixed(), "a car", limit=13, diversity=0.5))[4:] != []


def test_similar_clips_can_differ_too(neighbours):
    hits = similar(neighbours, "near0", limit=4, diversity=0.5)
    assert sum(hit.clip_id.startswith("other") for hit in hits) == 3


def test_diversity_0_changes_nothing_and_all_hits_are_kept(neighbours):
    plain = ids(search(neighbours, Fixed(), "a car", limit=13))
    assert ids(search(neighbours, Fixed(), "a car", limit=13, diversity=0.0)) == plain
    for diversity in (0.01, 0.5, 1.0):
        assert sorted(ids(search(neighbours, Fixed(), "a car", limit=13, diversity=diversity))) == sorted(plain)


def test_diverse_hits_are_the_same_each_time(neighbours):
    answers = [ids(search(neighbours, Fixed(), "a car", limit=6, diversity=0.5)) for _ in range(3)]
    assert answers[0] == answers[1] == answers[2]


def test_diverse_hits_of_none_are_none(index):
    assert search(index, Fixed(), "a car", diversity=0.5) == []


@pytest.mark.parametrize("wrong", [-0.1, 1.1, float("nan"), "much", None])
def test_a_diversity_beyond_0_to_1_is_refused(wrong):
    with pytest.raises(ConfigurationError, match="from 0"):
        diversity_of(wrong)
    assert (diversity_of(True), diversity_of(False), diversity_of(0.3)) == (0.5, 0.0, 0.3)
