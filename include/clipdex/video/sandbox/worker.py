"""The decoder process: python -m clipdex.video.sandbox.worker, started only by pool.py.

Reads requests from a socket at stdin and writes answers to stdout, each a length, a JSON header, and bytes. A request
carries the file descriptor of its clip: the process opens no file. Exits when the socket closes or its parent dies.
Limits apply before the first clip: memory, no core dump, no file writes, few open files, no new privileges, and only
system calls that decoding needs (seccomp.py). Its memory and environment are closed to its user (not dumpable). The
OOM killer selects it first. The parent limits the CPU time per clip (pool.py).
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import math
import os
import resource
import signal
import socket
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, BinaryIO

import av
import av.subtitles.codeccontext  # PyAV imports both with the first such stream, when this process opens no file
import av.subtitles.stream
import numpy as np
from av.video.frame import VideoFrame

from clipdex.config import Playback, Sampling, Split, VideoLimits
from clipdex.errors import ClipRejected, Reason
from clipdex.video import ClipFile, Prepared, RejectedPart, prepare_file, shots
from clipdex.video.budget import Budget
from clipdex.video.cutting import Begin, Cut, SkippedPart, prepare_parts
from clipdex.video.encoding import encode_proxy
from clipdex.video.playback import with_silence
from clipdex.video.sandbox import seccomp
from clipdex.video.sandbox.messages import framed

_OPEN_FILES = 32
_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_NO_NEW_PRIVS = 1, 4, 38


def main() -> None:
    requests, answers = _channels()
    settings = _read_request(requests)
    if settings is None:
        return
    limits, sampling = VideoLimits(**settings["limits"]), Sampling(**settings["sampling"])
    most = Playback(settings["playback"])
    av.logging.set_level(None)
    memory = confine(limits, settings["parent"], most)
    _write(answers, {})
    while request := _read_request(requests):
        if sys.platform != "linux":
            _allow_cpu(limits.decode_timeout_s)
        with ClipFile(request["descriptor"], request["name"]) as file:
            how = Sampled(limits, sampling, Playback(request["playback"]))
            for answer in _answers(file, request["begin"], how, memory, answers):
                _write(answers, *answer)
                if _waits(answer) and _read_request(requests) is None:
                    return


def confine(limits: VideoLimits, parent: int, playback: Playback = Playback.OFF) -> Memory:
    """Limit this process for good; return the meter of its memory. Exit if the parent has died.

    Decodes a clip before and after, so that all files of libraries are loaded, and a filter that refuses what this
    machine needs stops the process instead of rejecting clips. Raises OSError or RuntimeError on such a machine.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # on Ctrl-C, the parent kills this process
    samples = _samples() if sys.platform == "linux" else []
    _rehearse(samples, limits, playback)
    memory = Memory(limits.memory_bytes)
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            Path("/proc/self/oom_score_adj").write_text("1000")
        libc = ctypes.CDLL(None, use_errno=True)
        for option, value in ((_PR_SET_PDEATHSIG, signal.SIGKILL), (_PR_SET_DUMPABLE, 0), (_PR_SET_NO_NEW_PRIVS, 1)):
            if libc.prctl(option, value, 0, 0, 0) != 0:
                raise OSError(ctypes.get_errno(), f"prctl({option}) refused")
    if os.getppid() != parent:  # the parent died before prctl
        sys.exit(1)
    _limit(resource.RLIMIT_CORE, 0)
    _limit(resource.RLIMIT_FSIZE, 0)
    _limit(resource.RLIMIT_NOFILE, _OPEN_FILES)
    seccomp.install()
    _rehearse(samples, limits, playback)
    for sample in samples:
        sample.close()
    os.dup2(1, 2)  # drop stderr: a hostile file controls library messages
    return memory


@dataclass(frozen=True, slots=True)
class Sampled:
    """Hold how a clip is sampled, and what is made for browsers."""

    limits: VideoLimits
    sampling: Sampling
    playback: Playback


class Memory:
    """The address space of this process, its limit and its peak."""

    def __init__(self, spare_bytes: int) -> None:
        """Limit the address space to what is in use and spare_bytes [bytes]. Without /proc, there is no limit."""
        self._status: int | None = None
        if sys.platform == "linux":
            used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
            _limit(resource.RLIMIT_AS, used + spare_bytes)
            self._limit = resource.getrlimit(resource.RLIMIT_AS)[0]
            self._status = os.open("/proc/self/status", os.O_RDONLY)  # for later: a confined process opens no file

    def spare_bytes(self) -> float:
        """Return the limit minus the peak usage [bytes]."""
        if self._status is None:
            return math.inf
        text = os.pread(self._status, resource.getpagesize(), 0).decode()
        (peak,) = (line.split()[1] for line in text.splitlines() if line.startswith("VmPeak:"))
        return self._limit - 1024 * int(peak)


def _answers(
    file: ClipFile, begin: dict[str, Any] | None, how: Sampled, memory: Memory, out: BinaryIO
) -> Iterator[tuple[Any, ...]]:
    """Yield the header and the blobs of each answer. begin: where to begin a file that may be cut, or None."""
    limits = how.limits
    try:
        if begin is None:
            yield answer_parts(prepare_file(file, limits, how.sampling, how.playback))
            return
        budget = Budget(limits, lambda: _write(out, {"passed": True}))
        for one in prepare_parts(file, limits, how.sampling, Begin(**begin), budget, how.playback):
            yield _part_answer(one, limits, memory)
    except ClipRejected as refusal:
        yield (_refusal(refusal, limits, memory),)
    except MemoryError:
        yield (_out_of_memory(limits),)
    except Exception as error:
        if isinstance(error, OSError) and not isinstance(error, av.FFmpegError):
            yield ({"failed": str(error)},)  # a disk error, not a bad clip
            return
        unexpected = ClipRejected(Reason.UNDECODABLE, f"{type(error).__name__}: {error}")
        yield (_refusal(unexpected, limits, memory),)


