"""Serve the HTTP API of SGLang, vLLM or TensorRT-LLM without a model, for tests and simulation only.

A request holds a video or picture as a strict base64 data URL, which is decoded and whose frames are counted, or only
text. Responses include usage, with the prompt tokens of a family of models, SGLang's messages and status codes.
Latency, capacity, faults (faults.py) and silent faults (seeing.py) are configurable. A caption is a function of the
media or text (prose.py). The questions of a preflight are answered by looking at the video (seeing.py).

    with StandIn("503:0.2,hang:1", latency_s=0.05) as engine:
        engine.url; engine.requests; engine.peak_running

    python -m tests.support.engine --port 0 --log requests.jsonl --faults "503:0.2"      (prints its URL)
"""

import argparse
import asyncio
import base64
import json
import os
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import av

from clipdex.config import EngineName
from clipdex.families import FAMILIES
from tests.support.faults import CAPTIONS, Fault, Plan, broken, error, faulty_caption
from tests.support.prose import ASKS_FOR_CITATIONS, ASKS_FOR_TIMES, Seen, describe, look, quoted, with_times
from tests.support.seeing import SILENT, Sight, reply, see
from tests.support.wire import Answer, Call, converse

MODEL = "stand-in/video"
CLIENT_LEFT = 499
PREFLIGHT = "clipdex-preflight"  # the user of its requests


@dataclass(slots=True)
class Request:
    """One request as the engine received it.

    digest: sha256 of the media, or of the text without media, hex
    frames: frames that a model would get, 0 without media
    probes: of a preflight
    status: None until the response, 499 if the client disconnected first
    body: the JSON, with the data URL cut to its head
    at, end: seconds since 1970
    """

    number: int
    path: str
    at: float
    connection: int
    authorization: str = ""
    digest: str = ""
    frames: int = 0
    fault: str = ""
    status: int | None = None
    end: float | None = None
    completion_tokens: int = 0
    probes: bool = False
    body: dict[str, Any] = field(default_factory=dict)


