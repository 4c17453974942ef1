"""Test the embedded index: one process at a time, and no data lost when that process is killed."""

import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from subprocess import PIPE

import pytest
import qdrant_edge

from clipdex.config import Settings
from clipdex.errors import ConfigurationError, IndexUnavailable
from clipdex.index import edge, open_index, replace
from clipdex.index.points import PAYLOAD_INDEXES
from tests.support.indexes import SMALL, point

HOLD = """
import sys, time
from clipdex.config import Settings
from clipdex.index import open_index
from tests.support.indexes import SMALL
with open_index(Settings.load(home=sys.argv[1]), SMALL) as index:
    index.ensure()
    print("held", flush=True)
    sys.stdin.readline()
"""

WRITE = """
import sys
from clipdex.config import Settings
from clipdex.index import open_index
from tests.support.indexes import SMALL, point
with open_index(Settings.load(home=sys.argv[1]), SMALL) as index:
    index.ensure()
    for start in range(0, 10**6, 64):
        index.upsert([point(f"c{n}", f"clip {n}") for n in range(start, start + 64)])
        print(start + 64, flush=True)
"""


@contextmanager
def process(code, home):
    """Run Python code in a process of its own, and kill it at the end."""
    own = subprocess.Popen(
        [sys.executable, "-c", code, str(home)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        yield own
    finally:
        own.kill()
        own.wait()
        own.stdin.close()
        own.stdout.close()


def settings(home, wait_s=5.0):
    return Settings.load(home=home, index={"lock_wait_s": wait_s})


def test_index_held_by_another_process_is_unavailable_and_names_it(tmp_path):
    with process(HOLD, tmp_path) as holder:
        assert holder.stdout.readline() == "held\n"
        started = time.monotonic()
        with (
            pytest.raises(IndexUnavailable, match=f"held by process {holder.pid} "),
            open_index(settings(tmp_path, 0.3)),
        ):
            pass
        assert time.monotonic() - started >= 0.3


def test_index_is_free_as_soon_as_its_holder_closes_it(tmp_path):
    with process(HOLD, tmp_path) as holder:
        assert holder.stdout.readline() == "held\n"
        holder.stdin.write("go\n")
        holder.stdin.flush()
        with open_index(settings(tmp_path)) as index:
            assert index.count() == 0


def test_index_is_free_after_its_holder_is_killed(tmp_path):
    with process(HOLD, tmp_path) as holder:
        assert holder.stdout.readline() == "held\n"
        holder.send_signal(signal.SIGKILL)
        holder.wait()
        with open_index(settings(tmp_path, 0.0)) as index:
            assert index.count() == 0


@pytest.mark.slow
@pytest.mark.parametrize("acknowledged", [64, 640, 1920])
def test_kill_in_the_middle_of_writing_loses_nothing_acknowledged(tmp_path, acknowledged):
    with process(WRITE, tmp_path) as writer:
        while int(writer.stdout.readline()) < acknowledged:
            pass
        writer.send_signal(signal.SIGKILL)
        reported = writer.stdout.read().split()
        last = int(reported[-1]) if reported else acknowledged
    with open_index(settings(tmp_path)) as index:
        there = {hit.payload["clip_id"] for hit in index.scroll()}
        assert {f"c{n}" for n in range(last)} <= there
        replace(index, {"c0": [point("c0", "written after the kill", key="new")]})
        assert index.count({"clip_id": "c0"}) == 1


def test_partially_created_collection_is_created_again(tmp_path):
    half = tmp_path / ".clipdex" / "index" / f".new-{SMALL.name}"
    (half / "shard" / "segments").mkdir(parents=True)
    (half / "shard" / "segments" / "torn").write_bytes(b"\0")
    with open_index(settings(tmp_path), SMALL) as index:
        index.ensure()
        index.upsert([point("a", "one")])
        assert index.count() == 1


def test_damaged_collection_raises_an_error_with_the_next_step(tmp_path):
    with open_index(settings(tmp_path), SMALL) as index:
        index.ensure()
    config = tmp_path / ".clipdex" / "index" / SMALL.name / "collection.json"
    config.write_text("{")
    with pytest.raises(ConfigurationError, match="move it away and index again"), open_index(settings(tmp_path)):
        pass


def test_vector_of_another_length_is_not_retried(tmp_path):
    with open_index(settings(tmp_path), SMALL) as index:
        index.ensure()
        with pytest.raises(ConfigurationError, match="expected dim: 8"):
            index.upsert([point("a", "one", vector=[1.0] * 9)])


def test_clip_day_and_model_have_a_payload_index_before_the_first_point(tmp_path):
    with open_index(settings(tmp_path), SMALL) as index:
        index.ensure()
    shard = qdrant_edge.EdgeShard.load(str(tmp_path / ".clipdex" / "index" / SMALL.name / "shard"))
    assert set(shard.info().payload_schema) == set(PAYLOAD_INDEXES)
    shard.close()


HOLD_WITHOUT_THE_LOCK = """
import sys
from pathlib import Path
from clipdex.index.edge import _load, _read_collection
folder = Path(sys.argv[1])
shard = _load(folder / "shard", _read_collection(folder))
print("open", flush=True)
sys.stdin.readline()
shard.close()
"""


@pytest.fixture
def held(tmp_path):
    """Return the folder of an index whose shard a process without the lock file has open, and that process."""
    settings = Settings.load(home=tmp_path)
    with open_index(settings, SMALL) as index:
        index.ensure()
    folder = settings.edge_path / SMALL.name
    with subprocess.Popen(
        [sys.executable, "-c", HOLD_WITHOUT_THE_LOCK, folder], stdin=PIPE, stdout=PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "open\n"
        yield settings, process


def test_a_shard_that_its_last_process_is_about_to_close_is_waited_for(held):
    settings, process = held
    lock = settings.edge_path / "lock"

    def end_when_locked():
        while f"process {os.getpid()}" not in lock.read_text():
            pass
        process.communicate("\n")

    ending = threading.Thread(target=end_when_locked)
    ending.start()
    with open_index(settings, SMALL) as index:
        index.ensure()
        assert index.count() == 0
    ending.join()


def test_a_shard_that_stays_open_elsewhere_is_named(held, monkeypatch):
    settings, process = held
    monkeypatch.setattr(edge, "_LEFT_S", 0.1)
    with (
        pytest.raises(IndexUnavailable, match="is open in a process that ignores the lock file"),
        open_index(settings, SMALL) as index,
    ):
        index.ensure()
    process.communicate("\n")
