"""Measure the latency of one search in the embedded index, embedding included, at a number of chunks.

    python -m benchmarks.search_latency [--chunks 500000] [--queries 300] [--index FOLDER]

The vectors are drawn around 2,000 centres. The words are the whole words of the default model's vocabulary, which is in
order of frequency, drawn from a Zipf distribution; each of 20,000 texts is in 25 chunks. Queries are 3 to 12 of the
3,000 most frequent words, so 5 to 14 tokens. A query is embedded by the default model and answered by Pipeline.search,
one after another: latency as users have it in a process that has searched before. The first search of the process is
reported by itself. --index keeps the index for another run. Write results/search_latency.json.
"""

import argparse
import json
import platform
import random
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from clipdex import Pipeline, Settings
from clipdex.index import Collection, Point, open_index, point_id, sparse_document
from clipdex.index.weights import MINILM, locate

RESULT = Path(__file__).parent / "results" / "search_latency.json"
CENTRES, TEXTS, CHUNKS_PER_CLIP, AT_ONCE, PACKED = 2_000, 20_000, 4, 5_000, 100_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--chunks", type=int, default=500_000)
    parser.add_argument("--queries", type=int, default=300)
    parser.add_argument("--index", type=Path)
    args = parser.parse_args()
    folder = args.index or Path(tempfile.mkdtemp())
    try:
        pipeline = Pipeline.open(Settings.load(home=folder))
        if not (folder / ".clipdex").exists():
            build(pipeline, args.chunks)
        result = measured(pipeline, args.queries)
    finally:
        if not args.index:
            shutil.rmtree(folder)
    print(json.dumps(result, indent=1))
    RESULT.write_text(json.dumps(result, indent=1) + "\n")


def build(pipeline: Pipeline, chunks: int) -> None:
    settings, embedder = pipeline.settings, pipeline.embedder
    collection = Collection.of(settings, embedder)
    started = time.perf_counter()
    points = drawn(chunks, embedder.dimension)
    with open_index(settings, collection) as index:
        index.ensure()
        for number in range(0, chunks, AT_ONCE):
            index.upsert([next(points) for _ in range(min(AT_ONCE, chunks - number))])
            if (number + AT_ONCE) % PACKED == 0 or number + AT_ONCE >= chunks:
                index.optimize()
    print(f"{chunks} chunks in {time.perf_counter() - started:.0f} s", flush=True)


def drawn(chunks: int, dimension: int) -> Iterator[Point]:
    generator = np.random.default_rng(3)
    centres = generator.normal(size=(CENTRES, dimension))
    words = vocabulary()
    weights = 1 / np.arange(1, len(words) + 1)
    weights /= weights.sum()
    texts = [" ".join(generator.choice(words, 100, p=weights)) for _ in range(min(chunks, TEXTS))]
    sparse = [sparse_document(text) for text in texts]
    for number in range(chunks):
        vector = centres[generator.integers(CENTRES)] + generator.normal(size=dimension)
        vector /= np.linalg.norm(vector)
        clip, no = f"{number // CHUNKS_PER_CLIP:032x}", number % CHUNKS_PER_CLIP
        drawn_text = int(generator.integers(len(texts)))
        payload = {
            "clip_id": clip, "uri": f"file:///archive/{clip}.mp4", "day": f"2026-{number % 12 + 1:02}-01",
            "chunk_no": no, "text": texts[drawn_text], "start_s": 2.5 * no, "end_s": 2.5 * no + 2.5, "duration_s": 10.0,
            "width": 1280, "height": 720, "engine": "sglang", "model": "m", "caption_key": clip, "poster": "",
        }  # fmt: skip
        yield Point(point_id(clip, clip, no), vector.tolist(), sparse[drawn_text], payload)


def vocabulary() -> list[str]:
    """Return the words that are one token each, the most frequent first."""
    tokens = json.loads((locate(MINILM.name) / "tokenizer.json").read_text())["model"]["vocab"]
    return [token for token in sorted(tokens, key=tokens.get) if re.fullmatch("[a-z]{3,}", token)]


def measured(pipeline: Pipeline, queries: int) -> dict[str, object]:
    chance, words = random.Random(7), vocabulary()
    texts = [" ".join(chance.choices(words[:3000], k=chance.randrange(3, 13))) for _ in range(queries)]
    pipeline.embedder.embed_query("a model that is loaded")
    seconds, embedding = [], []
    for text in texts:
        started = time.perf_counter()
        pipeline.embedder.embed_query(text)
        embedding.append(time.perf_counter() - started)
        started = time.perf_counter()
        pipeline.search(text, limit=10, weak=True)
        seconds.append(time.perf_counter() - started)
    with open_index(pipeline.settings) as index:
        chunks = index.count()
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "command": f"python -m benchmarks.search_latency --queries {queries}",
        "machine": f"{platform.processor() or platform.machine()}, {np.__version__=}",
        "chunks": chunks,
        "first_ms": round(1000 * seconds[0], 1),
        **{f"p{p}_ms": round(1000 * float(np.percentile(seconds[1:], p)), 1) for p in (50, 95, 99)},
        "of_which_embedding_p50_ms": round(1000 * float(np.median(embedding)), 1),
    }


if __name__ == "__main__":
    main()