class StandIn:
    """Run the engine in a thread of this process.

    latency_s, token_s: time per running request, and additional time per output token [s]
    capacity, queue: maximum running and waiting requests (queue=None: unlimited)
    words: length of a caption
    marks: the times that begin each of three paragraphs if the prompt asks for them, such as "[{start}-{end}] "
    video: frame sampling flags, as SGLang's mm_process_config["video"] or TensorRT-LLM's num_frames
    gateway: return 404 for /server_info and /model_info
    dialect: whose API it serves
    version, model_type: as the server reports them
    clocked: report the processor that passes frame times, which docker/sglang/serve loads
    family: of models, which counts the prompt tokens
    silent: names of silent faults, such as "half_sampling,reasoning" (seeing.py)
    """

    def __init__(
        self,
        faults: str = "",
        *,
        model: str = MODEL,
        latency_s: float = 0.0,
        token_s: float = 0.0,
        capacity: int = 256,
        queue: int | None = None,
        words: int | None = None,
        marks: str = "",
        video: dict[str, float] | None = None,
        gateway: bool = False,
        dialect: str = "sglang",
        version: str = "0.5.17",
        model_type: str = "qwen2_5_vl",
        clocked: bool = True,
        family: str = "qwen2.5-vl",
        silent: str = "",
        api_key: str = "",
        log: str | Path | None = None,
        port: int = 0,
        seed: int = 1,
    ) -> None:
        self.plan = Plan(faults, seed)
        self.model, self.latency_s, self.token_s, self.words = model, latency_s, token_s, words
        self.capacity, self.queue, self.video, self.gateway = capacity, queue, video or {}, gateway
        self.dialect = EngineName(dialect)
        self.version, self.model_type, self.clocked = version, model_type, clocked
        self.family, self.silent = FAMILIES[family], frozenset(filter(None, silent.split(",")))
        if unknown := self.silent - SILENT:
            raise ValueError(f"unknown silent faults {sorted(unknown)}; expected some of {sorted(SILENT)}")
        self.marks = marks
        self.api_key, self.log, self.port = api_key, Path(log) if log else None, port
        self.requests: list[Request] = []
        self.running = self.waiting = self.peak_running = 0
        self.started = threading.Event()
        self._stop, self._slots = asyncio.Event(), asyncio.Condition()
        self._connections, self._drawn = count(1), 0
        self._tasks: set[asyncio.Task[None]] = set()

    def __enter__(self) -> "StandIn":
        self._thread = threading.Thread(target=lambda: asyncio.run(self.run()), daemon=True)
        self._thread.start()
        if not self.started.wait(10):
            raise RuntimeError("the stand-in engine did not start")
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def chats(self) -> list[Request]:
        """Return the requests for captions in order of arrival."""
        return [one for one in self.requests if one.path == "/v1/chat/completions" and not one.probes]

    @property
    def probes(self) -> list[Request]:
        """Return the requests of preflights in order of arrival."""
        return [one for one in self.requests if one.probes]

    async def run(self) -> None:
        """Serve until stopped."""
        self._loop = asyncio.get_running_loop()
        server = await asyncio.start_server(self._connected, "127.0.0.1", self.port, limit=2**20)
        self.port = server.sockets[0].getsockname()[1]
        self.started.set()
        async with server:
            await self._stop.wait()
            server.close()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def stop(self) -> None:
        self._stop.set()

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(converse(next(self._connections), self._handle, reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _handle(self, call: Call) -> Answer:
        request = Request(len(self.requests), call.path, time.time(), call.connection)
        request.authorization = call.headers.get("authorization", "")
        self.requests.append(request)
        try:
            answer = await self._answer(request, call)
            request.status = 0 if answer.sending == "reset" else answer.status
            return answer
        finally:
            if request.status is None:
                request.status = CLIENT_LEFT
            request.end = time.time()
            self._write(request)

    async def _answer(self, request: Request, call: Call) -> Answer:
        if self.api_key and request.authorization != f"Bearer {self.api_key}" and call.path != "/health":
            return Answer.of({"error": "Unauthorized"}, 401)
        if (call.method, call.path) == ("POST", "/v1/chat/completions"):
            return await self._chat(request, call.body)
        card = {"id": self.model, "object": "model", "owned_by": "sglang", "root": self.model, "max_model_len": 32768}
        load = {"dp_rank": 0, "num_running_reqs": self.running, "num_waiting_reqs": self.waiting}
        config = {"video": self.video, **({"clock": {"positions": "frames"}} if self.clocked else {})}
        info = {"model_path": self.model, "mm_process_config": config, "version": self.version}
        documents: dict[str, tuple[str, Any]] = {
            "/health": ("health", {}),
            "/v1/models": ("models", {"object": "list", "data": [card]}),
        }
        if self.dialect is EngineName.SGLANG:
            documents["/v1/loads"] = "loads", {"version": "0.5.17", "loads": [load]}
            documents["/server_info"] = "info", info
            documents["/model_info"] = "model", {"model_path": self.model, "model_type": self.model_type}
        if self.dialect is EngineName.VLLM:
            documents["/version"] = "version", {"version": self.version}
        hidden = self.gateway and call.path in ("/server_info", "/model_info")
        if call.method != "GET" or call.path not in documents or hidden:
            return error(404, "Not Found")
        name, document = documents[call.path]
        fault = self.plan.next(name)
        request.fault = fault.name if fault else ""
        return await broken(fault, Answer.of(document)) if fault else Answer.of(document)

    async def _chat(self, request: Request, raw: bytes) -> Answer:
        try:
            request.body = json.loads(raw)
            if self.dialect is EngineName.TENSORRT_LLM and (unknown := request.body.keys() - TENSORRT_LLM_FIELDS):
                return error(400, f"{sorted(unknown)}: Extra inputs are not permitted")
            kind, media = _media(request.body)
            request.probes = request.body.get("user") == PREFLIGHT
            seen = await asyncio.to_thread(look, kind, media)
            sight = await asyncio.to_thread(see, media, self.silent) if kind == "video_url" and request.probes else None
            request.digest = seen.digest
            request.frames = self._sampled(seen, request.body) if kind == "video_url" else seen.frames
        except (ValueError, KeyError, TypeError, IndexError, av.FFmpegError) as refused:
            return error(400, f"Could not decode video: {refused}")
        if request.probes:
            return await self._run(request, partial(self._probed, request, seen, sight))
        fault = self.plan.next("chat", seen.digest)
        request.fault = fault.name if fault else ""
        self._write(request)
        if fault and fault.name not in CAPTIONS:
            return await broken(fault, self._reply(request, seen, None))
        if self.queue is not None and self.running + self.waiting >= self.capacity + self.queue:
            return error(503, "The request queue is full.")
        return await self._run(request, partial(self._reply, request, seen, fault))

    def _sampled(self, seen: Seen, body: dict[str, Any]) -> int:
        """Return the frames left after sampling. Only vLLM applies the sampling of a request."""
        match self.dialect:
            case EngineName.VLLM:
                requested = body.get("media_io_kwargs", {}).get("video", {}).get("num_frames", 32)
                return seen.frames if requested == -1 else min(requested, seen.frames)
            case EngineName.TENSORRT_LLM:
                return min(self.video.get("num_frames", 10), seen.frames)
        wanted = max(4, seen.seconds * self.video.get("fps", 2))
        frames = int(min(wanted, self.video.get("max_frames", 768), seen.frames)) // 2 * 2
        if not frames:
            raise ValueError(f"nframes should in interval [2, {seen.frames}], but got {frames}.")
        return frames

    async def _run(self, request: Request, make: Callable[[], Answer]) -> Answer:
        """Wait for a free slot, then take as long as an engine would."""
        self.waiting += 1
        try:
            async with self._slots:
                await self._slots.wait_for(lambda: self.running < self.capacity)
                self.running += 1
        finally:
            self.waiting -= 1
        self.peak_running = max(self.peak_running, self.running)
        try:
            answer = make()
            await asyncio.sleep(self.latency_s + self.token_s * request.completion_tokens)
            return answer
        finally:
            self.running -= 1
            async with self._slots:
                self._slots.notify()

    def _probed(self, request: Request, seen: Seen, sight: Sight | None) -> Answer:
        """Answer a question of a preflight by looking at the video."""
        body, prompt = request.body, " ".join(part["text"] for part in _parts(request.body) if part["type"] == "text")
        self._drawn += 1
        temperature = 0.0 if "ignores_temperature" in self.silent else body.get("temperature", 1.0)
        seed = self._drawn if "ignores_seed" in self.silent else body.get("seed", self._drawn)
        text = reply(prompt, sight, self.silent, f"{seed}" if temperature else "greedy")
        message = {"role": "assistant", "content": text}
        if "reasoning" in self.silent:
            message["content"] = f"<think>The user asks: {prompt[:20]}</think>\n{text}"
        if "reasoning_field" in self.silent:
            message["reasoning_content"] = "The user asks."
        words, finish = text.split(), "stop"
        if len(words) > body["max_tokens"] and "ignores_max_tokens" not in self.silent:
            words, finish = words[: body["max_tokens"]], "length"
            message["content"] = " ".join(words)
        request.completion_tokens = len(words)
        prompt_tokens = len(prompt.split()) + 20
        if sight:
            frames = len(sight.pictures)
            if "resampled" not in self.silent:
                frames = self._sampled(replace(seen, frames=frames), body)
            prompt_tokens += self.family.expected(frames, sight.size, sight.fps, self.dialect)
        return Answer.of({
            "id": f"probe-{request.number}", "object": "chat.completion", "model": body["model"],
            "choices": [{"index": 0, "message": message, "finish_reason": finish}],
            "usage": {"prompt_tokens": prompt_tokens, "completion_tokens": len(words)},
        })  # fmt: skip

    def _reply(self, request: Request, seen: Seen, fault: Fault | None) -> Answer:
        prompt = " ".join(part["text"] for part in _parts(request.body) if part["type"] == "text")
        correct = describe(seen, self.words)
        if self.marks and ASKS_FOR_TIMES in prompt:
            correct = with_times(correct, seen.seconds, self.marks)
        if ASKS_FOR_CITATIONS in prompt:
            correct = quoted(prompt)
        text, finish = faulty_caption(fault.name if fault else "", prompt, correct)
        words, most = text.split(), int(request.body.get("max_tokens", 4096) / 1.3)
        if fault and fault.name in ("endless", "huge"):
            most = len(words)
        if len(words) > most:
            text, finish = " ".join(words[:most]), "length"
        prompt_tokens, tokens = len(prompt.split()) + 65 * request.frames, int(min(len(words), most) * 1.3)
        request.completion_tokens = tokens
        wrong = fault is not None and fault.name == "wrong_model"
        return Answer.of({
            "id": f"chat-{request.number}",
            "object": "chat.completion",
            "created": int(request.at),
            "model": "other/model" if wrong else request.body["model"],
            "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": finish}],
            "usage": {
                "prompt_tokens": prompt_tokens,
                "completion_tokens": tokens,
                "total_tokens": prompt_tokens + tokens,
            },
        })  # fmt: skip

    def _write(self, request: Request) -> None:
        """Log a request once after decoding and once at its end, so that a kill in between loses none."""
        if self.log:
            with self.log.open("a") as log:
                log.write(json.dumps(asdict(request)) + "\n")


