"""Engines over HTTP: SGLang first, vLLM and TensorRT-LLM by a row in dialects.py. A clip is one video in one request.

What an answer means, and when it is asked for again, is told in nodes.py.
"""

import asyncio
import base64
import json
import logging
from collections.abc import AsyncIterator
from importlib import resources
from typing import Any

from clipdex.captions.caption import Fingerprint, Gates, Reply
from clipdex.captions.dialects import DIALECTS
from clipdex.captions.languages import language
from clipdex.captions.nodes import Document, Node, Nodes
from clipdex.config import Engine, Settings
from clipdex.errors import ConfigurationError, EngineUnavailable
from clipdex.video import Prepared

log = logging.getLogger(__name__)


class ServerEngine:
    """A Captioner (caption.py) over one gateway or several nodes.

    At most in_flight requests are open at once. Cancelling a caption closes its connection, which makes the engine
    drop the work. Nothing connects before the first call.
    """

    def __init__(self, settings: Settings, backoff_s: float = 0.5) -> None:
        engine = settings.engine
        self.in_flight = engine.in_flight or _IN_FLIGHT
        self.gates = Gates(min_words=40, language=engine.language)
        self._engine, self._dialect = engine, DIALECTS[engine.name]
        self._nodes = Nodes(engine, self.in_flight, backoff_s)
        self._slots = asyncio.Semaphore(self.in_flight)
        self._sampling_unseen = False
        self.fingerprint = Fingerprint(
            engine=str(engine.name),
            model=engine.model,
            strategy="video",
            prompt=prompt_text(engine),
            sampling={
                **settings.sampling.model_dump(),
                "server": dict(engine.server_sampling),
                "options": dict(self._dialect.options),
            },
            generation={
                "max_tokens": engine.max_tokens,
                "first": _generation(engine, attempt=1),
                "second": _generation(engine, attempt=2),
            },
        )

    async def check(self) -> None:
        """Every node serves the declared model with the declared sampling, or is not asked until the next check.

        ConfigurationError if one of them serves something else; EngineUnavailable if none answers.
        """
        nodes = self._nodes.all
        found = await asyncio.gather(*map(self._check, nodes), return_exceptions=True)
        for error in found:
            if isinstance(error, BaseException) and not isinstance(error, EngineUnavailable):
                raise error
        away = [error for error in found if isinstance(error, EngineUnavailable)]
        if len(away) == len(nodes):
            raise away[0]
        for error in away:
            log.warning("%s; going on without it", error)
        self._nodes.serving = [node for node, error in zip(nodes, found, strict=True) if error is None]
        self._nodes.model_seen = True

    async def caption(self, clip: Prepared, attempt: int = 1) -> Reply:
        """One request, and what it takes to get it answered. See Captioner."""
        request = _Request(self._body(attempt), clip.proxy)
        async with self._slots:
            answer = await self._nodes.post(_CHAT, request, len(request), self._accept)
        choice, usage = answer.document["choices"][0], answer.document.get("usage")
        return Reply(
            text=choice["message"].get("content") or "",
            finish_reason=choice["finish_reason"],
            prompt_tokens=_count(usage, "prompt_tokens"),
            completion_tokens=_count(usage, "completion_tokens"),
            seconds=answer.seconds,
            attempts=answer.attempts,
        )

    async def aclose(self) -> None:
        await self._nodes.aclose()

    def _body(self, attempt: int) -> Document:
        """The text stands before the video, so that an engine's prefix cache serves it."""
        video = self._dialect.video_part(f"data:video/mp4;base64,{_HERE}")
        text = {"type": "text", "text": self.fingerprint.prompt}
        return {
            "model": self._engine.model,
            "max_tokens": self._engine.max_tokens,
            **_generation(self._engine, attempt),
            **self._dialect.options,
            "messages": [{"role": "user", "content": [text, video]}],
        }

    def _accept(self, url: str, document: Document) -> None:
        """Is it an answer to what was asked?"""
        model = document.get("model", self._engine.model)
        if model != self._engine.model:
            raise ConfigurationError(
                f"{url}: asked for the model {self._engine.model!r}, {model!r} answered: set CLIPDEX_ENGINE__MODEL, "
                "or let the engine serve the other"
            )
        match document.get("choices"):
            case [{"message": {"content": str() | None}, "finish_reason": str(reason)}, *_] if reason != "abort":
                return
            case [{"finish_reason": "abort"}, *_]:
                raise EngineUnavailable(f"{url}: the engine aborted the request")
        raise EngineUnavailable(f"{url}: an answer without a finished choice")

    async def _check(self, node: Node) -> None:
        models = await self._nodes.get(node, _MODELS, _CHECK_S)
        if models is None:
            raise ConfigurationError(f"{node.url}{_MODELS}: no such page: check that base_urls name the engine")
        match models:
            case {"data": [*cards]}:
                served = [str(card["id"]) for card in cards if isinstance(card, dict) and "id" in card]
            case _:
                served = []
        if not served:
            raise EngineUnavailable(f"{node.url}{_MODELS}: serves no model yet")
        if self._engine.model not in served:
            raise ConfigurationError(
                f"{node.url}{_MODELS}: serves {', '.join(served)}, wanted {self._engine.model}: set "
                "CLIPDEX_ENGINE__MODEL, or start the engine with --served-model-name"
            )
        if self._dialect.server_info:
            await self._check_sampling(node)

    async def _check_sampling(self, node: Node) -> None:
        info = await self._nodes.get(node, self._dialect.server_info, _CHECK_S)
        served = None if info is None else self._dialect.served_sampling(info)
        declared = self._engine.server_sampling
        if served is None:
            if not self._sampling_unseen:
                log.warning(
                    "%s%s does not say how frames are sampled (a gateway?): captions are filed under the declared %s, "
                    "unchecked", node.url, self._dialect.server_info, json.dumps(declared),
                )  # fmt: skip
            self._sampling_unseen = True
        elif dict(served) != declared:
            raise ConfigurationError(
                f"{node.url}: declared sampling {json.dumps(declared)}, served {json.dumps(served)}: set "
                f"CLIPDEX_ENGINE__SERVER_SAMPLING to what is served, or start the engine with "
                f"{self._dialect.sampling_flag} '{json.dumps({'video': declared})}'"
            )


