"""Clips by their id: the points of one clip in the index, and its caption in the store."""

from dataclasses import dataclass, field

from clipdex.config import Settings
from clipdex.errors import UnknownClip
from clipdex.index import Hit, Index, open_index
from clipdex.index.payloads import clip_fields
from clipdex.index.points import Range
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
    caption_key: of the caption; content: sha256 of the file, of a part a digest; "" if it is not known
    chunks: the texts that are indexed, with their times
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
    caption_key: str = ""
    content: str = ""
    chunks: tuple[Segment, ...] = ()


@dataclass(frozen=True, slots=True)
class IndexedPart:
    """Hold a part of a file that is cut. start_s, end_s: of the part [s on a player's clock of the file]"""

    clip_id: str
    part_no: int
    start_s: float
    end_s: float
    uri: str
    day: str
    poster: str


def clip_once(settings: Settings, store: Store, clip_id: str) -> IndexedClip:
    """Open the index and return a clip. Raises UnknownClip, NothingIndexed if the alias is unset, IndexUnavailable."""
    with open_index(settings) as index:
        points = points_of(index, clip_id)
    payloads = sorted((hit.payload for hit in points), key=lambda payload: payload["chunk_no"])
    first = payloads[0]
    if first["clip_id"] != clip_id:
        parts = len({payload["clip_id"] for payload in payloads})
        raise UnknownClip(
            f"{clip_id!r} is a file that is indexed as {parts} parts; give the clip_id of a part, such as "
            f"{first['clip_id']}, or search where part_of={clip_id}"
        )
    chunks = tuple(Segment(one["start_s"], one["end_s"], one["text"]) for one in payloads)
    caption = store.caption(first.get("caption_key", ""))
    segments, text = (chunks, "\n\n".join(one.text for one in chunks)) if caption is None else (
        caption.segments, caption.text
    )  # fmt: skip
    return IndexedClip(
        **clip_fields(first),
        text=text,
        segments=segments,
        width=first["width"],
        height=first["height"],
        engine=first["engine"],
        model=first["model"],
        captioned_at=caption.created_at if caption else "",
        caption_key=first.get("caption_key", ""),
        content=caption.content if caption else content_of(first["poster"]),
        chunks=chunks,
    )


def parts_once(settings: Settings, file_id: str) -> list[IndexedPart]:
    """Open the index and return the parts of a file that is cut, in order; none for any other clip_id."""
    with open_index(settings) as index:
        found = index.scroll({"part_of": file_id, "chunk_no": Range(0, 0)}) if file_id else ()
        payloads = sorted((hit.payload for hit in found), key=lambda payload: payload["part_no"])
    return [
        IndexedPart(
            one["clip_id"], one["part_no"], one.get("clip_start_s", 0.0),
            one.get("clip_start_s", 0.0) + one["duration_s"], one["uri"], one["day"], one["poster"],
        )
        for one in payloads
    ]  # fmt: skip


def content_of(poster: str) -> str:
    """Return the digest in the key of a poster, which is that of the clip's content; "" without a poster."""
    return poster.rpartition("/")[2].removesuffix(".jpg")


def points_of(index: Index, clip_id: str) -> list[Hit]:
    """Return the points of a clip, or of all parts of a file. Raises UnknownClip."""
    for field_name in ("clip_id", "part_of"):
        if clip_id and (own := list(index.scroll({field_name: clip_id}))):
            return own
    raise UnknownClip(
        f"the index has no clip {clip_id[:64]!r}; a clip_id has 32 hex digits, clipdex search --json shows it"
    )
