"""Test that /proc can be read while processes and threads end."""

import subprocess
import threading
from pathlib import Path

import pytest

from tests.support.processes import children, ended, entries, limits_of, text


def test_an_ended_thread_and_process_read_as_empty():
    known = list[int]()
    thread = threading.Thread(target=lambda: known.append(threading.get_native_id()))
    thread.start()
    thread.join()
    with subprocess.Popen(["true"]) as process:
        pass
    assert text(Path(f"/proc/self/task/{known[0]}/children")) == ""
    assert list(entries(Path(f"/proc/{process.pid}/task"))) == []
    assert (children(process.pid), limits_of(process.pid), ended(process.pid)) == ([], {}, True)


def test_children_are_found_while_threads_end():
    stop = threading.Event()

    def start_threads() -> None:
        while not stop.is_set():
            threads = [threading.Thread(target=int) for _ in range(8)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()

    with subprocess.Popen(["sleep", "600"]) as process:
        starting = threading.Thread(target=start_threads)
        starting.start()
        found = [children() for _ in range(300)]
        stop.set()
        starting.join()
        process.kill()
    assert all(process.pid in pids for pids in found)


def test_an_unreadable_file_is_an_error(tmp_path):
    with pytest.raises(IsADirectoryError):
        text(tmp_path)
