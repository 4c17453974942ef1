"""The decoder process: python -m clipdex.video.sandbox.worker, started only by pool.py.

Reads requests from stdin and writes answers to stdout, each a length, a JSON header, and bytes. Exits when stdin closes
or its parent dies. Limits apply before the first clip: memory, CPU time per clip, no core dump, no file writes, few
open files, no new privileges, no network, no other program (seccomp.py). The OOM killer selects it first.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import math
import os
import resource
import signal
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO

import av

from clipdex.config import Sampling, VideoLimits
from clipdex.errors import ClipRejected, Reason
from clipdex.video import Prepared, VideoInfo, Window, prepare
from clipdex.video.sandbox import seccomp

MOST_HEADER_BYTES = 2**20
_OPEN_FILES = 32
_PR_SET_PDEATHSIG, _PR_SET_NO_NEW_PRIVS = 1, 38


def main() -> None:
    requests, answers = _pipes()
    settings = _read_request(requests)
    if settings is None:
        return
    limits, sampling = VideoLimits(**settings["limits"]), Sampling(**settings["sampling"])
    av.logging.set_level(None)
    _confine(limits, settings["parent"])
    _write(answers, {})
    while request := _read_request(requests):
        _allow_cpu(limits.decode_timeout_s)
        _write(answers, *_answer(Path(request["path"]), limits, sampling))


def framed(header: dict[str, Any], *blobs: bytes) -> bytes:
    """Encode one message: the header's length in four bytes, the header, the blobs."""
    text = json.dumps({**header, "blobs": [len(blob) for blob in blobs]}).encode()
    return b"".join((len(text).to_bytes(4, "big"), text, *blobs))


def parsed(text: bytes) -> dict[str, Any]:
    header = json.loads(text)
    if not isinstance(header, dict):
        raise ValueError(f"an object expected, found {type(header).__name__}")
    return header


def prepared_from(header: dict[str, Any], blobs: list[bytes]) -> Prepared:
    """Decode a Prepared from an answer, converting each field to its declared type."""
    info, (poster, *proxies) = header["info"], blobs
    return Prepared(
        info=VideoInfo(
            duration_s=float(info["duration_s"]),
            width=int(info["width"]),
            height=int(info["height"]),
            fps=float(info["fps"]),
            codec=str(info["codec"]),
            bytes=int(info["bytes"]),
        ),
        windows=tuple(
            Window(
                start_s=float(window["start_s"]),
                end_s=float(window["end_s"]),
                times=tuple(float(time_s) for time_s in window["times"]),
                proxy=proxy,
            )
            for window, proxy in zip(header["windows"], proxies, strict=True)
        ),
        proxy_fps=float(header["proxy_fps"]),
        width=int(header["width"]),
        height=int(header["height"]),
        poster=poster,
    )


def _answer(path: Path, limits: VideoLimits, sampling: Sampling) -> tuple[Any, ...]:
    try:
        clip = prepare(path, limits, sampling)
    except ClipRejected as refusal:
        return (_refusal(refusal.reason, refusal.detail, limits),)
    except MemoryError:
        return (_out_of_memory(limits),)
    except Exception as error:
        if isinstance(error, OSError) and not isinstance(error, av.FFmpegError):
            return ({"failed": str(error)},)  # a disk error, not a bad clip
        return (_refusal(Reason.UNDECODABLE, f"{type(error).__name__}: {error}", limits),)
    windows = [{"start_s": one.start_s, "end_s": one.end_s, "times": one.times} for one in clip.windows]
    header = {"info": asdict(clip.info), "proxy_fps": clip.proxy_fps, "width": clip.width, "height": clip.height}
    return {**header, "windows": windows}, clip.poster, *(window.proxy for window in clip.windows)


def _refusal(reason: Reason, detail: str, limits: VideoLimits) -> dict[str, Any]:
    """Build a rejection. Decoders report failed allocations as broken data, so low memory counts as DECODE_LIMIT."""
    if reason in (Reason.UNDECODABLE, Reason.TRUNCATED_FILE) and _spare_bytes() < limits.memory_bytes / 4:
        return _out_of_memory(limits)
    return {"rejected": reason, "detail": detail}


def _out_of_memory(limits: VideoLimits) -> dict[str, Any]:
    return {"rejected": Reason.DECODE_LIMIT, "detail": f"more than {limits.memory_bytes} bytes of memory to decode"}


def _spare_bytes() -> float:
    """Return the memory limit minus the peak usage [bytes]."""
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    if limit == resource.RLIM_INFINITY:
        return math.inf
    fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return limit - 1024 * int(fields["VmPeak"].split()[0])


def _pipes() -> tuple[BinaryIO, BinaryIO]:
    """Duplicate stdin and stdout for messages and redirect the originals to /dev/null, so library output is dropped."""
    requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(null, 1)
    return requests, answers


def _read_request(requests: BinaryIO) -> dict[str, Any] | None:
    head = requests.read(4)
    return parsed(requests.read(int.from_bytes(head, "big"))) if len(head) == 4 else None


def _write(answers: BinaryIO, header: dict[str, Any], *blobs: bytes) -> None:
    answers.write(framed(header, *blobs))
    answers.flush()


def _confine(limits: VideoLimits, parent: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # on Ctrl-C, the parent kills this process
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        for option, value in ((_PR_SET_PDEATHSIG, signal.SIGKILL), (_PR_SET_NO_NEW_PRIVS, 1)):
            if libc.prctl(option, value, 0, 0, 0) != 0:
                raise OSError(ctypes.get_errno(), f"prctl({option}) refused")
        with contextlib.suppress(OSError):
            Path("/proc/self/oom_score_adj").write_text("1000")
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        _limit(resource.RLIMIT_AS, used + limits.memory_bytes)
    if os.getppid() != parent:  # the parent died before prctl
        sys.exit(1)
    _limit(resource.RLIMIT_CORE, 0)
    _limit(resource.RLIMIT_FSIZE, 0)
    _limit(resource.RLIMIT_NOFILE, _OPEN_FILES)
    seccomp.refuse()
    os.dup2(1, 2)  # drop stderr: a hostile file controls library messages


def _allow_cpu(seconds: float) -> None:
    """Set the CPU time limit of one clip. The parent's timeout is shorter, unless the parent is stopped."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    soft = math.ceil(usage.ru_utime + usage.ru_stime + seconds) + 2
    resource.setrlimit(resource.RLIMIT_CPU, (soft, resource.getrlimit(resource.RLIMIT_CPU)[1]))


def _limit(kind: int, value: int) -> None:
    hard = resource.getrlimit(kind)[1]
    value = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(kind, (value, value))


if __name__ == "__main__":
    main()
