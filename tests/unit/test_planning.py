"""Test which clips a run plans and which it skips."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from clipdex import cli
from clipdex.captions.captioner import Flaw
from clipdex.config import Batches, Settings
from clipdex.errors import ConfigurationError
from clipdex.index import Collection
from clipdex.index.embeddings import open_embedder
from clipdex.runs.completion import CompletionCriteria, count_captions
from clipdex.runs.outcomes import ClipOutcome, Journal, Origin, Outcome, compact, ledger, outcomes_path, run_outcomes
from clipdex.runs.planning import BatchRef, batch_size, load_plan, manifest, plan_run, run_label
from clipdex.runs.survey import survey
from clipdex.storage.artifacts import Store
from clipdex.storage.source import Source

DAY = "2026-11-03"
WANTED = CompletionCriteria(fingerprint="f1", collection="c1")


@pytest.fixture
def here(tmp_path) -> tuple[Settings, Store, Source]:
    settings = Settings.load(home=tmp_path, source={"url": str(tmp_path / "clips")}, batches={"size": 4})
    return settings, Store.open(settings), Source(settings)


def put(tmp_path: Path, name: str, data: bytes = b"clip", day: str = DAY) -> None:
    path = tmp_path / "clips" / day.replace("-", "/") / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def to_do(here, wanted: CompletionCriteria = WANTED, day: str = DAY) -> list[str]:
    _, store, source = here
    return [clip.path.rpartition("/")[2] for clip in survey(store, source, [day], wanted).to_do[day]]


def record_outcome(here, outcome: Outcome, run: str = "r.1", **more) -> list[ClipOutcome]:
    """Record the same outcome for every clip of the day."""
    _, store, source = here
    journal = Journal(store, DAY, run, "b0", "index", 1)
    outcomes = [
        ClipOutcome(
            clip.clip_id, clip.uri, DAY, clip.version, outcome, "b0", content="c" + clip.path, fingerprint="f1",
            collection="c1", **more,
        )
        for clip in source.day(DAY)
    ]  # fmt: skip
    for one in outcomes:
        journal.add(one)
    journal.flush()
    return outcomes


def test_new_clips_are_planned_in_batches_with_pointers_to_manifests(here, tmp_path):
    settings, store, source = here
    for n in range(10):
        put(tmp_path, f"{n}.mp4", b"x" * n)
    plan = plan_run(settings, store, source, "r.1", survey(store, source, [DAY], WANTED))
    assert [batch.clips for batch in plan.batches] == [4, 4, 2]
    assert [clip.path[-5:] for clip in manifest(store, plan.batches[0])] == ["0.mp4", "1.mp4", "2.mp4", "3.mp4"]
    assert load_plan(store, "r.1") == plan
    assert BatchRef.from_json(plan.batches[0].to_json()) == plan.batches[0]
    assert plan.batches[0].label == "2026/11/03/0.mp4 +3"


def test_no_clips_still_makes_a_plan(here):
    settings, store, source = here
    plan = plan_run(settings, store, source, "r.1", survey(store, source, [DAY], WANTED))
    assert plan.batches == () and load_plan(store, "r.1").days == (DAY,)


def test_copies_of_one_size_meet_in_one_batch(here, tmp_path):
    settings, store, source = here
    for n in range(8):
        put(tmp_path, f"{n}.mp4", b"x" * (100 if n in (0, 7) else n))
    plan = plan_run(settings, store, source, "r.1", survey(store, source, [DAY], WANTED))
    assert [clip.path[-5:] for clip in manifest(store, plan.batches[0])][:2] == ["0.mp4", "7.mp4"]


def test_indexed_clips_are_skipped(here, tmp_path):
    put(tmp_path, "a.mp4")
    record_outcome(here, Outcome.INDEXED)
    put(tmp_path, "b.mp4")
    assert to_do(here) == ["b.mp4"]


def test_clips_that_are_only_captioned_are_planned_and_not_read_again(here, tmp_path):
    put(tmp_path, "a.mp4")
    (outcome,) = record_outcome(here, Outcome.CAPTIONED)
    _, store, source = here
    (clip,) = survey(store, source, [DAY], WANTED).to_do[DAY]
    assert clip.content == outcome.content


@pytest.mark.parametrize("change", [{"fingerprint": "f2"}, {"collection": "c2"}, {"recaption": True}])
def test_another_prompt_model_or_index_or_recaption_plans_a_clip_again(here, tmp_path, change):
    put(tmp_path, "a.mp4")
    record_outcome(here, Outcome.INDEXED)
    assert to_do(here, replace(WANTED, **change)) == ["a.mp4"]


@pytest.mark.parametrize(("overrides", "planned"), [({}, []), ({"recaption_for": ("clock",)}, ["a.mp4"])])
def test_a_caption_of_an_earlier_release_is_kept_until_its_flaw_is_recaptioned(here, tmp_path, overrides, planned):
    put(tmp_path, "a.mp4")
    record_outcome(here, Outcome.INDEXED)
    now = replace(WANTED, fingerprint="f2", earlier={"f1": Flaw.CLOCK}, **overrides)
    assert to_do(here, now) == planned


def test_captions_are_counted_by_day_and_flaw(here, tmp_path):
    for name in ("a.mp4", "b.mp4"):
        put(tmp_path, name)
    record_outcome(here, Outcome.INDEXED, caption_key="k")
    _, store, _ = here
    for wanted, counted in (
        (WANTED, (2, {}, 0)),
        (replace(WANTED, fingerprint="f2", earlier={"f1": Flaw.CLOCK}), (0, {Flaw.CLOCK: 2}, 0)),
        (replace(WANTED, fingerprint="f3"), (0, {}, 2)),
    ):
        [day] = count_captions(store, wanted)
        assert (day.day, (day.current, day.flawed, day.other)) == (DAY, counted)


def test_a_replaced_file_is_planned_again_and_read_again(here, tmp_path):
    put(tmp_path, "a.mp4")
    record_outcome(here, Outcome.INDEXED)
    put(tmp_path, "a.mp4", b"another clip")
    _, store, source = here
    (clip,) = survey(store, source, [DAY], WANTED).to_do[DAY]
    assert clip.content == ""


@pytest.mark.parametrize(
    ("retry", "planned"),
    [((), []), (("undecodable",), ["a.mp4"]), (("all",), ["a.mp4"]), (("too_long",), [])],
)
def test_quarantined_clips_are_tried_again_only_on_request_and_by_reason(here, tmp_path, retry, planned):
    put(tmp_path, "a.mp4")
    record_outcome(here, Outcome.QUARANTINED, reason="undecodable")
    assert to_do(here, replace(WANTED, retry_quarantined=retry)) == planned


@pytest.mark.parametrize(
    ("quarantine", "planned"),
    [
        ({"reason": "missing"}, ["a.mp4"]),
        ({"reason": "unreadable"}, ["a.mp4"]),
        ({"reason": "empty_file"}, ["a.mp4"]),
        ({"reason": "not_a_video"}, []),
        ({"reason": "too_long", "limit": "max_duration_s", "found": 120.0}, ["a.mp4"]),
        ({"reason": "too_long", "limit": "max_duration_s", "found": 120.1}, []),
        ({"reason": "too_large", "limit": "max_bytes", "found": 5}, []),
        ({"reason": "too_large"}, []),  # an outcome of release 0.1 does not name the limit
    ],
)
def test_a_quarantine_that_listing_or_limits_refute_lapses(here, tmp_path, quarantine, planned):
    put(tmp_path, "a.mp4")
    record_outcome(here, Outcome.QUARANTINED, **quarantine)
    wanted = replace(WANTED, limits={"max_duration_s": 120.0, "max_bytes": 4})
    assert to_do(here, wanted) == planned


@pytest.mark.parametrize(("outcome", "refused"), [(Outcome.QUARANTINED, "unreadable"), (Outcome.FAILED, "unreadable"),
                                                  (Outcome.REJECTED, "")])  # fmt: skip
def test_a_clip_keeps_why_an_earlier_run_could_not_read_it_until_it_changes(here, tmp_path, outcome, refused):
    put(tmp_path, "a.mp4")
    record_outcome(here, outcome, reason="unreadable")
    _, store, source = here
    assert [clip.refused for clip in survey(store, source, [DAY], WANTED).to_do[DAY]] == [refused]
    put(tmp_path, "a.mp4", b"repaired")
    assert [clip.refused for clip in survey(store, source, [DAY], WANTED).to_do[DAY]] == [""]


def test_compacting_merges_the_files_and_keeps_the_outcomes(here, tmp_path):
    _, store, _ = here
    for n in range(40):
        put(tmp_path, f"{n}.mp4")
    record_outcome(here, Outcome.CAPTIONED, origin=Origin.NEW)
    record_outcome(here, Outcome.INDEXED, run="r.2", origin=Origin.NEW, chunks=3)
    known, of_run = ledger(store, DAY), run_outcomes(store, DAY, "r.2")
    for run in ("r.1", "r.2", "r.2"):
        compact(store, DAY, run)
    assert ledger(store, DAY) == known and len(known) == 40
    assert run_outcomes(store, DAY, "r.2") == of_run
    assert store.list(outcomes_path(DAY, "r.2")) == [f"{outcomes_path(DAY, 'r.2')}/all.jsonl"]
    assert len(store.list(f"ledger/day={DAY}")) == 1


def test_a_run_that_fails_later_keeps_the_content_digest(here, tmp_path):
    _, store, _ = here
    put(tmp_path, "a.mp4")
    (before,) = record_outcome(here, Outcome.INDEXED)
    journal = Journal(store, DAY, "r.2", "b1", "caption", 1)
    journal.add(replace(before, outcome=Outcome.FAILED, content=""))
    journal.flush()
    (now,) = ledger(store, DAY).values()
    assert now.outcome is Outcome.FAILED and now.content == before.content


def test_batches_grow_to_their_maximum_size_before_planning_fails():
    batches = Batches(size=64, max_size=512, max_batches=100)
    assert batch_size(batches, [6_400]) == 64
    assert batch_size(batches, [6_401]) == 128
    assert batch_size(batches, [51_200]) == 512
    with pytest.raises(ConfigurationError, match="split the work by day: airflow backfill create"):
        batch_size(batches, [51_201])


def test_a_cleared_run_has_a_label_of_its_own():
    assert run_label("manual__2026-11-03T01:02:03+00:00", 2) == "manual__2026-11-03T01-02-03-00-00.2"


def test_a_dry_run_of_an_archive_counts_every_day_as_a_run_of_its_own(tmp_path, monkeypatch, capsys):
    for day in ("2026-11-03", "2026-11-04", "2026-11-05"):
        for number in range(4 if day == DAY else 2):
            put(tmp_path, f"{number}.mp4", day=day)
    monkeypatch.setenv("CLIPDEX_HOME", str(tmp_path))
    for name, value in {"SIZE": 1, "MAX_SIZE": 2, "MAX_BATCHES": 3}.items():  # all days together would not fit
        monkeypatch.setenv(f"CLIPDEX_BATCHES__{name}", str(value))
    arguments = ["plan", str(tmp_path / "clips"), "--from", "2026-11-03", "--to", "2026-11-05", "--json"]
    assert cli.main(arguments) == 0
    output = json.loads(capsys.readouterr().out)
    assert output["to_do"] == {"2026-11-03": 4, "2026-11-04": 2, "2026-11-05": 2}
    assert output["batches_by_day"] == {"2026-11-03": 2, "2026-11-04": 2, "2026-11-05": 2}


@pytest.mark.parametrize("language", ["en", "ru"])
def test_a_clip_is_done_in_the_collection_that_the_index_task_writes(tmp_path, language):
    settings = Settings.load(home=tmp_path, engine={"language": language})
    embedder = open_embedder(settings.embedding, language)
    assert CompletionCriteria.under(settings).collection == Collection.of(settings, embedder).name
