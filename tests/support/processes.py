"""Read /proc of processes and threads that may end meanwhile."""

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

_PROC = Path("/proc")


def children(of: int | None = None) -> list[int]:
    """Return the live child processes of a process, by default this one. Zombies do not count."""
    parent = of or os.getpid()
    pids = [int(pid) for task in entries(_PROC / str(parent) / "task") for pid in text(task / "children").split()]
    return sorted(pid for pid in pids if not ended(pid))


def decoder_pids(of: int | None = None) -> list[int]:
    """Return the live decoder processes among the children of a process, by default this one."""
    return [pid for pid in children(of) if "clipdex.video.sandbox.worker" in text(_PROC / str(pid) / "cmdline")]


def ended(pid: int) -> bool:
    """Return whether the process ended. A zombie has ended."""
    return text(_PROC / str(pid) / "stat").rpartition(")")[2].split()[:1] in ([], ["Z"])


def limits_of(pid: int) -> dict[str, str]:
    """Return the soft limits of a process by the kernel's names, {} if it has ended."""
    lines = text(_PROC / str(pid) / "limits").splitlines()
    return {line[:26].strip(): line[26:46].strip() for line in lines}


def text(path: Path) -> str:
    """Return a file's content, "" if its process or thread has ended."""
    with suppress(FileNotFoundError, ProcessLookupError):
        return path.read_text(errors="replace")
    return ""


def entries(folder: Path) -> Iterator[Path]:
    """Yield the entries of a folder, none if its process or thread has ended."""
    with suppress(FileNotFoundError, ProcessLookupError):
        yield from folder.iterdir()
