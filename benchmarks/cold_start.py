"""Start `clipdex ingest` many times with nothing loaded and nothing stored, and count the starts that fail.

    python -m benchmarks.cold_start [--starts 50]

Every start is a new process with a new CLIPDEX_HOME. It captions 15 clips of 1 s, cut from the sample clips, with the
detectors, and indexes them. A race between imports in several threads shows only in such a first start.
Write results/cold_start.json. Exit 1 if a start fails.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from fractions import Fraction
from itertools import takewhile
from pathlib import Path
from typing import Any

import av

from clipdex.config import REPOSITORY
from demo.cards import encode
from demo.samples import CAPTIONED, write_samples

CLIPS, SECONDS, SIZE = 15, 1.0, (320, 180)
RESULT = Path(__file__).parent / "results" / "cold_start.json"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--starts", type=int, default=50)
    starts = parser.parse_args().starts
    with tempfile.TemporaryDirectory(prefix="clipdex-cold-") as name:
        clips = Path(name) / "clips"
        cut_samples(Path(name) / "samples", clips)
        done = [start(clips, Path(name) / f"home-{number}") for number in range(starts)]
    failed = [one for one in done if one["returned"] or one["captioned"] != CLIPS]
    result = {
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "command": f"python -m benchmarks.cold_start --starts {starts}",
        "machine": f"{os.cpu_count()} cores",
        "system": platform.platform(),
        "python": sys.version.split()[0],
        "clips_per_start": CLIPS,
        "starts": starts,
        "failed": len(failed),
        "failures": failed,
        "median_s": statistics.median(one["seconds"] for one in done),
        "seconds": [one["seconds"] for one in done],
    }
    RESULT.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))
    sys.exit(1 if failed else 0)


def cut_samples(samples: Path, folder: Path) -> None:
    """Write the first second of the first CLIPS good samples, each with other content."""
    folder.mkdir()
    good = [one for one in write_samples(samples) if one.expected == CAPTIONED and "exact copy" not in one.shows]
    for number, sample in enumerate(good[:CLIPS]):
        with av.open(str(sample.path)) as container:
            rate = container.streams.video[0].average_rate or Fraction(25)
            encode(folder / f"{number:02}.mp4", ".mp4", first_second(container), SIZE, rate)


def first_second(container: av.container.InputContainer) -> Iterator[av.VideoFrame]:
    frames = container.decode(video=0)
    return takewhile(lambda frame: frame.time is None or frame.time < SECONDS, frames)


def start(clips: Path, home: Path) -> dict[str, Any]:
    """Ingest the clips in a new process; return its time, exit code, captions and last line."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("CLIPDEX_")}
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "clipdex.cli", "ingest", str(clips), "--json"], capture_output=True, text=True,
        env={**environment, "CLIPDEX_HOME": str(home), "CLIPDEX_ENGINE__NAME": "detectors"}, cwd=REPOSITORY,
        check=False,
    )  # fmt: skip
    return {
        "returned": done.returncode,
        "captioned": json.loads(done.stdout)["captioned"] if done.stdout else 0,
        "seconds": round(time.perf_counter() - began, 1),
        "last_line": (done.stderr.strip().splitlines() or [""])[-1],
    }


if __name__ == "__main__":
    main()
