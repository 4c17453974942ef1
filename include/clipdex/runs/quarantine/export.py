"""The quarantine as comma-separated values that a spreadsheet opens without running any of it."""

import csv
import io
from collections.abc import Iterator
from typing import Any

from clipdex.runs.quarantine.catalog import Quarantine
from clipdex.sanitize import safe_cell

MOST_EXPORTED = 100_000

_COLUMNS = ("day", "uri", "part_start_s", "part_end_s", "reason", "detail", "text", "limit", "found", "at", "clip_id",
            "metadata", "never_by", "never_at")  # fmt: skip


def as_csv(found: Quarantine) -> str:
    """Return the clips as comma-separated values with a line of titles."""
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(_COLUMNS)
    for row in _lines(found):
        writer.writerow([safe_cell(value) for value in row])
    return out.getvalue()


def _lines(found: Quarantine) -> Iterator[tuple[Any, ...]]:
    for one in found.clips[:MOST_EXPORTED]:
        mark = found.mark_of(one)
        times = (f"{one.start_s:.1f}", f"{one.end_s:.1f}") if one.part_of else ("", "")
        metadata = "; ".join(f"{name}={value}" for name, value in one.metadata.items())
        yield (
            one.day, one.uri, *times, one.reason, one.detail, one.text, one.limit,
            f"{one.found:g}" if one.limit else "", one.at, one.clip_id, metadata, mark.by if mark else "",
            mark.at if mark else "",
        )  # fmt: skip
