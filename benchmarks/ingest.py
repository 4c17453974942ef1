"""Measure memory and speed of `clipdex ingest` over many clips, with an engine without latency.

    python -m benchmarks.ingest [--clips 1000]

Unique tiny clips are captioned by the stand-in engine of the tests (no latency; its process is not counted), then
embedded and indexed on the CPU. Memory is the PSS (shared pages are divided among processes) of the ingest process and
its children, the decoders. The number of clips is that of the engine's responses. Both are sampled every 0.25 s. Write
results/ingest.json with every sample.
"""

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil

from clipdex.config import REPOSITORY
from demo.samples import write_tiny_clips
from tests.support.engine import MODEL

DAY = "2026-11-03"
RESULT = Path(__file__).parent / "results" / "ingest.json"
EVERY_S = 0.25
EARLY = 200

Sample = tuple[float, int, float, int]
"""Seconds since the start, clips answered, PSS [MB], processes."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=1000)
    clips = parser.parse_args().clips
    with tempfile.TemporaryDirectory() as folder:
        write_tiny_clips(Path(folder) / "clips", clips, DAY)
        samples, totals = ingested(Path(folder))
    assert totals["captioned"] == clips and totals["quarantined"] == totals["unfinished"] == 0, totals
    result = {**circumstances(clips), **figures(samples, totals)}
    RESULT.write_text(json.dumps({**result, "samples": samples}) + "\n")
    print(json.dumps(result, indent=1))


def ingested(folder: Path) -> tuple[list[Sample], dict[str, Any]]:
    """Run the command once; return the samples and its JSON output."""
    log = folder / "requests.jsonl"
    engine = subprocess.Popen(
        [sys.executable, "-m", "tests.support.engine", "--log", log], stdout=subprocess.PIPE, text=True, cwd=REPOSITORY
    )
    assert engine.stdout is not None
    try:
        environment = {
            **os.environ,
            "CLIPDEX_HOME": str(folder),
            "CLIPDEX_ENGINE__NAME": "sglang",
            "CLIPDEX_ENGINE__MODEL": MODEL,
            "CLIPDEX_ENGINE__BASE_URLS": json.dumps([engine.stdout.readline().strip()]),
        }
        with (folder / "totals.json").open("w") as output:
            command = [sys.executable, "-m", "clipdex.cli", "ingest", str(folder / "clips"), "--json"]
            process = psutil.Popen(command, stdout=output, stderr=subprocess.PIPE, env=environment, text=True)
            samples = watched(process, log)
        if process.returncode:
            raise SystemExit(f"clipdex ingest ended with {process.returncode}:\n{process.stderr.read()}")
        return samples, json.loads((folder / "totals.json").read_text())
    finally:
        engine.terminate()
        engine.wait()


def watched(process: psutil.Popen, log: Path) -> list[Sample]:
    samples: list[Sample] = []
    started, answered = time.monotonic(), Answered(log)
    while process.poll() is None:
        memory, processes = pss_mb(process)
        samples.append((round(time.monotonic() - started, 2), answered.count(), round(memory, 1), processes))
        time.sleep(EVERY_S)
    return samples


class Answered:
    """Count the captions in the engine's log; read each line once."""

    def __init__(self, log: Path) -> None:
        self._log, self._read, self._count = log, 0, 0

    def count(self) -> int:
        if self._log.exists():
            with self._log.open("rb") as log:
                log.seek(self._read)
                new = log.read()
            whole = new[: new.rfind(b"\n") + 1]
            self._read += len(whole)
            self._count += len(re.findall(rb'"path": "/v1/chat/completions".*"status": 200', whole))
        return self._count


def pss_mb(process: psutil.Process) -> tuple[float, int]:
    """Return the PSS of a process and its children [MB], and the number of processes."""
    total, processes = 0.0, 0
    try:
        for one in [process, *process.children(recursive=True)]:
            total, processes = total + one.memory_full_info().pss / 2**20, processes + 1
    except (psutil.NoSuchProcess, psutil.ZombieProcess):  # it ended during the call
        pass
    return total, processes


def figures(samples: list[Sample], totals: dict[str, Any]) -> dict[str, Any]:
    """Return rates, and memory after the first EARLY clips and at the last clips [MB]."""
    clips = samples[-1][1]
    width = min(100, clips // 8)
    early = [memory for _, count, memory, _ in samples if EARLY <= count < EARLY + width]
    late = [memory for _, count, memory, _ in samples if count >= clips - width]
    return {
        "seconds": totals["seconds"],
        "clips_per_s": round(clips / totals["seconds"], 2),
        "chunks": totals["chunks"],
        "peak_mb": round(max(memory for *_, memory, _ in samples)),
        "processes": max(processes for *_, processes in samples),
        f"at_{EARLY}_mb": {"median": round(statistics.median(early)), "highest": round(max(early))},
        f"at_{clips}_mb": {"median": round(statistics.median(late)), "highest": round(max(late))},
    }


def circumstances(clips: int) -> dict[str, Any]:
    model = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return {
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "command": "python -m benchmarks.ingest",
        "machine": f"{model[0].partition(':')[2].strip()}, {os.cpu_count()} cores",
        "python": sys.version.split()[0],
        "clips": clips,
        "memory": "PSS of the ingest process and its children, the engine not counted",
    }


if __name__ == "__main__":
    main()
