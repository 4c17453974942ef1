"""Clip: the record of one video file at one version, or of one part of a file that is cut."""

import hashlib
from dataclasses import asdict, dataclass, field, replace
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
    """One video file at one version, or one part of a long file.

    clip_id: digest of source name and path below the source's root, 32 hex digits; of a part, see part_id()
    version: etag, or size and mtime
    day: YYYY-MM-DD, of the path, else of the modification time in the source's time zone
    content: sha256 of the bytes, "" if unknown; of a part, see part()
    refused: why an earlier run could not read this version (missing, unreadable), "" if none failed
    metadata: values by name, of the path and, once with_metadata() has read them, of the sidecars
    recorded_at: the time in the path, else the modification time; "" if unknown
    recorded_from: where recorded_at is from, a RecordedFrom
    details: digest of what metadata and a time in the path are from, without reading a sidecar; "" if there is nothing
    has_sidecars: whether with_metadata() has something to read
    caption_key: of the stored caption, if only the clip's metadata has changed
    cut: how an earlier run cut this version of the file, see VideoLimits.cut; "" if it did not
    part_of: clip_id of the file, of a part; "" for a file
    part_no: number of the part in its file, from 0; start_s, end_s: of the part [s on a player's clock of the file]
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
    cut: str = ""
    part_of: str = ""
    part_no: int = 0
    start_s: float = 0.0
    end_s: float = 0.0

    @property
    def name(self) -> str:
        """Return the URI, with the times of a part."""
        return f"{self.uri} ({self.start_s:.1f}-{self.end_s:.1f} s)" if self.part_of else self.uri

    def part(self, number: int, start_s: float, end_s: float) -> Self:
        """Return a part of this file, from its number and its times [s on a player's clock of the file].

        Its content is a digest of the file's content, which must be known, and of its times.
        """
        content = hashlib.sha256(f"{self.content}\0{start_s:.3f}\0{end_s:.3f}".encode()).hexdigest()
        return replace(
            self, clip_id=part_id(self.clip_id, number), content=content, part_of=self.clip_id, part_no=number,
            start_s=start_s, end_s=end_s, caption_key="", cut="", refused="",
        )  # fmt: skip

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> Self:
        return cls(**record)


def part_id(clip_id: str, number: int) -> str:
    """Return the clip_id of a part of a file, 32 hex digits. A new version of the file has parts of the same ids."""
    return hashlib.sha256(f"{clip_id}\0part\0{number}".encode()).hexdigest()[:32]
