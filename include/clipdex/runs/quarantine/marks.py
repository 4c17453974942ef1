"""Marks: clips that a person excluded from every further try, "never again", with who and when.

A mark holds for one version of a file: a file that was replaced is another one. Each change is a new object
quarantine/never/*.jsonl, and the latest one of a clip counts, so that marking needs no lock and can be undone.
"""

import uuid
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass

from clipdex.runs.outcomes import next_stamp
from clipdex.runs.quarantine.by_day import QuarantinedClip
from clipdex.storage.artifacts import Store

FOLDER = "quarantine/never"
_MOST_OBJECTS = 16


@dataclass(frozen=True, slots=True)
class Mark:
    """Hold a mark of a clip. never: False for one that was undone; by: who; at: when"""

    clip_id: str
    version: str
    day: str
    uri: str
    never: bool
    by: str
    at: str


def marks(store: Store) -> dict[str, Mark]:
    """Return the clips that are never tried again, by clip_id."""
    return {clip_id: one for clip_id, one in _latest(store, store.list(FOLDER)).items() if one.never}


def set_marks(store: Store, clips: Iterable[QuarantinedClip], never: bool, by: str) -> int:
    """Mark clips, or undo their marks; return how many changed."""
    keys = store.list(FOLDER)
    known = _latest(store, keys)
    latest = max((one.at for one in known.values()), default="")
    now = next_stamp(latest)
    changed = [
        Mark(one.clip_id, one.version, one.day, one.uri, never, by, now)
        for one in clips
        if _is_marked(known.get(one.clip_id), one) != never
    ]
    if changed:
        merge = len(keys) >= _MOST_OBJECTS
        lines = [*known.values(), *changed] if merge else changed
        store.write_lines(f"{FOLDER}/{now.replace(':', '-')}-{uuid.uuid4().hex}.jsonl", map(asdict, lines))
        if merge:
            store.delete(keys)
    return len(changed)


def is_never(marked: Mapping[str, Mark], clip_id: str, version: str) -> bool:
    """Return whether this version of a clip is never tried again."""
    mark = marked.get(clip_id)
    return mark is not None and mark.never and mark.version == version


def _is_marked(mark: Mark | None, clip: QuarantinedClip) -> bool:
    return mark is not None and mark.never and mark.version == clip.version


def _latest(store: Store, keys: list[str]) -> dict[str, Mark]:
    latest: dict[str, Mark] = {}
    for _ in range(5):
        try:
            records = list(store.read_lines(*keys))
        except FileNotFoundError:  # merged since it was listed
            keys = store.list(FOLDER)
            continue
        break
    else:
        records = list(store.read_lines(*store.list(FOLDER)))
    for record in records:
        mark = Mark(**record)
        if mark.clip_id not in latest or mark.at >= latest[mark.clip_id].at:
            latest[mark.clip_id] = mark
    return latest
