"""Near-duplicates: the clips of a static camera share one caption, and nothing that moves in one of them is lost."""

import sys
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from starlette.testclient import TestClient

from clipdex.captions.times import moved
from clipdex.config import Sampling, Settings, VideoLimits
from clipdex.errors import ConfigurationError
from clipdex.runs.outcomes import Origin, Outcome
from clipdex.runs.planning import manifest
from clipdex.runs.report import RunReport, report_run
from clipdex.storage.caption import Caption, Segment
from clipdex.video import prepare
from clipdex.video.likeness import distance, look_of
from clipdex.web.app import create_app
from clipdex.web.ingestion.batches import look_up
from tests.support.cameras import put, watched
from tests.support.killed import Task
from tests.support.pipeline import DAY, Pipeline, asked_twice

pytest.importorskip("imagehash")

LIMIT = 6.0  # as recommended
PERSON, FAR_AWAY = (24, 60), (6, 12)
"""Width and height [pixels]. The hash alone would share a clip with the second."""


@pytest.fixture
def pipeline(tmp_path, engine) -> Pipeline:
    return sharing(tmp_path, engine)


def sharing(home, engine, limit: float | None = LIMIT, video: dict | None = None, **overrides) -> Pipeline:
    patient = {"request_timeout_s": 30.0, "deadline_s": 60.0}
    video = {"near_duplicates": limit, **(video or {})}
    return Pipeline(home, [engine.url], video=video, engine=patient, **overrides)


@pytest.fixture
def camera(pipeline):
    return pipeline.clips / DAY.replace("-", "/") / "cam-1"


def static(camera, count: int, first: int = 0, **changes):
    return [put(camera, f"{number:02d}.mp4", watched(number, **changes)) for number in range(first, first + count)]


def captioned(pipeline, run: str = "r.1") -> RunReport:
    """Run all steps but the index, and return the report."""
    for batch in pipeline.plan(run).batches:
        pipeline.caption(batch)
    return report_run(pipeline.store, run)


def origins(pipeline, run: str = "r.1") -> Counter:
    return Counter(one.origin for one in pipeline.outcomes(run).values())


def test_six_clips_of_a_static_camera_cost_one_request(pipeline, engine, camera, caplog):
    caplog.set_level("INFO")
    clips = static(camera, 6)
    report = pipeline.run()
    outcomes = pipeline.outcomes()
    assert len(engine.chats) == 1
    assert [report.total(name) for name in ("captioned", "asked", "similar", "copies", "stored", "indexed")] == [
        6, 1, 5, 0, 0, 6,
    ]  # fmt: skip
    [new] = [one for one in outcomes.values() if one.origin == Origin.NEW]
    similar = [one for one in outcomes.values() if one.origin == Origin.SIMILAR]
    assert len(similar) == 5
    assert {one.similar_to for one in similar} == {new.caption_key}
    assert all(0 <= one.distance <= LIMIT for one in similar)
    assert {(one.seconds, one.gpu_s, one.completion_tokens, one.attempts) for one in similar} == {(0, 0, 0, 0)}
    captions = {name: pipeline.store.caption(one.caption_key) for name, one in outcomes.items()}
    assert len({caption.key for caption in captions.values()}) == 6
    assert len({caption.text for caption in captions.values()}) == 1
    assert len({caption.poster for caption in captions.values()}) == 6
    assert all(pipeline.store.exists(caption.poster) for caption in captions.values())
    assert {caption.clip_id for caption in captions.values()} == {pipeline.clip_of(clip).clip_id for clip in clips}
    assert report.total("completion_tokens") == new.completion_tokens
    assert report.total("saved_s") == pytest.approx(5 * new.seconds, abs=0.01)
    assert report.total("saved_gpu_s") == pytest.approx(5 * new.gpu_s, abs=0.01)
    assert "5 near-duplicates shared a caption, which saved about" in caplog.text
    assert {payload["uri"].rpartition("/")[2] for payload in pipeline.points().values()} == set(outcomes)
    assert RunReport.from_json(pipeline.store.read_json("reports/r.1.json")) == report