def _part_answer(
    one: Prepared | Cut | SkippedPart | RejectedPart, limits: VideoLimits, memory: Memory
) -> tuple[Any, ...]:
    match one:
        case Cut():
            return ({"cut": asdict(one)},)
        case SkippedPart(part, start_s, end_s):
            return ({"part": {**asdict(part), "start_s": start_s, "end_s": end_s}},)
        case RejectedPart(part, start_s, end_s, rejection):
            refused = _refusal(rejection, limits, memory)
            return ({"part": {**asdict(part), "start_s": start_s, "end_s": end_s}, **refused},)
    return answer_parts(one)


def _waits(answer: tuple[Any, ...]) -> bool:
    """Return whether the next part is made only when it is wanted: its time begins then."""
    header = answer[0]
    return "part" in header and not header["part"]["last"] and ("clip" in header or "rejected" in header)


def answer_parts(clip: Prepared) -> tuple[Any, ...]:
    """Return the header and the blobs of the answer for a prepared clip."""
    windows = [{"start_s": one.start_s, "end_s": one.end_s, "times": one.times} for one in clip.windows]
    header = {"info": asdict(clip.info), "proxy_fps": clip.proxy_fps, "width": clip.width, "height": clip.height}
    answer: dict[str, Any] = {"clip": {**header, "windows": windows, "playback": bool(clip.playback)}}
    if clip.part:
        start_s, end_s = clip.windows[0].start_s, clip.windows[-1].end_s
        answer["part"] = {**asdict(clip.part), "start_s": start_s, "end_s": end_s}
    played = (clip.playback,) if clip.playback else ()
    return answer, clip.poster, *(window.proxy for window in clip.windows), *played


def _refusal(refusal: ClipRejected, limits: VideoLimits, memory: Memory) -> dict[str, Any]:
    """Build a rejection. Decoders report failed allocations as broken data, so low memory counts as DECODE_LIMIT."""
    if refusal.reason in (Reason.UNDECODABLE, Reason.TRUNCATED_FILE) and memory.spare_bytes() < limits.memory_bytes / 4:
        return _out_of_memory(limits)
    measured = {"limit": refusal.limit, "found": refusal.found} if refusal.limit else {}
    return {"rejected": refusal.reason, "detail": refusal.detail, **measured}


def _out_of_memory(limits: VideoLimits) -> dict[str, Any]:
    return {"rejected": Reason.DECODE_LIMIT, "detail": f"more than {limits.memory_bytes} bytes of memory to decode"}


def _channels() -> tuple[socket.socket, BinaryIO]:
    """Duplicate stdin and stdout for messages and redirect the originals to /dev/null, so library output is dropped."""
    requests, answers = socket.socket(fileno=os.dup(0)), os.fdopen(os.dup(1), "wb")
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(null, 1)
    return requests, answers


def _read_request(requests: socket.socket) -> dict[str, Any] | None:
    """Return the next header, with the descriptor that came with it, or None at the end."""
    head, descriptors, *_ = socket.recv_fds(requests, 4, 1, socket.MSG_WAITALL)
    if len(head) < 4:
        return None
    text, *_ = requests.recvmsg(int.from_bytes(head, "big"), 0, socket.MSG_WAITALL)
    return {**json.loads(text), "descriptor": descriptors[0] if descriptors else None}


def _write(answers: BinaryIO, header: dict[str, Any], *blobs: bytes) -> None:
    answers.write(framed(header, *blobs))
    answers.flush()


def _samples() -> list[ClipFile]:
    """Return a clip of two pictures with a sound, and a file that is no clip, in memory."""
    pictures = [VideoFrame.from_ndarray(np.full((96, 64), 128, np.uint8), format="yuv420p") for _ in range(2)]
    return [_in_memory(with_silence(encode_proxy(pictures, Fraction(1)), 2.0)), _in_memory(b"no clip" * 1000)]


def _in_memory(data: bytes) -> ClipFile:
    descriptor = os.memfd_create("sample.mp4")
    os.write(descriptor, data)
    return ClipFile(descriptor, "sample.mp4")


def _rehearse(samples: list[ClipFile], limits: VideoLimits, playback: Playback) -> None:
    """Decode the samples, find shots. Raises RuntimeError if the first sample, a good clip, is rejected."""
    if limits.split is Split.SHOTS:
        shots.load()
    for sample in samples:
        try:
            prepare_file(sample, VideoLimits(), Sampling(), playback)
        except ClipRejected as refusal:
            if sample is samples[0]:
                raise RuntimeError("this process cannot decode under its limits") from refusal


def _allow_cpu(seconds: float) -> None:
    """Set the CPU time limit of one clip."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    soft = math.ceil(usage.ru_utime + usage.ru_stime + seconds) + 2
    resource.setrlimit(resource.RLIMIT_CPU, (soft, resource.getrlimit(resource.RLIMIT_CPU)[1]))


def _limit(kind: int, value: int) -> None:
    hard = resource.getrlimit(kind)[1]
    value = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(kind, (value, value))


if __name__ == "__main__":
    main()