def read_log(path: str | Path) -> list[Request]:
    """Read the requests of a log in order of arrival; a request without a status had not ended."""
    latest: dict[tuple[float, int], Request] = {}
    for line in Path(path).read_text().splitlines():
        request = Request(**json.loads(line))
        latest[(request.at, request.number)] = request
    return [latest[key] for key in sorted(latest)]


def _parts(body: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the content parts of all messages; convert strings to text parts."""
    contents = [message["content"] for message in body["messages"]]
    return [part for one in contents for part in ([{"type": "text", "text": one}] if isinstance(one, str) else one)]


def _media(body: dict[str, Any]) -> tuple[str, bytes]:
    """Return the single video or picture, or the user's text. Cut data URLs to their head to keep logs small."""
    if {message["role"] for message in body["messages"]} - {"system", "user"}:
        raise ValueError("expected only the roles system and user")
    parts = _parts(body)
    if unknown := {part["type"] for part in parts} - {"text", *_HEADS}:
        raise ValueError(f"unknown content part {unknown}")
    places = [(part["type"], part[part["type"]]) for part in parts if part["type"] != "text"]
    if not places:
        return "text", parts[-1]["text"].encode()
    [(kind, place)] = places
    head, _, data = place["url"].partition(",")
    place["url"] = head
    if head != _HEADS[kind]:
        raise ValueError(f"not the data URL of {kind}: {head[:40]!r}")
    return kind, base64.b64decode(data, validate=True)


_HEADS = {"video_url": "data:video/mp4;base64", "image_url": "data:image/jpeg;base64"}

# Fields of its ChatCompletionRequest that a client like ours may send; it rejects others.
TENSORRT_LLM_FIELDS = {
    "messages", "model", "frequency_penalty", "logit_bias", "logprobs", "max_tokens", "max_completion_tokens", "n",
    "presence_penalty", "response_format", "seed", "stop", "stream", "stream_options", "temperature", "top_p", "user",
    "top_k", "min_p", "repetition_penalty", "length_penalty", "stop_token_ids", "ignore_eos", "min_tokens",
    "chat_template", "chat_template_kwargs", "mm_processor_kwargs", "add_generation_prompt",
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faults", default="")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--log", help="append each request to this file of JSON lines")
    parser.add_argument("--model", default=MODEL)
    parser.add_argument("--latency-s", type=float, default=0.0)
    parser.add_argument("--token-s", type=float, default=0.0)
    parser.add_argument("--capacity", type=int, default=256)
    parser.add_argument("--queue", type=int)
    parser.add_argument("--words", type=int)
    parser.add_argument("--marks", default="", help="begin paragraphs with times, such as '[{start}-{end}] '")
    parser.add_argument("--video", type=json.loads, default={}, help='mm_process_config["video"], as JSON')
    parser.add_argument("--dialect", default="sglang")
    parser.add_argument("--family", default="qwen2.5-vl", choices=FAMILIES)
    parser.add_argument("--silent", default="", help="silent faults, such as half_sampling,reasoning (seeing.py)")
    parser.add_argument("--model-type", default="qwen2_5_vl")
    parser.add_argument("--gateway", action="store_true", help="do not answer /server_info")
    parser.add_argument("--seed", type=int, default=1)
    options = vars(parser.parse_args())
    asyncio.run(_serve(StandIn(options.pop("faults"), api_key=os.environ.get("STAND_IN_API_KEY", ""), **options)))


async def _serve(engine: StandIn) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, engine.stop)
    async with asyncio.TaskGroup() as group:
        group.create_task(engine.run())
        await asyncio.to_thread(engine.started.wait, 10)
        print(engine.url, flush=True)


if __name__ == "__main__":
    main()
