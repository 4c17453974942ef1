"""Test clipdex gates: stored captions that would be refused today are listed by reason, and replaced on request."""

import json
from dataclasses import replace

import pytest

from clipdex import cli
from tests.support.engine import StandIn
from tests.support.pipeline import DAY, Pipeline


@pytest.fixture
def stored(tmp_path, monkeypatch):
    """Yield a pipeline with four captions, three of them as a release without cleaning stored them."""
    with StandIn(words=80) as engine:
        pipeline = Pipeline(tmp_path, [engine.url])
        pipeline.put(4)
        pipeline.run()
        for name, value in pipeline.environment().items():
            monkeypatch.setenv(name, value)
        added = {"0": "<think>\nIs it a street?", "1": "<think>Hm.</think>", "2": "Sure! Here is a description:\n\n"}
        for name, outcome in pipeline.outcomes().items():
            caption = pipeline.store.caption(outcome.caption_key)
            before = added.get(name[-5], "")
            pipeline.store.write_caption(replace(caption, text=f"{before}{caption.text}", segments=()))
        engine.requests.clear()
        yield pipeline, engine


def _listed(capsys, *arguments: str):
    assert cli.main(["gates", *arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_stored_captions_that_would_be_refused_are_listed_by_reason(stored, capsys):
    pipeline, engine = stored
    found = {one["uri"][-5]: (one["reason"], one["cleaned"]) for one in _listed(capsys)}
    assert found == {
        "0": ("caption_reasoning", ""),
        "1": ("caption_reasoning", "reasoning"),
        "2": ("caption_markup", "pleasantries"),
    }
    assert len(_listed(capsys, "--reason", "caption_markup")) == 1
    assert _listed(capsys, "--from", "2026-11-04") == []
    assert cli.main(["gates"]) == 0
    assert (
        "3 stored captions would not be stored today: caption_reasoning 2, caption_markup 1" in capsys.readouterr().out
    )
    assert pipeline.plan("r.2").to_do == 0  # an upgrade captions nothing again
    assert not engine.chats


def test_they_are_replaced_by_reason_and_no_other_clip_is_captioned(stored, capsys):
    _, engine = stored
    assert cli.main(["gates", "--reason", "caption_reasoning", "--recaption"]) == 0
    assert "indexed 2" in capsys.readouterr().out
    assert len(engine.chats) == 2
    assert [one["reason"] for one in _listed(capsys)] == ["caption_markup"]


def test_the_params_of_a_run_name_the_clips_of_a_day(stored, capsys):
    pipeline, _ = stored
    clips = [one["clip_id"] for one in _listed(capsys)]
    assert cli.main(["gates", "--params"]) == 0
    (params,) = map(json.loads, capsys.readouterr().out.splitlines())
    assert params == {"day": DAY, "recaption": True, "clips": clips}
    assert pipeline.survey([DAY], pipeline.criteria(recaption=True), only=params["clips"]).to_do[DAY]
