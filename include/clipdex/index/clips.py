"""Clips by their id: the points of one clip in the index, and its caption in the store."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from clipdex.config import RESERVED_FIELDS, Settings
from clipdex.errors import UnknownClip
from clipdex.index import Hit, Index, open_index
from clipdex.storage.artifacts import Store
from clipdex.storage.caption import Segment


@dataclass(frozen=True, slots=True)
class IndexedClip:
    """Hold a clip of the index with its whole caption.

    text: the caption; if the store does not have it, the texts of the chunks, which repeat some words
    segments: the parts of the text with their times [s on a player's clock of the file]; empty if it has none
    engine, model, captioned_at: what wrote the caption, and when: ISO 8601 in UTC, or "" if the store does not have it
    duration_s [s]; width, height: as displayed [pixels]
    poster: a store key, or ""
    metadata, recorded_at, recorded_from, part_of, part_no, clip_start_s: as in ClipHit
    """

    clip_id: str
    uri: str
    day: str
    text: str
    segments: tuple[Segment, ...]
    duration_s: float
    width: int
    height: int
    engine: str
    model: str
    captioned_at: str = ""
    poster: str = ""
    metadata: dict[str, str | float] = field(default_factory=dict)
    recorded_at: str = ""
    recorded_from: str = ""
    part_of: str = ""
    part_no: int = 0
    clip_start_s: float = 0.0


def clip_once(settings: Settings, store: Store, clip_id: str) -> IndexedClip:
    """Open the index and return a clip. Raises UnknownClip, NothingIndexed if the alias is unset, IndexUnavailable."""
    with open_index(settings) as index:
        points = points_of(index, clip_id)
    chunks = sorted((hit.payload for hit in points), key=lambda payload: payload["chunk_no"])
    first = chunks[0]
    if first["clip_id"] != clip_id:
        parts = len({chunk["clip_id"] for chunk in chunks})
        raise UnknownClip(
            f"{clip_id!r} is a file that is indexed as {parts} parts; give the clip_id of a part, such as "
            f"{first['clip_id']}, or search where part_of={clip_id}"
        )
    caption = store.caption(first["caption_key"])
    if caption is None:
        return _clip(first, [Segment(one["start_s"], one["end_s"], one["text"]) for one in chunks])
    return _clip(first, caption.segments, caption.text, caption.created_at)


def points_of(index: Index, clip_id: str) -> list[Hit]:
    """Return the points of a clip, or of all parts of a file. Raises UnknownClip."""
    for field_name in ("clip_id", "part_of"):
        if clip_id and (own := list(index.scroll({field_name: clip_id}))):
            return own
    raise UnknownClip(
        f"the index has no clip {clip_id[:64]!r}; a clip_id has 32 hex digits, clipdex search --json shows it"
    )


def _clip(
    payload: Mapping[str, Any], segments: Sequence[Segment], text: str = "", captioned_at: str = ""
) -> IndexedClip:
    return IndexedClip(
        clip_id=payload["clip_id"],
        uri=payload["uri"],
        day=payload["day"],
        text=text or "\n\n".join(one.text for one in segments),
        segments=tuple(segments),
        duration_s=payload["duration_s"],
        width=payload["width"],
        height=payload["height"],
        engine=payload["engine"],
        model=payload["model"],
        captioned_at=captioned_at,
        poster=payload["poster"],
        metadata={name: value for name, value in payload.items() if name not in RESERVED_FIELDS},
        recorded_at=payload.get("recorded_at", ""),
        recorded_from=payload.get("recorded_from", ""),
        part_of=payload.get("part_of", ""),
        part_no=payload.get("part_no", 0),
        clip_start_s=payload.get("clip_start_s", 0.0),
    )
