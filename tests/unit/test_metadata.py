"""Test that named values of a clip, from its path and its sidecars, reach its records and points."""

import asyncio
import json
import os
from pathlib import Path

import av
import pytest

from clipdex import cli
from clipdex.config import MetadataType, Settings
from clipdex.errors import ConfigurationError
from clipdex.index.chunking import Chunk
from clipdex.index.points import make_payloads
from clipdex.runs.planning import manifest
from clipdex.storage.clip import Clip
from clipdex.storage.metadata import Warnings, typed
from clipdex.video.sandbox.messages import Answer
from clipdex.video.sandbox.pool import DecoderPool
from tests.support.clips import write_clip
from tests.support.indexes import caption
from tests.support.pipeline import DAY, Pipeline
from tests.unit.test_source import put, source

TYPES = {"camera": "string", "speed": "number", "shift": "time"}
PATTERN = "{site}/{year}/{month}/{day}"
CLIP = "depot/2026/11/03/a.mp4"


def read(root: dict, **more) -> dict:
    """Return the metadata of every clip by path, as planning reads it."""
    opened = source(root, **{"day_pattern": PATTERN, "metadata": TYPES, **more})
    return {clip.path: clip.metadata for clip in opened.with_metadata(list(opened.day(DAY)))}


def put_json(root: dict, path: str, record: object) -> None:
    put(root, path, json.dumps(record).encode())


@pytest.mark.parametrize(
    ("kind", "value", "kept"),
    [
        ("string", "cam-1", "cam-1"), ("string", "видео №1", "видео №1"), ("string", "bad\udcff", "bad\ufffd"),
        ("string", 7, None), ("string", ["a"], None), ("string", True, None), ("string", "x" * 1001, None),
        ("number", 12, 12.0), ("number", "12.50", 12.5), ("number", -3e2, -300.0), ("number", " 7 ", 7.0),
        ("number", "1_000", None), ("number", "fast", None), ("number", float("nan"), None), ("number", "inf", None),
        ("number", True, None), ("number", 10**400, None), ("number", {}, None), ("number", "٣", None),
        ("time", "2026-11-03T10:15:00Z", "2026-11-03T10:15:00+00:00"),
        ("time", "2026-11-03T13:15:00+03:00", "2026-11-03T10:15:00+00:00"),
        ("time", "2026-11-03 10:15", "2026-11-03T10:15:00+00:00"),
        ("time", "20261103T101500", "2026-11-03T10:15:00+00:00"), ("time", "2026-11-03", "2026-11-03T00:00:00+00:00"),
        ("time", "10:15", None), ("time", "soon", None), ("time", 1793700000, None),
        ("time", "0001-01-01T00:00+14:00", None),
    ],
)  # fmt: skip
def test_a_value_has_its_type_or_is_left_out_with_a_warning(caplog, kind, value, kept):
    found = typed({"x": value}, {"x": MetadataType(kind)}, "a.mp4.json", Warnings())
    assert found == ({} if kept is None else {"x": kept})
    assert ("a.mp4.json: x is " in caplog.text) == (kept is None)


def test_a_warning_is_logged_once_and_their_number_is_bounded(caplog):
    warnings = Warnings()
    for _ in range(3):
        for number in range(300):
            typed({"x": "y"}, {"x": MetadataType.NUMBER}, f"{number}.json", warnings)
    messages = [record.getMessage() for record in caplog.records]
    assert len(messages) == len(set(messages)) == 101 and messages[-1].endswith("are left out)")


