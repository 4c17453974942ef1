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
import io
import json
import os
import platform
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.video.reformatter import VideoReformatter

from benchmarks.plain import Film, Plain, PlainDecoder, thumbnail
from clipdex.config import Sampling, VideoLimits
from clipdex.errors import ClipRejected, Reason
from clipdex.video import Prepared
from clipdex.video.sandbox.pool import DecoderPool

LIMITS = VideoLimits(
    max_duration_s=4 * 3600, max_pixels=16384 * 16384, max_bytes=2**40, decode_timeout_s=240, memory_bytes=6 * 2**30
)
SAMPLING = Sampling()
SUFFIXES = (
    ".3g2 .3gp .3gpp .asf .avi .dav .divx .dv .f4v .flv .gif .insv .lrv .m2t .m2ts .m2v .m4v .mkv .mod .mov .mp4 .mpe "
    ".mpeg .mpg .mts .mxf .nut .ogg .ogm .ogv .qt .rm .rmvb .tod .ts .vob .webm .wmv"
)
# The containers that clipdex opens, by FFmpeg's names; the others hold raw streams or belong to old players and games.
CONTAINERS = frozenset({"mov", "matroska", "avi", "mpegts", "mpeg", "ogg", "flv", "asf", "gif", "mxf", "dhav"})
_NEARER = 4.0  # levels of 255 by which another picture must be nearer, beyond the noise of compression
_LIKE = 24.0  # levels by which a picture may differ from itself, on average: colour ranges, tone mapping
_ROUNDING_S = 1e-3


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
class Timeline:
    """The pictures of a film over time, in the order of their times.

    name: how the times were made
    starts: of each picture, the first is 0 [s]
    thumbs: (pictures, SIDE, SIDE)
    end_s: of the last picture [s]
    frame_s: usual length of a picture [s]
    lead_s: from the start of a player's clock to the first picture, None to leave it out of the comparison [s]
    """

    name: str
    starts: np.ndarray
    thumbs: np.ndarray
    end_s: float
    frame_s: float
    lead_s: float | None = None


@dataclass(frozen=True, slots=True)
class Compared:
    """A prepared clip against one timeline.

    longer_s: duration minus that of the timeline [s]
    later_s: start of the film minus that of the timeline [s]
    other: pictures of the proxies that show another time
    neighbour: those of them that are off by one picture
    unlike: pictures that resemble no picture of the timeline
    toned: compared without brightness and contrast, which tone mapping and a wrong colour range change
    shift_s: median of the time that the others show minus their own [s]
    """

    timeline: str
    longer_s: float
    later_s: float
    frame_s: float
    pictures: int
    other: int = 0
    neighbour: int = 0
    unlike: int = 0
    shift_s: float = 0.0
    toned: bool = False

    @property
    def differences(self) -> list[str]:
        found = []
        if abs(self.longer_s) > self.frame_s + _ROUNDING_S:
            found.append("duration")
        if abs(self.later_s) > self.frame_s + _ROUNDING_S:
            found.append("start")
        if self.other > self.neighbour or self.neighbour > max(1, self.pictures // 4):
            found.append("frames")
        if self.unlike > self.pictures // 4:
            found.append("pictures")
        return found


@dataclass(frozen=True, slots=True)
class Judged:
    """The verdict on one file. numbers: what explains it; empty values are left out."""

    name: str
    bytes: int
    verdict: Verdict
    detail: str = ""
    origin: dict[str, Any] = field(default_factory=dict)
    numbers: dict[str, Any] = field(default_factory=dict)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path, metavar="FOLDER")
    parser.add_argument("--manifest", type=Path, help="origins of the files")
    parser.add_argument("--json", type=Path, help="write the verdicts to this file")
    parser.add_argument("--only", default="", metavar="TEXT", help="files whose path contains this text")
    parser.add_argument("--most-mb", type=float, default=60.0, help="skip larger files")
    args = parser.parse_args()
    origins = json.loads(args.manifest.read_text()) if args.manifest else {}
    started = time.monotonic()
    files = [(path, name) for path, name in sorted(found(args.folders), key=size) if args.only in name]
    judged = asyncio.run(judge(files, origins, args.most_mb * 2**20))
    print(table(judged))
    if args.json:
        verdicts = [{name: value for name, value in asdict(one).items() if value not in ("", {})} for one in judged]
        head = {**circumstances(), "seconds": round(time.monotonic() - started), "files": len(judged)}
        text = ",\n  ".join(json.dumps(one) for one in sorted(verdicts, key=lambda one: one["name"]))
        counts = json.dumps(Counter(one.verdict for one in judged))
        args.json.write_text(f'{json.dumps(head)[:-1]},\n "verdicts": {counts},\n "each": [\n  {text}\n]}}\n')
    return 1 if any(one.verdict is Verdict.BROKEN for one in judged) else 0