@pytest.mark.parametrize(
    ("gpu_s", "saved_gpu_s", "shown"), [(1.5, 3.0, "3.0 GPU-seconds"), (0.0, 0.0, "8.0 seconds at the engine")]
)
def test_the_report_estimates_what_was_saved(pipeline, camera, gpu_s, saved_gpu_s, shown):
    static(camera, 3)
    [batch] = pipeline.plan().batches
    pipeline.caption(batch)
    outcomes = pipeline.outcomes()
    [new] = [one for one in outcomes.values() if one.origin == Origin.NEW]
    measured = replace(new, gpu_s=gpu_s, seconds=4.0)
    pipeline.store.write_lines(f"outcomes/day={DAY}/run=r.1/{batch.batch}/caption-002-0000.jsonl", [measured.to_json()])
    report = report_run(pipeline.store, "r.1")
    assert (report.total("saved_gpu_s"), report.total("saved_s")) == (saved_gpu_s, 8.0)
    assert report.saved == f"2 near-duplicates shared a caption, which saved about {shown}"


def test_without_the_setting_each_clip_of_a_static_camera_is_requested(tmp_path, engine):
    pipeline = Pipeline(tmp_path, [engine.url])
    static(pipeline.clips / DAY.replace("-", "/"), 3)
    report = captioned(pipeline)
    assert len(engine.chats) == 3
    assert (report.total("similar"), report.saved) == (0, "")


@pytest.mark.parametrize(
    "changes",
    [
        {"thing": PERSON},
        {"thing": FAR_AWAY},
        {"pan": 0.5},
        {"brightness": 25.0},
    ],
    ids=["a person", "a person far away", "a pan", "another light"],
)
def test_a_clip_in_which_something_changes_is_requested(pipeline, engine, camera, changes):
    static(camera, 3)
    put(camera, "10.mp4", watched(10, **changes))
    static(camera, 2, first=20)
    report = captioned(pipeline)
    outcomes = pipeline.outcomes()
    assert outcomes["10.mp4"].origin == Origin.NEW
    assert len(engine.chats) == 2
    assert (report.total("captioned"), report.total("asked"), report.total("similar")) == (6, 2, 4)


def test_two_things_that_move_alike_share_and_the_nearest_wins(pipeline, engine, camera):
    static(camera, 1)
    put(camera, "10.mp4", watched(10, thing=PERSON))
    put(camera, "11.mp4", watched(11, thing=PERSON))
    static(camera, 1, first=20)
    captioned(pipeline)
    outcomes = pipeline.outcomes()
    by_key = {one.caption_key: name for name, one in outcomes.items()}
    pairs = [{name, by_key[one.similar_to]} for name, one in outcomes.items() if one.similar_to]
    assert sorted(map(sorted, pairs)) == [["00.mp4", "20.mp4"], ["10.mp4", "11.mp4"]]


def test_parts_of_a_film_of_a_static_camera_cost_one_request(tmp_path, engine, camera):
    pipeline = sharing(
        tmp_path, engine, video={"split": "fixed", "max_duration_s": 8.0, "part_s": 4.0, "min_part_s": 1.0}
    )
    put(camera, "long.mp4", watched(1), seconds=20.0)
    report = pipeline.run()
    assert [report.total(name) for name in ("parts", "asked", "similar", "indexed")] == [5, 1, 4, 5]
    assert len(engine.chats) == 1
    points = sorted(pipeline.points().values(), key=lambda point: point["start_s"])
    assert [(point["start_s"], point["end_s"]) for point in points] == [(4.0 * n, 4.0 * n + 4) for n in range(5)]
    assert len({point["clip_id"] for point in points}) == 5 and len({point["text"] for point in points}) == 1
    assert pipeline.plan("r.2").to_do == 0


def test_clips_of_another_folder_or_length_are_not_shared(pipeline, engine, camera):
    static(camera, 1)
    static(camera.with_name("cam-2"), 1, first=1)
    put(camera, "long.mp4", watched(5), seconds=6.0)
    report = captioned(pipeline)
    assert (len(engine.chats), report.total("similar")) == (3, 0)