def test_sidecars_add_to_the_path(root):
    for name in ("a", "b", "c"):
        put(root, f"depot/2026/11/03/{name}.mp4")
    put_json(root, f"{CLIP}.json", {"camera": "cam-1", "speed": 12, "shift": "2026-11-03T08:00:00+03:00", "other": 1})
    put(
        root,
        "depot/metadata.csv",
        b"file_name,camera,speed\n2026/11/03/a.mp4,cam-9,1\n2026/11/03/b.mp4,cam-2,\n",
    )
    put(root, "metadata.csv", b"\xef\xbb\xbffile_name;speed\r\ndepot/2026/11/03/b.mp4;7.5\r\n")
    assert read(root) == {
        CLIP: {"site": "depot", "camera": "cam-1", "speed": 12.0, "shift": "2026-11-03T05:00:00+00:00"},
        "depot/2026/11/03/b.mp4": {"site": "depot", "camera": "cam-2", "speed": 7.5},
        "depot/2026/11/03/c.mp4": {"site": "depot"},
    }


@pytest.mark.parametrize(
    ("sidecars", "file", "data"),
    [
        (["{stem}.json"], "a.json", b'{"speed": 5}'),
        (["{file}.meta"], "a.mp4.meta", b'{"speed": 5}'),
        (["info.tsv"], "info.tsv", b"file_name\tspeed\n./a.mp4\t5\n"),
    ],
)
def test_the_names_of_sidecars_can_be_set(root, sidecars, file, data):
    put(root, CLIP)
    put(root, f"depot/2026/11/03/{file}", data)
    assert read(root, sidecars=sidecars) == {CLIP: {"site": "depot", "speed": 5.0}}
    assert read(root, sidecars=[]) == {CLIP: {"site": "depot"}}


def test_sidecars_of_clips_with_the_date_in_their_name_are_found(root):
    put(root, "VID_20261103_1.mp4")
    put_json(root, "VID_20261103_1.mp4.json", {"speed": 5})
    assert read(root, day_pattern="{kind}_{year}{month}{day}_{n}") == {
        "VID_20261103_1.mp4": {"kind": "VID", "n": "1", "speed": 5.0}
    }


def test_a_sidecar_is_no_skipped_file_and_nothing_is_read_without_declared_fields(tmp_path):
    from clipdex.storage.listing import Skipped

    root, skipped = {"url": str(tmp_path)}, Skipped()
    put(root, CLIP)
    put_json(root, f"{CLIP}.json", {"camera": "cam-1"})
    assert [clip.has_sidecars for clip in source(root, day_pattern=PATTERN).day(DAY)] == [False]
    list(source(root, day_pattern=PATTERN, metadata=TYPES).day(DAY, skipped))
    assert skipped.files == 0


@pytest.mark.parametrize(
    "data",
    [b"", b"{", b"[1, 2]", b"null", b"\xff\xfe", b"[" * 100_000, b'{"speed": ' + b"1" * 5000 + b"}", b" " * 70_000,
     b'{"speed": {"a": 1}}', b'{"speed": NaN}'],
)  # fmt: skip
@pytest.mark.parametrize("root", ["folder"], indirect=True)
def test_a_malformed_sidecar_costs_only_itself(root, caplog, data):
    put(root, CLIP)
    put(root, f"{CLIP}.json", data)
    put(root, "metadata.csv", b"file_name,camera\ndepot/2026/11/03/a.mp4,cam-1\n")
    assert read(root) == {CLIP: {"site": "depot", "camera": "cam-1"}}
    assert f"{CLIP}.json" in caplog.text


@pytest.mark.parametrize(
    "data", [b"", b"name,camera\na.mp4,x\n", b"\xff\xfe\x00", b'file_name,camera\n"' + b"x" * 200_000]
)
@pytest.mark.parametrize("root", ["folder"], indirect=True)
def test_a_malformed_column_file_costs_only_itself(root, caplog, data):
    put(root, CLIP)
    put(root, "metadata.csv", data)
    put_json(root, f"{CLIP}.json", {"camera": "cam-1"})
    assert read(root) == {CLIP: {"site": "depot", "camera": "cam-1"}}
    assert "metadata.csv" in caplog.text


