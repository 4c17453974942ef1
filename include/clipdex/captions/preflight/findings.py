"""Findings: what a preflight found on a node, and what follows from it."""

from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from clipdex.config import Preflight


class Check(StrEnum):
    """What is checked, in order."""

    NODE = "node"
    TOKENS = "tokens"
    MAX_TOKENS = "max_tokens"
    TEMPERATURE = "temperature"
    SEEDS = "seeds"
    REASONING = "reasoning"
    LOOKS = "looks"
    CLOCK = "clock"


class Level(StrEnum):
    """ok; note: no fault; skipped: not checked; warning: a fault that stops a strict task; error: stops every task."""

    OK = "ok"
    NOTE = "note"
    SKIPPED = "skipped"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check, in one line."""

    check: Check
    level: Level
    text: str

    def fails(self, mode: Preflight) -> bool:
        """Return whether the finding stops a task."""
        stopping = {Level.ERROR, Level.WARNING} if mode is Preflight.STRICT else {Level.ERROR}
        return self.level in stopping


@dataclass(frozen=True, slots=True)
class NodeReport:
    """What a preflight found on a node.

    node: its URL; family: of the model, "" if unknown
    at: seconds since 1970; seconds: how long the checks took; requests: how many they needed
    """

    node: str
    model: str
    family: str
    findings: tuple[Finding, ...]
    at: float = 0.0
    seconds: float = 0.0
    requests: int = 0

    def faults(self, mode: Preflight) -> tuple[Finding, ...]:
        """Return the findings that stop a task."""
        return tuple(finding for finding in self.findings if finding.fails(mode))

    def warnings(self, mode: Preflight) -> tuple[Finding, ...]:
        """Return the faults that do not stop a task."""
        return tuple(one for one in self.findings if one.level is Level.WARNING and not one.fails(mode))

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> "NodeReport":
        """Return the report of a record. Raises KeyError, TypeError or ValueError for another format."""
        findings = tuple(Finding(Check(one["check"]), Level(one["level"]), one["text"]) for one in record["findings"])
        return cls(**{**record, "findings": findings})
