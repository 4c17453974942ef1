"""Test what is known of a clip's past: the outcomes of its runs, what the ledger has, and its captions."""

from dataclasses import replace

import pytest

from clipdex.config import Settings
from clipdex.runs.history import clip_history, file_size, find_day
from clipdex.runs.outcomes import ClipOutcome, Journal, Outcome, add_to_ledger, compact
from clipdex.storage.artifacts import Store, caption_path
from tests.support.indexes import caption
from tests.support.pipeline import DAY, Pipeline

CONTENT = "c" * 64
CLIP = ClipOutcome("a" * 32, "/clips/a.mp4", DAY, "1234-1700000000.000000", Outcome.FAILED, "b" * 12, "engine_failed")


@pytest.fixture
def store(tmp_path) -> Store:
    return Store.open(Settings.load(home=tmp_path))


def journal(store: Store, run: str, phase: str, try_number: int, *outcomes: ClipOutcome) -> None:
    writer = Journal(store, DAY, run, "b" * 12, phase, try_number)
    for outcome in outcomes:
        writer.add(outcome)
    writer.flush()


def past(store: Store) -> list[tuple[str, str, str, int]]:
    return [(one.run, one.outcome.outcome, one.phase, one.try_number) for one in clip_history(store, DAY, CLIP.clip_id)]


def test_the_outcomes_of_each_run_and_try_are_in_order(store):
    captioned = replace(CLIP, outcome=Outcome.CAPTIONED, reason="")
    journal(store, "r.1", "caption", 1, CLIP, replace(CLIP, clip_id="d" * 32))
    journal(store, "r.1", "caption", 2, captioned)
    journal(store, "r.1", "index", 1, replace(captioned, outcome=Outcome.INDEXED))
    journal(store, "r.2", "caption", 1, replace(CLIP, part_of=CLIP.clip_id, clip_id="e" * 32))
    every = [("r.1", "failed", "caption", 1), ("r.1", "captioned", "caption", 2), ("r.1", "indexed", "index", 1)]
    assert past(store) == every
    compact(store, DAY, "r.1")
    assert past(store) == [("r.1", "indexed", "", 0)]


def test_what_retention_left_in_the_ledger_is_told_without_its_run(store):
    journal(store, "r.1", "caption", 1, CLIP)
    compact(store, DAY, "r.1")
    store.delete(store.list(f"outcomes/day={DAY}"))
    assert past(store) == [("", "failed", "", 0)]


def test_a_clip_is_found_without_its_day_from_the_last_day_back(store):
    for day in ("2026-11-01", "2026-11-03", "2026-11-05"):
        others = [replace(CLIP, clip_id=f"{number:032x}", day=day, at=f"{day}T00:00:00") for number in range(20)]
        add_to_ledger(store, day, [*others, *([replace(CLIP, at="2026-11-03T01:00:00")] if day == DAY else [])])
    assert find_day(store, CLIP.clip_id) == (DAY, DAY)
    assert find_day(store, "f" * 32) == ("", "2026-11-01")
    assert find_day(store, "f" * 32, seconds=0) == ("", "2026-11-05")


def test_the_size_of_a_file_is_from_its_manifest_or_its_version(tmp_path, engine, store):
    pipeline = Pipeline(tmp_path, [engine.url])
    [clip] = pipeline.put(1)
    pipeline.run()
    [outcome] = pipeline.outcomes().values()
    known = clip_history(pipeline.store, DAY, outcome.clip_id)
    assert file_size(pipeline.store, known) == clip.stat().st_size
    etag = [replace(one, outcome=replace(one.outcome, version="an etag")) for one in known]
    assert file_size(pipeline.store, etag) == clip.stat().st_size
    pipeline.store.delete(pipeline.store.list("manifests"))
    assert file_size(pipeline.store, known) == clip.stat().st_size
    assert file_size(pipeline.store, etag) == 0


def test_a_content_names_each_of_its_captions(store):
    first, second = (replace(caption(text, key=key * 32), created_at=at) for text, key, at in
                     (("Later.", "a", "2026-11-04"), ("Earlier.", "b", "2026-11-03")))  # fmt: skip
    for one in (first, second, first):
        store.write_caption(one)
    assert store.captions_of(CONTENT) == (second, first)
    assert store.captions_of("d" * 64) == () == store.captions_of("")


def test_a_caption_whose_writer_was_killed_is_named_and_left_out(store):
    store.write_caption(caption("A cat.", key="a" * 32))
    store.delete([caption_path("a" * 32)])
    assert store.captions_of(CONTENT) == ()


def test_what_a_caption_was_made_with_is_kept_once(tmp_path, engine):
    pipeline = Pipeline(tmp_path, [engine.url])
    pipeline.put(2)
    pipeline.run()
    changed = Pipeline(tmp_path, [engine.url], engine={"max_tokens": 777})
    changed.run("r.2", recaption=True)
    [outcome, *_] = changed.outcomes("r.2").values()
    captions = pipeline.store.captions_of(outcome.content)
    made = [pipeline.store.fingerprint(one.fingerprint) for one in captions]
    assert [one["strategy"] for one in made] == ["video", "video"]
    assert "Describe" in made[0]["prompt"] or made[0]["prompt"]
    assert made[0]["generation"] != made[1]["generation"]
    assert len(pipeline.store.list("fingerprints")) == 2
    assert pipeline.store.fingerprint("0" * 32) == {}