def test_a_sidecar_that_is_a_link_out_of_the_archive_or_a_pipe_is_not_read(tmp_path):
    root = {"url": str(tmp_path / "in")}
    for name in ("a", "b", "c"):
        put(root, f"depot/2026/11/03/{name}.mp4")
    put_json({"url": str(tmp_path)}, "secret.json", {"camera": "secret"})
    folder = tmp_path / "in/depot/2026/11/03"
    (folder / "a.mp4.json").symlink_to(tmp_path / "secret.json")
    os.mkfifo(folder / "b.mp4.json")
    (folder / "c.mp4.json").mkdir()
    assert set(map(str, read(root).values())) == {"{'site': 'depot'}"}


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({"text": "string"}, "the name 'text' is used by clipdex itself"),
        ({"day": "time"}, "the name 'day' is used"),
        ({"a b": "string"}, "'a b' is not a name"),
        ({"camera": "text"}, "CLIPDEX_SOURCE__METADATA__CAMERA"),
        ({f"f{n}": "string" for n in range(65)}, "at most 64"),
    ],
)
def test_declarations_that_cannot_be_kept_are_configuration_errors(metadata, message):
    with pytest.raises(ConfigurationError) as error:
        Settings.load(source={"metadata": metadata})
    assert message in str(error.value)


@pytest.mark.parametrize("sidecar", ["", "../{file}.json", "{name}.json", "a/b.csv"])
def test_names_of_sidecars_that_cannot_be_are_configuration_errors(sidecar):
    with pytest.raises(ConfigurationError, match="SIDECARS"):
        Settings.load(source={"sidecars": [sidecar]})


def test_no_field_of_a_payload_can_be_a_name_of_metadata():
    from clipdex.config import RESERVED_FIELDS

    payload, *_ = make_payloads("c", "u", DAY, caption("x"), [Chunk(0, "x", 0.0, 1.0)]).values()
    assert {*payload, "recorded_at", "recorded_from"} <= RESERVED_FIELDS


@pytest.mark.parametrize(
    ("file", "tags", "recorded_at"),
    [
        ("a.mp4", {"creation_time": "2026-11-03T10:15:00Z"}, "2026-11-03T10:15:00+00:00"),
        ("a.mkv", {"creation_time": "2026-11-03T10:15:00Z"}, "2026-11-03T10:15:00+00:00"),
        ("a.mov", {"com.apple.quicktime.creationdate": "2026-11-03T13:15:00+0300",
                   "creation_time": "2026-11-03T11:00:00Z"}, "2026-11-03T10:15:00+00:00"),
        ("a.mp4", {"creation_time": "1970-01-01T00:00:00Z"}, ""),
        ("a.mkv", {"creation_time": "soon"}, ""),
        ("a.mp4", {}, ""),
    ],
)  # fmt: skip
def test_the_time_in_the_container_is_read_in_the_sandbox(tmp_path, file, tags, recorded_at):
    tagged = with_tags(write_clip(tmp_path / file), tags)
    settings = Settings.load()

    async def prepared() -> str:
        async with DecoderPool(settings.video, settings.sampling, 1) as decoders:
            return (await decoders.prepare(tagged)).info.recorded_at

    assert asyncio.run(prepared()) == recorded_at


def with_tags(path: Path, tags: dict[str, str]) -> Path:
    """Give a clip the tags of a camera; return its path."""
    tagged = path.with_stem("tagged")
    with av.open(path) as source, av.open(tagged, "w", options={"movflags": "use_metadata_tags"}) as out:
        out.metadata.update(tags)
        stream = out.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                out.mux(packet)
    return tagged.replace(path)


@pytest.mark.parametrize("text", ["soon", "2026-11-03T10:15:00", "2026-11-03T10:15:00+03:00", "2" * 41, 7])
def test_a_decoder_that_answers_with_another_time_is_not_trusted(text):
    info = {"duration_s": 1.0, "width": 1, "height": 1, "fps": 1.0, "codec": "h264", "bytes": 1, "recorded_at": text}
    window = {"start_s": 0.0, "end_s": 1.0, "times": [0.0]}
    clip = {"info": info, "windows": [window], "proxy_fps": 1.0, "width": 2, "height": 2}
    with pytest.raises(ValueError, match="recorded_at"):
        Answer.parsed(json.dumps({"blobs": [1, 1], "clip": clip}).encode())


