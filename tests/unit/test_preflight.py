"""Test what a preflight finds on nodes with silent faults, and what follows. Runs against the stand-in engine."""

import asyncio
import json
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

SMALL = {"short_side": 252, "max_frames": 16, "min_fps": 2.0}


@pytest.fixture(autouse=True)
def forget(monkeypatch) -> None:
    """Start without reports of earlier tests: a port may be used again."""
    monkeypatch.setattr(cache, "_IN_PROCESS", {})


@pytest.fixture
def serve() -> Iterator[Callable[..., StandIn]]:
    with ExitStack() as stack:
        yield lambda *args, **options: stack.enter_context(StandIn(*args, **options))


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
