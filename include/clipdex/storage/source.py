"""Source: lists the clips of a day, identifies them and fetches their files."""

import errno
import hashlib
import logging
import os
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from fsspec.callbacks import Callback

from clipdex import config
from clipdex.days import day_of
from clipdex.errors import ClipRejected, ConfigurationError, Reason, SourceUnavailable, Unavailable
from clipdex.sanitize import escape_line, percent_decode, percent_encode
from clipdex.storage.filesystem import files_below, is_local, modified, open_root
from clipdex.storage.presence import Presence

log = logging.getLogger(__name__)

_CHUNK = 1 << 20
# Of one file on a damaged disk, and of a disk or network that is away, which no single file can cause.
_DAMAGED = {errno.EIO, errno.EUCLEAN, errno.EBADMSG, errno.ENODATA}
_AWAY = {
    errno.ENOTCONN, errno.ENODEV, errno.ENXIO, errno.ESTALE, errno.ESHUTDOWN, errno.EHOSTDOWN, errno.EHOSTUNREACH,
    errno.ENETDOWN, errno.ENETUNREACH,
}  # fmt: skip
_FIELDS = {"year": r"(?P<year>\d{4})", "month": r"(?P<month>\d{2})", "day": r"(?P<day>\d{2})"}


@dataclass(frozen=True, slots=True)
class Clip:
    """One video file at one version.

    clip_id: digest of source name and path below the source's root, 32 hex digits
    version: etag, or size and mtime
    day: YYYY-MM-DD, of the path, else of the modification time in the source's time zone
    content: sha256 of the bytes, "" if unknown
    refused: why an earlier run could not read this version (missing, unreadable), "" if none failed
    """

    clip_id: str
    uri: str
    path: str
    version: str
    bytes: int
    day: str
    content: str = ""
    refused: str = ""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> Self:
        return cls(**record)


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


class Source:
    """A root folder of clips. Opened in the process that uses it."""

    def __init__(self, settings: config.Settings) -> None:
        self._settings = settings.source
        self.url = settings.source_url
        self._fs, self._root = open_root(self.url, *_access(settings.source))
        self._local = is_local(self._fs)
        self._top = percent_encode(self._fs.unstrip_protocol(f"{self._root}/-")[:-1])
        self._presence = Presence(self._fs, self._root, self.url)
        self._extensions = tuple(extension.lower() for extension in settings.source.extensions)
        self._pattern = _DayPattern(settings.source.day_pattern) if settings.source.day_pattern else None

    def day(self, day: str) -> Iterator[Clip]:
        """Yield the clips of a day (YYYY-MM-DD). Lists only the day's folder if the pattern allows it."""
        for folder in self._folders(day):
            for clip in self._below(folder):
                if clip.day == day:
                    yield clip

    def prefix(self, prefix: str) -> Iterator[Clip]:
        """Yield the clips of all days below a folder of the source ("" for the root)."""
        if ".." in Path(prefix).parts or Path(prefix).is_absolute():
            raise ConfigurationError(f"prefix {prefix!r} must be a folder below {self.url}, such as 2026/11/03")
        yield from self._below(prefix.strip("/"))

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
        except ClipRejected:
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
        """Return a copy of a file, or leave none."""
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
        return _version(info) if info else None

    def _info(self, clip: Clip) -> dict[str, Any]:
        try:
            return dict(self._fs.info(f"{self._root}/{clip.path}"))
        except (FileNotFoundError, NotADirectoryError):
            return {}
        except Exception as error:  # object store clients have their own exception types
            self._presence.require()
            raise Unavailable(f"{clip.uri}: the source does not answer ({error})") from error

    def names_day(self, clip: Clip) -> bool:
        """Return whether the clip's path names its day, so that it is the same in every time zone."""
        return bool(self._day_in(clip.path))

    def _day_in(self, path: str) -> str:
        return self._pattern.day_of(path) if self._pattern else ""

    def _folders(self, day: str) -> list[str]:
        if self._pattern is None:
            return [""]
        prefix = self._pattern.folder(day)
        if "*" not in prefix:
            return [prefix]
        skip = len(self._root) + 1
        return [path[skip:] for path in self._fs.glob(f"{self._root}/{prefix}")]

    def _below(self, folder: str) -> Iterator[Clip]:
        top = f"{self._root}/{folder}".rstrip("/")
        if not self._inside(top):
            log.warning("%s: a link that leaves %s, skipped", escape_line(top), self._root)
            return
        try:
            found = files_below(self._fs, top)
        except FileNotFoundError:
            return
        except PermissionError as error:
            raise ConfigurationError(
                f"{top}: no permission to list ({error}); check the source's credentials"
            ) from error
        except Exception as error:  # object store clients have their own exception types
            raise Unavailable(f"{self.url}: the source does not answer ({error})") from error
        skip = len(self._root) + 1
        for path, info in found.items():
            if path.lower().endswith(self._extensions) and self._is_clip(path, info):
                yield self._clip(path[skip:], info)

    def _is_clip(self, path: str, info: dict[str, Any]) -> bool:
        if not info.get("islink"):
            return bool(info["type"] == "file")
        inside = self._inside(path)
        if not inside:
            log.warning("%s: a link that leaves %s, skipped", escape_line(path), self._root)
        return inside and Path(path).is_file()

    def _inside(self, path: str) -> bool:
        """Return whether a path is below the root with all links resolved. Object stores have no links."""
        return not self._local or Path(os.path.realpath(path)).is_relative_to(os.path.realpath(self._root))

    def _clip(self, path: str, info: dict[str, Any]) -> Clip:
        return Clip(
            clip_id=_clip_id(self._settings.name, path),
            uri=percent_encode(self._fs.unstrip_protocol(f"{self._root}/{path}")),
            path=path,
            version=_version(info),
            bytes=info["size"],
            day=self._day_in(path) or day_of(modified(info), self._settings.timezone),
        )


