"""Prepare every video file below some folders, and compare each with plain decoding of the whole file.

    python -m benchmarks.corpus FOLDER ... [--manifest FILE] [--json FILE] [--only TEXT] [--most-mb 60]

Plain decoding (plain.py) is PyAV without an option: every picture of the film, with its time, in a process with limits.
clipdex prepares the file in the decoder pool, as a batch does, with limits on length and size that no file of a test
suite reaches. The comparison: the duration and the start of the film on a player's clock, within a frame; and each
picture of the proxies against the plain picture that a player has on screen at its time. A picture is another one if a
plain picture of another time is clearly nearer to it.

Verdicts: equal; differs, with the reading of the times under which it would be equal, if there is one; refused rightly,
where plain decoding has no picture either or loses the end, too; other container, which clipdex does not open; refused,
where plain decoding has pictures; unconfirmed, where plain decoding has no picture or noise, as the file is encrypted;
broken, for a crash, a hang or an error; skipped.

A manifest gives the origin of each file: {path below the folder: {source, kind, version or commit}}. Exit with 1 if
something is broken. The files themselves are not part of this repository: docs/benchmarks.md names their sources.
"""

import argparse
import asyncio
import json
import os
import platform
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

import av
import numpy as np

from benchmarks.comparison import Compared, compare, proxy_thumbs, timelines
from benchmarks.plain import Film, Plain, PlainDecoder
from benchmarks.truncated import declared_bytes, indexed_s
from clipdex.config import Sampling, VideoLimits
from clipdex.errors import ClipRejected, Reason
from clipdex.video.sandbox.pool import DecoderPool

LIMITS = VideoLimits(
    max_duration_s=4 * 3600, max_pixels=16384 * 16384, max_bytes=2**40, decode_timeout_s=60, memory_bytes=6 * 2**30
)
SAMPLING = Sampling()
SUFFIXES = (
    ".3g2 .3gp .3gpp .asf .avi .dav .divx .dv .f4v .flv .gif .insv .lrv .m2t .m2ts .m2v .m4v .mkv .mod .mov .mp4 .mpe "
    ".mpeg .mpg .mts .mxf .nut .ogg .ogm .ogv .qt .rm .rmvb .tod .ts .vob .webm .wmv"
)
# The containers that clipdex opens, by FFmpeg's names; the others hold raw streams or belong to old players and games.
CONTAINERS = frozenset({"mov", "matroska", "avi", "mpegts", "mpeg", "ogg", "flv", "asf", "gif", "mxf", "dhav"})


class Verdict(StrEnum):
    EQUAL = "equal"
    DIFFERS = "differs"
    RIGHTLY = "refused rightly"
    CONTAINER = "other container"
    REFUSED = "refused"
    UNCONFIRMED = "unconfirmed"
    BROKEN = "broken"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Judged:
    """The verdict on one file. numbers: what explains it; empty values are left out."""

    name: str
    bytes: int
    verdict: Verdict
    detail: str = ""
    numbers: dict[str, Any] = field(default_factory=dict)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path, metavar="FOLDER")
    parser.add_argument("--manifest", type=Path, help="origins of the files")
    parser.add_argument("--json", type=Path, help="write the verdicts to this file")
    parser.add_argument("--only", default="", metavar="TEXT", help="files whose path contains this text")
    parser.add_argument("--most-mb", type=float, default=60.0, help="skip larger files")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="keep what plain decoding gives, for the next run")
    args = parser.parse_args()
    origins = json.loads(args.manifest.read_text()) if args.manifest else {}
    started = time.monotonic()
    files = [(path, name) for path, name in sorted(found(args.folders), key=size) if args.only in name]
    judged = asyncio.run(judge(files, args.most_mb * 2**20, args.keep))
    print(table(judged))
    if args.json:
        args.json.write_text(as_json(judged, origins, round(time.monotonic() - started)))
    return 1 if any(one.verdict is Verdict.BROKEN for one in judged) else 0


