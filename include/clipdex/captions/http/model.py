"""Engines over HTTP: SGLang, vLLM and TensorRT-LLM; dialects.py lists their differences.

clipdex.nodes classifies responses and retries.
"""

import asyncio
import base64
import json
import logging
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

from clipdex.captions.http.clock import ClockFinding
from clipdex.captions.http.dialects import DIALECTS
from clipdex.captions.http.inspection import MARK, Inspection
from clipdex.captions.model import Completion, Image, ModelRequest, Video
from clipdex.captions.preflight import Kept, NodeReport
from clipdex.captions.preflight.cache import Records
from clipdex.config import Clock, Preflight, Settings, Strategy
from clipdex.errors import ClipRejected, ConfigurationError, EngineUnavailable, Reason
from clipdex.nodes.client import Document
from clipdex.nodes.pool import Node, Nodes
from clipdex.nodes.service import Service

log = logging.getLogger(__name__)

ENGINE = Service(
    name="engine",
    settings="CLIPDEX_ENGINE",
    connection="clipdex_engine",
    unavailable=EngineUnavailable,
    refused=partial(ClipRejected, Reason.REJECTED_BY_ENGINE),
)


class ServerModel:
    """A Model (model.py) over one gateway or several nodes.

    At most in_flight requests are open at once. Cancelling a request closes its connection, so the engine aborts it.
    Nothing connects before the first call. records: where the preflights of nodes are kept
    """

    def __init__(self, settings: Settings, backoff_s: float = 0.5, records: Records | None = None) -> None:
        engine = settings.engine
        self.in_flight = engine.in_flight or _IN_FLIGHT_PER_NODE * len(engine.base_urls)
        self._engine, self._dialect = engine, DIALECTS[engine.name]
        self._nodes = Nodes(engine, ENGINE, self.in_flight, backoff_s)
        self._slots = asyncio.Semaphore(self.in_flight)
        self._sampling_unseen = False
        self._clock_findings: set[str] = set()
        kept = Kept(records, engine.preflight)
        self._inspection = Inspection(settings, self._dialect, self._send_to, kept)
        self._watch: asyncio.Task[None] | None = None

    @property
    def traits(self) -> dict[str, Any]:
        options = {**self._dialect.video_options, **self._engine.options}
        return {"server": dict(self._engine.server_sampling), "options": options}

    async def check(self) -> None:
        """Check that every node serves the declared model with the declared sampling, and gives it what is sent.

        Unavailable nodes, and those whose preflight fails, get no requests until the next check. Raises
        ConfigurationError if a node serves another model or sampling, or if the preflight of all fails;
        EngineUnavailable if no node answers.
        """
        nodes = self._nodes.all
        found = await asyncio.gather(*map(self._check, nodes), return_exceptions=True)
        for error in found:
            if isinstance(error, BaseException) and not isinstance(error, EngineUnavailable):
                raise error
        unavailable = [error for error in found if isinstance(error, EngineUnavailable)]
        if len(unavailable) == len(nodes):
            raise unavailable[0]
        for error in unavailable:
            log.warning("%s; continuing without this node", error)
        serving = [node for node, error in zip(nodes, found, strict=True) if error is None]
        self._nodes.serving = await self._inspection.sound(serving)
        for node in self._nodes.serving:
            node.endpoint.model_seen = True
        if self._dialect.load_page and self._watch is None:
            self._watch = asyncio.create_task(self._nodes.watch(self._dialect.load_page, self._dialect.load))

    async def reports(self) -> list[NodeReport]:
        """Check and inspect every node anew, and return what was found."""

        async def one(node: Node) -> NodeReport:
            try:
                await self._check(node)
                return await self._inspection.report(node, fresh=True)
            except (EngineUnavailable, ConfigurationError) as error:
                return self._inspection.failed(node, error)

        return list(await asyncio.gather(*map(one, self._nodes.all)))

    async def complete(self, request: ModelRequest) -> Completion:
        """Send one request, with retries. See Model."""
        payload = _Request(self._body(request), _bytes(request.media))
        async with self._slots:
            answer = await self._nodes.post(_CHAT, payload, len(payload), self._accept)
        choice, usage = answer.document["choices"][0], answer.document.get("usage")
        return Completion(
            text=_text(choice["message"]),
            finish_reason=choice["finish_reason"],
            prompt_tokens=_count(usage, "prompt_tokens"),
            completion_tokens=_count(usage, "completion_tokens"),
            seconds=answer.seconds,
            gpu_s=answer.gpu_s,
            attempts=answer.attempts,
            node=answer.node,
        )

    async def aclose(self) -> None:
        if self._watch:
            self._watch.cancel()
            await asyncio.gather(self._watch, return_exceptions=True)
        await self._nodes.aclose()

    async def _send_to(self, node: Node, request: ModelRequest) -> Document:
        """Send a request of a preflight to one node."""
        payload = _Request({"user": MARK, **self._body(request)}, _bytes(request.media))
        answer = await self._nodes.post(
            _CHAT, payload, len(payload), self._accept, node=node, deadline_s=self._engine.request_timeout_s
        )
        return answer.document

    def _body(self, request: ModelRequest) -> Document:
        """Build the JSON body. The shared text comes before the media, for the engine's prefix cache."""
        generation, media = request.generation, request.media
        penalties = {
            "frequency_penalty": generation.frequency_penalty,
            "repetition_penalty": generation.repetition_penalty,
        }
        system = [{"role": "system", "content": request.system}] if request.system else []
        return {
            "model": self._engine.model,
            "max_tokens": generation.max_tokens,
            "temperature": generation.temperature,
            **({"seed": generation.seed} if self._dialect.seeds else {}),
            **{name: value for name, value in penalties.items() if value != _NO_PENALTY[name]},
            **(self._dialect.video_options if isinstance(media, Video) else {}),
            **self._engine.options,
            "messages": [*system, {"role": "user", "content": self._content(request)}],
        }

    def _content(self, request: ModelRequest) -> str | list[Document]:
        match request.media:
            case Video():
                part = self._dialect.video_part(f"data:video/mp4;base64,{_PLACEHOLDER}")
            case Image():
                part = self._dialect.image_part(f"data:image/jpeg;base64,{_PLACEHOLDER}")
            case None:
                return f"{request.prompt}\n\n{request.remark}".strip()
        remark = [{"type": "text", "text": request.remark}] if request.remark else []
        return [{"type": "text", "text": request.prompt}, part, *remark]

    def _accept(self, url: str, document: Document) -> None:
        """Raise ConfigurationError for another model's answer, EngineUnavailable for an unfinished one."""
        model = document.get("model", self._engine.model)
        if model != self._engine.model:
            raise ConfigurationError(
                f"{url}: requested model {self._engine.model!r}, found {model!r}: set CLIPDEX_ENGINE__MODEL, "
                "or start the engine with the requested model"
            )
        match document.get("choices"):
            case [{"message": {"content": str() | None}, "finish_reason": str(reason)}, *_] if reason != "abort":
                return
            case [{"finish_reason": "abort"}, *_]:
                raise EngineUnavailable(f"{url}: the engine aborted the request")
        raise EngineUnavailable(f"{url}: expected a finished choice, found none")

    async def _check(self, node: Node) -> None:
        models = await self._nodes.get(node, _MODELS, _CHECK_S)
        if models is None:
            raise ConfigurationError(f"{node.url}{_MODELS}: no such page: check that base_urls name the engine")
        match models:
            case {"data": [*cards]}:
                served = {str(card["id"]): card for card in cards if isinstance(card, dict) and "id" in card}
            case _:
                served = {}
        if not served:
            raise EngineUnavailable(f"{node.url}{_MODELS}: serves no model yet")
        if self._engine.model not in served:
            raise ConfigurationError(
                f"{node.url}{_MODELS}: serves {', '.join(served)}, wanted {self._engine.model}: set "
                "CLIPDEX_ENGINE__MODEL, or start the engine with --served-model-name"
            )
        if self._dialect.server_info:
            await self._check_sampling(node)
        pages = None
        if self._clock_matters or self._inspection.mode is not Preflight.OFF:
            pages = await self._pages(node, served[self._engine.model])
        if self._clock_matters:
            self._check_clock(node, pages)

    async def _check_sampling(self, node: Node) -> None:
        info = await self._nodes.get(node, self._dialect.server_info, _CHECK_S)
        served = None if info is None else self._dialect.served_sampling(info)
        declared = self._engine.server_sampling
        if served is None:
            if not self._sampling_unseen:
                log.warning(
                    "%s%s does not report the frame sampling (a gateway?): captions are stored under the declared %s, "
                    "unchecked", node.url, self._dialect.server_info, json.dumps(declared),
                )  # fmt: skip
            self._sampling_unseen = True
        elif dict(served) != declared:
            raise ConfigurationError(
                f"{node.url}: declared sampling {json.dumps(declared)}, served {json.dumps(served)}: set "
                f"CLIPDEX_ENGINE__SERVER_SAMPLING to the served value, or start the engine with "
                f"{self._dialect.sampling_flag} '{json.dumps({'video': declared})}'"
            )

    @property
    def _clock_matters(self) -> bool:
        return self._engine.clock is Clock.FRAMES and self._engine.strategy is Strategy.VIDEO

    async def _pages(self, node: Node, card: Document) -> tuple[Document, Document] | None:
        """Return the pages of the server and of the model, None if this kind of server has none."""
        pages = None
        if self._dialect.clock_pages is not None:
            server_page, model_page = self._dialect.clock_pages
            server = await self._nodes.get(node, server_page, _CHECK_S)
            model = await self._nodes.get(node, model_page, _CHECK_S) if model_page else card
            pages = server or {}, model or {}
        known = {**card, **(pages[0] if pages else {}), **(pages[1] if pages else {})}
        self._inspection.facts[node.url] = {name: known[name] for name in _FACTS if name in known}
        return pages

    def _check_clock(self, node: Node, pages: tuple[Document, Document] | None) -> None:
        """Raise ConfigurationError if the node is known to drop frame times; warn once if it may."""
        if pages is None:
            finding: ClockFinding | None = ClockFinding("the server does not report its clock", certain=False)
        else:
            finding = self._dialect.clock(*pages)
        if finding is None:
            return
        workaround = "or set CLIPDEX_ENGINE__CLOCK=engine for captions without frame times (docs/gpu.md, The clock)"
        if finding.certain:
            raise ConfigurationError(f"{node.url}: {finding.text}, {workaround}")
        if finding.text not in self._clock_findings:
            log.warning("%s: %s; captions are stored as if the model had the frame times", node.url, finding.text)
        self._clock_findings.add(finding.text)


