"""Generate load: a fixed number of requests in flight, each with a prepared proxy.

Its rate is the capacity of the server. It is the reference for clipdex, which also lists, decodes, checks and stores.
"""

import asyncio
import base64
import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import httpx

FIXED_LENGTH = {"ignore_eos": True}
"""Random weights end a text at random: make engines generate up to max_tokens."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One request. start, end: seconds since the first request; error: "" on success."""

    start: float
    end: float
    prompt_tokens: int = 0
    completion_tokens: int = 0
    error: str = ""


@dataclass(frozen=True, slots=True)
class Rates:
    """The rates of a set of requests; times in seconds.

    clips_per_s: successful requests over the whole time, with ramp and drain
    steady_*: from the end of the first wave (in_flight responses) to the start of the last request, without ramp and
    drain; None for fewer than in_flight responses
    """

    in_flight: int
    requests: int
    failed: int
    seconds: float
    clips_per_s: float
    tokens_per_s: float
    steady_s: float | None
    steady_clips_per_s: float | None
    steady_tokens_per_s: float | None
    first_wave_s: float
    p50_s: float
    p95_s: float
    prompt_tokens: float
    completion_tokens: float
    errors: dict[str, int]

    def to_json(self) -> dict[str, Any]:
        return {name: _rounded(value) for name, value in asdict(self).items()}


def rates(samples: Sequence[Sample], in_flight: int) -> Rates:
    """Compute the rates of one point."""
    done = sorted((one for one in samples if not one.error), key=lambda one: one.end)
    errors: dict[str, int] = {}
    for one in samples:
        if one.error:
            errors[one.error[:120]] = errors.get(one.error[:120], 0) + 1
    if not done:
        return Rates(in_flight, len(samples), len(samples), 0, 0, 0, None, None, None, 0, 0, 0, 0, 0, errors)
    seconds = max(one.end for one in samples) - min(one.start for one in samples)
    wave = done[min(in_flight, len(done)) - 1].end
    last_start = max(one.start for one in samples)
    steady = [one for one in done if wave < one.end <= last_start]
    window = last_start - wave if len(steady) >= in_flight else None
    latencies = sorted(one.end - one.start for one in done)
    tokens = sum(one.completion_tokens for one in done)
    return Rates(
        in_flight=in_flight,
        requests=len(samples),
        failed=len(samples) - len(done),
        seconds=seconds,
        clips_per_s=len(done) / seconds,
        tokens_per_s=tokens / seconds,
        steady_s=window,
        steady_clips_per_s=len(steady) / window if window else None,
        steady_tokens_per_s=sum(one.completion_tokens for one in steady) / window if window else None,
        first_wave_s=wave - min(one.start for one in samples),
        p50_s=latencies[len(latencies) // 2],
        p95_s=latencies[int(len(latencies) * 0.95)],
        prompt_tokens=sum(one.prompt_tokens for one in done) / len(done),
        completion_tokens=tokens / len(done),
        errors=errors,
    )


async def load(
    url: str, bodies: Iterator[bytes], in_flight: int, requests: int, *, ramp_s: float = 0.0, limit_s: float = 600.0,
    timeout_s: float = 300.0, fresh: bool = False,
) -> list[Sample]:  # fmt: skip
    """Run a closed loop: send a new request after each response. ramp_s: spread of the first requests [s].

    limit_s: start no request after this time [s]
    fresh: use a new connection per request, which balances load over the processes of a server
    """
    began = time.monotonic()
    samples: list[Sample] = []
    left = requests
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=0 if fresh else in_flight)
    async with httpx.AsyncClient(timeout=httpx.Timeout(timeout_s, connect=30.0), limits=limits) as client:

        async def worker(number: int) -> None:
            nonlocal left
            await asyncio.sleep(ramp_s * number / in_flight)
            while left > 0 and time.monotonic() - began < limit_s:
                left -= 1
                samples.append(await _request(client, url, next(bodies), began))

        async with asyncio.TaskGroup() as group:
            for number in range(in_flight):
                group.create_task(worker(number))
    return samples


def video_bodies(model: str, prompt: str, tokens: int, videos: Iterator[bytes]) -> Iterator[bytes]:
    """Yield requests as clipdex sends them, with a fixed number of output tokens."""
    for video in videos:
        url = f"data:video/mp4;base64,{base64.b64encode(video).decode()}"
        yield chat(model, tokens, [{"type": "text", "text": prompt}, {"type": "video_url", "video_url": {"url": url}}])


def chat(model: str, tokens: int, content: list[dict[str, Any]]) -> bytes:
    document = {"model": model, "max_tokens": tokens, **FIXED_LENGTH, "temperature": 0.2,
                "messages": [{"role": "user", "content": content}]}  # fmt: skip
    return json.dumps(document, separators=(",", ":")).encode()


async def _request(client: httpx.AsyncClient, url: str, body: bytes, began: float) -> Sample:
    start = time.monotonic() - began
    try:
        answer = await client.post(
            f"{url}/v1/chat/completions", content=body, headers={"Content-Type": "application/json"}
        )
        end = time.monotonic() - began
        if answer.status_code != 200:
            return Sample(start, end, error=f"{answer.status_code} {answer.text[:100]}")
        usage = answer.json()["usage"]
        return Sample(start, end, usage["prompt_tokens"], usage["completion_tokens"])
    except (httpx.HTTPError, ValueError, KeyError) as error:
        return Sample(start, time.monotonic() - began, error=f"{type(error).__name__}: {error}")


def run(url: str, make: Callable[[], Iterator[bytes]], in_flight: int, requests: int, **options: Any) -> Rates:
    """Run load() in a new event loop; return the rates."""
    return rates(asyncio.run(load(url, make(), in_flight, requests, **options)), in_flight)


def _rounded(value: Any) -> Any:
    return round(value, 3) if isinstance(value, float) else value
