"""A model: what answers one request about a video, about one picture, or about words alone.

How a clip becomes requests, and answers a caption, is told in strategies.py; every model serves every strategy.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from clipdex.captions.caption import Reply


@dataclass(frozen=True, slots=True)
class Video:
    """mp4: H.264, picture k at k / fps [s], every one of them meant to be seen."""

    mp4: bytes
    fps: float


@dataclass(frozen=True, slots=True)
class Image:
    """One picture, as a JPEG."""

    jpeg: bytes


@dataclass(frozen=True, slots=True)
class Generation:
    """How an answer is sampled. temperature 0 takes the likeliest word; penalties of 0 and 1 change nothing."""

    max_tokens: int
    temperature: float = 0.0
    seed: int = 1
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0


@dataclass(frozen=True, slots=True)
class ModelRequest:
    """One request. In this order, so that what all requests share comes first and a prefix cache serves it: system,
    prompt, media, remark.

    system: the system prompt, or ""; remark: what holds for this request alone ("part 2 of 3"), or "".
    """

    prompt: str
    generation: Generation
    media: Video | Image | None = None
    system: str = ""
    remark: str = ""


class Model(Protocol):
    """Answers requests; one object takes many at once, in one event loop. Nothing connects or loads before the first.

    in_flight: how many requests keep it busy; more than that wait. traits: what else decides its answers, as JSON, for
    the fingerprint: what the server does to frames, the precision of the weights.
    """

    in_flight: int

    @property
    def traits(self) -> Mapping[str, Any]: ...

    async def check(self) -> None:
        """Is it what the settings say? ConfigurationError if not, EngineUnavailable if it cannot be reached."""

    async def ask(self, request: ModelRequest) -> Reply:
        """The answer, as it was given: text, finish_reason, tokens, seconds, attempts.

        finish_reason: "stop", or "length" where max_tokens cut the text. Raises ClipRejected, EngineUnavailable or
        ConfigurationError, after its own retries. Cancelling it gives the work up.
        """

    async def aclose(self) -> None:
        """Give back connections, threads and weights."""
