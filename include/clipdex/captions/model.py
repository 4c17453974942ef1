"""Model: answers one request with a video, an image, or text only.

strategies.py converts a clip to requests and the answers to a caption. Every model supports every strategy.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class Video:
    """mp4: H.264, frame k at k / fps [s]. The model must see every frame."""

    mp4: bytes
    fps: float


@dataclass(frozen=True, slots=True)
class Image:
    """One JPEG image."""

    jpeg: bytes


@dataclass(frozen=True, slots=True)
class Generation:
    """Token sampling. temperature 0: greedy; frequency_penalty 0 and repetition_penalty 1: off."""

    max_tokens: int
    temperature: float = 0.0
    seed: int = 1
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0


@dataclass(frozen=True, slots=True)
class ModelRequest:
    """One request, sent in the order system, prompt, media, remark: the shared prefix hits the engine's cache.

    system: the system prompt, or ""
    remark: text for this request only ("part 2 of 3"), or ""
    """

    prompt: str
    generation: Generation
    media: Video | Image | None = None
    system: str = ""
    remark: str = ""


@dataclass(frozen=True, slots=True)
class Completion:
    """The answer of a model to one request, with its costs.

    finish_reason: "stop", or "length" if max_tokens truncated the text
    prompt_tokens, completion_tokens: as counted by the engine, 0 if it counts none
    seconds: wall time from request to last token [s]
    gpu_s: share of the engine's GPUs [GPU-seconds], 0 if it reports no load
    attempts: requests that were sent
    node: host and port of the server that answered, "" for a model in this process
    """

    text: str
    finish_reason: str = "stop"
    prompt_tokens: int = 0
    completion_tokens: int = 0
    seconds: float = 0.0
    gpu_s: float = 0.0
    attempts: int = 1
    node: str = ""


class Model(Protocol):
    """Answers concurrent requests in one event loop. Connects or loads on the first request.

    in_flight: the concurrency limit; further requests wait
    traits: other inputs of the fingerprint, as JSON: server-side frame sampling, precision of the weights
    """

    in_flight: int

    @property
    def traits(self) -> Mapping[str, Any]: ...

    async def check(self) -> None:
        """Compare the model with the settings.

        Raises ConfigurationError if they differ, EngineUnavailable if the engine cannot be reached.
        """

    async def complete(self, request: ModelRequest) -> Completion:
        """Return the unmodified answer: text, finish_reason, tokens, seconds, attempts.

        finish_reason: "stop", or "length" if max_tokens cut the text. Raises ClipRejected, EngineUnavailable or
        ConfigurationError, after its own retries. Cancellation aborts the request.
        """

    async def aclose(self) -> None:
        """Release connections, threads and weights."""
