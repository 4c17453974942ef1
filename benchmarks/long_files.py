"""Cut an hour of 1080p30 in the decoder sandbox, at fixed lengths and between shots, and files that claim to be long.

    python -m benchmarks.long_files [--minutes 60] [--size 1920x1080]

The hour is one minute whose packets are repeated. Exit with 1 on a wrong result: other parts or pictures than those of
the minute, memory that grows with the film by more than its packet index, or more time or memory than allowed for a
file that only claims to be long. Without options, write results/long_files.json.
"""

import argparse
import json
import os
import platform
import sys
import tempfile
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import av

from clipdex.config import Split, VideoLimits
from tests.support.long_films import (
    MINUTE_S,
    LongVerdict,
    judge_parts,
    repeat,
    write_minute,
    write_tiny_packets,
    wrong_minutes,
)
from tests.support.presented import poked

RESULT = Path(__file__).parent / "results" / "long_files.json"
FPS = 30
SHORT = 5  # minutes, to compare memory with
PACKET_BYTES = 1024  # of the index, and of what makes it
PART_LIMIT_S = 120.0  # wall time, beside other work
TINY, CLAIMED_S = 1_000_000, 11 * 3600.0
_TRIES = 2


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=int, default=60, help="length of the film")
    parser.add_argument("--size", default="1920x1080", help="of its picture")
    args = parser.parse_args()
    width, height = map(int, args.size.split("x"))
    with tempfile.TemporaryDirectory() as folder:
        results = {**films(Path(folder), args.minutes, (width, height)), **claims(Path(folder))}
    for name, found in results.items():
        print(
            f"{name:24}{found['parts']:>6} parts{found['cpu_s']:>9.1f} s of CPU{found['mb']:>9.1f} MB  {found['wrong']}"
        )
    result = {
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "command": f"python -m benchmarks.long_files --minutes {args.minutes} --size {args.size}",
        "machine": f"{cpu()}, {os.cpu_count()} cores, one used",
        "system": platform.platform(),
        "av": av.__version__,
        "film": {"minutes": args.minutes, "picture": args.size, "fps": FPS},
        "limits": VideoLimits().model_dump(),
        "results": results,
    }
    if args == parser.parse_args([]):
        RESULT.write_text(json.dumps(result, indent=1) + "\n")
    return 1 if any(one["wrong"] for one in results.values()) else 0


def films(folder: Path, minutes: int, size: tuple[int, int]) -> dict[str, dict[str, Any]]:
    minute = write_minute(folder / "minute.mp4", size, FPS)
    short, long = (repeat(minute, folder / f"{n}.mp4", n) for n in (SHORT, minutes))
    results = {}
    for split in Split:
        limits = VideoLimits(split=split, decode_timeout_s=PART_LIMIT_S)
        before = judge_parts(short, limits, wrong_minutes(limits, SHORT))
        verdict = judge_parts(long, limits, wrong_minutes(limits, minutes))
        index = (minutes - SHORT) * MINUTE_S * FPS * PACKET_BYTES
        grown = verdict.memory - before.memory
        wrong = before.wrong or verdict.wrong
        if grown > index:
            wrong = wrong or f"{grown} bytes more than for {SHORT} minutes, {index} are allowed"
        results[f"hour, {split}"] = {**_result(verdict, wrong), "mb_of_5_minutes": _mb(before)}
    return results


def claims(folder: Path) -> dict[str, dict[str, Any]]:
    """Cut files that claim to be long: by a header, by stamps of a million packets without a picture."""
    limits = VideoLimits(split=Split.FIXED)
    header = write_minute(folder / "header.mp4", (320, 240), 10)
    poked(header, b"mvhd", 16, round(1000 * CLAIMED_S).to_bytes(4, "big"))
    tiny = write_tiny_packets(folder / "tiny.mkv", TINY, CLAIMED_S)
    results = {}
    for name, path, expected, most_s in (
        ("a header of 11 hours", header, "prepared", limits.decode_timeout_s),
        # One second of film per packet is read at most: the stamps count, but not for decoding.
        ("a million packets", tiny, "undecodable", _TRIES * (limits.decode_timeout_s + 0.02 * CLAIMED_S)),
    ):
        verdict = judge_parts(path, limits, lambda parts: "" if all(one.part is None for one in parts) else "cut")
        wrong = verdict.wrong
        if not verdict.result.startswith(expected):
            wrong = f"expected {expected}, found {verdict.result}"
        elif verdict.cpu_s > most_s or verdict.memory > limits.memory_bytes:
            wrong = f"{most_s:.0f} s and {limits.memory_bytes} bytes are allowed"
        results[name] = _result(verdict, wrong)
    return results


def _result(verdict: LongVerdict, wrong: str) -> dict[str, Any]:
    found = asdict(verdict)
    return {**found, "wrong": wrong, "mb": _mb(verdict)}


def _mb(verdict: LongVerdict) -> float:
    return round(verdict.memory / 2**20, 1)


def cpu() -> str:
    model = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return model[0].partition(":")[2].strip()


if __name__ == "__main__":
    sys.exit(main())
