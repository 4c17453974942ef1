"""Filesystems: any fsspec URL or a folder, opened through universal-pathlib in the process that uses it."""

from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fsspec import AbstractFileSystem
from pydantic import SecretStr
from upath import UPath

from clipdex.errors import ConfigurationError

UNKNOWN = datetime.fromtimestamp(0, UTC)


def open_root(
    url: str, options: dict[str, Any] | None = None, key: SecretStr | None = None, secret: SecretStr | None = None
) -> tuple[AbstractFileSystem, str]:
    """Return the filesystem of a URL and its root path without a trailing slash.

    Listing caches are off, so that other processes' writes are visible.
    """
    given = {**(options or {}), "use_listings_cache": False, "skip_instance_cache": True}
    if key and key.get_secret_value():
        given |= {"key": key.get_secret_value(), "secret": secret.get_secret_value() if secret else ""}
    try:
        path = UPath(url, **given) if "://" in url else UPath(url).absolute()
        return path.fs, str(path.path).rstrip("/")
    except (ImportError, ValueError) as error:
        raise ConfigurationError(f"{url}: no filesystem for this URL ({error}); s3:// requires clipdex[s3]") from error


def require_writable(path: Path) -> None:
    """Raise ConfigurationError if a local output file cannot be written. Call before the work whose result it holds."""
    folder = path.parent
    if path.is_dir():
        raise ConfigurationError(f"{path} is a folder: name a file in it")
    if not folder.is_dir():
        found = "is a file" if folder.exists() else "does not exist: create it"
        raise ConfigurationError(f"{path}: the folder {folder} {found}, or name a file elsewhere")
    if path.exists() and not path.is_file():
        return  # a device or a pipe, which may have a reader
    target = path.resolve()
    new = not target.exists()
    try:
        target.open("ab").close()
    except OSError as error:
        raise ConfigurationError(
            f"{path} cannot be written ({error.strerror or error}): name a file elsewhere, or give this user access"
        ) from None
    if new:
        target.unlink()


def is_local(fs: AbstractFileSystem) -> bool:
    """Return whether the filesystem is local."""
    protocol = fs.protocol if isinstance(fs.protocol, str) else fs.protocol[0]
    return protocol in ("file", "local")


def files_below(fs: Any, top: str, enters: Callable[[str], bool] = lambda folder: True) -> dict[str, dict[str, Any]]:
    """Return info() by path for every file below a folder; {} if the folder does not exist.

    enters: called with the path of each folder of a local file system; False leaves out what is in it
    Raises PermissionError for an unreadable folder; the local find() would skip it silently.
    """
    if not is_local(fs):
        # s3fs lists an empty folder as the folder itself if its first object appears meanwhile.
        return {path: info for path, info in fs.find(top, detail=True).items() if info["type"] != "directory"}
    found, folders = {}, [top]
    while folders:
        with suppress(FileNotFoundError):  # deleted meanwhile or missing
            for info in fs.ls(folders.pop(), detail=True):
                if info["type"] == "directory":
                    if enters(info["name"]):
                        folders.append(info["name"])
                else:
                    found[info["name"]] = info
    return found


def modified(info: dict[str, Any]) -> datetime:
    """Return the modification time (UTC) from a file's info(); UNKNOWN if it has none.

    A time without a zone is UTC, not the local time of this machine.
    """
    stamp = info.get("LastModified") or info.get("last_modified") or info.get("mtime") or info.get("created")
    if not stamp:
        return UNKNOWN
    if not isinstance(stamp, datetime):
        return datetime.fromtimestamp(float(stamp), UTC)
    return stamp.astimezone(UTC) if stamp.tzinfo else stamp.replace(tzinfo=UTC)
