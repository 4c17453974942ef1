"""make up and make down, as a person uses them: what is up when it says so, and what is left when it ends."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from demo.airflow_api import AirflowApi

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def up(tmp_path):
    """The process of make up, once it has said how to log in, and what it said."""
    with (tmp_path / "said").open("w") as said:
        process = subprocess.Popen(
            [sys.executable, "-m", "demo.up"], cwd=ROOT, env=environment(tmp_path), stdout=said, stderr=said
        )
    try:
        wait_until(lambda: process.poll() is not None or "Ctrl-C" in (tmp_path / "said").read_text(), 180)
        yield process, (tmp_path / "said").read_text()
    finally:
        process.kill()
        process.wait()
        down(tmp_path)


def test_everything_is_there_when_it_says_so_and_ctrl_c_leaves_no_process(up):
    process, said = up
    user, password = re.search(r"Log in as: +(\S+) / (\S+)", said).groups()
    with AirflowApi(re.search(r"http://127\.0\.0\.1:\d+", said)[0], user, password) as api:
        assert {pool["name"] for pool in api.pages("/pools", "pools")} >= {"captioning", "indexing"}
        assert {dag["dag_id"] for dag in api.pages("/dags", "dags")} >= {"ingest_clips"}
        connections = {one["connection_id"] for one in api.pages("/connections", "connections")}
        assert connections == {f"clipdex_{what}" for what in ("source", "store", "engine", "index", "embedding")}
    started = family(process)
    process.send_signal(signal.SIGINT)
    process.wait(30)
    assert [one for one in started if alive(one)] == []


def test_make_down_stops_what_a_killed_make_up_left(up, tmp_path):
    process, _ = up
    started = family(process)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    down(tmp_path)
    assert [one for one in started if alive(one)] == []


def family(process):
    """Its descendants: the components, the executor's workers. More than the components alone."""
    wait_until(lambda: len(psutil.Process(process.pid).children(recursive=True)) > 4, 60)
    return psutil.Process(process.pid).children(recursive=True)


def alive(process):
    """An orphan that was killed stays a zombie until the init of this machine looks at it."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def down(home):
    subprocess.run([sys.executable, "-m", "demo.down"], cwd=ROOT, env=environment(home), check=True, timeout=60)


def environment(home):
    return {**os.environ, "CLIPDEX_HOME": str(home)}


def wait_until(true, seconds):
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, f"not after {seconds} s"
        time.sleep(0.1)