class _Request:
    """A JSON body whose media is base64-encoded in chunks while it is sent, without a full copy in memory."""

    def __init__(self, body: Document, media: bytes) -> None:
        text = json.dumps(body, separators=(",", ":"))
        head, _, tail = text.rpartition(_PLACEHOLDER) if media else (text, "", "")
        self._head, self._tail, self._media = head.encode(), tail.encode(), memoryview(media)

    def __len__(self) -> int:
        return len(self._head) + 4 * ((len(self._media) + 2) // 3) + len(self._tail)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield self._head
        for start in range(0, len(self._media), _CHUNK_BYTES):
            yield base64.b64encode(self._media[start : start + _CHUNK_BYTES])
        yield self._tail


_CHAT, _MODELS = "/v1/chat/completions", "/v1/models"
_IN_FLIGHT_PER_NODE = 32
_CHECK_S = 30.0
_FACTS = ("version", "mm_process_config", "model_type", "model_path", "root", "max_model_len")
_PLACEHOLDER = "@media@"
_CHUNK_BYTES = 3 * 2**16

_NO_PENALTY = {"frequency_penalty": 0.0, "repetition_penalty": 1.0}


def _bytes(media: Video | Image | None) -> bytes:
    match media:
        case Video():
            return media.mp4
        case Image():
            return media.jpeg
        case None:
            return b""


def _text(message: Document) -> str:
    """Return the text of an answer. Reasoning that the server parsed out of it counts only if nothing else is there."""
    text = message.get("content") or ""
    thought = next((one for name in _REASONING if isinstance(one := message.get(name), str) and one.strip()), "")
    return text if text.strip() or not thought else f"<think>{thought}"


_REASONING = ("reasoning_content", "reasoning")  # SGLang, and vLLM from 0.12 on


def _count(usage: object, name: str) -> int:
    """Return a token count of the engine, 0 if it is missing."""
    count = usage.get(name) if isinstance(usage, dict) else None
    return count if isinstance(count, int) else 0
