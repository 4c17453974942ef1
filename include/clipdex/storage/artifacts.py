"""The artifact store: immutable objects under keys, in a folder or s3://.

captions/KEY[:2]/KEY.json           one caption per content and fingerprint, written before the outcome
contents/CONTENT[:2]/CONTENT/KEY    names a caption of a content, written before the caption
fingerprints/DIGEST.json            what captions with this fingerprint were made with, such as the prompt
posters/CONTENT[:2]/CONTENT.jpg
playbacks/CONTENT[:2]/CONTENT.mp4   what browsers play, written before the outcome
cuts/KEY[:2]/KEY.json               times of the parts of one long file, per content and way of cutting
manifests/run=RUN/BATCH.jsonl       clips of a batch
outcomes/day=DAY/run=RUN/BATCH/*    outcome per clip, written during the batch (outcomes.py)
ledger/day=DAY/*.jsonl              outcomes compacted by the report
rebuild/day=DAY/run=RUN/BATCH.jsonl records to rebuild an index without listing captions
leases/day=DAY/EPOCH.json           lease of a day (leases.py)
runs/RUN.json, reports/RUN.json     plan and report of a run
tries/run=RUN/day=DAY/BATCH/*       what happened on each try of a batch that took several (tries.py)
quarantine/clips/DAY.jsonl          the clips of a day in quarantine (runs/quarantine/by_day.py)
quarantine/never/*.jsonl            clips that no run tries again (runs/quarantine/marks.py)
quarantine/requeues/*.json          clips that a person requeued (runs/quarantine/requeues.py)
preflight/KEY.json                  what was found on a node of the engine (captions/preflight)
summaries/*                         the state of each day and the pace of its runs, in small (runs/summary.py)

Only captions, contents, posters, playbacks, cuts, ledger, rebuild, summaries and the first two of quarantine grow
without limit (retention.py).
Writes are atomic: a temporary file and a rename (folder), or one PUT (object storage).
"""

import contextlib
import hashlib
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

from clipdex.config import Settings
from clipdex.storage.caption import Caption
from clipdex.storage.filesystem import files_below, is_local, modified, open_root

log = logging.getLogger(__name__)

_AT_ONCE = 16  # objects read or deleted concurrently
_MOST_CAPTIONS = 100  # of one content that are read

_TEMPORARY = ".tmp-"

Span = tuple[float, float]
"""Start and end [s on a player's clock of the file]."""


