"""Extract responses per second, prefill and decode rates from the log of an SGLang server.

    python -m benchmarks.engines.waves SERVER.log [--from HH:MM:SS --to HH:MM:SS] > waves.json

In a closed loop with a fixed number of output tokens, all requests are prefilled, decoded and completed together. The
output shows the time of each phase.
"""

import argparse
import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

_STAMP = re.compile(r"\[\d{4}-\d\d-\d\d (\d\d:\d\d:\d\d)")
_PREFILL = re.compile(r"Prefill batch.*?#new-token: (\d+).*?input throughput \(token/s\): ([\d.]+)")
_DECODE = re.compile(r"Decode batch.*?#running-req: (\d+).*?gen throughput \(token/s\): ([\d.]+), #queue-req: (\d+)")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("log", type=Path)
    parser.add_argument("--from", dest="first", default="00:00:00")
    parser.add_argument("--to", dest="last", default="23:59:59")
    args = parser.parse_args()
    print(json.dumps(read(args.log.read_text(errors="replace").splitlines(), args.first, args.last)))


def read(lines: list[str], first: str, last: str) -> dict[str, Any]:
    """Parse a log. prefill: [second, tokens, tokens/s]; decode: [second, running, tokens/s, waiting]."""
    answered: Counter[str] = Counter()
    prefill: list[list[Any]] = []
    decode: list[list[Any]] = []
    for line in lines:
        stamp = _STAMP.match(line)
        if not stamp or not first <= stamp[1] <= last:
            continue
        if "POST /v1/chat/completions" in line and '" 200' in line:
            answered[stamp[1]] += 1
        elif found := _PREFILL.search(line):
            prefill.append([stamp[1], int(found[1]), float(found[2])])
        elif found := _DECODE.search(line):
            decode.append([stamp[1], int(found[1]), float(found[2]), int(found[3])])
    return {"answered": dict(sorted(answered.items())), "prefill": prefill, "decode": decode}


if __name__ == "__main__":
    main()