def prompt_text(engine: Engine) -> str:
    """The prompt that the settings name, with language and length filled in."""
    folder = resources.files("clipdex.captions") / "prompts"
    prompts = {entry.name.removesuffix(".txt"): entry for entry in folder.iterdir() if entry.name.endswith(".txt")}
    if engine.prompt not in prompts:
        raise ConfigurationError(
            f"there is no prompt {engine.prompt!r}: set CLIPDEX_ENGINE__PROMPT to one of {', '.join(sorted(prompts))}"
        )
    most = min(_MOST_WORDS, int(engine.max_tokens * _WORDS_A_TOKEN))
    fewest = min(_FEWEST_WORDS, most // 2)
    text = prompts[engine.prompt].read_text(encoding="utf-8")
    return text.format(language=language(engine.language).name, fewest=fewest, most=most).strip()


class _Request:
    """The JSON around a video, encoded piece by piece as it is sent: there is never a copy of the whole."""

    def __init__(self, body: Document, video: bytes) -> None:
        head, _, tail = json.dumps(body, separators=(",", ":")).rpartition(_HERE)
        self._head, self._tail, self._video = head.encode(), tail.encode(), memoryview(video)

    def __len__(self) -> int:
        return len(self._head) + 4 * ((len(self._video) + 2) // 3) + len(self._tail)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield self._head
        for start in range(0, len(self._video), _PIECE):
            yield base64.b64encode(self._video[start : start + _PIECE])
        yield self._tail


_CHAT, _MODELS = "/v1/chat/completions", "/v1/models"
_IN_FLIGHT = 32
_CHECK_S = 30.0
_HERE = "@video@"
_PIECE = 3 * 2**16

# 300 to 2,000 tokens of English, and clearly below max_tokens, so that a text ends before it is cut.
_FEWEST_WORDS, _MOST_WORDS, _WORDS_A_TOKEN = 200, 1400, 0.55


def _generation(engine: Engine, attempt: int) -> dict[str, Any]:
    """The second attempt comes after a gate failed, mostly for a loop: warmer, and repeating costs."""
    if attempt == 1:
        return {"temperature": engine.temperature, "seed": 1}
    warmer = max(0.7, engine.temperature)
    return {"temperature": warmer, "seed": attempt, "frequency_penalty": 0.3, "repetition_penalty": 1.05}


def _count(usage: object, name: str) -> int:
    """Tokens as the engine counted them, 0 where it did not."""
    count = usage.get(name) if isinstance(usage, dict) else None
    return count if isinstance(count, int) else 0
