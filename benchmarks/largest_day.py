"""Measure discover and report on the largest day of one run: both hold a day in memory.

    python -m benchmarks.largest_day [--clips 524288]

A run has at most 1,024 batches of 512. Each step runs in its own process to measure its peak memory: planning the new
day, the report on the outcomes of 1,024 caption and index tasks, and planning again when all clips are done. Needs one
file per clip in a temporary folder. Write results/largest_day.json.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.discovery import DAY, WANTED, here, make_clips, outcome_of
from clipdex import Pipeline
from clipdex.runs.outcomes import Journal, Outcome
from clipdex.runs.planning import load_plan, manifest

RUN = f"{DAY}.1"
RESULT = Path(__file__).parent / "results" / "largest_day.json"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=524_288)
    parser.add_argument("--step", nargs=2, metavar=("STEP", "FOLDER"), help="run one step (internal)")
    given = parser.parse_args()
    if given.step:
        print(json.dumps(measured(STEPS[given.step[0]], Path(given.step[1]))))
        return
    with tempfile.TemporaryDirectory(prefix="clipdex-largest-") as folder:
        make_clips(Path(folder), given.clips)
        result: dict[str, Any] = {
            "date": f"{datetime.now(UTC):%Y-%m-%d}",
            "python": sys.version.split()[0],
            "command": "python -m benchmarks.largest_day",
            "clips": given.clips,
            "discover": in_its_own_process("discover", folder),
        }
        write_outcomes(Path(folder))
        result["report"] = in_its_own_process("report", folder)
        result["discover_again"] = in_its_own_process("again", folder)
    RESULT.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))
    assert result["discover"]["to_do"] == given.clips and result["discover_again"]["to_do"] == 0, result
    assert result["report"]["indexed"] == given.clips, result


def discover(folder: Path, run: str = RUN) -> dict[str, int]:
    settings = here(folder)
    pipeline = Pipeline(settings)
    made = pipeline.plan(run, pipeline.survey([DAY], WANTED))
    pointers = json.dumps([batch.to_json() for batch in made.batches])
    return {"to_do": made.to_do, "batches": len(made.batches), "xcom_bytes": len(pointers)}


def again(folder: Path) -> dict[str, int]:
    return discover(folder, f"{DAY}.2")


def report(folder: Path) -> dict[str, int]:
    pipeline = Pipeline(here(folder))
    parts = len(pipeline.store.list(f"outcomes/day={DAY}"))
    made = pipeline.report(RUN)
    return {"indexed": made.total("indexed"), "parts": parts}


STEPS: dict[str, Callable[[Path], dict[str, int]]] = {"discover": discover, "again": again, "report": report}


def write_outcomes(folder: Path) -> None:
    """Write the outcomes of the caption and index task of every batch, in parts of sixteen clips as they do."""
    store = Pipeline(here(folder)).store
    for batch in load_plan(store, RUN).batches:
        clips = manifest(store, batch)
        for phase, outcome in (("caption", Outcome.CAPTIONED), ("index", Outcome.INDEXED)):
            journal = Journal(store, DAY, RUN, batch.batch, phase, 1)
            for clip in clips:
                journal.add(outcome_of(clip, batch.batch, outcome))
            journal.flush()


def measured(step: Callable[[Path], dict[str, int]], folder: Path) -> dict[str, float]:
    started, cpu = time.perf_counter(), time.process_time()
    result = step(folder)
    seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"seconds": round(seconds, 2), "cpu_seconds": round(cpu_seconds, 2), "peak_mb": round(peak), **result}


def in_its_own_process(step: str, folder: str) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.largest_day", "--step", step, folder]
    done: dict[str, float] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return done


if __name__ == "__main__":
    main()
