"""Measure a server of embeddings: chunks per second by clipdex's embedder and by a plain client, in turn.

    python -m benchmarks.embedding_server URL MODEL [--tokenizer FOLDER] [--chunks 8192] [--rounds 3] [--result FILE]
    python -m benchmarks.embedding_server URL MODEL --rate 60 --seconds 300    # load beside something else

Each chunk has about 160 tokens, as most of a caption have. Both clients send the same texts, equally many per request,
with equally many requests in flight. The plain one reads the JSON and does nothing else; clipdex's also checks the
answers, compares a probe in each and normalises the vectors. share: the median of clipdex over that of the plain
client. With --rate, chunks are embedded at that rate [chunks/s] and the rate that was reached is written.
"""

import argparse
import asyncio
import json
import statistics
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

import httpx

from clipdex.config import Embedding
from clipdex.index.embeddings import Embedder, open_embedder
from tests.support.prose import Seen, describe

RESULT = Path(__file__).parent / "results" / "embedding_server.json"
WORDS_PER_CHUNK, SECONDS = 125, 10.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url")
    parser.add_argument("model")
    parser.add_argument("--tokenizer", default="")
    parser.add_argument("--chunks", type=int, default=8192)
    parser.add_argument("--in-flight", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rate", type=float)
    parser.add_argument("--seconds", type=float, default=300.0)
    parser.add_argument("--result", type=Path, default=RESULT)
    args = parser.parse_args()
    settings = Embedding(
        base_urls=(args.url,), model=args.model, tokenizer=args.tokenizer, in_flight=args.in_flight, max_tokens=512
    )
    embedder = open_embedder(settings)
    found = loaded(embedder, args.rate, args.seconds) if args.rate else compared(embedder, settings, args)
    result = {"date": f"{datetime.now(UTC):%Y-%m-%d}", "model": args.model, **found}
    args.result.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


def compared(embedder: Embedder, settings: Embedding, args: argparse.Namespace) -> dict[str, object]:
    """Embed new chunks with both clients in each round."""
    plain, ours = [], []
    embedder.embed_documents(chunks("warm-up", 512))
    for number in range(args.rounds):
        plain.append(args.chunks / asyncio.run(sent(settings, chunks(f"plain {number}", args.chunks))))
        started = time.monotonic()
        embedder.embed_documents(chunks(f"clipdex {number}", args.chunks))
        ours.append(args.chunks / (time.monotonic() - started))
        print(f"plain {plain[-1]:.1f}, clipdex {ours[-1]:.1f} chunks/s", flush=True)
    return {
        "dimension": embedder.dimension,
        "chunks": args.chunks,
        "in_flight": args.in_flight,
        "batch_size": settings.batch_size,
        "plain_chunks_per_s": [round(one, 1) for one in plain],
        "clipdex_chunks_per_s": [round(one, 1) for one in ours],
        "share": round(statistics.median(ours) / statistics.median(plain), 3),
    }


def loaded(embedder: Embedder, rate: float, seconds: float) -> dict[str, object]:
    """Embed the chunks of 16 clips at a time, at this rate [chunks/s]."""
    at_once, done, started = 64, 0, time.monotonic()
    while (now := time.monotonic() - started) < seconds:
        if done / rate > now:
            time.sleep(done / rate - now)
        embedder.embed_documents(chunks(f"load {done}", at_once))
        done += at_once
    return {"wanted_chunks_per_s": rate, "chunks_per_s": round(done / (time.monotonic() - started), 1)}


def chunks(name: str, count: int) -> list[str]:
    """Return new texts of WORDS_PER_CHUNK words."""
    digests = (sha256(f"{name} {number}".encode()).hexdigest() for number in range(count))
    return [describe(Seen(digest, 20, SECONDS, "red"), WORDS_PER_CHUNK) for digest in digests]


async def sent(settings: Embedding, texts: Sequence[str]) -> float:
    """Send the texts from a plain client, and return the seconds."""
    slots, size = asyncio.Semaphore(settings.in_flight), settings.batch_size
    async with httpx.AsyncClient(timeout=600) as client:

        async def one(some: Sequence[str]) -> None:
            async with slots:
                body = {"model": settings.model, "input": list(some)}
                answer = await client.post(f"{settings.base_urls[0]}/v1/embeddings", json=body)
                assert len(answer.raise_for_status().json()["data"]) == len(some)

        started = time.monotonic()
        await asyncio.gather(*(one(texts[at : at + size]) for at in range(0, len(texts), size)))
        return time.monotonic() - started


if __name__ == "__main__":
    main()
