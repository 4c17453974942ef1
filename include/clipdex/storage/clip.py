"""Clip: the record of one video file at one version."""

from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any, Self

from clipdex.storage.metadata import Metadata


class RecordedFrom(StrEnum):
    """Name the origin of the time at which a clip was recorded."""

    PATH = "path"
    CONTAINER = "container"
    MODIFIED = "modified"


@dataclass(frozen=True, slots=True)
class Clip:
    """One video file at one version.

    clip_id: digest of source name and path below the source's root, 32 hex digits
    version: etag, or size and mtime
    day: YYYY-MM-DD, of the path, else of the modification time in the source's time zone
    content: sha256 of the bytes, "" if unknown
    refused: why an earlier run could not read this version (missing, unreadable), "" if none failed
    metadata: values by name, of the path and, once with_metadata() has read them, of the sidecars
    recorded_at: the time in the path, else the modification time; "" if unknown
    recorded_from: where recorded_at is from, a RecordedFrom
    details: digest of what metadata and a time in the path are from, without reading a sidecar; "" if there is nothing
    has_sidecars: whether with_metadata() has something to read
    caption_key: of the stored caption, if only the clip's metadata has changed
    """

    clip_id: str
    uri: str
    path: str
    version: str
    bytes: int
    day: str
    content: str = ""
    refused: str = ""
    metadata: Metadata = field(default_factory=dict)
    recorded_at: str = ""
    recorded_from: str = ""
    details: str = ""
    has_sidecars: bool = False
    caption_key: str = ""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> Self:
        return cls(**record)