def as_json(judged: Sequence[Judged], origins: dict[str, Any], seconds: int) -> str:
    """Return all results, a file per line. The first part of a file's name is its source."""
    sources: dict[str, dict[str, Any]] = {}
    for one in judged:
        kept = {key: value for key, value in origins.get(one.name, {}).items() if key in ("kind", "version", "commit")}
        source = sources.setdefault(one.name.partition("/")[0], {**kept, "files": 0, "bytes": 0})
        source["files"] += 1
        source["bytes"] += one.bytes
    lines = {
        **{key: json.dumps(value) for key, value in circumstances().items()},
        "seconds": json.dumps(seconds),
        "files": json.dumps(len(judged)),
        "verdicts": json.dumps(Counter(one.verdict for one in judged)),
        "sources": _block("{", [f"{json.dumps(name)}: {json.dumps(sources[name])}" for name in sorted(sources)], "}"),
        "each": _block("[", [json.dumps(_full(one)) for one in sorted(judged, key=lambda one: one.name)], "]"),
    }
    return "{\n" + ",\n".join(f" {json.dumps(key)}: {value}" for key, value in lines.items()) + "\n}\n"


def _block(start: str, lines: list[str], end: str) -> str:
    return start + "\n  " + ",\n  ".join(lines) + "\n " + end


def _full(one: Judged) -> dict[str, Any]:
    return {name: value for name, value in asdict(one).items() if value not in ("", {})}


def found(folders: Iterable[Path]) -> Iterator[tuple[Path, str]]:
    """Yield each video file with its path below its folder."""
    for folder in folders:
        for path in folder.rglob("*"):
            if path.suffix.lower() in SUFFIXES.split() and path.is_file():
                yield path, str(path.relative_to(folder))


def size(file: tuple[Path, str]) -> tuple[int, str]:
    return file[0].stat().st_size, file[1]


async def judge(files: Sequence[tuple[Path, str]], most_bytes: float, keep: Path | None) -> list[Judged]:
    """Judge the files one by one, and report those that are neither equal nor rightly refused as they are found."""
    judged = []
    with tempfile.TemporaryDirectory() as folder, PlainDecoder(keep or Path(folder)) as plain:
        async with DecoderPool(LIMITS, SAMPLING, size=1) as decoders:
            for path, name in files:
                if path.stat().st_size > most_bytes:
                    one = Judged(name, path.stat().st_size, Verdict.SKIPPED, f"larger than {most_bytes / 2**20:g} MB")
                else:
                    one = await judge_one(path, name, decoders, plain)
                judged.append(one)
                if one.verdict not in (Verdict.EQUAL, Verdict.RIGHTLY):
                    print(f"{one.verdict}: {name}: {one.detail}", flush=True)
    return judged


async def judge_one(path: Path, name: str, decoders: DecoderPool, plain: PlainDecoder) -> Judged:
    seen, arrays = await asyncio.to_thread(plain.decode, path)
    film = the_film(seen)
    numbers = facts(seen, film, arrays)

    def judged(verdict: Verdict, detail: str = "", **more: Any) -> Judged:
        return Judged(name, path.stat().st_size, verdict, detail, {**numbers, **more})

    try:
        prepared = await decoders.prepare(path)
    except ClipRejected as refusal:
        if refusal.reason is Reason.DECODE_LIMIT and seen.is_too_slow:
            return judged(Verdict.SKIPPED, f"too long for plain decoding, too: {refusal.detail}")
        if refusal.reason is Reason.DECODE_LIMIT:
            return judged(Verdict.BROKEN, f"{refusal.reason}: {refusal.detail}")
        return judged(of_refusal(refusal.reason, path, seen, film, arrays), f"{refusal.reason}: {refusal.detail}")
    except Exception as error:  # a benchmark goes on to the next file
        return judged(Verdict.BROKEN, f"{type(error).__name__}: {error}")
    if seen.is_too_slow:
        return judged(Verdict.SKIPPED, "too long for plain decoding")
    if film is None:
        return judged(Verdict.UNCONFIRMED, seen.failed or "plain decoding has no picture")
    if film.encrypted:
        return judged(Verdict.UNCONFIRMED, "encrypted: the pictures are noise")
    proxies = proxy_thumbs(prepared)
    compared = [compare(prepared, proxies, line) for line in timelines(seen, film, arrays, prepared.info.start_s)]
    first = compared[0]
    ours = {"duration_s": round(prepared.info.duration_s, 4), "codec": prepared.info.codec, **shown(first)}
    if not first.differences:
        return judged(Verdict.EQUAL, **ours)
    equal = next((one.timeline for one in compared[1:] if not one.differences), "")
    detail = f"{', '.join(first.differences)}{': equal ' if equal else ''}{equal}"
    detail += f" (longer by {first.longer_s:.3f} s, later by {first.later_s:.3f} s"
    detail += f", {first.other} of {first.pictures} pictures of another time, {first.unlike} unlike any)"
    return judged(Verdict.DIFFERS, detail, **ours)


