"""Decode thousands of damaged, hostile and odd files in the decoder sandbox, and judge each result.

    python -m benchmarks.hostile [--each 32] [--files 10000]
    python -m benchmarks.hostile --only header-bits/mp4/17

Every file is generated from its name, so that a failing one can be run alone. Two lanes run in parallel, each with its
own decoder process. --only prints the result of one file, and keeps the file.

Exit with 1 on a wrong result: a crash or hang of the worker, time or memory over the limits, a rejected good clip, a
proxy that differs from its declaration, or a reason that a plain player does not confirm. Without --only, write
results/hostile.json.
"""

import argparse
import asyncio
import json
import multiprocessing
import os
import platform
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import av

from tests.support.hostile import damaged, specimen
from tests.support.judge import LIMITS, Verdict, judged
from tests.support.odd import PREPARED, Clips, odd
from tests.support.presented import presented

RESULT = Path(__file__).parent / "results" / "hostile.json"
LANES = 2
_PORTION = 32


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--each", type=int, default=32, help="files per kind of damage and good clip")
    parser.add_argument("--files", type=int, default=10_000, help="most files; all that are not damaged are kept")
    parser.add_argument("--only", metavar="NAME", help="run one file")
    args = parser.parse_args()
    if args.only:
        return alone(args.only)
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        clips = Clips(Path(folder) / "good")
        whole = [one.name for one in (*odd(), *presented(args.each))]
        names = [*whole, *thinned([one.name for one in damaged(clips, args.each)], args.files - len(whole))]
        verdicts = in_lanes(names, Path(folder))
    kinds = by_kind(verdicts)
    print(table(kinds))
    wrong = [one for one in verdicts if one.wrong]
    for one in wrong:
        print(f"{one.name}: {one.result} ({one.detail}): {one.wrong}")
    result = {
        **circumstances(args.each, args.files),
        "seconds": round(time.monotonic() - started, 1),
        "files": len(verdicts),
        "wrong": [asdict(one) for one in wrong],
        "results": dict(Counter(one.result for one in verdicts).most_common()),
        "worst_seconds": max(one.seconds for one in verdicts),
        "worst_mb": round(max(one.memory for one in verdicts) / 2**20, 1),
        "kinds": kinds,
    }
    RESULT.write_text(json.dumps(result, indent=1) + "\n")
    return 1 if wrong else 0


def alone(name: str) -> int:
    folder = Path(tempfile.mkdtemp(prefix="hostile-"))
    clips = Clips(folder / "good")
    (verdict,) = asyncio.run(judged([specimen(name)], clips, folder / "judged"))
    kept = specimen(name).make(clips, folder)
    print(json.dumps({**asdict(verdict), "file": str(kept)}, indent=1))
    return 1 if verdict.wrong else 0


def in_lanes(names: Sequence[str], folder: Path) -> list[Verdict]:
    portions = [names[first : first + _PORTION] for first in range(0, len(names), _PORTION)]
    with ProcessPoolExecutor(LANES, mp_context=multiprocessing.get_context("spawn")) as lanes:
        work = [lanes.submit(judge, portion, folder, number) for number, portion in enumerate(portions)]
        return [verdict for one in work for verdict in one.result()]


def judge(names: Sequence[str], folder: Path, number: int) -> list[Verdict]:
    clips = Clips(folder / "good")
    return asyncio.run(judged([specimen(name) for name in names], clips, folder / str(number)))


def by_kind(verdicts: Sequence[Verdict]) -> dict[str, dict[str, Any]]:
    kinds: dict[str, list[Verdict]] = {}
    for verdict in verdicts:
        kinds.setdefault(verdict.name.partition("/")[0], []).append(verdict)
    return {
        kind: {
            "files": len(those),
            PREPARED: sum(one.result == PREPARED for one in those),
            "refused": dict(Counter(one.result for one in those if one.result != PREPARED).most_common()),
            "wrong": sum(bool(one.wrong) for one in those),
            "worst_seconds": max(one.seconds for one in those),
            "worst_mb": round(max(one.memory for one in those) / 2**20, 1),
        }
        for kind, those in kinds.items()
    }


def thinned(names: Sequence[str], most: int) -> list[str]:
    """Return at most so many names, evenly spread."""
    most = max(0, min(most, len(names)))
    return [names[number * len(names) // most] for number in range(most)]


def circumstances(each: int, files: int) -> dict[str, Any]:
    model = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return {
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "command": f"python -m benchmarks.hostile --each {each} --files {files}",
        "machine": f"{model[0].partition(':')[2].strip()}, {os.cpu_count()} cores, {LANES} lanes",
        "system": platform.platform(),
        "python": sys.version.split()[0],
        "av": av.__version__,
        "libavcodec": ".".join(map(str, av.library_versions["libavcodec"])),
        "limits": LIMITS.model_dump(),
    }


def table(kinds: dict[str, dict[str, Any]]) -> str:
    lines = [f"{'kind':16}{'files':>7}{'prepared':>10}{'wrong':>7}{'worst s':>9}{'worst MB':>10}   refused"]
    for kind, of in kinds.items():
        refused = ", ".join(f"{reason} {count}" for reason, count in of["refused"].items())
        counts = f"{of['files']:>7}{of[PREPARED]:>10}{of['wrong']:>7}"
        lines.append(f"{kind:16}{counts}{of['worst_seconds']:>9.2f}{of['worst_mb']:>10.1f}   {refused}")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
