"""Measure planning of an archive of a million clips over thirty days, day by day as a backfill does.

    python -m benchmarks.archive [--clips 1000000] [--days 30]

Every day is planned in its own process, as by each run's discover task: first with all clips new, then all done. Also
measure one run over the whole archive, and clipdex plan, which writes nothing. Needs one file per clip in a temporary
folder. Write results/archive.json.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import psutil

from benchmarks.discovery import in_its_own_process, make_clips, mark_done
from benchmarks.footprint import files, rss_mb
from clipdex.config import REPOSITORY

FIRST = date(2026, 11, 1)
RESULT = Path(__file__).parent / "results" / "archive.json"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=1_000_000)
    parser.add_argument("--days", type=int, default=30)
    given = parser.parse_args()
    days = [(FIRST + timedelta(days=number)).isoformat() for number in range(given.days)]
    with tempfile.TemporaryDirectory(prefix="clipdex-archive-") as name:
        folder = Path(name)
        for number, day in enumerate(days):
            make_clips(folder, given.clips // given.days + (number < given.clips % given.days), day)
        result: dict[str, Any] = {
            "date": f"{datetime.now(UTC):%Y-%m-%d}",
            "python": sys.version.split()[0],
            "command": "python -m benchmarks.archive",
            "clips": given.clips,
            "days": given.days,
        }
        result["new"] = summed([in_its_own_process(name, day) for day in days])
        result["store_of_plans"] = files(folder / ".clipdex/store")
        if given.clips > 1024 * 512:  # fewer clips fit into one run
            result["one_run"] = command("ingest", str(folder / "clips"), home=folder)
        for day in days:
            mark_done(folder, day)
        result["all_done"] = summed([in_its_own_process(name, day) for day in days])
        result["ledgers"] = files(folder / ".clipdex/store/ledger")
        result["plan"] = command("plan", str(folder / "clips"), "--from", days[0], "--to", days[-1], home=folder)
    RESULT.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))
    assert result["new"]["to_do"] == given.clips and result["all_done"]["to_do"] == 0, result


def summed(days: list[dict[str, float]]) -> dict[str, Any]:
    """Sum over all days. peak_mb: largest process; first_day, last_day: to detect growth."""
    return {
        **{name: round(sum(day[name] for day in days), 2) for name in ("seconds", "cpu_seconds", "to_do", "batches")},
        "median_seconds_a_day": round(statistics.median(day["seconds"] for day in days), 2),
        "peak_mb": max(day["peak_mb"] for day in days),
        "first_day": days[0],
        "last_day": days[-1],
    }


def command(*words: str, home: Path) -> dict[str, Any]:
    """Run a clipdex command; return its time, peak memory, exit code and last line."""
    started, peak = time.perf_counter(), 0.0
    process = psutil.Popen(
        [sys.executable, "-m", "clipdex.cli", *words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        env={**PATHS, "CLIPDEX_HOME": str(home)}, cwd=REPOSITORY,
    )  # fmt: skip
    while process.poll() is None:
        peak = max(peak, rss_mb(process))
        time.sleep(0.1)
    output = process.stdout.read().strip().splitlines()
    return {
        "command": f"clipdex {words[0]}",
        "seconds": round(time.perf_counter() - started, 2),
        "peak_mb": round(peak),
        "returned": process.returncode,
        "said": output[-1] if output else "",
    }


PATHS = {"PATH": "/usr/bin:/bin"}


if __name__ == "__main__":
    main()