def the_film(plain: Plain) -> Film | None:
    """Return the stream that FFmpeg takes for the film, or if that has no picture or is a cover, the longest one."""
    films = [film for film in plain.films if film.pictures and not film.cover]
    return next((film for film in films if film.stream == plain.best), max(films, key=_pictures, default=None))


def of_refusal(reason: Reason, path: Path, plain: Plain, film: Film | None, arrays: dict[str, np.ndarray]) -> Verdict:
    """Return whether plain decoding or the container confirms a refusal: pictures are missing there, too."""
    if film is None or film.encrypted:
        return Verdict.RIGHTLY
    if CONTAINERS.isdisjoint(plain.format.split(",")):
        return Verdict.CONTAINER
    if reason is Reason.TRUNCATED_FILE:
        lost = film.promised - film.pictures - film.discarded
        last_s = float(np.nanmax(arrays[f"times_{film.stream}"], initial=0.0))
        late_s = indexed_s(path, film.stream) - last_s
        if lost > max(2, 0.05 * film.promised) or late_s > max(0.3, 0.05 * last_s):
            return Verdict.RIGHTLY
        return Verdict.RIGHTLY if declared_bytes(path) > path.stat().st_size else Verdict.REFUSED
    return Verdict.REFUSED


def facts(plain: Plain, film: Film | None, arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    """Return the figures of plain decoding that explain a verdict, without the empty ones."""
    found: dict[str, Any] = {"format": plain.format, "streams": len(plain.films) + len(plain.others)}
    found["declared_s"] = round(plain.declared_s, 3)
    if film is None:
        found["failed"] = plain.failed.partition(": '")[0]  # without the path
    else:
        times = arrays[f"times_{film.stream}"]
        known = times[np.isfinite(times)]
        steps = np.diff(known)
        found |= {
            "films": sum(not one.cover and one.pictures > 0 for one in plain.films),
            "size": f"{film.width}x{film.height}",
            "pictures": film.pictures,
            "promised": film.promised if film.promised != film.pictures else 0,
            "discarded": film.discarded,
            "errors": film.errors,
            "untimed": len(times) - len(known),
            "backward": int((steps < 0).sum()),
            "longest_step_s": round(float(steps.max(initial=0.0)), 3),
            "late_s": round(float(known.min()) - (plain.start_s or 0.0), 3) if len(known) else 0,
            "hdr": film.hdr,
            "encrypted": film.encrypted,
        }
    return {key: value for key, value in found.items() if value}


def shown(one: Compared) -> dict[str, Any]:
    values = {
        "longer_s": round(one.longer_s, 4),
        "later_s": round(one.later_s, 4),
        "sampled": one.pictures,
        "other": one.other,
    }
    values |= {
        "other": one.other,
        "neighbour": one.neighbour,
        "unlike": one.unlike,
        "shift_s": round(one.shift_s, 3),
        "toned": one.toned,
    }
    return {key: value for key, value in values.items() if value}


def _pictures(film: Film) -> int:
    return film.pictures


def table(judged: Sequence[Judged]) -> str:
    """Return the number of files per verdict and container."""
    formats = Counter(_format(one) for one in judged)
    lines = [f"{'':14}{'files':>7}" + "".join(f"{verdict:>17}" for verdict in Verdict)]
    for name, count in [*formats.most_common(), ("together", len(judged))]:
        counts = Counter(one.verdict for one in judged if name in ("together", _format(one)))
        lines.append(f"{name:14}{count:>7}" + "".join(f"{counts[verdict]:>17}" for verdict in Verdict))
    return "\n".join(lines)


def _format(one: Judged) -> str:
    return str(one.numbers.get("format", "does not open")).partition(",")[0]


def circumstances() -> dict[str, Any]:
    model = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return {
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "command": "python -m benchmarks.corpus FOLDER --manifest FILE --json FILE",
        "machine": f"{model[0].partition(':')[2].strip()}, {os.cpu_count()} cores",
        "system": platform.platform(),
        "python": sys.version.split()[0],
        "av": av.__version__,
        "libavcodec": ".".join(map(str, av.library_versions["libavcodec"])),
        "limits": LIMITS.model_dump(),
    }


if __name__ == "__main__":
    sys.exit(main())
