"""Test that clipdex eval, stopped by a signal, leaves nothing."""

import os
import signal
import subprocess
import sys
import time

import pytest

from clipdex.evaluation import Judgement, Judgements
from tests.support.judgements import write_set
from tests.support.qdrant import QdrantServer


@pytest.fixture
def server():
    with QdrantServer() as server:
        yield server


@pytest.mark.parametrize(("backend", "by"), [("edge", signal.SIGTERM), ("server", signal.SIGINT)])
def test_a_signal_deletes_the_temporary_collection(tmp_path, server, backend, by):
    texts = {f"clip-{n}": f"In take {n} a person walks past the house number {n}. " * 40 for n in range(120)}
    file = write_set(tmp_path / "set.jsonl", Judgements((Judgement("house number 7", "clip-7"),), texts))
    (tmp_path / "tmp").mkdir()
    environment = {**os.environ, "TMPDIR": str(tmp_path / "tmp"), "CLIPDEX_HOME": str(tmp_path / "home")}
    if backend == "server":
        environment["CLIPDEX_INDEX__URL"] = server.url
    process = subprocess.Popen(
        [sys.executable, "-m", "clipdex.cli", "eval", str(file)], env=environment, stderr=subprocess.PIPE, text=True
    )

    def present():
        if backend == "server":
            return [one.name for one in server.client.get_collections().collections]
        return [str(path) for path in (tmp_path / "tmp").glob("*/.clipdex/index/clips-eval-*")]

    deadline = time.monotonic() + 300
    while not present() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    assert present()
    process.send_signal(by)
    _, error = process.communicate(timeout=300)
    assert (process.returncode, present(), list((tmp_path / "tmp").iterdir())) == (130, [], []), error
    assert error == "clipdex eval: interrupted; nothing is kept: run the same command again\n"
