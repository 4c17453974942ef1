"""Kept open: the embedded index stays open in a process between its searches, until another one needs it.

Opening takes longer than a search. A process that waits for the index holds a shared lock on FOLDER/waiting. The owner
looks for it after each search, and 50 times per second while no search runs, and closes the index. A minute without a
search closes it, too. A forked child inherits nothing: neither the open index nor its locks.
"""

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from clipdex.errors import IndexUnavailable
from clipdex.index.edge import EdgeIndex, is_wanted, locked

_POLL_S, _IDLE_S, _FORK_WAIT_S = 0.02, 60.0, 1.0


@contextmanager
def kept_open(folder: Path, alias: str, open_index: Callable[[], EdgeIndex], wait_s: float) -> Iterator[EdgeIndex]:
    """Yield the index of an alias to one search; other searches of this process wait.

    open_index: called with the folder locked, if the index is not open yet
    Raises IndexUnavailable after wait_s [s], and what open_index raises.
    """
    owner = _owner(folder)
    with owner.turn(wait_s):
        try:
            yield owner.index(alias, open_index, wait_s)
        except BaseException:  # an error may leave the index unusable
            owner.close()
            raise
        if is_wanted(folder):  # here, because the next search may begin before the watching thread looks
            owner.close()


def release(folder: Path, wait_s: float) -> None:
    """Close the index of this folder if this process keeps it open, so that it can write."""
    _folders.add(folder)
    if owner := _owners.get(folder):
        with owner.turn(wait_s):
            owner.close()


class _Owner:
    """Hold the lock of a folder, and the index that is open in it."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._lock = folder, threading.Lock()
        self._index: EdgeIndex | None = None
        self._alias, self._inode, self._used, self._stack = "", 0, 0.0, ExitStack()

    @contextmanager
    def turn(self, wait_s: float) -> Iterator[None]:
        if not self._lock.acquire(timeout=wait_s):
            raise IndexUnavailable(f"{self._folder}: a search of this process holds it; waited {wait_s:g} s: try again")
        try:
            yield
        finally:
            self._lock.release()

    def index(self, alias: str, open_index: Callable[[], EdgeIndex], wait_s: float) -> EdgeIndex:
        if self._index is None or self._alias != alias or self._index.inode != self._inode:
            self.close()
            with ExitStack() as stack:
                stack.enter_context(locked(self._folder, wait_s))
                index = open_index()
                stack.callback(index.close)
                self._stack = stack.pop_all()
            self._alias, self._index, self._inode = alias, index, index.inode
        self._used = time.monotonic()
        return self._index

    def close(self) -> None:
        self._index = None
        self._stack.close()

    def close_if_wanted(self) -> None:
        """Close the index if another process waits for it, or if no search has used it for a minute."""
        if self._index is not None and self._lock.acquire(blocking=False):
            try:
                if time.monotonic() - self._used > _IDLE_S or is_wanted(self._folder):
                    self.close()
            finally:
                self._lock.release()


_owners: dict[Path, _Owner] = {}
_folders: set[Path] = set()  # all that this process has searched or written
_changing = threading.Lock()


def _owner(folder: Path) -> _Owner:
    with _changing:
        if not _owners:  # no thread in this process yet: an owner is never removed, but a forked child has none
            threading.Thread(target=_watch, name="clipdex-kept-index", daemon=True).start()
        _folders.add(folder)
        return _owners.setdefault(folder, _Owner(folder))


def _watch() -> None:
    while True:
        time.sleep(_POLL_S)
        for owner in list(_owners.values()):
            owner.close_if_wanted()


def _before_fork() -> None:
    """Close what is open, and hold the turns until the fork is done, so that the child inherits no lock."""
    _forking.turns = ExitStack()
    for owner in list(_owners.values()):
        with suppress(IndexUnavailable):  # a longer search goes on in the parent
            _forking.turns.enter_context(owner.turn(_FORK_WAIT_S))
            owner.close()


def _after_fork_in_parent() -> None:
    _forking.turns.close()


def _after_fork_in_child() -> None:
    """Forget the owners in the child, without closing what is still in use in the parent."""
    global _changing
    _changing = threading.Lock()
    _forking.turns.close()
    _inherited.extend(_owners.values())
    _owners.clear()
    _drop_locks()


def _drop_locks() -> None:
    """Replace inherited files of an index by /dev/null: a lock stays until the last copy of its file is closed.

    Qdrant locks files of its own. They are not closed, because Qdrant would later close others of the same number.
    """
    folders = [folder.resolve() for folder in _folders]
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    for link in list(Path("/dev/fd").iterdir()) if folders else []:
        with suppress(OSError):  # the file of iterdir itself is closed by now
            path = link.readlink()
            if any(path.is_relative_to(folder) for folder in folders):
                os.dup2(null, int(link.name), inheritable=False)
    os.close(null)


_forking = threading.local()  # turns: held by this thread during a fork
_inherited: list[_Owner] = []
os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child)