def test_slow_changes_do_not_add_up(pipeline, engine, camera):
    """Each clip is a little brighter than the one before: each shares with one that the engine described."""
    engine.latency_s = 0.05
    for number in range(10):
        put(camera, f"{number:02d}.mp4", watched(number, brightness=4.0 * number))
    captioned(pipeline)
    outcomes = pipeline.outcomes()
    described = {one.caption_key: name for name, one in outcomes.items() if one.origin == Origin.NEW}
    assert 2 <= len(described) <= 6
    for name, one in outcomes.items():
        if one.origin == Origin.SIMILAR:
            apart = abs(int(name[:2]) - int(described[one.similar_to][:2]))
            assert 4.0 * apart <= 16


def test_a_clip_is_requested_itself_if_the_near_duplicate_is_rejected(pipeline, engine, camera):
    clips = static(camera, 4)
    rejected = pipeline.proxy_digest(clips[0])
    engine.latency_s = 0.3
    engine.plan.set(f"loop:digest={rejected}")
    report = captioned(pipeline)
    outcomes = pipeline.outcomes()
    assert (outcomes["00.mp4"].outcome, outcomes["00.mp4"].reason) in (
        (Outcome.QUARANTINED, "caption_looping"),
        (Outcome.CAPTIONED, ""),  # another clip was prepared first, and shared its caption
    )
    assert [outcomes[clip.name].outcome for clip in clips[1:]] == [Outcome.CAPTIONED] * 3
    assert report.total("asked") == 1
    assert report.total("captioned") == report.total("asked") + report.total("similar")
    assert asked_twice(engine.chats) == []


def test_a_clip_is_requested_itself_if_the_near_duplicate_gets_no_answer(pipeline, engine, camera):
    clips = static(camera, 4)
    engine.plan.set(f"500:digest={pipeline.proxy_digest(clips[0])}")
    report = captioned(pipeline)
    assert [report.total(name) for name in ("captioned", "quarantined", "asked", "similar")] == [4, 0, 1, 3]


def test_a_clip_that_the_engine_rejects_shares_the_caption_of_one_that_it_described(pipeline, engine, camera):
    clips = static(camera, 5)
    engine.plan.set(f"400:digest={pipeline.proxy_digest(clips[0])}")
    report = captioned(pipeline)
    assert [report.total(name) for name in ("captioned", "quarantined", "asked", "similar")] == [5, 0, 1, 4]


def test_if_the_engine_rejects_all_of_them_none_is_captioned_and_none_hangs(pipeline, engine, camera):
    good = pipeline.put(3)
    clips = static(camera, 3)
    engine.plan.set(",".join(f"loop:digest={pipeline.proxy_digest(clip)}" for clip in clips))
    report = captioned(pipeline)
    outcomes = pipeline.outcomes()
    assert {outcomes[clip.name].reason for clip in clips} == {"caption_looping"}
    assert (report.total("captioned"), report.total("quarantined")) == (len(good), 3)


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["os.rename:outcomes/:1", "os.rename:captions/:1", "os.rename:captions/:3"])
def test_a_killed_try_requests_nothing_twice_and_counts_each_clip_once(pipeline, engine, camera, moment):
    static(camera, 6)
    [batch] = pipeline.plan().batches
    assert Task(pipeline, "caption", die_at=moment).wait() == -9
    stored = len(pipeline.store.list("captions"))
    requests = len(engine.chats)
    pipeline.caption(batch, 2)
    pipeline.index(batch)
    report = report_run(pipeline.store, "r.1")
    outcomes = pipeline.outcomes()
    totals = {name: report.total(name) for name in ("captioned", "asked", "similar", "copies", "stored")}
    assert totals["captioned"] == 6 == totals["asked"] + totals["similar"] and report.total("indexed") == 6
    new = {one.caption_key for one in outcomes.values() if one.origin == Origin.NEW}
    assert {one.similar_to for one in outcomes.values() if one.origin == Origin.SIMILAR} <= new
    assert len(engine.chats) <= requests + 1
    if stored == 6:
        assert (len(engine.chats), totals["asked"]) == (1, 1)
    assert len(pipeline.store.list("captions")) == 6


