"""Generate the clips and proxies of a measurement, while the engines are being unpacked.

python -m benchmarks.engines.prepare WORK --films DIR --clips 4096 --proxy 20x476x280=4096 --proxy 10x476x280=1024
"""

import argparse
import time
from pathlib import Path

from benchmarks.engines import clips
from benchmarks.engines.measure import PROXIES, make_proxies


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("--films", type=Path)
    parser.add_argument("--clips", type=int, default=512)
    parser.add_argument("--proxy", action="append", default=[], metavar="KIND=COUNT", help=", ".join(PROXIES))
    args = parser.parse_args()
    began = time.monotonic()
    made = clips.make(args.work / "clips", args.clips, args.films or clips.films_folder())
    print(f"{len(made)} clips after {time.monotonic() - began:.0f} s", flush=True)
    make_proxies(args.work, {kind: int(number) for kind, _, number in (one.partition("=") for one in args.proxy)})
    (args.work / "ready").touch()
    print(f"proxies after {time.monotonic() - began:.0f} s", flush=True)


if __name__ == "__main__":
    main()
