"""Archive: the root folder of clips: whether it is there, and its files one by one."""

import errno
import hashlib
import logging
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fsspec.callbacks import Callback

from clipdex import config
from clipdex.errors import ClipRejected, Reason, SourceUnavailable, Unavailable
from clipdex.sanitize import escape_line, percent_decode, percent_encode
from clipdex.storage.clip import Clip
from clipdex.storage.filesystem import is_local, modified, open_root
from clipdex.storage.presence import Presence

log = logging.getLogger(__name__)

_CHUNK = 1 << 20
# Of one file on a damaged disk, and of a disk or network that is away, which no single file can cause.
_DAMAGED = {errno.EIO, errno.EUCLEAN, errno.EBADMSG, errno.ENODATA}
_AWAY = {
    errno.ENOTCONN, errno.ENODEV, errno.ENXIO, errno.ESTALE, errno.ESHUTDOWN, errno.EHOSTDOWN, errno.EHOSTUNREACH,
    errno.ENETDOWN, errno.ENETUNREACH,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Fetched:
    """A clip as a local file. content: sha256 of its bytes, hex."""

    path: Path
    content: str
    downloaded: bool

    def discard(self) -> None:
        if self.downloaded:
            self.path.unlink(missing_ok=True)


class _AtMost(Callback):  # type: ignore[misc]
    """Stop a download that exceeds a limit."""

    def __init__(self, max_bytes: int, path: str) -> None:
        super().__init__()
        self._max_bytes, self._path = max_bytes, path

    def call(self, *args: Any, **kwargs: Any) -> None:
        size = max(self.value, self.size or 0)
        if size > self._max_bytes:
            raise _too_large(self._path, size, self._max_bytes)


class Archive:
    """A root folder, opened in the process that uses it. Paths are below the root."""

    def __init__(self, settings: config.Settings) -> None:
        source = settings.source
        self.url = settings.source_url
        self._fs, self._root = open_root(self.url, source.options, source.key, source.secret)
        self._local = is_local(self._fs)
        self._top = percent_encode(self._fs.unstrip_protocol(f"{self._root}/-")[:-1])
        self._presence = Presence(self._fs, self._root, self.url)
        self._extensions = tuple(extension.lower() for extension in source.extensions)

    def fetch(self, clip: Clip, folder: Path, max_bytes: int) -> "Fetched":
        """Return the clip as a local file with its content digest. A download stays in folder until discarded.

        max_bytes: of the file, also if it grew since it was listed [bytes]. Raises ClipRejected (MISSING, TOO_LARGE,
        UNREADABLE), or Unavailable if the source does not answer, SourceUnavailable if it is away; then nothing of a
        download stays.
        """
        if clip.bytes > max_bytes:
            raise _too_large(clip.uri, clip.bytes, max_bytes)
        full = f"{self._root}/{clip.path}"
        if not self._inside(full):
            raise ClipRejected(Reason.UNREADABLE, f"{clip.uri}: a link that leaves {self.url}")
        try:
            if self._local:
                return Fetched(Path(full), _digest_of(Path(full)), downloaded=False)
            return self._download(full, folder / f"{clip.clip_id}{Path(clip.path).suffix[:8]}", max_bytes)
        except (ClipRejected, Unavailable):
            raise
        except (FileNotFoundError, NotADirectoryError):
            self.require_deleted(clip)
            raise ClipRejected(Reason.MISSING, f"{clip.uri}: deleted since it was discovered") from None
        except PermissionError as error:
            self._presence.require()
            raise ClipRejected(Reason.UNREADABLE, f"{clip.uri}: no permission ({error.strerror or error})") from None
        except Exception as error:  # object store clients have their own exception types
            self._presence.require()
            if self._local and isinstance(error, OSError) and error.errno in _DAMAGED:
                raise ClipRejected(Reason.UNREADABLE, f"{clip.uri}: cannot be read ({error.strerror})") from error
            kind = SourceUnavailable if isinstance(error, OSError) and error.errno in _AWAY else Unavailable
            raise kind(f"{clip.uri}: the source does not answer ({error})") from error

    def require_deleted(self, clip: Clip) -> None:
        """Raise SourceUnavailable if the source is away, Unavailable if the file that was not found is there again."""
        self._presence.require()
        if self.version_now(clip) is not None:
            raise Unavailable(f"{clip.uri}: was away for a moment")

    def can_read(self, clip: Clip) -> bool:
        """Return whether the first byte of a clip can be read now."""
        try:
            self._fs.cat_file(f"{self._root}/{clip.path}", start=0, end=1)
        except Exception as error:  # object store clients have their own exception types
            log.info("%s: cannot be read either (%s)", clip.uri, escape_line(str(error)))
            return False
        return True

    def names(self, folder: str) -> frozenset[str] | None:
        """Return the names in a folder below the root, None if there is no such folder. Raises Unavailable.

        A folder of a bucket without objects is empty.
        """
        top = f"{self._root}/{folder}".rstrip("/")
        try:
            return frozenset(str(path).rstrip("/").rpartition("/")[2] for path in self._fs.ls(top, detail=False))
        except (FileNotFoundError, NotADirectoryError):
            return frozenset() if self._presence.is_bucket else None
        except Exception as error:  # object store clients have their own exception types
            raise SourceUnavailable(f"{top}: the source does not answer ({error})") from error

    def has_clips(self, folder: str) -> bool:
        """Return whether a folder directly holds a file with an extension of clips. Raises Unavailable."""
        return any(name.lower().endswith(self._extensions) for name in self.names(folder) or ())

    def require_present(self) -> None:
        """Raise SourceUnavailable if the root cannot be listed or is empty."""
        self._presence.require()

    def path_of(self, uri: str) -> str | None:
        """Return the path below the root for a clip's URI, None if it is not below this root."""
        return percent_decode(uri[len(self._top) :]) if uri.startswith(self._top) else None

    def _download(self, full: str, copy: Path, max_bytes: int) -> Fetched:
        """Return a copy of a file, or leave none. Raises Unavailable if the disk has no room for it."""
        size, free = int(self._fs.info(full).get("size") or 0), shutil.disk_usage(copy.parent).free
        if size > free:
            raise Unavailable(f"{full}: {size} bytes, {free} are free in {copy.parent}: set TMPDIR to a larger disk")
        try:
            self._fs.get_file(full, str(copy), callback=_AtMost(max_bytes, full))
            return Fetched(copy, _digest_of(copy), downloaded=True)
        except BaseException:
            copy.unlink(missing_ok=True)
            raise

    def size_now(self, clip: Clip) -> int:
        """Return the file's current size [bytes], 0 if it is deleted. Raises Unavailable."""
        return int(self._info(clip).get("size") or 0)

    def version_now(self, clip: Clip) -> str | None:
        """Return the file's current version; None if it is deleted. Raises Unavailable."""
        info = self._info(clip)
        return version_of(info) if info else None

    def _info(self, clip: Clip) -> dict[str, Any]:
        try:
            return dict(self._fs.info(f"{self._root}/{clip.path}"))
        except (FileNotFoundError, NotADirectoryError):
            return {}
        except Exception as error:  # object store clients have their own exception types
            self._presence.require()
            raise Unavailable(f"{clip.uri}: the source does not answer ({error})") from error

    def _inside(self, path: str) -> bool:
        """Return whether a path is below the root with all links resolved. Object stores have no links."""
        return not self._local or Path(os.path.realpath(path)).is_relative_to(os.path.realpath(self._root))


def _too_large(name: str, size: int, max_bytes: int) -> ClipRejected:
    detail = f"{name}: {size} bytes, at most {max_bytes} are allowed"
    return ClipRejected(Reason.TOO_LARGE, detail, limit="max_bytes", found=size)


def version_of(info: dict[str, Any]) -> str:
    etag = info.get("ETag") or info.get("etag")
    return str(etag).strip('"') if etag else f"{info['size']}-{modified(info).timestamp():.6f}"


def _digest_of(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_CHUNK):
            digest.update(block)
    return digest.hexdigest()
