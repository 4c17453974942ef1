"""What Qdrant Edge does as an index grows to a million points: writing, opening, searching, memory and disk.

    python -m benchmarks.edge [--points 1000000] [--minutes 20]

Points are written as the index task writes them, 128 clips of three chunks to an opening, with made-up vectors (2,000
topics with noise around each) and made-up words (20,000, as frequent as words are), sparse vectors by Qdrant's own BM25
and the payload that ours have. Searches are clipdex's own (hybrid, grouped by clip), in a process of its own that
opens what lies there. Stops at the first step after so many minutes. Writes results/edge.json.
"""

import argparse
import functools
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from itertools import count, islice
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from benchmarks.cheap import Embedder
from clipdex.captions.caption import Caption
from clipdex.chunks import Chunk
from clipdex.config import Settings
from clipdex.index import Collection, Point, make_points, open_index, replace
from clipdex.search import search

STEPS = (10_000, 50_000, 100_000, 200_000, 400_000, 1_000_000)
CLIPS_AT_ONCE, CHUNKS = 128, 3
TOPICS, WORDS, WORDS_A_CHUNK = 2_000, 20_000, 130
QUERIES = 40
RESULT = Path(__file__).parent / "results" / "edge.json"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--points", type=int, default=STEPS[-1])
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--ask", metavar="FOLDER", help="search what lies there, and tell (used by the command itself)")
    given = parser.parse_args()
    if given.ask:
        print(json.dumps(asked(here(Path(given.ask)))))
        return
    until = time.monotonic() + 60 * given.minutes
    with tempfile.TemporaryDirectory(prefix="clipdex-edge-") as name:
        filling, steps = Filling(here(Path(name))), []
        for points in [step for step in STEPS if step < given.points] + [given.points]:
            steps.append(filling.up_to(points, until) | in_its_own_process(name) | disk(Path(name)))
            print(json.dumps(steps[-1]), flush=True)
            result = {
                "date": f"{datetime.now(UTC):%Y-%m-%d}",
                "python": sys.version.split()[0],
                "command": "python -m benchmarks.edge",
                "steps": steps,
            }
            RESULT.write_text(json.dumps(result, indent=1) + "\n")
            if time.monotonic() > until:
                break


class Filling:
    """Writes more and more, and remembers what each opening took."""

    def __init__(self, settings: Settings) -> None:
        self.settings, self.collection = settings, collection(settings)
        self.points, self.numbers = 0, count()

    def up_to(self, points: int, until: float) -> dict[str, Any]:
        """points_per_s: all that an opening takes counted, but not the making of the points; held_s: how long the index
        was held in an opening: others wait so long."""
        began, written, held = self.points, 0.0, []
        while self.points < points and time.monotonic() < until:
            clips = {f"{number:032x}": clip_points(number) for number in islice(self.numbers, CLIPS_AT_ONCE)}
            started = time.monotonic()
            with open_index(self.settings, self.collection) as index:
                index.ensure()
                replace(index, clips)
            held.append(time.monotonic() - started)
            written += held[-1]
            self.points += sum(map(len, clips.values()))
        return {
            "points": self.points,
            "points_per_s": round((self.points - began) / max(written, 1e-9)),
            "held_s": {"median": round(statistics.median(held), 2), "longest": round(max(held), 1)},
            "write_peak_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        }


def asked(settings: Settings) -> dict[str, Any]:
    """How long opening takes, and searches in what is open, over everything and within a day [ms]."""
    embedder = Topics()
    started = time.perf_counter()
    with open_index(settings) as index:
        index.count({"clip_id": "none"})
        opened = time.perf_counter() - started
        found: list[int] = []

        def times(ask: Callable[[str], Any]) -> dict[str, float]:
            spent = []
            for number in range(QUERIES):
                began = time.perf_counter()
                found.append(len(ask(words(10**9 + number, 6))))
                spent.append(1000 * (time.perf_counter() - began))
            return {
                "first": round(spent[0], 1),
                "p50": round(statistics.median(spent), 1),
                "p95": round(statistics.quantiles(spent, n=20)[-1], 1),
            }

        told = {
            "open_s": round(opened, 3),
            "search_ms": times(lambda query: search(index, embedder, query)),
            "search_day_ms": times(lambda query: search(index, embedder, query, day=day_of(0))),
        }
        memory = psutil.Process().memory_info().rss / 2**20
        return told | {"clips_found": statistics.mean(found), "search_mb": round(memory)}


def in_its_own_process(folder: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.edge", "--ask", folder]
    told: dict[str, Any] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return told


class Topics(Embedder):
    """A vector is that of the text's topic, its first word, with noise that is the text's own."""

    def embed_documents(self, texts: Sequence[str]) -> np.ndarray:
        rows = [direction(zlib.crc32(text.split()[0].encode())) for text in texts]
        noise = [np.random.default_rng(zlib.crc32(text.encode())).standard_normal(self.dimension) for text in texts]
        vectors = np.asarray(rows) + 0.7 * np.asarray(noise) / self.dimension**0.5
        return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


@functools.cache
def direction(seed: int) -> np.ndarray:
    vector = np.random.default_rng(seed).standard_normal(Topics.dimension)
    return vector / np.linalg.norm(vector)


@functools.cache
def vocabulary() -> tuple[list[str], np.ndarray]:
    """Words, and how often each comes, added up: the n-th as often as 1/n."""
    often = 1 / np.arange(1, WORDS + 1)
    return [f"w{number:x}" for number in range(WORDS)], np.cumsum(often / often.sum())


def words(seed: int, length: int) -> str:
    """A text that begins with its topic."""
    random = np.random.default_rng(seed)
    known, often = vocabulary()
    drawn = np.searchsorted(often, random.random(length))
    return " ".join([f"topic{random.integers(TOPICS)}", *(known[min(number, WORDS - 1)] for number in drawn)])


def clip_points(number: int) -> list[Point]:
    texts = [words(CHUNKS * number + no, WORDS_A_CHUNK) for no in range(CHUNKS)]
    chunks = [Chunk(no, text, 3.3 * no, 3.3 * (no + 1)) for no, text in enumerate(texts)]
    clip_id, path = f"{number:032x}", f"{day_of(number).replace('-', '/')}/camera-{number % 40:02d}/{number:09d}.mp4"
    caption = Caption(
        key=f"{number:064x}", content=f"{number:064x}", text="", segments=(), fingerprint="f" * 32, engine="sglang",
        model="Qwen/Qwen2.5-VL-7B-Instruct", prompt_tokens=1752, completion_tokens=512, seconds=8.0, attempts=1,
        finish_reason="stop", created_at="2026-11-03T00:00:00Z", run="r", duration_s=10.0, width=476, height=280,
        poster=f"posters/{number:064x}.jpg",
    )  # fmt: skip
    return make_points(
        clip_id, f"s3://archive/{path}", day_of(number), caption, chunks, Topics().embed_documents(texts)
    )


def day_of(number: int) -> str:
    """Thirty-three thousand clips a day, as a million have over thirty."""
    return f"2026-11-{1 + number // 33_334:02d}"


def collection(settings: Settings) -> Collection:
    return Collection.of(settings, Topics())


def disk(folder: Path) -> dict[str, float]:
    used = sum(path.stat().st_blocks * 512 for path in (folder / ".clipdex/index").rglob("*") if path.is_file())
    return {"disk_mb": round(used / 1e6)}


def here(folder: Path) -> Settings:
    return Settings.load(home=folder)


if __name__ == "__main__":
    main()
