"""Captioner: the protocol of engines, their drafts, their gates, and the fingerprint of what produces a caption."""

import hashlib
import json
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Protocol

from clipdex.storage.caption import Segment

if TYPE_CHECKING:  # planning imports this module and must not load a decoder
    from clipdex.video import Prepared


class Flaw(StrEnum):
    """A known defect of an earlier release's captions: a reason to recaption those clips."""

    CLOCK = "clock"  # no clock in the fingerprint: Qwen2.5-VL may have had no frame times (docs/gpu.md, The clock)
    SHAPES = "shapes"  # the embedded detectors described evenly coloured areas as shapes


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """All inputs that determine a caption, except the clip.

    prompt: the text, not its name
    sampling: client-side and server-side frame sampling
    generation: max_tokens, temperature and other token sampling options
    cleaning: version of captions/cleaning.py; 0 for texts that are not cleaned, as in earlier releases
    equal_prompts: prompts whose captions count as captions of this one; no part of the digest
    former_prompts: the same of releases without cleaning

    Settings that do not change the text (timeouts, in_flight) are excluded.
    """

    engine: str
    model: str
    strategy: str
    prompt: str
    sampling: dict[str, Any]
    generation: dict[str, Any]
    cleaning: int = 0
    equal_prompts: tuple[str, ...] = field(default=(), compare=False)
    former_prompts: tuple[str, ...] = field(default=(), compare=False)

    def digest(self) -> str:
        """Return the fingerprint's digest, 32 hex digits."""
        return _digest(json.dumps(self.to_json(), sort_keys=True, ensure_ascii=True))

    def to_json(self) -> dict[str, Any]:
        """Return the inputs that determine a caption, by name."""
        inputs = asdict(self)
        del inputs["equal_prompts"], inputs["former_prompts"]
        if not self.cleaning:  # as in releases without it
            del inputs["cleaning"]
        return inputs

    def equal(self) -> "tuple[Fingerprint, ...]":
        """Return this fingerprint and those whose captions are kept until recaption is set.

        They have an equal prompt or an earlier version of cleaning.
        """
        plain = replace(self, equal_prompts=(), former_prompts=())
        prompts = (self.prompt, *self.equal_prompts)
        found = [replace(plain, prompt=prompt) for prompt in prompts[1:]]
        if self.cleaning:
            before = dict.fromkeys((*prompts, *self.former_prompts))
            found += [replace(plain, prompt=prompt, cleaning=0) for prompt in before]
        return self, *found

    def earlier(self) -> dict[Flaw, "Fingerprint"]:
        """Return the fingerprints that earlier releases gave to the same settings.

        Their captions stay valid until recaption is requested for the flaw.
        """
        if self.engine == "detectors":
            return {Flaw.SHAPES: replace(self, model=self.model.replace("detectors-3-", "detectors-2-"))}
        if "clock" not in self.sampling:
            return {}
        sampling = {name: value for name, value in self.sampling.items() if name != "clock"}
        return {Flaw.CLOCK: replace(self, sampling=sampling)}

    def caption_key(self, content: str) -> str:
        """Return the caption key for this content, 32 hex digits. content: sha256 of the clip's bytes, hex."""
        return _digest(f"{content}\0{self.digest()}")

    def shared_key(self, content: str) -> str:
        """Return the key of the caption that this content shares with a near-duplicate; see caption_key()."""
        return _digest(f"{content}\0{self.digest()}\0near-duplicate")


@dataclass(frozen=True, slots=True)
class CaptionDraft:
    """An engine's answer for one clip, before the gates.

    answers: the individual texts if text joins several requests
    notes: frame descriptions that text was merged from
    seconds: wall time from request to last token [s]; the maximum over concurrent requests
    gpu_s: GPU time [GPU-seconds]; 0 if the engine does not report its load
    prompt_tokens, completion_tokens: total cost as counted by the engine; 0 if not counted
    text_tokens: the completion tokens that are in text
    paragraphs, timed: as in Caption
    node: of the slowest request, as in Completion
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
    paragraphs: int = 0
    timed: int = 0
    node: str = ""


@dataclass(frozen=True, slots=True)
class Gates:
    """Limits that a caption must meet. Each engine sets its own.

    min_words: fewest words
    max_repeat: largest share of words in repeated 4-grams (12 characters in scripts without spaces)
    min_ratio: fewest compressed bytes per character; looping text is below it
    language: ISO 639-1; "" accepts any script
    min_tokens: fewest tokens of the whole text, if the engine counts tokens; 0 for no limit
    max_tokens: most tokens per answer, if the engine counts tokens; 0 for no limit
    cleaning: take out what models add to captions, and reject what cannot be taken out (cleaning.py)
    """

    min_words: int = 40
    max_repeat: float = 0.6
    min_ratio: float = 0.2
    language: str = "en"
    min_tokens: int = 0
    max_tokens: int = 0
    cleaning: bool = True


class Captioner(Protocol):
    """Writes captions. One object serves many clips concurrently in one event loop."""

    fingerprint: Fingerprint
    gates: Gates
    in_flight: int

    async def check(self) -> None:
        """Compare the engine with the fingerprint.

        Raises ConfigurationError if they differ, EngineUnavailable if no node answers.
        """

    async def caption(self, clip: "Prepared", attempt: int = 1) -> CaptionDraft:
        """Describe one clip. attempt: 2 after a failed gate; it uses other sampling.

        Raises ClipRejected, EngineUnavailable or ConfigurationError, after its own retries.
        """

    async def aclose(self) -> None:
        """Release connections and models."""


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:32]
