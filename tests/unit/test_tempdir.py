"""Test that the folder of a task in TMPDIR is deleted with the task, or after a kill by the next task."""

import os
import signal
import subprocess
import sys
import time

import pytest

from clipdex.storage.tempdir import scratch

HOLD = """
import sys, time
from clipdex.storage.tempdir import scratch
with scratch() as folder:
    (folder / "clip.mp4").write_bytes(b"fetched")
    print(folder, flush=True)
    time.sleep(60)
"""
AN_HOUR_AGO = time.time() - 3600


@pytest.fixture(autouse=True)
def parent(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    return tmp_path


@pytest.fixture
def holder():
    """Start another process with a folder that is an hour old."""
    with subprocess.Popen([sys.executable, "-c", HOLD], stdout=subprocess.PIPE, text=True) as process:
        folder = process.stdout.readline().strip()
        os.utime(folder, (AN_HOUR_AGO, AN_HOUR_AGO))
        yield process
        process.kill()


def names(parent) -> set[str]:
    return {path.name for path in parent.iterdir()}


def test_the_folder_is_deleted_with_its_content(parent):
    with scratch() as folder:
        (folder / "clip.mp4").write_bytes(b"fetched")
        assert folder.parent == parent
    assert names(parent) == set()


def test_the_folder_of_a_killed_process_is_deleted_by_the_next(parent, holder):
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert len(names(parent)) == 1
    with scratch() as folder:
        assert names(parent) == {folder.name}


def test_the_folder_of_a_running_process_stays(parent, holder):
    before = names(parent)
    with scratch():
        pass
    assert names(parent) == before


def test_new_folders_and_those_of_other_programs_stay(parent):
    (parent / "clipdex-batch-new").mkdir()
    (parent / "clipdex-faults-old").mkdir()
    (parent / "elsewhere").mkdir()
    (parent / "clipdex-batch-link").symlink_to(parent / "elsewhere")
    for name in ("clipdex-faults-old", "elsewhere"):
        os.utime(parent / name, (AN_HOUR_AGO, AN_HOUR_AGO))
    os.utime(parent / "clipdex-batch-link", (AN_HOUR_AGO, AN_HOUR_AGO), follow_symlinks=False)
    before = names(parent)
    with scratch():
        pass
    assert names(parent) == before
