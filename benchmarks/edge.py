"""Measure Qdrant Edge while an index grows to a million points: writing, opening, searching, memory and disk.

    python -m benchmarks.edge [--points 1000000] [--minutes 9] [--graph]

Write points through clipdex's index, 128 clips of three chunks at a time. Vectors are synthetic (2,000 topics with
noise), words too (20,000 with a Zipf distribution; texts repeat after 3,000 clips). Sparse vectors use Qdrant's BM25;
payloads are clipdex's. At each step, some batches are written as an index task does, with one opening each, and some
clips get a new caption. Then another process opens the index and searches as clipdex does (hybrid, grouped by clip).
--graph: use Qdrant's default settings, which build a graph. --minutes: stop after the step that exceeds this time.
Write results/edge.json for either setting.
"""

import argparse
import functools
import json
import statistics
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace as changed
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import qdrant_edge

from benchmarks.cheap import Embedder
from clipdex import Pipeline, Settings
from clipdex.index import Collection, Point, Query, edge, make_points, point_id, replace, sparse_query
from clipdex.index.chunking import Chunk
from clipdex.index.search import search
from clipdex.storage.caption import Caption

STEPS = (10_000, 100_000, 300_000, 1_000_000)
CLIPS_AT_ONCE, CHUNKS, BATCHES = 128, 3, 5
TOPICS, WORDS, WORDS_A_CHUNK, TEXTS = 2_000, 20_000, 130, 9_000
QUERIES = 40
RESULT = Path(__file__).parent / "results" / "edge.json"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--points", type=int, default=STEPS[-1])
    parser.add_argument("--minutes", type=float, default=9.0)
    parser.add_argument("--graph", action="store_true")
    parser.add_argument("--ask", metavar="FOLDER", help="search the index there and print the result (internal)")
    given = parser.parse_args()
    if given.graph:
        with_the_engines_own_settings()
    if given.ask:
        print(json.dumps(measure_search(Path(given.ask))))
        return
    until = time.monotonic() + 60 * given.minutes
    with tempfile.TemporaryDirectory(prefix="clipdex-edge-") as name:
        filling, steps = Filling(Path(name)), []
        for points in [step for step in STEPS if step < given.points] + [given.points]:
            step = filling.up_to(points, until)
            steps.append(step | filling.as_tasks_do() | in_its_own_process(name, given.graph) | disk(Path(name)))
            print(json.dumps(steps[-1]), flush=True)
            keep("graph" if given.graph else "scan", steps)
            if time.monotonic() > until:
                break


def keep(setting: str, steps: list[dict[str, Any]]) -> None:
    results = json.loads(RESULT.read_text()) if RESULT.exists() else {}
    made = clips_from(0, 1)[f"{0:032x}"][0]
    results[setting] = {
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "python": sys.version.split()[0],
        "command": f"python -m benchmarks.edge{' --graph' if setting == 'graph' else ''}",
        "a_point": {"payload_bytes": len(json.dumps(made.payload)), "words": len(made.sparse.indices)},
        "steps": steps,
    }
    RESULT.write_text(json.dumps(results, indent=1) + "\n")


def with_the_engines_own_settings() -> None:
    """Build a graph of 16 edges per point, in one segment per core, after every 50,000 points."""
    edge._UNPACKED, edge._SEGMENTS, edge._SEGMENT_BYTES = 50_000, 0, 1 << 40
    edge._COMPARED_ONE_BY_ONE = qdrant_edge.HnswIndexConfig(m=16, ef_construct=100, full_scan_threshold=10_000)


