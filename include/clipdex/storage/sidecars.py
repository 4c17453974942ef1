"""Sidecars: files beside clips that add metadata.

A name with {file} or {stem} is a JSON object beside each clip: {file}.json is clip.mp4.json, {stem}.json is clip.json.
Any other name is a column file (CSV) in the folder of the clip or above it. Its column file_name is the path of a clip
from the column file's folder. The nearest to a clip counts: JSON, then columns, then columns in the folder above.

A sidecar that cannot be read costs only itself. Only declared fields are read.
"""

import csv
import io
import json
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from clipdex.config import MetadataType
from clipdex.storage.metadata import Metadata, Warnings, typed

MOST_JSON_BYTES = 2**16
MOST_COLUMN_BYTES = 2**26
FILE_NAME = "file_name"

Read = Callable[[str], bytes | None]
"""read(path): the bytes of a file below the root, None if it is gone or cannot be read."""


@dataclass(frozen=True, slots=True)
class Found:
    """A sidecar that was listed. size [bytes]."""

    version: str
    size: int


class Sidecars:
    """Find and read the sidecars of clips.

    names: as in CLIPDEX_SOURCE__SIDECARS; types: of the declared fields; without fields there are no sidecars
    timezone: of a time that names none
    found: the sidecars that were listed, by path below the root; the lister adds them
    """

    def __init__(
        self,
        names: tuple[str, ...],
        types: Mapping[str, MetadataType],
        read: Read,
        warnings: Warnings,
        timezone: str = "UTC",
    ) -> None:
        self._types, self._read, self._warnings, self._timezone = types, read, warnings, timezone
        self._beside = tuple(name for name in names if types and ("{file}" in name or "{stem}" in name))
        self._columns = tuple(name for name in names if types and name not in self._beside)
        self._lock = threading.Lock()
        self._rows: dict[str, tuple[str, dict[str, Mapping[str, Any]]]] = {}
        self.found: dict[str, Found] = {}

    def beside(self, path: str) -> list[str]:
        """Return the paths that JSON sidecars of a clip would have."""
        folder, _, file = path.rpartition("/")
        stem = file.rpartition(".")[0]
        return [_join(folder, name.replace("{file}", file).replace("{stem}", stem)) for name in self._beside]

    def above(self, path: str) -> list[str]:
        """Return the paths that column files of a clip would have, the nearest last."""
        folders = path.split("/")[:-1]
        return [_join("/".join(folders[:depth]), name) for depth in range(len(folders) + 1) for name in self._columns]

    def values(self, path: str) -> Metadata:
        """Return what the sidecars of a clip add to its metadata."""
        found: Metadata = {}
        for columns in self.above(path):
            if columns in self.found and (row := self._columns_of(columns).get(path)):
                found |= typed(row, self._types, f"{columns}, {path}", self._warnings, self._timezone)
        for sidecar in self.beside(path):
            if sidecar in self.found:
                found |= typed(self._object(sidecar), self._types, sidecar, self._warnings, self._timezone)
        return found

    def _object(self, sidecar: str) -> Mapping[str, Any]:
        data = self._bytes(sidecar, MOST_JSON_BYTES)
        if data is None:
            return {}
        try:
            record = json.loads(data.decode("utf-8-sig"))
        except (ValueError, RecursionError) as error:
            self._warnings.add(f"{sidecar}: not read, a JSON object expected ({error})")
            return {}
        if not isinstance(record, dict):
            self._warnings.add(f"{sidecar}: not read, a JSON object expected, found {type(record).__name__}")
            return {}
        return record

    def _columns_of(self, columns: str) -> dict[str, Mapping[str, Any]]:
        """Return the rows of a column file by path of their clip."""
        version = self.found[columns].version
        with self._lock:  # one reader parses it for all
            if self._rows.get(columns, ("", {}))[0] != version:
                self._rows[columns] = version, self._rows_of(columns)
            return self._rows[columns][1]

    def _rows_of(self, columns: str) -> dict[str, Mapping[str, Any]]:
        data = self._bytes(columns, MOST_COLUMN_BYTES)
        try:
            return dict(self._parsed(columns, data)) if data is not None else {}
        except (ValueError, csv.Error) as error:
            self._warnings.add(f"{columns}: not read, UTF-8 text in columns expected ({error})")
            return {}

    def _parsed(self, columns: str, data: bytes) -> Iterator[tuple[str, Mapping[str, Any]]]:
        text = data.decode("utf-8-sig")
        header = text.partition("\n")[0]
        delimiter = max(",;\t", key=header.count)
        rows = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter)
        if FILE_NAME not in (rows.fieldnames or ()):
            raise ValueError(f"a column {FILE_NAME} expected")
        folder = columns.rpartition("/")[0]
        for row in rows:
            if name := (row[FILE_NAME] or "").replace("\\", "/").removeprefix("./"):
                yield _join(folder, name), {field: row.get(field) for field in self._types}

    def _bytes(self, path: str, most: int) -> bytes | None:
        if self.found[path].size > most:
            self._warnings.add(f"{path}: not read, at most {most} bytes expected")
            return None
        return self._read(path)


def _join(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder else name
