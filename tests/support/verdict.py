"""What a day is when all is done, and what is wrong with it: the judge of the fault suite.

A State is compared with that of an undisturbed run; the requests at the engines are held against what was stored.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from clipdex.runs.outcomes import Outcome, ledger
from clipdex.storage.artifacts import Store
from clipdex.video import prepare
from tests.support.engine import CLIENT_LEFT, Request
from tests.support.pipeline import Pipeline


@dataclass(frozen=True, slots=True)
class State:
    """What a day is when all is done. points and captions by id and key, without what a clock or a run says."""

    points: dict[str, dict[str, Any]]
    captions: dict[str, dict[str, Any]]
    quarantine: dict[str, str]
    indexed: frozenset[str]


@dataclass(slots=True)
class Verdict:
    """What a drill found. lost: clips that are not as they should be; captioned_twice: requests for a stored caption;
    repeated: requests beyond those that failed tries had in flight; wrong_quarantine: clips that are
    in it and should not be, or the other way round."""

    faults: int = 0
    clips: int = 0
    lost: list[str] = field(default_factory=list)
    captioned_twice: list[str] = field(default_factory=list)
    repeated: list[str] = field(default_factory=list)
    wrong_quarantine: list[str] = field(default_factory=list)
    hangs: list[str] = field(default_factory=list)
    left_behind: list[str] = field(default_factory=list)

    def wrong(self) -> dict[str, list[str]]:
        return {name: said for name in _WRONG if (said := getattr(self, name))}

    def compare(self, expected: State, found: State) -> None:
        """Note what differs."""
        self.clips = len(expected.indexed) + len(expected.quarantine)
        self.lost += sorted(_lost(expected, found))
        self.wrong_quarantine += sorted(
            f"{name}: {found.quarantine.get(name, 'not there')}, expected {expected.quarantine.get(name, 'not there')}"
            for name in found.quarantine.keys() | expected.quarantine.keys()
            if found.quarantine.get(name) != expected.quarantine.get(name)
        )


_WRONG = ("lost", "captioned_twice", "repeated", "wrong_quarantine", "hangs", "left_behind")


class NotInjected(AssertionError):
    """The moment of a fault did not come."""


def state_of(pipeline: Pipeline, archive: Path, day: str, contents: Iterable[str] | None = None) -> State:
    """Of one day. archive: where its clips lie; contents: of which clips (sha256) captions count, if not of all."""
    points = {key: point for key, point in pipeline.points().items() if point["day"] == day}
    only = None if contents is None else set(contents)
    captions = {}
    for key in pipeline.store.list("captions"):
        record = pipeline.store.read_json(key)
        if only is None or record["content"] in only:
            captions[record["key"]] = {name: record[name] for name in ("key", "content", "text", "segments", "poster")}
    said = ledger(pipeline.store, day).values()
    return State(
        points=json.loads(json.dumps(points).replace(str(archive), "ARCHIVE")),
        captions=captions,
        quarantine={name_of(one.uri): one.reason for one in said if one.outcome is Outcome.QUARANTINED},
        indexed=frozenset(name_of(one.uri) for one in said if one.outcome is Outcome.INDEXED),
    )


def without(state: State, names: Sequence[str], reason: str) -> State:
    """The state in which these clips are in quarantine instead."""
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
    """Contents (sha256) of the clips below a folder, by how an engine sees them."""
    found = {}
    for path in folder.rglob("*.mp4"):
        if path.stat().st_size:
            (window,) = prepare(path, pipeline.settings.video, pipeline.settings.sampling).windows
            found[hashlib.sha256(window.proxy).hexdigest()] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def asked_after_stored(store: Store, contents: Mapping[str, str], chats: Iterable[Request]) -> list[str]:
    """The requests for a caption that was stored by then. contents: as digests() gives them."""
    written = {}
    for key in store.list("captions"):
        place = Path(store._path(key))
        written[json.loads(place.read_bytes())["content"]] = place.stat().st_mtime
    return [
        f"{request.digest[:12]} was asked for although it was stored"
        for request in chats
        if contents.get(request.digest) in written and request.at > written[contents[request.digest]]
    ]


def repeated(chats: Iterable[Request]) -> list[str]:
    """Digests that were asked for again although an earlier request was good, or was cut off by a kill."""
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
    """Decoders that live on although their task is gone."""
    return [
        f"process {child.pid}: {child.name()}"
        for child in psutil.process_iter(["pid", "name", "cmdline"])
        if "clipdex.video.sandbox.worker" in (child.info["cmdline"] or []) and _orphaned(child)
    ]


def name_of(uri: str) -> str:
    return uri.rpartition("/")[2]


def _lost(expected: State, found: State) -> set[str]:
    """Clips that are not as they should be, and how."""
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
    """A decoder whose task is gone, a moment later still there."""
    try:
        return child.ppid() == 1 and bool(child.wait(timeout=10) or False)
    except psutil.TimeoutExpired:
        return True
    except psutil.NoSuchProcess:
        return False
