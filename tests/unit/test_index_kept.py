"""Test that the embedded index stays open between searches, and that it is given up to whoever waits for it."""

import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from clipdex.config import Settings
from clipdex.errors import IndexUnavailable, NothingIndexed
from clipdex.index import open_index
from tests.support.indexes import OTHER, SMALL, point

WRITE = """
import sys
from clipdex.config import Settings
from clipdex.index import open_index
from tests.support.indexes import SMALL, point
with open_index(Settings.load(home=sys.argv[1], index={"lock_wait_s": 60.0}), SMALL) as index:
    index.ensure()
    index.upsert([point(sys.argv[2], "a clip")])
"""

SEARCH = """
import sys
from clipdex.config import Settings
from clipdex.index import open_index
for line in sys.stdin:
    with open_index(Settings.load(home=sys.argv[1])) as index:
        print(index.count(), flush=True)
"""

SEARCH_IN_A_FORK = """
import os, sys, threading
from clipdex.config import Settings
from clipdex.errors import IndexUnavailable
from clipdex.index import open_index
settings = Settings.load(home=sys.argv[1], index={"lock_wait_s": 0.1})
def search():
    try:
        with open_index(settings) as index:
            print(index.count(), flush=True)
    except IndexUnavailable:
        print("unavailable", flush=True)
def search_in_a_thread():
    thread = threading.Thread(target=search)
    thread.start()
    thread.join()
os.register_at_fork(before=search_in_a_thread)  # the last one before the fork, because the first registered
search()
child = os.fork()
if child == 0:
    os._exit(0)
os.waitpid(child, 0)
search()
"""


@pytest.fixture
def settings(tmp_path):
    settings = Settings.load(home=tmp_path, index={"lock_wait_s": 20.0})
    with open_index(settings, SMALL) as index:
        index.ensure()
    return settings


def count(settings):
    with open_index(settings) as index:
        return index.count()


def write_elsewhere(settings, clip_id):
    subprocess.run([sys.executable, "-c", WRITE, str(settings.home), clip_id], check=True)


def test_an_index_stays_open_between_searches(settings):
    with open_index(settings) as first:
        first.count()
    with open_index(settings) as second:
        assert second is first


def test_a_writer_in_another_process_gets_the_index_and_the_next_search_sees_its_points(settings):
    assert count(settings) == 0
    write_elsewhere(settings, "a")
    assert count(settings) == 1
    write_elsewhere(settings, "b")
    assert count(settings) == 2


def test_a_writer_in_this_process_gets_the_index(settings):
    assert count(settings) == 0
    with open_index(settings, SMALL) as index:
        index.upsert([point("a", "a clip")])
    assert count(settings) == 1


@pytest.mark.parametrize("threads", [1, 3])
def test_a_writer_in_another_process_gets_the_index_while_threads_search_without_a_pause(settings, threads):
    done, found = threading.Event(), []

    def search():
        while not done.is_set():
            with open_index(settings) as index:
                found.append(index.count())
                done.wait(0.02)  # a longer search

    searching = [threading.Thread(target=search) for _ in range(threads)]
    for thread in searching:
        thread.start()
    try:
        write_elsewhere(settings, "a")
    finally:
        done.set()
        for thread in searching:
            thread.join()
    assert found[0] == 0
    assert count(settings) == 1


def test_processes_take_turns_at_searching(settings):
    write_elsewhere(settings, "a")
    command = [sys.executable, "-c", SEARCH, str(settings.home)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        for _ in range(5):
            assert count(settings) == 1
            other.stdin.write("\n")
            other.stdin.flush()
            assert other.stdout.readline() == "1\n"
        other.stdin.close()


def test_no_file_returns_to_a_folder_that_is_deleted(settings):
    count(settings)
    folder = settings.edge_path
    for path in folder.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    deadline = time.monotonic() + 60
    while any(str(one).startswith(str(folder)) for one in open_files()):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    folder.rmdir()


def open_files():
    return [link.readlink() for link in Path("/proc/self/fd").iterdir() if link.is_symlink()]


def test_a_switched_alias_is_read_by_the_next_search(settings):
    with open_index(settings, SMALL) as index:
        index.upsert([point("a", "a clip")])
    assert count(settings) == 1
    with open_index(settings, OTHER) as index:
        index.ensure()
        index.switch()
    assert count(settings) == 0


def test_two_aliases_of_one_folder_are_searched_in_turns(settings, tmp_path):
    other = Settings.load(home=tmp_path, index={"alias": "second"})
    with open_index(other, OTHER) as index:
        index.ensure()
        index.upsert([point("a", "a clip")])
    assert [count(settings), count(other), count(settings), count(other)] == [0, 1, 0, 1]


def test_an_error_in_a_search_leaves_the_index_usable(settings):
    with pytest.raises(ZeroDivisionError), open_index(settings):
        raise ZeroDivisionError
    assert count(settings) == 0


def test_a_missing_alias_leaves_the_folder_free(settings, tmp_path):
    with pytest.raises(NothingIndexed), open_index(Settings.load(home=tmp_path, index={"alias": "none"})):
        pass
    write_elsewhere(settings, "a")
    assert count(settings) == 1


def test_threads_take_turns(settings):
    found = []
    threads = [threading.Thread(target=lambda: found.extend(count(settings) for _ in range(20))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [0] * 80


def test_a_search_inside_a_search_is_refused(settings, tmp_path):
    short = Settings.load(home=tmp_path, index={"lock_wait_s": 0.1})
    with open_index(short), pytest.raises(IndexUnavailable, match="a search of this process holds it"):
        count(short)


def test_a_forked_child_searches_and_holds_no_lock(settings):
    assert count(settings) == 0
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(write, str(count(settings)).encode())
        os._exit(0)
    os.close(write)
    assert os.read(read, 10) == b"0"
    os.close(read)
    os.waitpid(child, 0)
    write_elsewhere(settings, "a")
    assert count(settings) == 1


def test_a_child_forked_during_a_long_search_holds_no_lock(settings):
    searching, done = threading.Event(), threading.Event()

    def search():
        with open_index(settings) as index:
            index.count()
            searching.set()
            done.wait()

    thread = threading.Thread(target=search)
    thread.start()
    searching.wait()
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(write)
        os.read(read, 1)  # until the parent closes the pipe
        os._exit(0)
    try:
        done.set()
        thread.join()
        write_elsewhere(settings, "a")
        assert count(settings) == 1
    finally:
        os.close(write)
        os.waitpid(child, 0)
        os.close(read)


def test_no_thread_opens_the_index_while_another_one_forks(settings):
    command = [sys.executable, "-c", SEARCH_IN_A_FORK, str(settings.home)]
    assert subprocess.check_output(command, text=True).split() == ["0", "unavailable", "0"]
