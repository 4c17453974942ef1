"""For every test: a stand-in engine, a pipeline that captions with it, and signals as in a foreground shell."""

import os
import shutil
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.support.engine import StandIn
from tests.support.pipeline import Pipeline

# A shell that runs tests in the background lets its jobs ignore SIGINT, and so everything that a test starts.
signal.signal(signal.SIGINT, signal.default_int_handler)

# A preflight takes some 30 requests per node. The tests of it turn it on (tests/unit/test_preflight.py).
os.environ.setdefault("CLIPDEX_ENGINE__PREFLIGHT", "off")

# Indexes and stores wait for the disk at each write. In memory, a test of them takes about 60 % of the time.
_MEMORY, _ROOM = "/dev/shm", 6 << 30
with suppress(OSError):
    if shutil.disk_usage(_MEMORY).free > _ROOM:
        os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", _MEMORY)


@pytest.fixture
def engine() -> Iterator[StandIn]:
    with StandIn(words=80) as engine:
        yield engine


@pytest.fixture
def pipeline(tmp_path: Path, engine: StandIn) -> Pipeline:
    return Pipeline(tmp_path, [engine.url])