def test_a_second_run_plans_nothing(pipeline, engine, camera):
    static(camera, 3)
    pipeline.run("r.1")
    assert pipeline.plan("r.2").to_do == 0


def test_turning_the_setting_off_captions_the_clips_that_shared(pipeline, engine, camera, tmp_path):
    static(camera, 4)
    pipeline.run("r.1")
    before = pipeline.points()
    off = sharing(tmp_path, engine, None)
    assert off.plan("r.2").to_do == 3
    [counts] = off.captions()
    assert (counts.current, counts.other) == (1, 3)
    report = off.run("r.3")
    assert (report.total("asked"), report.total("similar"), len(engine.chats)) == (3, 0, 4)
    after = off.points()
    assert len({point["text"] for point in after.values() if point["chunk_no"] == 0}) == 4
    assert len({point["caption_key"] for point in after.values()}) == 4
    shared = {id for id, point in before.items() if point["caption_key"] in set(keys_of(pipeline))}
    assert not shared & after.keys()
    assert sharing(tmp_path, engine).plan("r.4").to_do == 0  # on again: each has its own


def keys_of(pipeline, run: str = "r.1") -> list[str]:
    return [one.caption_key for one in pipeline.outcomes(run).values() if one.similar_to]


def test_a_caption_of_its_own_that_was_stored_before_its_points_replaces_the_shared_one(
    pipeline, engine, camera, tmp_path
):
    """A run without the setting is killed between caption and index: the next one writes text and vectors anew."""
    static(camera, 2)
    pipeline.run("r.1")
    off = sharing(tmp_path, engine, None)
    [batch] = off.plan("r.2").batches
    off.caption(batch)
    report_run(off.store, "r.2")
    off.run("r.3")
    payloads = off.points().values()
    assert len(engine.chats) == 2
    assert len({payload["caption_key"] for payload in payloads}) == 2
    assert not {payload["caption_key"] for payload in payloads} & set(keys_of(pipeline))


def test_a_smaller_limit_captions_the_clips_beyond_it(pipeline, engine, camera, tmp_path):
    static(camera, 4)
    pipeline.run("r.1")
    key = next(one.caption_key for one in pipeline.outcomes().values() if one.similar_to)
    apart = {one.uri: one.distance for one in pipeline.outcomes().values() if one.similar_to}
    limit = max(apart.values()) - 0.01
    stricter = sharing(tmp_path, engine, limit)
    to_do = {clip.uri for batch in stricter.plan("r.2").batches for clip in manifest(stricter.store, batch)}
    assert to_do == {uri for uri, value in apart.items() if value > limit} != set()
    assert pipeline.store.caption(key) is not None


def test_recaptioning_shares_again_without_the_former_captions(pipeline, engine, camera):
    static(camera, 3)
    pipeline.run("r.1")
    report = pipeline.run("r.2", recaption=True)
    assert (report.total("asked"), report.total("similar"), len(engine.chats)) == (1, 2, 2)
    assert {pipeline.store.caption(one.caption_key).run for one in pipeline.outcomes("r.2").values()} == {"r.2"}


def test_an_exact_copy_of_a_near_duplicate_shares_with_it(pipeline, engine, camera, tmp_path):
    clips = static(camera, 2)
    for clip in clips:
        clip.with_name(f"copy-{clip.name}").write_bytes(clip.read_bytes())
    report = pipeline.run()
    assert len(engine.chats) == 1
    assert [report.total(name) for name in ("captioned", "asked", "similar", "copies")] == [4, 1, 1, 2]
    assert sharing(tmp_path, engine, None).plan("r.2").to_do == 2  # the near-duplicate and its copy


