"""A folder for as long as a task needs it, in TMPDIR. What a killed task left there is removed by the next one."""

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
_SETTLING_S = 60.0  # between a folder and its lock


@contextlib.contextmanager
def scratch() -> Iterator[Path]:
    """An empty folder that goes with everything in it. A lock on it tells others that its process lives."""
    _remove_abandoned(Path(tempfile.gettempdir()))
    with tempfile.TemporaryDirectory(prefix=_PREFIX) as folder, _locked(Path(folder)):
        yield Path(folder)


def _remove_abandoned(parent: Path) -> None:
    for folder in parent.glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):  # it is another user's, is in use, or was removed meanwhile
            about = folder.lstat()
            if about.st_uid != os.geteuid() or time.time() - about.st_mtime < _SETTLING_S:
                continue
            with _locked(folder):
                shutil.rmtree(folder)
            log.info("removed %s, which a task that was killed left", folder)


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Raises BlockingIOError where another process holds it."""
    opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(opened)
