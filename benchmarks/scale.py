"""Measure what docs/scale.md computes with: quantization, words, and the answer of a server, each without a server.

    python -m benchmarks.scale TEXTS.jsonl [--sentences 10000] [--points 200000]

quantization: the texts and their sentences are embedded by the default model and searched by {"query": …} in Qdrant
Edge, which has the engine of the server: the share of the ten nearest vectors among the first ten and the first 200,
and the largest error of a score, as quantized and rescored. words: BM25 in an index of sparse vectors alone, whose
words have a Zipf distribution; the slope over the number of points counts. answer: clipdex reads 2 x 200 hits with
their vectors from a local HTTP server. Each line of TEXTS is {"text": …, "query": …}. Write results/scale.json.
"""

import argparse
import json
import re
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import qdrant_edge as qdrant

from clipdex import Settings
from clipdex.config import Search
from clipdex.index import Collection, Query, Sparse
from clipdex.index.embeddings import open_embedder
from clipdex.index.ranking import rank
from clipdex.index.server import ServerIndex
from clipdex.index.server_client import connect

RESULT = Path(__file__).parent / "results" / "scale.json"
DEPTH, BEST, DIMENSION, WORDS, WORDS_A_CHUNK, PAYLOAD = 200, 10, 384, 20_000, 104, 1_044
KINDS = {
    "float32": None,
    "int8": qdrant.ScalarQuantizationConfig(qdrant.ScalarType.Int8),
    "turbo": qdrant.TurboQuantQuantizationConfig(bits=qdrant.TurboQuantBitSize.Bits4),
    "binary": qdrant.BinaryQuantizationConfig(),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("texts", type=Path)
    parser.add_argument("--sentences", type=int, default=10_000)
    parser.add_argument("--points", type=int, default=200_000)
    given = parser.parse_args()
    rows = [json.loads(line) for line in given.texts.read_text().splitlines()]
    result = {
        "date": datetime.now(UTC).date().isoformat(),
        "command": f"python -m benchmarks.scale TEXTS --sentences {given.sentences} --points {given.points}",
        "quantization": quantization(rows, given.sentences),
        "words": words([given.points // 4, given.points]),
        "answer": answer(),
    }
    RESULT.write_text(json.dumps(result, indent=1) + "\n")


def quantization(rows: Sequence[dict[str, str]], most: int) -> dict[str, Any]:
    texts = [row["text"] for row in rows]
    texts += [one for text in texts for one in re.split(r"(?<=[.!?])\s+", text) if len(one) > 30]
    texts = list(dict.fromkeys(texts))[:most]
    embedder = open_embedder(Settings.load().embedding)
    vectors = np.array(embedder.embed_documents(texts), np.float32)
    queries = np.array(embedder.embed_queries([row["query"] for row in rows[:400]]), np.float32)
    nearest = np.argsort(-(queries @ vectors.T), axis=1)[:, :BEST]
    found: dict[str, Any] = {"vectors": len(vectors), "queries": len(queries)}
    for name, config in KINDS.items():
        params = qdrant.EdgeVectorParams(DIMENSION, qdrant.Distance.Cosine, quantization_config=config)
        with tempfile.TemporaryDirectory() as folder:
            shard = qdrant.EdgeShard.create(folder, qdrant.EdgeConfig(vectors={"dense": params}))
            fill(shard, [{"dense": vector.tolist()} for vector in vectors])
            found[name] = {
                label: recall(shard, rescore, queries, vectors, nearest)
                for label, rescore in (("as_quantized", False), ("rescored", True))
            }
            shard.close()
        print(name, found[name], flush=True)
    return found


def recall(
    shard: qdrant.EdgeShard, rescore: bool, queries: np.ndarray, vectors: np.ndarray, nearest: np.ndarray
) -> dict[str, float]:
    params = qdrant.SearchParams(quantization=qdrant.QuantizationSearchParams(rescore=rescore))
    first = among = 0
    error = 0.0
    for vector, best in zip(queries, nearest, strict=True):
        hits = shard.query(
            qdrant.QueryRequest(DEPTH, query=qdrant.Query.Nearest(vector.tolist(), using="dense"), params=params)
        )
        ids = [int(hit.id) for hit in hits]
        first += len({*ids[:BEST]} & {*best.tolist()})
        among += len({*ids} & {*best.tolist()})
        error = max(error, float(np.abs(np.array([hit.score for hit in hits]) - vectors[ids] @ vector).max()))
    count = BEST * len(queries)
    return {"in_10": round(first / count, 4), "in_200": round(among / count, 4), "largest_error": round(error, 4)}


def words(sizes: Sequence[int]) -> dict[str, Any]:
    rng = np.random.default_rng(1)
    chance = 1 / np.arange(1, WORDS + 1)
    chance /= chance.sum()

    def drawn(count: int) -> tuple[list[int], list[float]]:
        ids = np.unique(rng.choice(WORDS, count, p=chance)) + 1
        return ids.tolist(), rng.uniform(0.5, 2, len(ids)).tolist()

    config = qdrant.EdgeConfig(
        vectors={}, sparse_vectors={"bm25": qdrant.EdgeSparseVectorParams(modifier=qdrant.Modifier.Idf)}
    )
    queries = [qdrant.SparseVector(ids, [1.0] * len(ids)) for ids, _ in (drawn(6) for _ in range(60))]
    steps, written = [], 0
    with tempfile.TemporaryDirectory() as folder:
        shard = qdrant.EdgeShard.create(folder, config)
        for size in sizes:
            fill(shard, [{"bm25": qdrant.SparseVector(*drawn(WORDS_A_CHUNK))} for _ in range(written, size)], written)
            written = size
            requests = [qdrant.QueryRequest(DEPTH, query=qdrant.Query.Nearest(one, using="bm25")) for one in queries]
            steps.append({"points": size, "p50_ms": median_ms([lambda one=one: shard.query(one) for one in requests])})
            print(steps[-1], flush=True)
        shard.close()
    slope = (steps[-1]["p50_ms"] - steps[0]["p50_ms"]) / (steps[-1]["points"] - steps[0]["points"])
    return {"steps": steps, "ms_per_million": round(1e6 * slope, 1)}


def answer() -> dict[str, Any]:
    rng = np.random.default_rng(1)
    vectors = rng.normal(size=(2 * DEPTH, DIMENSION)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    hits = [
        {"id": number, "version": 1, "score": 0.5, "vector": {"dense": [float(one) for one in vector]},
         "payload": {"clip_id": f"{number // 4:032x}", "text": "x" * (PAYLOAD - 48)}}
        for number, vector in enumerate(vectors)
    ]  # fmt: skip
    result = [{"points": hits[:DEPTH]}, {"points": hits[DEPTH:]}]
    body = json.dumps({"result": result, "status": "ok", "time": 0.0}).encode()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: object) -> None: ...

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        client = connect(Settings.load(index={"url": f"http://127.0.0.1:{server.server_address[1]}"}).index)
        index = ServerIndex(client, "clips", Collection("clips-1", "m", DIMENSION))
        dense = vectors[0].tolist()
        query = Query(dense, Sparse((1,), (1.0,)), DEPTH)
        spent = median_ms([lambda: rank(index.nearest(query), dense, Search())] * 40)
        client.close()
        server.shutdown()
    return {"bytes": len(body), "p50_ms": spent}


def fill(shard: qdrant.EdgeShard, vectors: Sequence[dict[str, Any]], first: int = 0) -> None:
    for start in range(0, len(vectors), 1000):
        points = [qdrant.Point(first + start + no, one, {}) for no, one in enumerate(vectors[start : start + 1000])]
        shard.update(qdrant.UpdateOperation.upsert_points(points))
    shard.optimize()


def median_ms(calls: Sequence[Callable[[], Any]]) -> float:
    spent = []
    for call in [*calls[:5], *calls]:
        began = time.perf_counter()
        call()
        spent.append(1000 * (time.perf_counter() - began))
    return round(statistics.median(spent[5:]), 2)


if __name__ == "__main__":
    main()