class _DayPattern:
    """A pattern such as {year}/{month}/{day}, */dt={year}-{month}-{day} or **/{year}/{month}/{day}."""

    def __init__(self, pattern: str) -> None:
        missing = [field for field in _FIELDS if f"{{{field}}}" not in pattern]
        if missing:
            raise ConfigurationError(
                f'source.day_pattern {pattern!r} lacks {", ".join(missing)}; "" uses the file\'s time'
            )
        self._pattern = pattern.strip("/")
        expression = re.escape(self._pattern).replace(r"\*\*/", "(?:.*/)?").replace(r"\*", "[^/]+")
        for field, group in _FIELDS.items():
            expression = expression.replace(rf"\{{{field}\}}", group)
        self._expression = re.compile(rf"{expression}(?:/|$)")

    def folder(self, day: str) -> str:
        year, month, date = day.split("-")
        whole = self._pattern.format(year=year, month=month, day=date)
        return whole.split("**", 1)[0].rstrip("/")

    def day_of(self, path: str) -> str:
        """Return the day in a path, or ""."""
        match = self._expression.match(path)
        if not match:
            return ""
        try:
            return datetime(*(int(match[field]) for field in _FIELDS), tzinfo=UTC).date().isoformat()  # type: ignore[misc, arg-type]
        except ValueError:
            return ""


def _too_large(name: str, size: int, max_bytes: int) -> ClipRejected:
    detail = f"{name}: {size} bytes, at most {max_bytes} are allowed"
    return ClipRejected(Reason.TOO_LARGE, detail, limit="max_bytes", found=size)


def _access(source: config.Source) -> tuple[Any, ...]:
    return source.options, source.key, source.secret


def _clip_id(source: str, path: str) -> str:
    return hashlib.sha256(f"{source}\0{path}".encode("utf-8", "surrogateescape")).hexdigest()[:32]


def _version(info: dict[str, Any]) -> str:
    etag = info.get("ETag") or info.get("etag")
    return str(etag).strip('"') if etag else f"{info['size']}-{modified(info).timestamp():.6f}"


def _digest_of(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_CHUNK):
            digest.update(block)
    return digest.hexdigest()