# Through a run


@pytest.fixture
def pipeline(tmp_path, engine) -> Pipeline:
    one = Pipeline(tmp_path, [engine.url])
    paths = one.put(3)
    for number, path in enumerate(paths):
        folder = one.clips / f"cam-{number}" / DAY.replace("-", "/") / "07"
        folder.mkdir(parents=True)
        path.rename(folder / path.name)
    return declared(one)


def declared(pipeline: Pipeline, **more) -> Pipeline:
    """Return the same pipeline with the camera in the path and declared fields."""
    how = {"day_pattern": "{camera}/{year}/{month}/{day}/{hour}", "metadata": {"speed": "number", "night": "string"}}
    update = pipeline.settings.source.model_validate({**pipeline.settings.source.model_dump(), **how, **more})
    return Pipeline.of(pipeline.settings.model_copy(update={"source": update}))


def clip_path(pipeline: Pipeline, number: int) -> Path:
    [path] = (pipeline.clips / f"cam-{number}").rglob("*.mp4")
    return path


def test_metadata_is_kept_with_clip_outcome_caption_and_points(pipeline):
    sidecar = clip_path(pipeline, 0).with_suffix(".mp4.json")
    sidecar.write_text('{"speed": 12}')
    [batch] = pipeline.plan().batches
    first, *_ = manifest(pipeline.store, batch)
    assert first.metadata == {"camera": "cam-0", "speed": 12.0} and Clip.from_json(first.to_json()) == first
    pipeline.caption(batch)
    pipeline.index(batch)
    pipeline.report("r.1")
    outcome = pipeline.outcomes()["tiny-000000.mp4"]
    kept = {"camera": "cam-0", "speed": 12.0}
    assert (outcome.metadata, outcome.recorded_at, outcome.recorded_from) == (kept, f"{DAY}T07:00:00+00:00", "path")
    stored = pipeline.store.caption(outcome.caption_key)
    assert stored is not None and stored.metadata == kept
    for payload in pipeline.points().values():
        camera = f"cam-{payload['uri'][-5]}"
        assert payload["camera"] == camera and payload.get("speed") == (12.0 if camera == "cam-0" else None)
        assert (payload["recorded_at"], payload["recorded_from"]) == (f"{DAY}T07:00:00+00:00", "path")
    [hit] = pipeline.search("what is to be seen", limit=1, weak=True, where={"camera": "cam-0"})
    assert (hit.metadata, hit.recorded_from) == (kept, "path")


@pytest.fixture
def embedded(pipeline, monkeypatch) -> list[str]:
    """The texts that were embedded since the list was cleared."""
    texts: list[str] = []
    kind = type(pipeline.embedder)
    embed = kind.embed_documents
    monkeypatch.setattr(kind, "embed_documents", lambda self, some: texts.extend(some) or embed(self, some))
    return texts


def test_a_changed_sidecar_updates_points_without_captioning_or_embedding_again(pipeline, engine, embedded):
    pipeline.run()
    before, requests = pipeline.points(), len(engine.requests)
    assert embedded and pipeline.plan("r.2").to_do == 0
    sidecar = clip_path(pipeline, 1).with_suffix(".mp4.json")
    for run, text, speed in (("r.3", '{"speed": 5}', 5.0), ("r.4", '{"speed": 6, "x": 1}', 6.0), ("r.5", "{}", None)):
        sidecar.write_text(text)
        embedded.clear()
        report = pipeline.run(run)
        assert (report.total("planned"), report.total("indexed"), report.total("asked")) == (1, 1, 0)
        assert embedded == [] and len(engine.requests) == requests
        assert pipeline.points() == {
            id: payload if payload["camera"] != "cam-1" or speed is None else {**payload, "speed": speed}
            for id, payload in before.items()
        }
        assert pipeline.plan(f"{run}-again").to_do == 0
        stored = pipeline.store.caption(pipeline.outcomes(run)["tiny-000001.mp4"].caption_key)
        assert stored is not None and stored.metadata.get("speed") == speed
    sidecar.write_text('{"speed": 6}')
    pipeline.run("r.6")
    sidecar.unlink()
    assert pipeline.run("r.7").total("planned") == 1
    assert pipeline.points() == before


