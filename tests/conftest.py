"""For every test: a stand-in engine, a pipeline that captions with it, and signals as in a foreground shell."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.engine import StandIn
from tests.support.pipeline import Pipeline

# A shell that runs tests in the background lets its jobs ignore SIGINT, and so everything that a test starts.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def engine() -> Iterator[StandIn]:
    with StandIn(words=80) as engine:
        yield engine


@pytest.fixture
def pipeline(tmp_path: Path, engine: StandIn) -> Pipeline:
    return Pipeline(tmp_path, [engine.url])
