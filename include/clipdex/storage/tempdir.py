"""Temporary folders of tasks in TMPDIR. A task removes the folders that killed tasks left."""

import contextlib
import fcntl
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

log = logging.getLogger(__name__)

_PREFIX = "clipdex-batch-"
_SETTLING_S = 60.0  # longest time between creating and locking a folder


@contextlib.contextmanager
def scratch() -> Iterator[Path]:
    """Create an empty folder and remove it at exit. A lock marks it as in use."""
    _remove_abandoned(Path(tempfile.gettempdir()))
    with tempfile.TemporaryDirectory(prefix=_PREFIX) as folder, _locked(Path(folder)):
        yield Path(folder)


def _remove_abandoned(parent: Path) -> None:
    for folder in parent.glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):  # owned by another user, in use, or removed meanwhile
            status = folder.lstat()
            if status.st_uid != os.geteuid() or time.time() - status.st_mtime < _SETTLING_S:
                continue
            with _locked(folder):
                shutil.rmtree(folder)
            log.info("removed %s, left by a killed task", folder)


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Lock a folder. Raises BlockingIOError if another process holds the lock."""
    opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(opened)