def found(folders: Iterable[Path]) -> Iterator[tuple[Path, str]]:
    """Yield each video file with its path below its folder."""
    for folder in folders:
        for path in folder.rglob("*"):
            if path.suffix.lower() in SUFFIXES.split() and path.is_file():
                yield path, str(path.relative_to(folder))


def size(file: tuple[Path, str]) -> tuple[int, str]:
    return file[0].stat().st_size, file[1]


async def judge(files: Sequence[tuple[Path, str]], origins: dict[str, Any], most_bytes: float) -> list[Judged]:
    """Judge the files one by one, and report those that are neither equal nor rightly refused as they are found."""
    judged = []
    with tempfile.TemporaryDirectory() as folder, PlainDecoder() as plain:
        async with DecoderPool(LIMITS, SAMPLING, size=1) as decoders:
            for path, name in files:
                if path.stat().st_size > most_bytes:
                    one = Judged(name, path.stat().st_size, Verdict.SKIPPED, f"larger than {most_bytes / 2**20:g} MB")
                else:
                    one = await judge_one(path, name, origins.get(name, {}), decoders, plain, Path(folder))
                judged.append(one)
                if one.verdict not in (Verdict.EQUAL, Verdict.RIGHTLY):
                    print(f"{one.verdict}: {name}: {one.detail}", flush=True)
    return judged


async def judge_one(
    path: Path, name: str, origin: dict[str, Any], decoders: DecoderPool, plain: PlainDecoder, folder: Path
) -> Judged:
    pictures = folder / "pictures.npz"
    pictures.unlink(missing_ok=True)
    seen = await asyncio.to_thread(plain.decode, path, pictures)
    arrays = dict(np.load(pictures)) if pictures.exists() and not seen.failed else {}
    film = the_film(seen)
    origin = {key: value for key, value in origin.items() if key in ("source", "kind", "version", "commit")}
    numbers = facts(seen, film, arrays)

    def judged(verdict: Verdict, detail: str = "", **more: Any) -> Judged:
        return Judged(name, path.stat().st_size, verdict, detail, origin, {**numbers, **more})

    try:
        prepared = await decoders.prepare(path)
    except ClipRejected as refusal:
        if refusal.reason is Reason.DECODE_LIMIT:
            return judged(Verdict.BROKEN, f"{refusal.reason}: {refusal.detail}")
        return judged(of_refusal(refusal.reason, seen, film), f"{refusal.reason}: {refusal.detail}")
    except Exception as error:  # a benchmark goes on to the next file
        return judged(Verdict.BROKEN, f"{type(error).__name__}: {error}")
    if film is None:
        return judged(Verdict.UNCONFIRMED, seen.failed or "plain decoding has no picture")
    if film.encrypted:
        return judged(Verdict.UNCONFIRMED, "encrypted: the pictures are noise")
    proxies = proxy_thumbs(prepared)
    compared = [compare(prepared, proxies, line) for line in timelines(seen, film, arrays)]
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


def of_refusal(reason: Reason, plain: Plain, film: Film | None) -> Verdict:
    """Return whether plain decoding confirms a refusal: as it lacks the pictures, too."""
    if film is None or film.encrypted:
        return Verdict.RIGHTLY
    if CONTAINERS.isdisjoint(plain.format.split(",")):
        return Verdict.CONTAINER
    lost = film.promised - film.pictures - film.discarded
    is_cut = reason is Reason.TRUNCATED_FILE and lost > max(2, 0.05 * film.promised)
    return Verdict.RIGHTLY if is_cut else Verdict.REFUSED


