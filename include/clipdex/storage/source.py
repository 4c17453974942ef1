"""Source: lists the clips of a day, and identifies them."""

import hashlib
import logging
from collections import deque
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from clipdex import config
from clipdex.days import day_of
from clipdex.errors import ConfigurationError, Unavailable
from clipdex.sanitize import escape_line, percent_encode
from clipdex.storage.archive import Archive, version_of
from clipdex.storage.clip import Clip, RecordedFrom
from clipdex.storage.day_pattern import DayPattern, Step
from clipdex.storage.filesystem import UNKNOWN, files_below, modified
from clipdex.storage.globs import Exclusion
from clipdex.storage.listing import Skipped
from clipdex.storage.metadata import Warnings, stamp, typed, types_in_path
from clipdex.storage.sidecars import Found, Sidecars

log = logging.getLogger(__name__)

_MOST_LISTED = 200
_READERS = 16

Infos = dict[str, dict[str, Any]]
"""What a listing found: info() by path below the root."""


@dataclass(frozen=True, slots=True)
class _Listed:
    """The files of one listing. top: the folder that was listed; chosen: the paths that may be clips."""

    top: str
    found: Infos
    chosen: Collection[str]


class Source(Archive):
    """Lists the clips of an archive, with their day and metadata."""

    def __init__(self, settings: config.Settings) -> None:
        self._settings = settings.source
        super().__init__(settings)
        self._excluded = Exclusion(settings.source.excluded)
        self._pattern = (
            DayPattern(settings.source.day_pattern, settings.source.timezone) if settings.source.day_pattern else None
        )
        self._path_types = types_in_path(settings.source)
        self._warnings = Warnings()
        self._column_files: dict[str, dict[str, Any] | None] = {}
        self._sidecars = Sidecars(
            settings.source.sidecars,
            settings.source.metadata,
            self._read_sidecar,
            self._warnings,
            settings.source.timezone,
        )

    def day(self, day: str, skipped: Skipped | None = None) -> Iterator[Clip]:
        """Yield the clips of a day (YYYY-MM-DD). Lists only the day's folders if the pattern allows it.

        skipped: counts the other files in these folders
        """
        skipped = skipped if skipped is not None else Skipped()
        self._column_files.clear()
        for listed in self._of_day("", self._pattern.steps(day) if self._pattern else [], skipped):
            for clip in self._clips(listed, skipped):
                if clip.day == day:
                    yield clip

    def prefix(self, prefix: str, skipped: Skipped | None = None) -> Iterator[Clip]:
        """Yield the clips of all days below a folder of the source ("" for the root). skipped: as in day()."""
        if ".." in Path(prefix).parts or Path(prefix).is_absolute():
            raise ConfigurationError(f"prefix {prefix!r} must be a folder below {self.url}, such as 2026/11/03")
        skipped = skipped if skipped is not None else Skipped()
        self._column_files.clear()
        yield from self._clips(self._below(prefix.strip("/"), skipped), skipped)

    def with_metadata(self, clips: Sequence[Clip]) -> list[Clip]:
        """Return the clips with the metadata of their sidecars, which are read concurrently. Raises Unavailable."""
        paths = [clip.path for clip in clips if clip.has_sidecars]
        with ThreadPoolExecutor(_READERS) as readers:
            values = dict(zip(paths, readers.map(self._sidecars.values, paths), strict=True))
        return [
            replace(clip, metadata={**clip.metadata, **values[clip.path]}) if clip.path in values else clip
            for clip in clips
        ]

    def why_nothing(self, days: Collection[str] = (), prefix: str | None = None) -> str:
        """Return why days (or a prefix) have no clip although files are there, with an example; "" if none is there.

        Lists at most a few hundred folders.
        """
        where = self.url if prefix in (None, "") else f"{self.url}/{prefix}"
        example = self._example((prefix or "").strip("/"))
        if example is None:
            return ""
        of_days = f" of {_some(days)}" if days else ""
        nothing = f"no clip{of_days} in {where}, although files are there, such as {example}"
        if not self._is_named_as_clip(example):
            return f"{nothing}: it has none of the extensions {' '.join(self._extensions)} (CLIPDEX_SOURCE__EXTENSIONS)"
        if self._pattern is None:
            return f"{nothing}: its day is that of its modification time, as CLIPDEX_SOURCE__DAY_PATTERN is empty"
        pattern = f"CLIPDEX_SOURCE__DAY_PATTERN={self._settings.day_pattern}"
        if reading := self._pattern.read(example):
            return f"{nothing}: its day is {reading.day} by {pattern}"
        return f"{nothing}: its path has no day by {pattern}; set the pattern to where your paths have the day"

    def names_day(self, clip: Clip) -> bool:
        """Return whether the clip's path names its day, so that it is the same in every time zone."""
        return self._pattern is not None and self._pattern.read(clip.path) is not None

    def _of_day(self, folder: str, steps: list[Step], skipped: Skipped) -> Iterator[_Listed]:
        """Yield the files in the folders of a day, listing from one level of the pattern to the next."""
        if not steps:
            yield self._below(folder, skipped)
            return
        step, *below = steps
        for name in step.names:
            yield from self._of_day(_join(folder, name), below, skipped)
        if step.names:
            return
        entries, chosen = self._entries(folder), []
        for path, info in entries.items():
            is_folder, name = info["type"] == "directory", path.rpartition("/")[2]
            if not step.matches(name, is_file=not is_folder):
                continue
            if not is_folder:
                chosen += [path] if step.last else []
            elif self._enters(path, skipped):
                yield from self._of_day(path, below, skipped)
        yield _Listed(folder, entries, chosen)

    def _below(self, folder: str, skipped: Skipped) -> _Listed:
        """Return all files below a folder."""
        top = f"{self._root}/{folder}".rstrip("/")
        if not self._inside(top):
            log.warning("%s: a link that leaves %s, skipped", escape_line(top), self._root)
            return _Listed(folder, {}, ())
        skip = len(self._root) + 1
        found: Infos = {}
        with self._errors(top):
            found = files_below(self._fs, top, lambda path: self._enters(path[skip:], skipped))
        found = {path[skip:]: info for path, info in found.items()}
        return _Listed(folder, found, found)

    def _entries(self, folder: str) -> Infos:
        """Return the files and folders in a folder, by path below the root."""
        top, skip = f"{self._root}/{folder}".rstrip("/"), len(self._root) + 1
        found: list[dict[str, Any]] = []
        with self._errors(top):
            found = self._fs.ls(top, detail=True)
        return {path[skip:]: info for info in found if (path := info["name"].rstrip("/")) != top}

    def _enters(self, folder: str, skipped: Skipped) -> bool:
        excluded = self._excluded.matches(folder)
        skipped.excluded += excluded
        return not excluded

    @contextmanager
    def _errors(self, top: str) -> Iterator[None]:
        """Convert the errors of a listing. A folder that does not exist is empty."""
        try:
            yield
        except FileNotFoundError:
            return
        except PermissionError as error:
            raise ConfigurationError(
                f"{top}: no permission to list ({error}); check the source's credentials"
            ) from error
        except Exception as error:  # object store clients have their own exception types
            raise Unavailable(f"{self.url}: the source does not answer ({error})") from error

    def _clips(self, listed: _Listed, skipped: Skipped) -> Iterator[Clip]:
        others: list[str] = []
        sidecars: set[str] = set()
        for path in listed.chosen:
            info = listed.found[path]
            if self._excluded.matches(path):
                skipped.excluded += 1
            elif not self._is_named_as_clip(path):
                others.append(path)
            elif self._is_clip(f"{self._root}/{path}", info):
                beside = self._versions_of_sidecars(listed, path)
                sidecars.update(beside)
                yield self._clip(path, info, beside)
        for path in others:
            if path not in sidecars:
                skipped.add(path)

    def _versions_of_sidecars(self, listed: _Listed, path: str) -> dict[str, str]:
        """Return the version of each sidecar of a clip by its path."""
        infos: dict[str, dict[str, Any] | None]
        infos = {sidecar: listed.found.get(sidecar) for sidecar in self._sidecars.beside(path)}
        for columns in self._sidecars.above(path):
            is_listed = columns in listed.found or columns.startswith(f"{listed.top}/" if listed.top else "")
            infos[columns] = listed.found.get(columns) if is_listed else self._column_file(columns)
        found = {one: Found(version_of(info), info["size"]) for one, info in infos.items() if info and _is_file(info)}
        self._sidecars.found |= found
        return {sidecar: one.version for sidecar, one in found.items()}

    def _column_file(self, path: str) -> dict[str, Any] | None:
        """Return info() of a column file above the listed folders, None if there is none."""
        if path not in self._column_files:
            self._column_files[path] = None
            with self._errors(path), suppress(PermissionError):
                self._column_files[path] = self._fs.info(f"{self._root}/{path}")
        return self._column_files[path]

    def _read_sidecar(self, path: str) -> bytes | None:
        try:
            return bytes(self._fs.cat_file(f"{self._root}/{path}"))
        except (FileNotFoundError, PermissionError) as error:
            if isinstance(error, PermissionError):
                self._warnings.add(f"{path}: not read, no permission")
            return None
        except Exception as error:  # object store clients have their own exception types
            raise Unavailable(f"{self.url}: the source does not answer ({error})") from error

    def _is_named_as_clip(self, path: str) -> bool:
        return path.lower().endswith(self._extensions)

    def _example(self, folder: str) -> str | None:
        """Return the path of a clip below a folder, or of another file if no clip is found soon."""
        other, folders, listed = None, deque([folder]), 0
        while folders and listed < _MOST_LISTED:
            listed += 1
            for path, info in sorted(self._entries(folders.popleft()).items()):
                if self._excluded.matches(path):
                    continue
                if info["type"] == "directory":
                    folders.append(path)
                elif self._is_named_as_clip(path):
                    return path
                else:
                    other = other or path
        return other

    def _is_clip(self, path: str, info: dict[str, Any]) -> bool:
        if not info.get("islink"):
            return bool(info["type"] == "file")
        inside = self._inside(path)
        if not inside:
            log.warning("%s: a link that leaves %s, skipped", escape_line(path), self._root)
        return inside and Path(path).is_file()

    def _clip(self, path: str, info: dict[str, Any], sidecars: dict[str, str]) -> Clip:
        reading = self._pattern.read(path) if self._pattern else None
        fields = typed(
            reading.fields if reading else {}, self._path_types, path, self._warnings, self._settings.timezone
        )
        changed, recorded = modified(info), reading.moment if reading else None
        parts = [fields, recorded and stamp(recorded), sidecars, self._settings.metadata if sidecars else ""]
        return Clip(
            clip_id=_clip_id(self._settings.name, path),
            uri=percent_encode(self._fs.unstrip_protocol(f"{self._root}/{path}")),
            path=path,
            version=version_of(info),
            bytes=info["size"],
            day=reading.day if reading else day_of(changed, self._settings.timezone),
            metadata=fields,
            recorded_at=stamp(recorded or changed) if recorded or changed != UNKNOWN else "",
            recorded_from=RecordedFrom.PATH if recorded else RecordedFrom.MODIFIED if changed != UNKNOWN else "",
            details=_digest_of_text(repr(parts)) if any(parts) else "",
            has_sidecars=bool(sidecars),
        )


def _digest_of_text(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:16]


def _is_file(info: dict[str, Any]) -> bool:
    """Return whether this is a file itself: a sidecar that is a link is not read."""
    return bool(info["type"] == "file" and not info.get("islink"))


def _join(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder else name


def _some(days: Collection[str]) -> str:
    return ", ".join(sorted(days)[:3]) + (f" and {len(days) - 3} more days" if len(days) > 3 else "")


def _clip_id(source: str, path: str) -> str:
    return hashlib.sha256(f"{source}\0{path}".encode("utf-8", "surrogateescape")).hexdigest()[:32]