class Store:
    """Objects under keys such as captions/ab/abcd.json. Thread-safe."""

    def __init__(self, fs: Any, root: str) -> None:
        self._fs, self._root, self._local = fs, root, is_local(fs)

    @classmethod
    def open(cls, settings: Settings) -> "Store":
        options = settings.store
        return cls(*open_root(settings.store_url, options.options, options.key, options.secret))

    def read(self, key: str) -> bytes:
        """Return an object's bytes. Raises FileNotFoundError."""
        data: bytes = self._fs.cat_file(self._path(key))
        return data

    def size(self, key: str) -> int:
        """Return an object's size [bytes]. Raises FileNotFoundError."""
        return int(self._fs.info(self._path(key))["size"])

    def read_range(self, key: str, start: int, end: int) -> bytes:
        """Return the bytes from start up to end, without end; fewer at the object's end. Raises FileNotFoundError."""
        data: bytes = self._fs.cat_file(self._path(key), start=start, end=end)
        return data

    def write(self, key: str, data: bytes) -> None:
        """Write or replace an object atomically."""
        if not self._local:
            self._fs.pipe_file(self._path(key), data)
            return
        temporary = self._write_temporary(key, data)
        temporary.replace(self._path(key))

    def create(self, key: str, data: bytes) -> bool:
        """Write an object unless the key exists; return False if it does. Atomic in a folder and on S3."""
        if self._local:
            temporary = self._write_temporary(key, data)
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

    def existing(self, keys: Iterable[str]) -> set[str]:
        """Return the keys that exist, looked up concurrently."""
        wanted = list(dict.fromkeys(keys))
        with ThreadPoolExecutor(_AT_ONCE) as readers:
            return {key for key, there in zip(wanted, readers.map(self.exists, wanted), strict=True) if there}

    def list(self, prefix: str) -> list[str]:
        """Return the keys below a folder such as outcomes/day=2026-11-03, sorted."""
        return sorted(self.written(prefix))

    def written(self, prefix: str) -> dict[str, datetime]:
        """Return the modification time per key below a folder. See filesystem.modified."""
        try:
            found = files_below(self._fs, self._path(prefix))
        except FileNotFoundError:
            return {}
        skip = len(self._root) + 1
        keys = {path[skip:]: modified(info) for path, info in found.items()}
        return {key: moment for key, moment in keys.items() if not key.rpartition("/")[2].startswith(_TEMPORARY)}

    def folders(self, prefix: str) -> tuple[str, ...]:
        """Return the folders directly in a folder, such as captions/ab in captions; () if it does not exist."""
        top = self._path(prefix).rstrip("/")
        try:
            found = self._fs.ls(top, detail=True)
        except FileNotFoundError:
            return ()
        skip = len(self._root) + 1
        return tuple(sorted(one["name"].rstrip("/")[skip:] for one in found if one["type"] == "directory"))

    def sizes(self, prefix: str) -> dict[str, int]:
        """Return the size per key below a folder [bytes]."""
        try:
            found = files_below(self._fs, self._path(prefix))
        except FileNotFoundError:
            return {}
        skip = len(self._root) + 1
        return {path[skip:]: int(info.get("size") or 0) for path, info in found.items()}

    def delete(self, keys: Iterable[str]) -> None:
        """Delete objects. Missing keys are no error: another process may have deleted them."""
        with ThreadPoolExecutor(_AT_ONCE) as deleting:
            list(deleting.map(self._delete, keys))

    def delete_in_order(self, groups: Iterable[Sequence[str]]) -> None:
        """Delete several groups of objects concurrently, the objects of each group one after another."""

        def delete(keys: Sequence[str]) -> None:
            for key in keys:
                self._delete(key)

        with ThreadPoolExecutor(_AT_ONCE) as deleting:
            list(deleting.map(delete, groups))

    def delete_folder(self, prefix: str) -> None:
        """Remove the empty directories below a folder; object storage has none."""
        if not self._local:
            return
        for folder, _, _ in os.walk(self._path(prefix), topdown=False):
            with contextlib.suppress(OSError):  # not empty
                Path(folder).rmdir()

    def sweep(self, before: datetime) -> int:
        """Remove temporary files of killed processes that are older than before; return their number.

        Lists all files of a folder. Object storage has no temporary files.
        """
        swept = 0
        for folder, _, names in os.walk(self._root) if self._local else ():
            for path in (Path(folder, name) for name in names if name.startswith(_TEMPORARY)):
                with contextlib.suppress(FileNotFoundError):  # renamed or removed by its writer
                    if path.stat().st_mtime < before.timestamp():
                        path.unlink()
                        swept += 1
        return swept

    def read_json(self, key: str) -> Any:
        return json.loads(self.read(key))

    def write_json(self, key: str, record: Any) -> None:
        self.write(key, json.dumps(record, ensure_ascii=True).encode())

    def read_lines(self, *keys: str) -> Iterator[dict[str, Any]]:
        """Yield the JSON lines of the objects in order. Skip and log truncated lines; a later try recomputes them."""
        for _, record in self.read_lines_of(keys):
            yield record

    def read_lines_of(self, keys: Sequence[str]) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield what read_lines() yields, each with the key of its object."""
        for key, data in zip(keys, self._read_ahead(keys), strict=True):
            for number, line in enumerate(io.BytesIO(data), 1):
                try:
                    yield key, json.loads(line)
                except ValueError:
                    log.warning("%s line %d: not JSON (%d bytes), skipped", key, number, len(line))

    def find_lines(self, text: str, *keys: str) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield the JSON lines that contain a text, with the key of their object: of large objects, few are parsed."""
        wanted = json.dumps(text, ensure_ascii=True).encode()
        for key, data in zip(keys, self._read_ahead(keys), strict=True):
            for line in io.BytesIO(data) if wanted in data else ():
                if wanted in line:
                    with contextlib.suppress(ValueError):  # truncated
                        yield key, json.loads(line)

    def write_lines(self, key: str, records: Iterable[dict[str, Any]]) -> None:
        self.write(key, b"".join(json.dumps(record, ensure_ascii=True).encode() + b"\n" for record in records))

    def caption(self, key: str) -> Caption | None:
        """Return the caption, or None if it is missing or corrupt. A corrupt caption is logged."""
        try:
            return Caption.from_json(self.read_json(caption_path(key)))
        except FileNotFoundError:
            return None
        except (ValueError, TypeError, KeyError) as error:
            log.warning("%s: not a caption (%s); the clip is captioned again", caption_path(key), error)
            return None

    def captions(self, keys: Iterable[str]) -> tuple[Caption | None, ...]:
        """Return caption() for each key, read concurrently."""
        with ThreadPoolExecutor(_AT_ONCE) as readers:
            return tuple(readers.map(self.caption, keys))

    def write_caption(self, caption: Caption) -> None:
        """Write a caption, after the record that names it: a killed writer leaves no caption without one."""
        if caption.content:
            self.write(f"{_content_path(caption.content)}/{caption.key}", caption.fingerprint.encode())
        self.write_json(caption_path(caption.key), caption.to_json())

    def captions_of(self, content: str) -> tuple[Caption, ...]:
        """Return the captions of a content, the first written first.

        Those that an earlier release wrote are not named by their content, and are left out.
        """
        keys = [key.rpartition("/")[2] for key in self.list(_content_path(content))] if content else []
        found = (one for one in self.captions(keys[:_MOST_CAPTIONS]) if one is not None)
        return tuple(sorted(found, key=lambda one: (one.created_at, one.key)))

    def write_fingerprint(self, digest: str, parts: dict[str, Any]) -> None:
        """Write what captions with this fingerprint are made with, once. digest: Fingerprint.digest()"""
        if not self.exists(_fingerprint_path(digest)):
            self.write_json(_fingerprint_path(digest), parts)

    def fingerprint(self, digest: str) -> dict[str, Any]:
        """Return what captions with this fingerprint were made with; {} if an earlier release made them."""
        try:
            parts = self.read_json(_fingerprint_path(digest)) if digest else {}
        except FileNotFoundError:
            return {}
        except ValueError as error:
            log.warning("%s: not JSON (%s); it is written again", _fingerprint_path(digest), error)
            return {}
        return parts if isinstance(parts, dict) else {}

    def cut(self, content: str, how: str) -> tuple[Span, ...] | None:
        """Return the start and end of each part of a long file [s], or None if it was not cut that way.

        content: sha256 of its bytes; how: see VideoLimits.cut
        """
        try:
            return tuple((float(start_s), float(end_s)) for start_s, end_s in self.read_json(_cut_path(content, how)))
        except FileNotFoundError:
            return None
        except (ValueError, TypeError) as error:
            log.warning("%s: not the times of parts (%s); the file is cut again", _cut_path(content, how), error)
            return None

    def write_cut(self, content: str, how: str, spans: Sequence[Span]) -> None:
        self.write_json(_cut_path(content, how), spans)

    def _path(self, key: str) -> str:
        return f"{self._root}/{key}"

    def _read_ahead(self, keys: Sequence[str]) -> Iterator[bytes]:
        """Yield objects in order, read concurrently: a day may have thousands, at tens of milliseconds each."""
        with ThreadPoolExecutor(_AT_ONCE) as readers:
            for start in range(0, len(keys), 4 * _AT_ONCE):
                yield from readers.map(self.read, keys[start : start + 4 * _AT_ONCE])

    def _delete(self, key: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            self._fs.rm_file(self._path(key))

    def _write_temporary(self, key: str, data: bytes) -> Path:
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


def _content_path(content: str) -> str:
    return f"contents/{content[:2]}/{content}"


def _fingerprint_path(digest: str) -> str:
    return f"fingerprints/{digest}.json"


def _cut_path(content: str, how: str) -> str:
    key = hashlib.sha256(f"{content}\0{how}".encode()).hexdigest()[:32]
    return f"cuts/{key[:2]}/{key}.json"


def poster_path(content: str) -> str:
    return f"posters/{content[:2]}/{content}.jpg"


def playback_path(content: str) -> str:
    """Return the key of what browsers play of a content. Whether there is one, only the store knows."""
    return f"playbacks/{content[:2]}/{content}.mp4"


def run_name(run_id: str) -> str:
    """Return a run id for use in a key: unsafe characters become a dash."""
    return re.sub(r"[^\w.=-]+", "-", run_id)