def timelines(plain: Plain, film: Film, arrays: dict[str, np.ndarray]) -> Iterator[Timeline]:
    """Yield the film as a player shows it, and then other readings that explain a difference."""
    times, thumbs = arrays[f"times_{film.stream}"], arrays[f"thumbs_{film.stream}"]
    line = stamped("", times, thumbs, film)
    known = times[np.isfinite(times)]
    lead_s = float(known.min()) - plain.start_s if len(known) and plain.start_s is not None else None
    yield replace(line, name="as a player shows it", lead_s=lead_s)
    yield replace(line, name="from its first picture")
    steps = np.diff(known)
    forward = steps[steps > 0]
    step = float(np.median(forward)) if len(forward) else film.last_s or 0.04
    if len(known) == len(times):
        closed = np.where((steps < 0) | (steps > max(1.0, 10 * step)), step, steps)
        yield stamped("with jumps closed", np.concatenate([[0.0], np.cumsum(closed)]), thumbs, film)
    yield stamped("with even steps", np.arange(len(times)) * step, thumbs, film)
    if lead_s:
        yield replace(line, name="from the start of the file", starts=line.starts + lead_s, end_s=line.end_s + lead_s)
    for other in plain.films:
        if other.stream != film.stream and other.pictures:
            ours = arrays[f"times_{other.stream}"], arrays[f"thumbs_{other.stream}"]
            yield stamped(f"to stream {other.stream}", *ours, other)


def stamped(name: str, times: np.ndarray, thumbs: np.ndarray, film: Film) -> Timeline:
    """Return the pictures in the order of their times; a picture without a time follows the one before it."""
    steps = np.diff(times[np.isfinite(times)])
    usual = float(np.median(steps[steps > 0])) if (steps > 0).any() else film.last_s or 0.04
    known = np.array(times)
    for number in np.flatnonzero(~np.isfinite(known)):
        known[number] = known[number - 1] + usual if number else 0.0
    order = np.argsort(known, kind="stable")
    starts = known[order] - known[order[0]]
    last = film.last_s or usual
    return Timeline(name, starts, thumbs[order], float(starts[-1]) + last, max(usual, last))


def compare(prepared: Prepared, proxies: np.ndarray, line: Timeline) -> Compared:
    """Compare the duration, and each picture of the proxies with the one on screen at its time."""
    found = _compare(prepared, flat(proxies), flat(line.thumbs), line)
    if found.unlike:
        toned = _compare(prepared, even_tones(proxies), even_tones(line.thumbs), line)
        found = replace(toned, toned=True) if toned.unlike < found.unlike else found
    return found


def _compare(prepared: Prepared, proxies: np.ndarray, plain: np.ndarray, line: Timeline) -> Compared:
    start_s = getattr(prepared.info, "start_s", 0.0)
    later_s = 0.0 if line.lead_s is None else start_s - line.lead_s
    times = np.array(prepared.times) - start_s + later_s
    own = np.maximum(0, np.searchsorted(line.starts, times + 1e-6, side="right") - 1)
    other, unlike, shifts = [], 0, []
    for proxy, number in zip(proxies, own, strict=True):
        distances = np.abs(plain - proxy).mean(axis=1)
        nearest = int(distances.argmin())
        unlike += bool(distances[nearest] > _LIKE)
        if distances[number] > 2 * distances[nearest] + _NEARER:
            near = np.flatnonzero(distances <= distances[nearest] + _NEARER / 4)
            nearest = int(near[np.abs(near - number).argmin()])
            other.append(abs(nearest - int(number)))
            shifts.append(line.starts[nearest] - line.starts[number])
    return Compared(
        timeline=line.name,
        longer_s=prepared.info.duration_s - line.end_s,
        later_s=later_s,
        frame_s=line.frame_s,
        pictures=len(proxies),
        other=len(other),
        neighbour=other.count(1),
        unlike=unlike,
        shift_s=float(np.median(shifts)) if shifts else 0.0,
    )


def flat(thumbs: np.ndarray) -> np.ndarray:
    return thumbs.reshape(len(thumbs), -1).astype(np.float32)


def even_tones(thumbs: np.ndarray) -> np.ndarray:
    """Return each picture by the ranks of its brightness, which no curve of tones changes."""
    values = flat(thumbs)
    return (values.argsort(axis=1, kind="stable").argsort(axis=1) * (255 / (values.shape[1] - 1))).astype(np.float32)


def proxy_thumbs(prepared: Prepared) -> np.ndarray:
    """Return the thumbnails of all proxies (pictures, SIDE, SIDE)."""
    scaler, thumbs = VideoReformatter(), []
    for window in prepared.windows:
        with av.open(io.BytesIO(window.proxy)) as container:
            thumbs += [thumbnail(frame, scaler) for frame in container.decode(video=0)]
    return np.array(thumbs)


def facts(plain: Plain, film: Film | None, arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    """Return the figures of plain decoding that explain a verdict, without the empty ones."""
    found: dict[str, Any] = {"format": plain.format, "streams": len(plain.films) + len(plain.others)}
    found["declared_s"] = round(plain.declared_s, 3)
    if film is None:
        found["failed"] = plain.failed
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