class Filling:
    """Fill the index, and record the time of each write."""

    def __init__(self, folder: Path) -> None:
        settings = here(folder)
        self.pipeline, self.vectors = Pipeline(settings), folder / "dense.f32"
        self.collection, self.clips = collection(settings), 0

    def up_to(self, points: int, until: float) -> dict[str, Any]:
        """Write in bulk with one opening. longest: the longest write of a batch, during which others wait [s]."""
        first, spent = self.clips, []
        while self.clips * CHUNKS < points and time.monotonic() < until:
            with self.pipeline.open_index(self.collection) as index:
                index.ensure()
                for _ in range(100):
                    if self.clips * CHUNKS >= points or time.monotonic() >= until:
                        break
                    spent.append(timed(lambda clips: replace(index, clips), self.next_clips()))
        return {
            "points": self.clips * CHUNKS,
            "points_per_s": round((self.clips - first) * CHUNKS / sum(spent)),
            "replace_s": {"median": round(statistics.median(spent), 3), "longest": round(max(spent), 1)},
        }

    def as_tasks_do(self) -> dict[str, Any]:
        """Write as tasks do. held_s: time a batch holds the index, with opening; stale_s: the same for new captions."""

        def write(clips: dict[str, list[Point]]) -> None:
            with self.pipeline.open_index(self.collection) as index:
                index.ensure()
                replace(index, clips)

        held = [timed(write, self.next_clips()) for _ in range(BATCHES)]
        again = clips_from(0, CLIPS_AT_ONCE, caption=f"{self.clips}")  # with the same vectors
        return {
            "held_s": {"median": round(statistics.median(held), 2), "longest": round(max(held), 2)},
            "stale_s": round(timed(write, again), 2),
            "write": memory(),
        }

    def next_clips(self) -> dict[str, list[Point]]:
        clips = clips_from(self.clips, CLIPS_AT_ONCE)
        with self.vectors.open("ab") as kept:
            np.array([point.dense for points in clips.values() for point in points], np.float32).tofile(kept)
        self.clips += CLIPS_AT_ONCE
        return clips


def measure_search(folder: Path) -> dict[str, Any]:
    """Measure opening [s], and searches over all points and within a day [ms].

    recall: share of the ten nearest vectors, found by brute force, that the index returns
    """
    embedder, settings = Topics(), here(folder)
    started = time.perf_counter()
    with Pipeline(settings).open_index() as index:
        index.count({"clip_id": "none"})
        opened = time.perf_counter() - started
        found: list[int] = []

        def times(run: Callable[[str], Any]) -> dict[str, float]:
            spent = []
            for query in queries():
                began = time.perf_counter()
                found.append(len(run(query)))
                spent.append(1000 * (time.perf_counter() - began))
            return {
                "first": round(spent[0], 1),
                "p50": round(statistics.median(spent), 1),
                "p95": round(statistics.quantiles(spent, n=20)[-1], 1),
            }

        result = {
            "open_s": round(opened, 3),
            "search_ms": times(lambda query: search(index, embedder, query)),
            "search_day_ms": times(lambda query: search(index, embedder, query, filters={"day": day_of(0)})),
            "clips_found": statistics.mean(found),
            "search": memory(),
        }
        nearest = [
            {row(hit.payload) for hit in index.nearest(Query(vector.tolist(), sparse_query(""), depth=10)).dense}
            for vector in map(embedder.embed_query, queries())
        ]
        shard = index._shard.info()  # type: ignore[attr-defined]
    return result | {"recall": recall(folder / "dense.f32", nearest), "segments": shard.segments_count}


def recall(vectors: Path, found: Sequence[set[int]]) -> float:
    every = np.memmap(vectors, np.float32, "r").reshape(-1, Topics.dimension)
    shares = []
    for query, rows in zip(queries(), found, strict=True):
        nearest = np.argpartition(-(every @ Topics().embed_query(query)), 10)[:10]
        shares.append(len(rows & set(nearest.tolist())) / 10)
    return round(statistics.mean(shares), 3)


def row(payload: dict[str, Any]) -> int:
    return int(payload["clip_id"], 16) * CHUNKS + int(payload["chunk_no"])


def timed(do: Callable[[Any], Any], what: Any) -> float:
    began = time.perf_counter()
    do(what)
    return time.perf_counter() - began


def memory() -> dict[str, int]:
    """Return the memory of this process [MB]: peak, anonymous pages and PSS."""
    info = psutil.Process().memory_full_info()
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return {
        "peak_mb": round(int(status["VmHWM"].split()[0]) / 1024),
        "anonymous_mb": round(int(status["RssAnon"].split()[0]) / 1024),
        "pss_mb": round(info.pss / 2**20),
    }


def in_its_own_process(folder: str, graph: bool) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.edge", "--ask", folder, *(["--graph"] if graph else [])]
    result: dict[str, Any] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return result


