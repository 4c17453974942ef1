"""The results of a comparison: one row per clip, one column per variant, with figures and JSON."""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import Any

from clipdex.captions.quality import words_of
from clipdex.storage.caption import Segment


@dataclass(frozen=True, slots=True)
class Subject:
    """Describe a compared clip. poster: a JPEG; error: why the clip was not prepared and not captioned, or ""."""

    name: str
    duration_s: float = 0.0
    width: int = 0
    height: int = 0
    poster: bytes = b""
    error: str = ""


@dataclass(frozen=True, slots=True)
class Written:
    """Hold the caption of one clip by one variant.

    notes: captions of single frames, if text was made from them
    gates: the verdict of each gate, "" if the text passes
    seconds [s], tokens, attempts: summed over all requests, including repeats after a failed gate
    error: why there is no text, or ""
    """

    clip: str
    text: str = ""
    segments: tuple[Segment, ...] = ()
    notes: tuple[Segment, ...] = ()
    gates: Mapping[str, str] = field(default_factory=dict)
    finish_reason: str = ""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    seconds: float = 0.0
    attempts: int = 0
    error: str = ""

    @property
    def passed(self) -> bool:
        return not self.error and not self.failed

    @property
    def failed(self) -> dict[str, str]:
        """Return the failed gates with their verdicts."""
        return {gate: wrong for gate, wrong in self.gates.items() if wrong}

    @property
    def words(self) -> int:
        return len(words_of(self.text))

    @property
    def different_words(self) -> int:
        """Return the number of distinct words; low for a text that repeats itself per frame."""
        return len(set(words_of(self.text)))


@dataclass(frozen=True, slots=True)
class Column:
    """Hold the results of one variant.

    fingerprint: engine, model, strategy, prompt, sampling and generation
    seconds: wall time from the first request to the last response, without preparation [s]
    error: why the variant did not run, or ""
    """

    variant: str
    fingerprint: Mapping[str, Any] = field(default_factory=dict)
    in_flight: int = 0
    seconds: float = 0.0
    captions: tuple[Written, ...] = ()
    error: str = ""

    @property
    def answered(self) -> list[Written]:
        return [one for one in self.captions if not one.error]

    @property
    def failures(self) -> Counter[str]:
        """Count the failed captions per gate, and the missing captions."""
        missing = Counter({"no caption": len(self.captions) - len(self.answered)})
        return +missing + Counter(gate for one in self.captions for gate in one.failed)

    def summary(self) -> dict[str, Any]:
        """Return totals, and medians per caption, over the clips with a text."""
        captions = self.answered

        def middle(value: Callable[[Written], float]) -> float:
            return median(map(value, captions)) if captions else 0.0

        return {
            "clips": len(self.captions),
            "captions": len(captions),
            "passed": sum(one.passed for one in self.captions),
            "clips_per_second": len(captions) / self.seconds if self.seconds else 0.0,
            "seconds": middle(lambda one: one.seconds),
            "prompt_tokens": middle(lambda one: one.prompt_tokens),
            "completion_tokens": middle(lambda one: one.completion_tokens),
            "attempts": middle(lambda one: one.attempts),
            "words": middle(lambda one: one.words),
            "different_words": middle(lambda one: one.different_words),
        }


@dataclass(frozen=True, slots=True)
class Comparison:
    """Hold all results: one Subject per clip, one Column per variant."""

    created_at: str
    clips: tuple[Subject, ...]
    columns: tuple[Column, ...]

    def to_json(self) -> dict[str, Any]:
        return {
            "created_at": self.created_at,
            "clips": [
                {"clip": one.name, "duration_s": one.duration_s, "width": one.width, "height": one.height,
                 "error": one.error}
                for one in self.clips
            ],
            "variants": [_column_json(column) for column in self.columns],
            "captions": [_caption_json(column, one) for column in self.columns for one in column.captions],
        }  # fmt: skip


def _column_json(column: Column) -> dict[str, Any]:
    ran = {**column.fingerprint, "in_flight": column.in_flight, "wall_seconds": column.seconds}
    return {"name": column.variant, "error": column.error, **({} if column.error else {**ran, **column.summary()})}


def _caption_json(column: Column, one: Written) -> dict[str, Any]:
    record = {"variant": column.variant, **asdict(one), "passed": one.passed}
    return {**record, "words": one.words, "different_words": one.different_words}
