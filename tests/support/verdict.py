"""Judge the final state of a day in the fault suite.

The State is compared with that of a run without faults, and the requests to the engines with the stored captions.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from clipdex.index.derived import FOLDERS
from clipdex.runs.outcomes import Outcome, ledger
from clipdex.storage.artifacts import Store
from clipdex.video import prepare
from tests.support.engine import CLIENT_LEFT, Request
from tests.support.pipeline import Pipeline


@dataclass(frozen=True, slots=True)
class State:
    """The final state of a day. points and captions, by id and key, have no times and no run."""

    points: dict[str, dict[str, Any]]
    captions: dict[str, dict[str, Any]]
    quarantine: dict[str, str]
    indexed: frozenset[str]


@dataclass(slots=True)
class Verdict:
    """The findings of a drill.

    lost: clips that differ from the expected state
    captioned_twice: requests for a stored caption
    repeated: requests beyond those that failed tries had in flight
    wrong_quarantine: clips that are wrongly in quarantine, or wrongly missing there
    """

    faults: int = 0
    clips: int = 0
    lost: list[str] = field(default_factory=list)
    captioned_twice: list[str] = field(default_factory=list)
    repeated: list[str] = field(default_factory=list)
    wrong_quarantine: list[str] = field(default_factory=list)
    hangs: list[str] = field(default_factory=list)
    left_behind: list[str] = field(default_factory=list)

    def wrong(self) -> dict[str, list[str]]:
        return {name: findings for name in _WRONG if (findings := getattr(self, name))}

    def compare(self, expected: State, found: State) -> None:
        """Add the differences to the findings."""
        self.clips = len(expected.indexed) + len(expected.quarantine)
        self.lost += sorted(_lost(expected, found))
        self.wrong_quarantine += sorted(
            f"{name}: {found.quarantine.get(name, 'not there')}, expected {expected.quarantine.get(name, 'not there')}"
            for name in found.quarantine.keys() | expected.quarantine.keys()
            if found.quarantine.get(name) != expected.quarantine.get(name)
        )


_WRONG = ("lost", "captioned_twice", "repeated", "wrong_quarantine", "hangs", "left_behind")


class NotInjected(AssertionError):
    """The moment of a fault was not reached."""


def state_of(pipeline: Pipeline, archive: Path, day: str, contents: Iterable[str] | None = None) -> State:
    """Read the state of one day. archive: folder of its clips; contents: sha256 of clips to include, None for all."""
    points = {key: _untimed(point) for key, point in pipeline.points().items() if point["day"] == day}
    for point in points.values():  # the folders around the archive are others for each archive
        point[FOLDERS] = [folder for folder in point[FOLDERS] if str(archive) in folder]
    only = None if contents is None else set(contents)
    captions = {}
    for key in pipeline.store.list("captions"):
        record = pipeline.store.read_json(key)
        if only is None or record["content"] in only:
            captions[record["key"]] = {name: record[name] for name in ("key", "content", "text", "segments", "poster")}
    entries = ledger(pipeline.store, day).values()
    return State(
        points=json.loads(json.dumps(points).replace(str(archive), "ARCHIVE")),
        captions=captions,
        quarantine={name_of(one.uri): one.reason for one in entries if one.outcome is Outcome.QUARANTINED},
        indexed=frozenset(name_of(one.uri) for one in entries if one.outcome is Outcome.INDEXED),
    )


def without(state: State, names: Sequence[str], reason: str) -> State:
    """Return the state with these clips in quarantine instead."""
    gone = {key for key, point in state.points.items() if name_of(point["uri"]) in names}
    left = {key: point for key, point in state.points.items() if key not in gone}
    kept = {point["caption_key"] for point in left.values()}
    return State(
        points=left,
        captions={key: caption for key, caption in state.captions.items() if key in kept},
        quarantine=state.quarantine | dict.fromkeys(names, reason),
        indexed=state.indexed - set(names),
    )


def digests(pipeline: Pipeline, folder: Path) -> dict[str, str]:
    """Return the sha256 of the clips below a folder, by the sha256 of their proxies."""
    found = {}
    for path in folder.rglob("*.mp4"):
        if path.stat().st_size:
            (window,) = prepare(path, pipeline.settings.video, pipeline.settings.sampling).windows
            found[hashlib.sha256(window.proxy).hexdigest()] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def asked_after_stored(store: Store, contents: Mapping[str, str], chats: Iterable[Request]) -> list[str]:
    """Return the requests for captions that were already stored. contents: as returned by digests()."""
    written = {}
    for key in store.list("captions"):
        place = Path(store._path(key))
        written[json.loads(place.read_bytes())["content"]] = place.stat().st_mtime
    return [
        f"{request.digest[:12]} was requested although it was stored"
        for request in chats
        if contents.get(request.digest) in written and request.at > written[contents[request.digest]]
    ]


def repeated(chats: Iterable[Request]) -> list[str]:
    """Return digests that were requested again after a request that succeeded or was cut off by a kill."""
    over: dict[str, float] = {}
    again = []
    for request in chats:
        if request.fault or request.status not in (200, CLIENT_LEFT):
            continue
        if request.at > over.get(request.digest, float("inf")):
            again.append(request.digest[:12])
        over.setdefault(request.digest, request.end or float("inf"))
    return again


def left_behind() -> list[str]:
    """Return decoders that outlived their task."""
    return [
        f"process {child.pid}: {child.info['name']}"
        for child in psutil.process_iter(["pid", "name", "cmdline"])
        if "clipdex.video.sandbox.worker" in (child.info["cmdline"] or []) and _orphaned(child)
    ]


def name_of(uri: str) -> str:
    return uri.rpartition("/")[2]


def _untimed(point: dict[str, Any]) -> dict[str, Any]:
    """Return the payload without a modification time, which is another one in each archive."""
    return {**point, "recorded_at": ""} if point.get("recorded_from") == "modified" else point


def _lost(expected: State, found: State) -> set[str]:
    """Return the differences of points, captions and indexed clips."""
    differ = {
        f"{name_of((expected.points.get(key) or found.points[key])['uri'])}: points differ"
        for key in expected.points.keys() | found.points.keys()
        if expected.points.get(key) != found.points.get(key)
    }
    captions = {
        f"caption {key[:12]} differs"
        for key in expected.captions.keys() | found.captions.keys()
        if expected.captions.get(key) != found.captions.get(key)
    }
    return differ | captions | {f"{name}: not indexed" for name in expected.indexed - found.indexed}


def _orphaned(child: psutil.Process) -> bool:
    """Return whether a decoder without a task is still running after 10 s."""
    try:
        return child.ppid() == 1 and bool(child.wait(timeout=10) or False)
    except psutil.TimeoutExpired:
        return True
    except psutil.NoSuchProcess:
        return False
