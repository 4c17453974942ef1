"""What something takes up: files below a folder, memory of a process."""

from pathlib import Path

import psutil


def files(folder: Path) -> dict[str, float]:
    """How many there are, and their bytes."""
    sizes = [path.stat().st_size for path in folder.rglob("*") if path.is_file()]
    return {"files": len(sizes), "megabytes": round(sum(sizes) / 1e6, 1)}


def rss_mb(process: psutil.Process) -> float:
    """Resident memory [MB]; 0 once it has ended."""
    try:
        return process.memory_info().rss / 2**20
    except psutil.Error:
        return 0.0