def test_a_sidecar_that_says_the_same_in_other_words_plans_nothing(pipeline):
    sidecar = clip_path(pipeline, 1).with_suffix(".mp4.json")
    sidecar.write_text('{"speed": 5}')
    pipeline.run()
    sidecar.write_text('{"unknown": [1], "speed": 5.0}')
    assert pipeline.plan("r.2").to_do == 0


def test_a_dry_run_counts_no_engine_time_for_clips_of_which_only_the_points_are_written(pipeline, monkeypatch, capsys):
    pipeline.run()
    clip_path(pipeline, 1).with_suffix(".mp4.json").write_text('{"speed": 5}')
    new = write_clip(clip_path(pipeline, 0).with_name("new.mp4"), seconds=1, size=(64, 48))
    source = pipeline.settings.source
    given = {"DAY_PATTERN": source.day_pattern, "METADATA": json.dumps(source.metadata)}
    for name, value in pipeline.environment().items() | {(f"CLIPDEX_SOURCE__{n}", v) for n, v in given.items()}:
        monkeypatch.setenv(name, value)
    arguments = ["plan", str(pipeline.clips), "--day", DAY, "--clips-per-second-per-gpu", "0.5"]

    def planned() -> dict:
        assert cli.main([*arguments, "--json"]) == 0
        return json.loads(capsys.readouterr().out)

    both = planned()
    assert (both["to_do"], both["points_only"], both["clips"], both["batches"]) == ({DAY: 2}, {DAY: 1}, 2, 1)
    assert both["hours"] == pytest.approx(2 / 3600)
    new.unlink()
    assert (planned()["clips"], planned()["hours"]) == (1, 0)
    assert cli.main(arguments) == 0
    assert "1 of the clips to do have a caption, and other metadata than before" in capsys.readouterr().out


def test_new_metadata_is_written_while_no_engine_answers(pipeline, engine, tmp_path):
    pipeline.run()
    clip_path(pipeline, 2).with_suffix(".mp4.json").write_text('{"night": "yes"}')
    dead = pipeline.settings.engine.model_copy(update={"base_urls": ("http://127.0.0.1:9",)})
    later = Pipeline.of(pipeline.settings.model_copy(update={"engine": dead}))
    assert later.run("r.2").total("indexed") == 1
    assert sum(payload.get("night") == "yes" for payload in later.points().values()) > 0


def test_a_new_field_of_the_pattern_updates_the_points_of_all_clips(tmp_path, engine):
    plain = Pipeline(tmp_path, [engine.url])
    paths = plain.put(2)
    for path in paths:
        folder = plain.clips / "cam-7" / DAY.replace("-", "/")
        folder.mkdir(parents=True, exist_ok=True)
        path.rename(folder / path.name)
    before = declared(plain, day_pattern="*/{year}/{month}/{day}", metadata={})
    before.run()
    requests = len(engine.requests)
    after = declared(plain, day_pattern="{camera}/{year}/{month}/{day}", metadata={})
    assert after.run("r.2").total("indexed") == 2
    assert {payload["camera"] for payload in after.points().values()} == {"cam-7"} and len(engine.requests) == requests


