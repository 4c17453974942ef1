"""By day: the clips of each day in quarantine, in one small object per day.

A ledger has a line per clip of its day; a page that shows the quarantine of 1,000 days cannot read it. So compact()
writes quarantine/clips/DAY.jsonl, empty for a day without quarantine, each time it writes the ledger of a day. It is
derived: a day without it, of an earlier release, is read from its ledger until prune() or `clipdex quarantine list`
writes it.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Self

from clipdex.storage.artifacts import Store

if TYPE_CHECKING:
    from clipdex.runs.outcomes import ClipOutcome

FOLDER = "quarantine/clips"
_DETAIL, _TEXT = 1000, 4000  # letters that are kept


@dataclass(frozen=True, slots=True)
class QuarantinedClip:
    """Hold a clip, or a part of one, in quarantine.

    version, content, metadata, part_of, start_s, end_s, limit, found: as in ClipOutcome
    detail: the words of the decoder, the engine or the gate; text: the caption that failed a gate
    at: when it was quarantined
    """

    clip_id: str
    uri: str
    day: str
    version: str
    reason: str
    detail: str = ""
    text: str = ""
    content: str = ""
    at: str = ""
    metadata: dict[str, str | float] = field(default_factory=dict)
    part_of: str = ""
    start_s: float = 0.0
    end_s: float = 0.0
    limit: str = ""
    found: float = 0.0

    @property
    def folder(self) -> str:
        return self.uri.rpartition("/")[0]

    @property
    def name(self) -> str:
        return self.uri.rpartition("/")[2]

    @classmethod
    def of(cls, one: "ClipOutcome") -> Self:
        return cls(
            one.clip_id, one.uri, one.day, one.version, one.reason, one.detail[:_DETAIL], one.text[:_TEXT], one.content,
            one.at, one.metadata, one.part_of, one.start_s, one.end_s, one.limit, one.found,
        )  # fmt: skip

    def to_json(self) -> dict[str, Any]:
        return {name: value for name, value in asdict(self).items() if value not in ("", 0, {})}


def of_ledger(entries: Mapping[str, "ClipOutcome"]) -> tuple[QuarantinedClip, ...]:
    """Return the clips in quarantine of a day's ledger, by path."""
    found = (QuarantinedClip.of(one) for one in entries.values() if one.outcome == "quarantined")
    return tuple(sorted(found, key=lambda one: (one.uri, one.start_s)))


def write(store: Store, day: str, entries: Mapping[str, "ClipOutcome"]) -> None:
    """Write the clips in quarantine of a day. entries: its current ledger"""
    store.write_lines(key_of(day), (one.to_json() for one in of_ledger(entries)))


def read(store: Store, day: str) -> tuple[QuarantinedClip, ...]:
    """Return what was written for a day. Raises FileNotFoundError."""
    return tuple(QuarantinedClip(**record) for record in store.read_lines(key_of(day)))


def key_of(day: str) -> str:
    return f"{FOLDER}/{day}.jsonl"


def day_of(key: str) -> str:
    return key.rpartition("/")[2].removesuffix(".jsonl")
