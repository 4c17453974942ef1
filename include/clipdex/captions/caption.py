"""A caption, what made it (the fingerprint), and what makes one (the captioner)."""

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Protocol, Self

if TYPE_CHECKING:  # the store keeps captions, and needs no decoder for it
    from clipdex.video import Prepared


class Flaw(StrEnum):
    """What was wrong with the captions of an earlier release: a reason to caption those clips again."""

    CLOCK = "clock"  # the fingerprint had no clock: Qwen2.5-VL may have got no frame times (docs/gpu.md, The clock)


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """Everything that decides what a caption says, but for the clip itself.

    prompt: the text, not its name. sampling: what we send and what the server applies. generation: max_tokens,
    temperature and the like. A number that does not change the text (timeouts, in flight) has no place here.
    """

    engine: str
    model: str
    strategy: str
    prompt: str
    sampling: dict[str, Any]
    generation: dict[str, Any]

    def digest(self) -> str:
        """32 hex digits."""
        return _digest(json.dumps(asdict(self), sort_keys=True, ensure_ascii=True))

    def earlier(self) -> dict[Flaw, "Fingerprint"]:
        """Return the fingerprints that earlier releases gave to the same settings.

        Their captions stay valid until somebody asks to replace them because of the flaw.
        """
        if "clock" not in self.sampling:
            return {}
        sampling = {name: value for name, value in self.sampling.items() if name != "clock"}
        return {Flaw.CLOCK: replace(self, sampling=sampling)}

    def caption_key(self, content: str) -> str:
        """The key of the caption of this content, 32 hex digits. content: sha256 of the clip's bytes, hex."""
        return _digest(f"{content}\0{self.digest()}")


@dataclass(frozen=True, slots=True)
class Segment:
    """A part of a caption that speaks of start_s to end_s [s from the clip's start]."""

    start_s: float
    end_s: float
    text: str


@dataclass(frozen=True, slots=True)
class Reply:
    """What an engine answered for one clip, before the gates.

    answers: the texts that text was put together from, where it took several requests; notes: what was said of single
    frames, where text is made of them but does not hold them. seconds: wall time from request to last token [s], of
    requests side by side the longest; gpu_s: what it took of the engine's GPUs [GPU-seconds], 0 where the engine does
    not tell its load; tokens as the engine counted them (0 where it has none): what was paid for, and
    text_tokens what of it is in text.
    """

    text: str
    segments: tuple[Segment, ...] = ()
    answers: tuple[str, ...] = ()
    notes: tuple[Segment, ...] = ()
    text_tokens: int = 0
    finish_reason: str = "stop"
    prompt_tokens: int = 0
    completion_tokens: int = 0
    seconds: float = 0.0
    gpu_s: float = 0.0
    attempts: int = 1


@dataclass(frozen=True, slots=True)
class Caption:
    """One description of one content, as stored: captions/KEY[:2]/KEY.json.

    run, clip_id: the run that wrote it, and the clip that it was asked for; exact copies share it. duration_s [s],
    width and height [pixels] are of the clip as shown (rotation and pixel aspect applied); poster: the store key of a
    JPEG, or ""; notes: what was said of single frames, where text merges it.
    """

    key: str
    content: str
    text: str
    segments: tuple[Segment, ...]
    fingerprint: str
    engine: str
    model: str
    prompt_tokens: int
    completion_tokens: int
    seconds: float
    attempts: int
    finish_reason: str
    created_at: str
    run: str
    duration_s: float
    width: int
    height: int
    poster: str = ""
    clip_id: str = ""
    gpu_s: float = 0.0
    notes: tuple[Segment, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> Self:
        held = [name for name in ("segments", "notes") if name in record]
        parts: dict[str, Any] = {name: tuple(Segment(**part) for part in record[name]) for name in held}
        return cls(**{**record, **parts})


@dataclass(frozen=True, slots=True)
class Gates:
    """What a caption must be; the numbers belong to the engine that writes it.

    min_words: below this it is too short. max_repeat: share of words inside repeated 4-grams (12 characters where words
    are not spaced). min_ratio: compressed bytes a character, below which text loops. language: ISO 639-1; "" accepts
    any script. min_tokens: of the whole text, max_tokens: of each answer in it; both where the engine counts tokens,
    and 0 for no bound.
    """

    min_words: int = 40
    max_repeat: float = 0.6
    min_ratio: float = 0.2
    language: str = "en"
    min_tokens: int = 0
    max_tokens: int = 0


class Captioner(Protocol):
    """Writes captions. One object serves many clips at once, in one event loop."""

    fingerprint: Fingerprint
    gates: Gates
    in_flight: int

    async def check(self) -> None:
        """Does what is served match the fingerprint? ConfigurationError if not, EngineUnavailable if none answers."""

    async def caption(self, clip: "Prepared", attempt: int = 1) -> Reply:
        """Describe one clip; attempt 2 is asked after a gate failed and uses other sampling.

        Raises ClipRejected, EngineUnavailable or ConfigurationError, after its own retries.
        """

    async def aclose(self) -> None:
        """Give back connections and models."""


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:32]