def test_the_page_of_the_batch_names_the_clip_and_the_distance(pipeline, engine, camera):
    static(camera, 2)
    [batch] = pipeline.plan().batches
    pipeline.caption(batch)
    with TestClient(create_app(lambda: pipeline.settings, lambda: None, lambda request: "/login")) as client:
        view = client.get(f"/api/batches/r.1/{DAY}/{batch.batch}").json()
        page = client.get(f"/batches/r.1/{DAY}/{batch.batch}").text
    [new] = [row for row in view["rows"] if row["origin"] == "new"]
    [similar] = [row for row in view["rows"] if row["origin"] == "similar"]
    assert similar["similar_to"] == new["path"]
    assert (new["similar_to"], new["distance"]) == ("", 0.0)
    assert similar["poster"] and similar["poster"] != new["poster"]
    assert f"to {new['path']}, {similar['distance']:.2f} of 64 bits apart" in page
    assert page.count("bits apart") == 1


def test_times_are_those_of_the_clip_itself(tmp_path, engine):
    """Two windows, which start later where the video starts after the sound."""
    pipeline = sharing(tmp_path, engine, sampling={"max_frames": 4, "min_fps": 2.0})
    folder = pipeline.clips / DAY.replace("-", "/")
    put(folder, "a.mp4", watched(1))
    late = {"times": [1.5 + k / 6 for k in range(24)], "audio_seconds": 5.0}
    put(folder, "b.mp4", watched(2), **late)
    pipeline.run()
    outcomes = pipeline.outcomes()
    captions = {name: pipeline.store.caption(one.caption_key) for name, one in outcomes.items()}
    a, b = captions["a.mp4"], captions["b.mp4"]
    assert (len(engine.chats), origins(pipeline)) == (2, Counter(new=1, similar=1))
    assert (a.start_s, b.start_s) == (0.0, pytest.approx(1.5, abs=0.05))
    assert [one.start_s for one in a.segments] == pytest.approx([0.0, 2.0])
    assert [one.start_s for one in b.segments] == pytest.approx([1.5, 3.5], abs=0.05)
    assert b.segments[-1].end_s == pytest.approx(5.5, abs=0.1)
    assert [segment.text for segment in b.segments] == [segment.text for segment in a.segments]
    assert b.text == "\n\n".join(segment.text for segment in b.segments)
    starts = {payload["uri"][-5:]: payload["start_s"] for payload in pipeline.points().values()}
    assert starts["b.mp4"] >= 1.5 - 0.05


def caption_of(text: str, segments: list[Segment], **fields) -> Caption:
    given = {
        "key": "k", "content": "c", "fingerprint": "f", "engine": "sglang", "model": "m", "prompt_tokens": 1,
        "completion_tokens": 1, "seconds": 1.0, "attempts": 1, "finish_reason": "stop", "created_at": "", "run": "r",
        "duration_s": 20.0, "width": 64, "height": 48,
    }  # fmt: skip
    return Caption(text=text, segments=tuple(segments), **{**given, **fields})


def test_only_the_marks_of_segments_move_not_what_a_model_wrote_within_them():
    parts = [
        Segment(0.0, 12.0, "0.0-12.0 s: A yard.\n3.0-4.0 s: nothing, at 3.5 s."),
        Segment(12.0, 20.0, "12.0-20.0 s: A yard at 14.0 s."),
    ]
    text = "\n\n".join(part.text for part in parts)
    after = moved(caption_of(text, parts), 100.0, 119.5)
    assert [(one.start_s, one.end_s) for one in after.segments] == [(100.0, 112.0), (112.0, 119.5)]
    assert after.text == ("100.0-112.0 s: A yard.\n3.0-4.0 s: nothing, at 3.5 s.\n\n112.0-119.5 s: A yard at 14.0 s.")


def test_a_text_that_begins_with_a_range_of_its_own_is_not_moved():
    parts = [Segment(0.0, 4.0, "A yard."), Segment(4.0, 9.0, "12-15 s are on a stopwatch.")]
    after = moved(caption_of("A yard.\n\n12-15 s are on a stopwatch.", parts), 30.0, 39.0)
    assert after.text == "A yard.\n\n12-15 s are on a stopwatch."
    assert [(one.start_s, one.end_s) for one in after.segments] == [(30.0, 34.0), (34.0, 39.0)]


