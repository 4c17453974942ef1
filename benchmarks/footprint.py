"""Measure the files below a folder and the memory of a process."""

from pathlib import Path

import psutil


def files(folder: Path) -> dict[str, float]:
    """Return the number of files and their size [MB]."""
    sizes = [path.stat().st_size for path in folder.rglob("*") if path.is_file()]
    return {"files": len(sizes), "megabytes": round(sum(sizes) / 1e6, 1)}


def rss_mb(process: psutil.Process) -> float:
    """Return the resident memory [MB], or 0 for an ended process."""
    try:
        return process.memory_info().rss / 2**20
    except psutil.Error:
        return 0.0
