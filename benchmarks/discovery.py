"""Measure time and memory of planning a day of many clips: all new, then all done.

    python -m benchmarks.discovery [--clips 50000]

Each plan is made in its own process to measure its peak memory. Write results/discovery.json.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

from clipdex import Pipeline, Settings
from clipdex.runs.completion import CompletionCriteria
from clipdex.runs.outcomes import ClipOutcome, Journal, Outcome, compact
from clipdex.runs.planning import manifest
from clipdex.storage.clip import Clip

DAY = "2026-11-03"
WANTED = CompletionCriteria(fingerprint="0" * 32, collection="clips-00000000")
RESULT = Path(__file__).parent / "results" / "discovery.json"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clips", type=int, default=50_000)
    parser.add_argument("--plan", nargs=2, metavar=("FOLDER", "DAY"), help="plan once and print the result (internal)")
    args = parser.parse_args()
    if args.plan:
        print(json.dumps(plan(Path(args.plan[0]), args.plan[1])))
        return
    with tempfile.TemporaryDirectory() as folder:
        make_clips(Path(folder), args.clips)
        result = {
            "date": f"{datetime.now(UTC):%Y-%m-%d}",
            "python": sys.version.split()[0],
            "clips": args.clips,
            "command": "python -m benchmarks.discovery",
            "new": in_its_own_process(folder),
        }
        mark_done(Path(folder))
        result["all_done"] = in_its_own_process(folder)
    assert result["new"]["to_do"] == args.clips and result["all_done"]["to_do"] == 0, result
    RESULT.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


def make_clips(folder: Path, clips: int, day: str = DAY) -> None:
    below = folder / "clips" / day.replace("-", "/")
    below.mkdir(parents=True)
    for number in range(clips):
        (below / f"camera-{number % 40:02d}-{number:06d}.mp4").write_bytes(b"x" * (1 + number % 997))


def plan(folder: Path, day: str) -> dict[str, float]:
    """Plan once, as the task discover does.

    seconds: from opening the store to the written plan
    cpu_seconds: CPU time of this process; the rest is disk and other processes
    """
    settings = here(folder)
    started, cpu = time.perf_counter(), time.process_time()
    pipeline = Pipeline(settings)
    made = pipeline.plan(f"{day}.1", pipeline.survey([day], WANTED))
    seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {
        "seconds": round(seconds, 2),
        "cpu_seconds": round(cpu_seconds, 2),
        "peak_mb": round(peak),
        "to_do": made.to_do,
        "batches": len(made.batches),
    }  # fmt: skip


def mark_done(folder: Path, day: str = DAY) -> None:
    settings = here(folder)
    pipeline = Pipeline(settings)
    made = pipeline.plan(f"{day}.2", pipeline.survey([day], WANTED))
    for batch in made.batches:
        journal = Journal(pipeline.store, day, f"{day}.2", batch.batch, "index", 1)
        for clip in manifest(pipeline.store, batch):
            journal.add(outcome_of(clip, batch.batch, Outcome.INDEXED))
        journal.flush()
    compact(pipeline.store, day, f"{day}.2")


def outcome_of(clip: Clip, batch: str, outcome: Outcome) -> ClipOutcome:
    """Return the outcome that a task writes for a captioned clip."""
    return ClipOutcome(
        clip.clip_id,
        clip.uri,
        clip.day,
        clip.version,
        outcome,
        batch,
        content=clip.clip_id * 2,
        caption_key=clip.clip_id,
        fingerprint=WANTED.fingerprint,
        collection=WANTED.collection,
        origin="new",
        chunks=4,
        seconds=8.1,
        attempts=1,
        prompt_tokens=1752,
        completion_tokens=512,
    )


def here(folder: Path) -> Settings:
    return Settings.load(home=folder, source={"url": str(folder / "clips")})


def in_its_own_process(folder: str, day: str = DAY) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.discovery", "--plan", folder, day]
    done: dict[str, float] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return done


if __name__ == "__main__":
    main()
