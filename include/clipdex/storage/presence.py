"""Presence: whether an archive is there, so that a file of an archive that is away does not count as missing.

A disk or mount that goes away leaves an empty folder, another disk, or errors. A bucket is denied or not found.
"""

import os
from pathlib import Path
from typing import Any

from clipdex.errors import SourceUnavailable
from clipdex.storage.filesystem import is_local

# A prefix of a bucket exists only while it has objects; a folder of any other filesystem exists without files.
_BUCKETS = frozenset({"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "adl", "oss"})


class Presence:
    """The root of an archive, as it was when this object was made.

    url: for messages
    is_bucket: folders exist only while there are files in them
    """

    def __init__(self, fs: Any, root: str, url: str) -> None:
        self._fs, self._root, self._url = fs, root, url
        self._local = is_local(fs)
        protocols = {fs.protocol} if isinstance(fs.protocol, str) else set(fs.protocol)
        self.is_bucket = bool(protocols & _BUCKETS)
        self._device = _device(root) if self._local else None

    def require(self) -> None:
        """Raise SourceUnavailable if the root cannot be listed, is empty, or is on another disk than before."""
        try:
            found = self._listed()
        except FileNotFoundError:
            raise SourceUnavailable(self._away("it does not exist")) from None
        except PermissionError as error:
            raise SourceUnavailable(self._away(f"no permission to list it ({error.strerror or error})")) from error
        except Exception as error:  # object store clients have their own exception types
            raise SourceUnavailable(self._away(f"it does not answer ({error})")) from error
        if not found:
            raise SourceUnavailable(self._away("it is empty"))
        if self._local and self._device is not None and _device(self._root) != self._device:
            raise SourceUnavailable(self._away("another disk is mounted there than before"))

    def _listed(self) -> bool:
        """Return whether the root has entries; for a bucket, whether the bucket exists."""
        if self._local:
            with os.scandir(self._root or "/") as entries:
                return next(entries, None) is not None
        if self.is_bucket:
            try:
                self._fs.info(self._root)
            except FileNotFoundError:
                self._fs.info(self._root.lstrip("/").split("/")[0])
            except PermissionError:  # a key may list only
                self._fs.ls(self._root)
            return True
        return bool(self._fs.ls(self._root, detail=False))

    def _away(self, why: str) -> str:
        return f"{self._url}: {why}: check the mount, the disk or the bucket of the archive; no clip counts as missing"


def _device(path: str) -> int | None:
    try:
        return Path(path or "/").stat().st_dev
    except OSError:
        return None