class Topics(Embedder):
    """Embed a text as the vector of its topic (its first word) plus noise seeded by the text."""

    def embed_documents(self, texts: Sequence[str]) -> np.ndarray:
        rows = [direction(zlib.crc32(text.split()[0].encode())) for text in texts]
        noise = [np.random.default_rng(zlib.crc32(text.encode())).standard_normal(self.dimension) for text in texts]
        return spread(np.asarray(rows), np.asarray(noise))


def spread(rows: np.ndarray, noise: np.ndarray) -> np.ndarray:
    vectors = rows + 0.7 * noise / Topics.dimension**0.5
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


@functools.cache
def direction(seed: int) -> np.ndarray:
    vector = np.random.default_rng(seed).standard_normal(Topics.dimension)
    return vector / np.linalg.norm(vector)


@functools.cache
def vocabulary() -> tuple[list[str], np.ndarray]:
    """Return the words and their cumulative frequencies (1/n for the n-th)."""
    often = 1 / np.arange(1, WORDS + 1)
    return [f"w{number:x}" for number in range(WORDS)], np.cumsum(often / often.sum())


def words(seed: int, length: int) -> str:
    """Return a random text that begins with its topic."""
    random = np.random.default_rng(seed)
    known, often = vocabulary()
    drawn = np.searchsorted(often, random.random(length))
    return " ".join([f"topic{random.integers(TOPICS)}", *(known[min(number, WORDS - 1)] for number in drawn)])


def queries() -> Iterator[str]:
    return (words(10**9 + number, 6) for number in range(QUERIES))


@functools.cache
def template(number: int) -> list[Point]:
    """Return the points of a clip as the index creates them from its caption."""
    texts = [words(CHUNKS * number + no, WORDS_A_CHUNK) for no in range(CHUNKS)]
    chunks = [Chunk(no, text, 3.3 * no, 3.3 * (no + 1)) for no, text in enumerate(texts)]
    caption = Caption(
        key=f"{number:064x}", content=f"{number:064x}", text="", segments=(), fingerprint="f" * 32, engine="sglang",
        model="Qwen/Qwen2.5-VL-7B-Instruct", prompt_tokens=1752, completion_tokens=512, seconds=8.0, attempts=1,
        finish_reason="stop", created_at="2026-11-03T00:00:00Z", run="r", duration_s=10.0, width=476, height=280,
        poster=f"posters/{number:064x}.jpg",
    )  # fmt: skip
    return make_points("", "", "", caption, chunks, Topics().embed_documents(texts))


def clips_from(first: int, how_many: int, caption: str = "first") -> dict[str, list[Point]]:
    """Return clips with the text of a template, and unique vectors around its topic."""
    clips = {}
    noise = np.random.default_rng(first).standard_normal((how_many, CHUNKS, Topics.dimension))
    for number, own in zip(range(first, first + how_many), noise, strict=True):
        clip_id, made = f"{number:032x}", template(number % (TEXTS // CHUNKS))
        topics = [direction(zlib.crc32(point.payload["text"].split()[0].encode())) for point in made]
        about = {
            "clip_id": clip_id,
            "uri": f"s3://archive/{day_of(number).replace('-', '/')}/camera-{number % 40:02d}/{number:09d}.mp4",
            "day": day_of(number),
            "caption_key": f"{number:064x}",
            "poster": f"posters/{number:064x}.jpg",
        }
        clips[clip_id] = [
            changed(point, id=point_id(clip_id, caption, no), dense=vector.tolist(), payload={**point.payload, **about})
            for no, (point, vector) in enumerate(zip(made, spread(np.asarray(topics), own), strict=True))
        ]
    return clips


def day_of(number: int) -> str:
    """Return the day of a clip: 11,000 clips per day, a million points over thirty days."""
    return f"2026-11-{1 + number // 11_112:02d}"


def collection(settings: Settings) -> Collection:
    return Collection.of(settings, Topics())


def disk(folder: Path) -> dict[str, float]:
    used = sum(path.stat().st_blocks * 512 for path in (folder / ".clipdex/index").rglob("*") if path.is_file())
    return {"disk_mb": round(used / 1e6)}


def here(folder: Path) -> Settings:
    return Settings.load(home=folder)


if __name__ == "__main__":
    main()