def test_the_time_of_a_clip_is_from_its_container_if_its_path_has_none_else_from_the_file(tmp_path, engine):
    plain = Pipeline(tmp_path, [engine.url])
    tagged, other = plain.put(2)
    with_tags(tagged, {"creation_time": "2026-11-02T23:30:00Z"})
    os.utime(other, (1793700000, 1793700000))
    plain.run()
    found = {name: (one.recorded_at, one.recorded_from, one.day) for name, one in plain.outcomes().items()}
    assert found == {
        tagged.name: ("2026-11-02T23:30:00+00:00", "container", DAY),
        other.name: ("2026-11-03T10:00:00+00:00", "modified", DAY),
    }
    payloads = plain.points().values()
    assert {(one["recorded_at"], one["recorded_from"], one["day"]) for one in payloads} == set(found.values())


def test_a_lost_caption_of_a_clip_with_new_metadata_is_requested_again(pipeline, engine):
    pipeline.run()
    outcome = pipeline.outcomes()["tiny-000001.mp4"]
    pipeline.store.delete([f"captions/{outcome.caption_key[:2]}/{outcome.caption_key}.json"])
    clip_path(pipeline, 1).with_suffix(".mp4.json").write_text('{"speed": 1}')
    report = pipeline.run("r.2")
    assert (report.total("asked"), report.total("indexed")) == (1, 1)


def test_reindexed_points_have_the_latest_metadata(pipeline):
    pipeline.run()
    clip_path(pipeline, 0).with_suffix(".mp4.json").write_text('{"speed": 3}')
    pipeline.run("r.2")
    chunking = pipeline.settings.chunking.model_copy(update={"tokens": 64, "overlap": 8})
    other = Pipeline.of(pipeline.settings.model_copy(update={"chunking": chunking}))
    other.reindex()
    points = other.points().values()
    assert {(payload["camera"], payload.get("speed")) for payload in points} == {
        ("cam-0", 3.0), ("cam-1", None), ("cam-2", None),
    }  # fmt: skip


def test_payload_indexes_of_declared_fields_are_made_on_an_existing_collection(pipeline):
    plain = declared(pipeline, day_pattern="*/{year}/{month}/{day}", metadata={})
    plain.run()
    assert schema(plain) == {**BASE}
    pipeline.run("r.2")
    assert schema(pipeline) == {**BASE, "camera": "Keyword", "speed": "Float", "night": "Keyword"}
    retyped = declared(pipeline, metadata={"speed": "time"})
    clip_path(pipeline, 0).with_suffix(".mp4.json").write_text('{"speed": "2026-11-03T10:00:00Z"}')
    retyped.run("r.3")
    assert schema(retyped)["speed"] == "Datetime"


BASE = {
    "clip_id": "Keyword", "day": "Keyword", "engine": "Keyword", "model": "Keyword", "part_of": "Keyword",
    "chunk_no": "Float", "duration_s": "Float", "recorded_at": "Datetime", "uri_folders": "Keyword",
    "local_minute": "Float",
}  # fmt: skip


def schema(pipeline: Pipeline) -> dict[str, str]:
    with pipeline.open_index() as index:
        return {
            name: str(info.data_type).rpartition(".")[2] for name, info in index._shard.info().payload_schema.items()
        }


def test_a_time_without_a_zone_is_one_of_the_zone_of_the_source(root):
    put(root, "depot/2026/11/03/01-30/a.mp4", b"x")
    put_json(root, "depot/2026/11/03/01-30/a.mp4.json", {"shift": "2026-11-03T09:00"})
    pattern = f"{PATTERN}/{{hour}}-{{minute}}"
    opened = source(root, day_pattern=pattern, metadata=TYPES, timezone="Europe/Moscow")
    (clip,) = opened.with_metadata(list(opened.day(DAY)))
    assert (clip.day, clip.recorded_at) == (DAY, "2026-11-02T22:30:00+00:00")
    assert clip.metadata == {"site": "depot", "shift": "2026-11-03T06:00:00+00:00"}
