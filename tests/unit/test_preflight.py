"""Test what a preflight finds on nodes with silent faults, and what follows. Runs against the stand-in engine."""

import asyncio
import json
import re
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from clipdex import cli
from clipdex.captions.engines import inspect_nodes
from clipdex.captions.http.model import ServerModel
from clipdex.captions.preflight import Level, NodeReport, cache
from clipdex.captions.preflight.findings import Check
from clipdex.config import Settings
from clipdex.errors import ConfigurationError, EngineUnavailable
from clipdex.families import FAMILIES
from clipdex.storage.artifacts import Store
from tests.support.engine import MODEL, StandIn
from tests.support.pipeline import Pipeline

SMALL = {"short_side": 252, "max_frames": 16, "min_fps": 2.0}


@pytest.fixture(autouse=True)
def forget(monkeypatch) -> None:
    """Start without reports of earlier tests: a port may be used again."""
    monkeypatch.setattr(cache, "_IN_PROCESS", {})


@pytest.fixture
def serve() -> Iterator[Callable[..., StandIn]]:
    with ExitStack() as stack:
        yield lambda *args, **options: stack.enter_context(StandIn(*args, **options))


@pytest.fixture
def node_down() -> Iterator[str]:
    """Yield the address of a node that is down."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{taken.getsockname()[1]}"


def settings(*nodes: StandIn | str, sampling: dict[str, Any] | None = None, **engine: Any) -> Settings:
    urls = [node if isinstance(node, str) else node.url for node in nodes]
    dialect = nodes[0].dialect if isinstance(nodes[0], StandIn) else "sglang"
    return Settings.load(
        engine={"name": dialect, "model": MODEL, "base_urls": urls, "tries": 2, "preflight": "warn", **engine},
        sampling={**SMALL, **(sampling or {})},
    )


def report(node: StandIn, **changes: Any) -> NodeReport:
    [found] = asyncio.run(inspect_nodes(settings(node, **changes)))
    return found


def found(report: NodeReport) -> dict[Check, tuple[Level, str]]:
    return {finding.check: (finding.level, finding.text) for finding in report.findings}


def check(chosen: Settings, records: Any = None) -> list[str]:
    """Check as a task does, and return the nodes that it would use."""

    async def work() -> list[str]:
        model = ServerModel(chosen, backoff_s=0.01, records=records)
        try:
            await model.check()
            return [node.url for node in model._nodes.serving]
        finally:
            await model.aclose()

    return asyncio.run(work())


def test_a_healthy_node_passes_every_check(serve):
    levels = {check: level for check, (level, _) in found(report(serve())).items()}
    assert set(levels.values()) == {Level.OK}
    assert set(levels) == set(Check) - {Check.NODE}


@pytest.mark.parametrize(
    ("silent", "check", "level", "says"),
    [
        ("half_sampling", Check.TOKENS, Level.ERROR, "half of the frames.*issue 31200"),
        ("dropped", Check.TOKENS, Level.ERROR, "10 of 16 frames.*--mm-process-config"),
        ("resampled", Check.TOKENS, Level.ERROR, "always 32 frames of any video"),
        ("resized", Check.TOKENS, Level.ERROR, "resized, to about .*max_pixels"),
        ("blind", Check.LOOKS, Level.ERROR, "does not look at the video"),
        ("no_clock", Check.CLOCK, Level.WARNING, "reversed are equal.*docker/sglang/serve"),
        ("reasoning", Check.REASONING, Level.WARNING, "enable_thinking"),
        ("reasoning_field", Check.REASONING, Level.WARNING, "enable_thinking"),
        ("ignores_max_tokens", Check.MAX_TOKENS, Level.ERROR, "ignores max_tokens"),
        ("ignores_temperature", Check.TEMPERATURE, Level.WARNING, "ignores the temperature"),
        ("ignores_seed", Check.SEEDS, Level.NOTE, "seeds are not honoured"),
        ("random_text", Check.CLOCK, Level.SKIPPED, "random weights"),
    ],
)
def test_a_silent_fault_is_found_and_named(serve, silent, check, level, says):
    # Frames of fewer pixels than SGLang's least would be enlarged again.
    sampling = {"short_side": 504} if silent == "resized" else {}
    results = found(report(serve(silent=silent), sampling=sampling))
    assert results[check][0] is level
    assert re.search(says, results[check][1])
    others = {one for one, (level, _) in results.items() if level in (Level.WARNING, Level.ERROR)} - {check}
    assert not others


@pytest.mark.parametrize("family", [name for name, family in FAMILIES.items() if family.video])
def test_the_tokens_of_each_family_are_expected_and_a_lost_frame_is_noticed(serve, family):
    sampling = {"family": family, "short_side": 448}
    assert found(report(serve(family=family), sampling=sampling))[Check.TOKENS][0] is Level.OK
    level, text = found(report(serve(family=family, silent="half_sampling"), sampling=sampling))[Check.TOKENS]
    assert level is (Level.ERROR if FAMILIES[family].certain else Level.WARNING)
    assert "half of the frames" in text


@pytest.mark.parametrize("dialect", ["vllm", "tensorrt-llm"])
def test_the_flag_of_the_server_is_named(serve, dialect):
    flags = {"video": {"num_frames": 768}} if dialect == "tensorrt-llm" else {}
    options = {"dialect": dialect, "version": "0.33.0", "model": "Qwen2.5-VL-7B-Instruct", **flags}
    node = serve(**options)
    assert found(report(node, model=node.model))[Check.TOKENS][0] is Level.OK
    node = serve(silent="half_sampling", **options)
    level, text = found(report(node, model=node.model))[Check.TOKENS]
    assert level is Level.ERROR
    assert ("--media_io_kwargs" if dialect == "tensorrt-llm" else "--media-io-kwargs") in text


def test_tensorrt_llm_that_takes_ten_frames_of_any_video_is_refused(serve):
    node = serve(dialect="tensorrt-llm", model="Qwen2.5-VL-7B-Instruct")
    assert "10 of 16 frames" in found(report(node, model=node.model))[Check.TOKENS][1]


def test_the_model_is_asked_at_each_rate_that_clipdex_may_send(serve):
    node = serve(silent="no_clock")
    low = found(report(node, sampling={"fps": 2.0, "min_fps": 0.5}))[Check.CLOCK][1]
    assert "right answers" in low
    asked = {one.frames for one in node.probes if one.frames}
    assert asked == {8, 16}
    assert len(node.probes) <= 40


def test_a_task_stops_if_every_node_is_bad(serve):
    nodes = serve(silent="half_sampling"), serve(silent="dropped")
    with pytest.raises(ConfigurationError, match=r"expected \d+ tokens of qwen2.5-vl, counted \d+.*check-engine"):
        check(settings(*nodes))


def test_a_bad_node_among_good_ones_is_left_out(serve, caplog):
    good, bad = serve(), serve(silent="half_sampling")
    assert check(settings(good, bad)) == [good.url]
    assert bad.url in caplog.text
    assert "half of the frames" in caplog.text


def test_a_node_that_is_down_is_no_failure_of_the_preflight(serve, node_down, caplog):
    good = serve()
    assert check(settings(good, node_down)) == [good.url]
    with pytest.raises(EngineUnavailable):
        check(settings(node_down))


@pytest.mark.parametrize("silent", ["no_clock", "reasoning", "ignores_temperature"])
def test_a_warning_stops_a_strict_task_alone(serve, silent, caplog):
    node = serve(silent=silent)
    assert check(settings(node)) == [node.url]
    assert "preflight" in caplog.text
    with pytest.raises(ConfigurationError, match="preflight failed"):
        check(settings(node, preflight="strict"))


def test_random_weights_pass_a_strict_preflight(serve):
    node = serve(silent="random_text")
    assert check(settings(node, preflight="strict")) == [node.url]


def test_a_clock_that_was_accepted_is_no_fault(serve):
    node = serve(silent="no_clock", clocked=False)
    assert check(settings(node, preflight="strict", clock="engine")) == [node.url]


def test_the_next_task_does_not_repeat_a_preflight(serve, tmp_path, monkeypatch):
    node = serve()
    store = Store.open(Settings.load(store={"url": str(tmp_path)}))
    check(settings(node), store)
    once = len(node.probes)
    assert 0 < once <= 40
    check(settings(node), store)
    monkeypatch.setattr(cache, "_IN_PROCESS", {})  # as in the process of another task
    check(settings(node), store)
    assert len(node.probes) == once
    check(settings(node, sampling={"max_frames": 12}), store)
    assert len(node.probes) > once


def test_a_node_that_was_restarted_with_other_flags_is_checked_again(serve, tmp_path):
    node = serve()
    check(settings(node))
    once = len(node.probes)
    node.version = "0.5.18"
    check(settings(node))
    assert len(node.probes) == 2 * once


def test_a_bad_node_is_checked_again_soon(serve, monkeypatch):
    node = serve(silent="half_sampling")
    with pytest.raises(ConfigurationError):
        check(settings(node))
    node.silent = frozenset()
    monkeypatch.setattr(cache, "_BAD_S", 0.0)
    assert check(settings(node)) == [node.url]


def test_nothing_is_sent_if_the_preflight_is_off(serve):
    node = serve(silent="half_sampling")
    assert check(settings(node, preflight="off")) == [node.url]
    assert not node.probes


def test_requests_of_a_preflight_are_no_captions(serve):
    node = serve()
    check(settings(node))
    assert node.probes
    assert not node.chats


def test_pictures_are_sent_by_strategies_of_frames(serve):
    results = found(report(serve(), strategy="frames-merge"))
    assert results[Check.TOKENS][0] is results[Check.CLOCK][0] is Level.SKIPPED
    assert results[Check.MAX_TOKENS][0] is Level.OK


def test_an_unknown_family_is_said(serve):
    level, text = found(report(serve(model_type="llava"), sampling={}))[Check.TOKENS]
    assert (level, "CLIPDEX_SAMPLING__FAMILY" in text) == (Level.WARNING, True)


@pytest.fixture
def environment(monkeypatch, tmp_path) -> Callable[..., None]:
    def set_up(*nodes: StandIn | str, **more: str) -> None:
        urls = [node if isinstance(node, str) else node.url for node in nodes]
        values = {
            "ENGINE__NAME": "sglang", "ENGINE__MODEL": MODEL, "ENGINE__BASE_URLS": json.dumps(urls),
            "SAMPLING__MAX_FRAMES": "16", "SAMPLING__SHORT_SIDE": "252", "STORE__URL": str(tmp_path), **more,
        }  # fmt: skip
        for name, value in values.items():
            monkeypatch.setenv(f"CLIPDEX_{name}", value)

    return set_up


def test_check_engine_prints_a_table_per_node(serve, environment, capsys):
    good, bad = serve(), serve(silent="half_sampling")
    environment(good, bad, ENGINE__PREFLIGHT="off")
    assert cli.main(["check-engine"]) == 1
    shown = capsys.readouterr().out
    assert "passes" in shown
    assert "fails" in shown
    assert "31200" in shown


def test_check_engine_writes_json(serve, environment, node_down, capsys):
    environment(serve(), node_down)
    assert cli.main(["check-engine", "--json"]) == 1
    [up, down] = json.loads(capsys.readouterr().out)["nodes"]
    assert (up["passed"], down["passed"]) == (True, False)
    assert down["findings"][0]["check"] == "node"


def test_check_engine_fails_for_warnings_if_it_is_strict(serve, environment, capsys):
    environment(serve(silent="no_clock"))
    assert cli.main(["check-engine"]) == 0
    assert cli.main(["check-engine", "--strict"]) == 1


def test_check_engine_needs_an_engine_with_nodes(capsys):
    assert cli.main(["check-engine"]) == 2
    assert "CLIPDEX_ENGINE__NAME" in capsys.readouterr().err


def test_a_run_captions_each_clip_once_beside_one_preflight(serve, tmp_path):
    node = serve(words=80)
    pipeline = Pipeline(
        tmp_path, [node.url], engine={"preflight": "warn", "request_timeout_s": 60.0}, batches={"size": 2}
    )
    pipeline.put(4)
    pipeline.run()
    assert len(pipeline.outcomes()) == 4
    assert len(node.chats) == 4
    assert 0 < len(node.probes) <= 40
    assert pipeline.store.list("preflight")


def test_a_run_spends_no_clip_on_a_bad_node(serve, tmp_path):
    node = serve(silent="half_sampling")
    pipeline = Pipeline(tmp_path, [node.url], engine={"preflight": "warn", "request_timeout_s": 60.0})
    pipeline.put(2)
    with pytest.raises(ConfigurationError, match="preflight failed"):
        pipeline.run()
    assert not node.chats