def test_times_within_the_sentences_of_the_embedded_detectors_move():
    parts = [
        Segment(0.0, 4.0, "0.0-4.0 s: A car, from 1.0 to 2.5 s."),
        Segment(4.0, 9.0, '4.0-9.0 s: Text "12 s" at 5.0 s.'),
    ]
    caption = caption_of(" ".join(part.text for part in parts), parts, engine="detectors", duration_s=9.0)
    after = moved(caption, 30.0, 39.0)
    assert after.text == '30.0-34.0 s: A car, from 31.0 to 32.5 s. 34.0-39.0 s: Text "12 s" at 35.0 s.'


def test_notes_move_and_a_text_without_segments_stays():
    notes = (Segment(0.0, 2.0, "0.0-2.0 s: A yard."),)
    after = moved(caption_of("A yard, 2 s long.", [], notes=notes), 5.0, 7.0)
    assert after.text == "A yard, 2 s long."
    assert after.notes == (Segment(5.0, 7.0, "5.0-7.0 s: A yard."),)


def test_a_missing_package_stops_the_run_before_it_starts(pipeline, camera, monkeypatch):
    static(camera, 1)
    monkeypatch.setitem(sys.modules, "imagehash", None)
    with pytest.raises(ConfigurationError, match=r"imagehash is not installed; run: pip install 'clipdex\[near-dup"):
        pipeline.plan()


def test_a_worker_without_the_package_stops_before_a_request(pipeline, engine, camera, monkeypatch):
    static(camera, 1)
    [batch] = pipeline.plan().batches
    monkeypatch.setitem(sys.modules, "imagehash", None)
    with pytest.raises(ConfigurationError, match="imagehash is not installed"):
        pipeline.caption(batch)
    assert engine.chats == [] and pipeline.outcomes() == {}


@pytest.mark.parametrize("value", ["-1", "64", "close"])
def test_a_limit_that_makes_no_sense_is_an_error_that_names_the_setting(monkeypatch, value):
    monkeypatch.setenv("CLIPDEX_VIDEO__NEAR_DUPLICATES", value)
    with pytest.raises(ConfigurationError, match="CLIPDEX_VIDEO__NEAR_DUPLICATES"):
        Settings.load()


def look(path, **sampling):
    return look_of(prepare(path, VideoLimits(), Sampling(**sampling)))


def test_a_thing_in_one_frame_counts_as_much_as_one_in_all(tmp_path):
    still = look(put(tmp_path, "a.mp4", watched(1)))
    plain, dark = watched(2), watched(3, thing=PERSON)
    once = look(put(tmp_path, "b.mp4", lambda number, size: (dark if number in (9, 10) else plain)(number, size)))
    apart = distance(still, once)
    assert apart is not None and apart.mean <= LIMIT
    assert apart.change > 20


def test_pictures_of_other_shapes_have_no_distance(tmp_path):
    wide = look(put(tmp_path, "a.mp4", watched(1)))
    high = look(put(tmp_path, "b.mp4", watched(1, picture=np.zeros((320, 240, 3), np.float32)), size=(240, 320)))
    assert distance(wide, high) is None
    assert distance(wide, wide).mean == 0


def test_clips_without_a_caption_name_no_near_duplicate_on_the_page(pipeline, camera):
    """A cut file and a rejected clip have no caption, and neither gives its name to others."""
    static(camera, 2)
    (camera / "empty.mp4").touch()
    pipeline.run()
    [batch] = {one.batch for one in pipeline.outcomes().values()}
    view = look_up(pipeline.store, "r.1", DAY, batch)
    [pair] = [{row.path, row.similar_to} for row in view.rows if row.similar_to]
    assert {path.rpartition("/")[2] for path in pair} == {"00.mp4", "01.mp4"}
