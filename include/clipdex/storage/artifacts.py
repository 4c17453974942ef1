"""The artifact store: what clipdex remembers, as immutable objects under keys, on a folder or s3://.

captions/KEY[:2]/KEY.json           one caption a content and fingerprint (the write-ahead)
posters/CONTENT[:2]/CONTENT.jpg
manifests/run=RUN/BATCH.jsonl       what a batch has to do
outcomes/day=DAY/run=RUN/BATCH/*    what happened to each clip, as it happens (outcomes.py)
ledger/day=DAY/*.jsonl              the same, compacted by the report
rebuild/day=DAY/run=RUN/BATCH.jsonl what an index can be rebuilt from without listing captions
leases/day=DAY/EPOCH.json           who works on a day (leases.py)
runs/RUN.json, reports/RUN.json     what a run planned and did

Nothing grows for ever but what is worth keeping: captions, posters, the ledger, rebuild (retention.py).
A write is whole or absent: a temporary name, then a rename (a folder), or one PUT (object storage).
"""

import contextlib
import io
import json
import logging
import os
import re
import uuid
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import Any

from clipdex.captions.caption import Caption
from clipdex.config import Settings
from clipdex.storage.filesystem import files_below, is_local, modified, open_root

log = logging.getLogger(__name__)

_AT_ONCE = 16  # objects that are read or deleted at the same time

_TEMPORARY = ".tmp-"


class Store:
    """Objects under keys such as captions/ab/abcd.json. Threads may share one."""

    def __init__(self, fs: Any, root: str) -> None:
        self._fs, self._root, self._local = fs, root, is_local(fs)

    @classmethod
    def open(cls, settings: Settings) -> "Store":
        options = settings.store
        return cls(*open_root(settings.store_url, options.options, options.key, options.secret))

    def read(self, key: str) -> bytes:
        """Raises FileNotFoundError."""
        data: bytes = self._fs.cat_file(self._path(key))
        return data

    def write(self, key: str, data: bytes) -> None:
        """Write or replace, whole or not at all."""
        if not self._local:
            self._fs.pipe_file(self._path(key), data)
            return
        temporary = self._written_beside(key, data)
        temporary.replace(self._path(key))

    def create(self, key: str, data: bytes) -> bool:
        """Write only if the key is free; False if another was first. Atomic on a folder and on S3."""
        if self._local:
            temporary = self._written_beside(key, data)
            try:
                os.link(temporary, self._path(key))
            except FileExistsError:
                return False
            finally:
                temporary.unlink()
            return True
        try:
            self._fs.pipe_file(self._path(key), data, mode="create")
        except (FileExistsError, OSError) as error:
            if (
                isinstance(error, FileExistsError)
                or "PreconditionFailed" in str(error)
                or "pre-condition" in str(error)
            ):
                return False
            raise
        return True

    def exists(self, key: str) -> bool:
        return bool(self._fs.exists(self._path(key)))

    def list(self, prefix: str) -> list[str]:
        """Keys below a folder such as outcomes/day=2026-11-03, sorted."""
        return sorted(self.written(prefix))

    def written(self, prefix: str) -> dict[str, datetime]:
        """When each object below a folder was last written, by key. See files.modified."""
        try:
            found = files_below(self._fs, self._path(prefix))
        except FileNotFoundError:
            return {}
        skip = len(self._root) + 1
        keys = {path[skip:]: modified(info) for path, info in found.items()}
        return {key: moment for key, moment in keys.items() if not key.rpartition("/")[2].startswith(_TEMPORARY)}

    def delete(self, keys: Iterable[str]) -> None:
        """Absent keys are no error: another process may have been first."""
        with ThreadPoolExecutor(_AT_ONCE) as deleting:
            list(deleting.map(self._delete, keys))

    def delete_folder(self, prefix: str) -> None:
        """Remove what is left of a folder whose objects are deleted: on object storage that is nothing."""
        if not self._local:
            return
        for folder, _, _ in os.walk(self._path(prefix), topdown=False):
            with contextlib.suppress(OSError):  # something is in it: it stays
                Path(folder).rmdir()

    def sweep(self, before: datetime) -> int:
        """Remove what processes that were killed as they wrote left before then; how much that was. Reads the names of
        all objects of a folder; on object storage nothing is left."""
        swept = 0
        for folder, _, names in os.walk(self._root) if self._local else ():
            for path in (Path(folder, name) for name in names if name.startswith(_TEMPORARY)):
                with contextlib.suppress(FileNotFoundError):  # its writer lives, and was faster
                    if path.stat().st_mtime < before.timestamp():
                        path.unlink()
                        swept += 1
        return swept

    def read_json(self, key: str) -> Any:
        return json.loads(self.read(key))

    def write_json(self, key: str, record: Any) -> None:
        self.write(key, json.dumps(record, ensure_ascii=True).encode())

    def read_lines(self, *keys: str) -> Iterator[dict[str, Any]]:
        """JSON lines of one object after the other. A line that is torn is left out and told: what it said is found out
        again."""
        for key, data in zip(keys, self._read_ahead(keys), strict=True):
            for number, line in enumerate(io.BytesIO(data), 1):
                try:
                    yield json.loads(line)
                except ValueError:
                    log.warning("%s line %d: not JSON (%d bytes), left out", key, number, len(line))

    def write_lines(self, key: str, records: Iterable[dict[str, Any]]) -> None:
        self.write(key, b"".join(json.dumps(record, ensure_ascii=True).encode() + b"\n" for record in records))

    def caption(self, key: str) -> Caption | None:
        """A stored caption, or None. An object that cannot be read as one counts as absent, and is told."""
        try:
            return Caption.from_json(self.read_json(caption_path(key)))
        except FileNotFoundError:
            return None
        except (ValueError, TypeError, KeyError) as error:
            log.warning("%s: not a caption (%s); it is asked for again", caption_path(key), error)
            return None

    def captions(self, keys: Iterable[str]) -> tuple[Caption | None, ...]:
        """Each of these captions as caption() gives it, so many of them at the same time."""
        with ThreadPoolExecutor(_AT_ONCE) as readers:
            return tuple(readers.map(self.caption, keys))

    def write_caption(self, caption: Caption) -> None:
        self.write_json(caption_path(caption.key), caption.to_json())

    def _path(self, key: str) -> str:
        return f"{self._root}/{key}"

    def _read_ahead(self, keys: Sequence[str]) -> Iterator[bytes]:
        """Object storage answers in tens of milliseconds, and a day may have thousands of parts."""
        with ThreadPoolExecutor(_AT_ONCE) as readers:
            for start in range(0, len(keys), 4 * _AT_ONCE):
                yield from readers.map(self.read, keys[start : start + 4 * _AT_ONCE])

    def _delete(self, key: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            self._fs.rm_file(self._path(key))

    def _written_beside(self, key: str, data: bytes) -> Path:
        path = Path(self._path(key))
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.parent / f"{_TEMPORARY}{uuid.uuid4().hex}"
        try:
            temporary.write_bytes(data)
        except OSError:
            temporary.unlink(missing_ok=True)
            raise
        return temporary


def caption_path(key: str) -> str:
    return f"captions/{key[:2]}/{key}.json"


def poster_path(content: str) -> str:
    return f"posters/{content[:2]}/{content}.jpg"


def run_name(run_id: str) -> str:
    """A run id as a part of a key: what object stores and shells dislike becomes a dash."""
    return re.sub(r"[^\w.=-]+", "-", run_id)
