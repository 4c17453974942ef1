"""What is known of one clip, indexed or not: its captions, its outcomes, its file, its chunks, and where it lies."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from clipdex.errors import NothingIndexed, UnknownClip
from clipdex.index.clips import IndexedClip, IndexedPart, parts_once
from clipdex.pipeline import Pipeline
from clipdex.runs.history import PastOutcome, clip_history, file_size, find_day
from clipdex.runs.outcomes import ClipOutcome, Origin, Outcome
from clipdex.storage.artifacts import Store, caption_path, playback_path, poster_path
from clipdex.storage.caption import Caption, Segment

_DIGEST = re.compile(r"[0-9a-f]{64}")
_FOLLOWED = 5  # days through which a clip that moved is followed


@dataclass(frozen=True, slots=True)
class CaptionRecord:
    """Hold a caption of a clip and what it was made with.

    indexed: whether it is the one that searches find
    strategy, prompt, sampling, generation: empty if an earlier release wrote it, which kept a digest alone
    seconds: at the engine [s]; gpu_s: [GPU-seconds]; distance: to the near-duplicate whose text it has [bits of 64]
    similar_to: key of the caption of that near-duplicate, or ""; made_for: clip_id of the clip that it was made for
    """

    key: str
    engine: str
    model: str
    text: str
    segments: tuple[Segment, ...]
    indexed: bool = False
    created_at: str = ""
    run: str = ""
    fingerprint: str = ""
    strategy: str = ""
    prompt: str = ""
    sampling: dict[str, Any] = field(default_factory=dict)
    generation: dict[str, Any] = field(default_factory=dict)
    prompt_tokens: int = 0
    completion_tokens: int = 0
    seconds: float = 0.0
    gpu_s: float = 0.0
    attempts: int = 0
    film: str = ""
    similar_to: str = ""
    distance: float = 0.0
    made_for: str = ""


@dataclass(frozen=True, slots=True)
class OutcomeRecord:
    """Hold one outcome of a clip.

    run: "" if only the ledger of its day has it; phase, try_number: "" and 0 once its run is compacted
    text: the caption that failed a gate
    """

    outcome: str
    at: str
    day: str
    run: str = ""
    batch: str = ""
    phase: str = ""
    try_number: int = 0
    reason: str = ""
    detail: str = ""
    text: str = ""
    origin: str = ""
    chunks: int = 0
    attempts: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    seconds: float = 0.0
    gpu_s: float = 0.0
    moved_to: str = ""

    @classmethod
    def of(cls, past: PastOutcome) -> "OutcomeRecord":
        one = past.outcome
        return cls(
            str(one.outcome), one.at, one.day, past.run, one.batch, past.phase, past.try_number, one.reason, one.detail,
            one.text, one.origin, one.chunks, one.attempts, one.prompt_tokens, one.completion_tokens, one.seconds,
            one.gpu_s, one.moved_to,
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class FileFacts:
    """Hold the facts of a file, or of a part of one.

    bytes: of the file, 0 if no manifest that has it is kept
    start_s, end_s: of a part [s on a player's clock of the file]; duration_s [s], width, height [pixels]: 0 if unknown
    """

    uri: str
    version: str = ""
    content: str = ""
    bytes: int = 0
    duration_s: float = 0.0
    width: int = 0
    height: int = 0
    recorded_at: str = ""
    recorded_from: str = ""
    metadata: dict[str, str | float] = field(default_factory=dict)
    part_of: str = ""
    part_no: int = 0
    start_s: float = 0.0
    end_s: float = 0.0


@dataclass(frozen=True, slots=True)
class CaptionOrigin:
    """Name the clip that a caption was made for. kind: copy, of the same content, or similar, a near-duplicate"""

    kind: str
    clip_id: str
    distance: float = 0.0


@dataclass(frozen=True, slots=True)
class ClipRecord:
    """Hold what is known of a clip.

    state: its latest outcome; indexed, if only the index has it; "cut", of a file whose parts are indexed
    indexed: whether searches find it
    captions: the indexed one first
    poster, playback: keys in the store, or ""; store_keys: of what the store has of it, by name
    """

    clip_id: str
    day: str
    state: str
    indexed: bool
    file: FileFacts
    captions: tuple[CaptionRecord, ...] = ()
    outcomes: tuple[OutcomeRecord, ...] = ()
    chunks: tuple[Segment, ...] = ()
    origin: CaptionOrigin | None = None
    parts: tuple[IndexedPart, ...] = ()
    poster: str = ""
    playback: str = ""
    store_keys: dict[str, str] = field(default_factory=dict)

    @property
    def caption(self) -> CaptionRecord | None:
        """Return the caption to show: the indexed one, or else the last one."""
        return self.captions[0] if self.captions else None


def clip_record(pipeline: Pipeline, clip_id: str, day: str = "", *, brief: bool = False) -> ClipRecord:
    """Return what is known of a clip. Raises UnknownClip, InvalidFilter for a wrong day, IndexUnavailable.

    day: YYYY-MM-DD, today or yesterday, of a clip that is not in the index; without it, the last days are read
    brief: without outcomes and further captions, if the clip is indexed
    """
    store, indexed, parts, looked = pipeline.store, None, list[IndexedPart](), ""
    try:
        indexed = pipeline.clip(clip_id)
    except NothingIndexed:
        pass
    except UnknownClip:
        parts = parts_once(pipeline.settings, clip_id)
    day = indexed.day if indexed else pipeline.day(day) if day else parts[0].day if parts else ""
    if not day:
        day, looked = find_day(store, clip_id)
    history, day = ([], day) if brief and indexed else _followed(store, day, clip_id)
    if not (indexed or parts or history):
        where = f" nor in the outcomes from {looked} on" if looked else f" nor in the outcomes of {day}" if day else ""
        raise UnknownClip(
            f"no clip {clip_id[:64]!r} in the index{where}; give the day of a clip that is not indexed: ?day=YYYY-MM-DD"
        )
    last = history[-1].outcome if history else None
    return _record(store, clip_id, day, indexed, parts, history, last, brief)


def captions_of(
    store: Store, indexed: IndexedClip | None, last: ClipOutcome | None, brief: bool = False
) -> tuple[CaptionRecord, ...]:
    """Return the captions of a clip's content, the indexed one first, then the latest."""
    key = indexed.caption_key if indexed else last.caption_key if last else ""
    content = _content(indexed, last)
    found = {one.key: one for one in (() if brief else store.captions_of(content))}
    if key and key not in found and (current := store.caption(key)):
        found[key] = current
    known: dict[str, Mapping[str, Any]] = {
        digest: store.fingerprint(digest) for digest in {one.fingerprint for one in found.values()}
    }
    records = [_caption(one, known[one.fingerprint], indexed is not None and one.key == key) for one in found.values()]
    if indexed and key not in found:
        records.append(CaptionRecord(key, indexed.engine, indexed.model, indexed.text, indexed.segments, indexed=True))
    records.sort(key=lambda one: one.created_at, reverse=True)
    return tuple(sorted(records, key=lambda one: one.key != key))


def _record(
    store: Store, clip_id: str, day: str, indexed: IndexedClip | None, parts: list[IndexedPart],
    history: list[PastOutcome], last: ClipOutcome | None,
    brief: bool,
) -> ClipRecord:  # fmt: skip
    captions, content = captions_of(store, indexed, last, brief), _content(indexed, last)
    poster = indexed.poster if indexed else parts[0].poster if parts else _existing(store, poster_path, content)
    playback = _existing(store, playback_path, content)
    shown = next(iter(captions), None)
    keys = {
        "caption": caption_path(shown.key) if shown and shown.created_at else "",
        "poster": poster,
        "playback": playback,
    }
    file = _file(store, indexed, parts, history, last, content)
    if last and shown and not file.width and (caption := store.caption(shown.key)):
        file = replace(file, duration_s=caption.duration_s, width=caption.width, height=caption.height)
    state = str(last.outcome) if last else str(Outcome.INDEXED)
    return ClipRecord(
        clip_id=clip_id,
        day=day,
        state="cut" if parts or (last and last.parts) else state,
        indexed=indexed is not None,
        file=file,
        captions=captions,
        outcomes=tuple(map(OutcomeRecord.of, reversed(history))),
        chunks=indexed.chunks if indexed else (),
        origin=_origin(store, clip_id, shown),
        parts=tuple(parts),
        poster=poster,
        playback=playback,
        store_keys={name: key for name, key in keys.items() if key},
    )


def _file(
    store: Store, indexed: IndexedClip | None, parts: list[IndexedPart], history: list[PastOutcome],
    last: ClipOutcome | None, content: str,
) -> FileFacts:  # fmt: skip
    facts = FileFacts(uri=parts[0].uri if parts else "")
    if last:
        facts = FileFacts(
            last.uri, last.version, content, file_size(store, history), max(0.0, last.end_s - last.start_s), 0, 0,
            last.recorded_at, last.recorded_from, last.metadata, last.part_of, last.part_no, last.start_s, last.end_s,
        )  # fmt: skip
    if indexed:
        facts = replace(
            facts, uri=indexed.uri, content=content, duration_s=indexed.duration_s, width=indexed.width,
            height=indexed.height, recorded_at=indexed.recorded_at, recorded_from=indexed.recorded_from,
            metadata=indexed.metadata, part_of=indexed.part_of, part_no=indexed.part_no,
            start_s=indexed.clip_start_s, end_s=indexed.clip_start_s + indexed.duration_s,
        )  # fmt: skip
    return facts


def _followed(store: Store, day: str, clip_id: str) -> tuple[list[PastOutcome], str]:
    """Return the outcomes of a clip and its day, also of days that it belonged to before it moved."""
    history: list[PastOutcome] = []
    for _ in range(_FOLLOWED):
        found = clip_history(store, day, clip_id) if day else []
        history += found
        if not found or not (moved_to := found[-1].outcome.moved_to):
            break
        day = moved_to
    return sorted(history, key=lambda one: (one.outcome.at, one.outcome.outcome.final)), day


def _content(indexed: IndexedClip | None, last: ClipOutcome | None) -> str:
    content = indexed.content if indexed else last.content if last else ""
    return content if _DIGEST.fullmatch(content) else ""


def _existing(store: Store, path: Any, content: str) -> str:
    key: str = path(content) if content else ""
    return key if key and store.exists(key) else ""


def _caption(one: Caption, parts: Mapping[str, Any], indexed: bool) -> CaptionRecord:
    return CaptionRecord(
        one.key, one.engine, one.model, one.text, one.segments, indexed, one.created_at, one.run, one.fingerprint,
        str(parts.get("strategy", "")), str(parts.get("prompt", "")), dict(parts.get("sampling", {})),
        dict(parts.get("generation", {})), one.prompt_tokens, one.completion_tokens, one.seconds, one.gpu_s,
        one.attempts, one.film, one.similar_to, one.distance, one.clip_id,
    )  # fmt: skip


def _origin(store: Store, clip_id: str, shown: CaptionRecord | None) -> CaptionOrigin | None:
    if shown is None:
        return None
    if shown.similar_to and (source := store.caption(shown.similar_to)):
        return CaptionOrigin(str(Origin.SIMILAR), source.clip_id, shown.distance)
    if shown.made_for and shown.made_for != clip_id:
        return CaptionOrigin(str(Origin.COPY), shown.made_for)
    return None
