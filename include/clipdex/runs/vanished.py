"""Vanished folders: clips that an earlier run found, in folders that have no listed file any more.

A disk or mount that is away at discovery lists as nothing, and a run without clips would be green. A folder may also
have been deleted on purpose. Therefore such a folder is reported, no clip of it is quarantined, and its points stay.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice

from clipdex.errors import SourceUnavailable
from clipdex.runs.outcomes import ClipOutcome, Outcome, ledger, ledger_days
from clipdex.sanitize import escape_line
from clipdex.storage.artifacts import Store
from clipdex.storage.clip import Clip
from clipdex.storage.source import Source

_LATEST = 7  # days of the ledger in which clips of an empty source are looked for


@dataclass(frozen=True, slots=True)
class VanishedFolder:
    """A folder whose clips are not there any more. folder: below the source's root; clips: known ones of the day."""

    day: str
    folder: str
    clips: int

    def __str__(self) -> str:
        return escape_line(
            f"suspicious: {self.day}: {self.folder or 'the root'} has none of its {self.clips} known clips any more: "
            "check the mount or the disk; if they were deleted, nothing is to do. No clip is quarantined, and searches "
            "still find their captions"
        )


def vanished_folders(
    source: Source, day: str, clips: Sequence[Clip], known: Iterable[ClipOutcome], prefix: str = ""
) -> list[VanishedFolder]:
    """Return the folders that had clips of this day and have none now.

    clips: listed now; known: outcomes of earlier runs; prefix: what was listed, "" for all
    A single file that was deleted is no vanished folder, as long as its folder exists. Raises Unavailable.
    """
    below = f"{prefix.strip('/')}/".lstrip("/")
    listed = {clip.clip_id for clip in clips}
    alive = {clip.path.rpartition("/")[0] for clip in clips}
    gone: dict[str, list[str]] = defaultdict(list)
    for outcome in known:
        if outcome.clip_id in listed or outcome.part_of or outcome.outcome is Outcome.QUARANTINED:
            continue
        path = source.path_of(outcome.uri)
        if path is not None and f"{path}/".startswith(below):
            folder, _, name = path.rpartition("/")
            gone[folder].append(name)
    return [
        VanishedFolder(day, folder, len(names))
        for folder, names in sorted(gone.items())
        if folder not in alive and _is_gone(source, folder, names)
    ]


def require_source(store: Store, source: Source) -> None:
    """Raise SourceUnavailable if the source is away or empty, though one of the latest days has clips of it.

    Call it where nothing was listed: a source that never had clips may be empty.
    """
    try:
        source.require_present()
    except SourceUnavailable:
        for day in islice(reversed(ledger_days(store)), _LATEST):
            if any(source.path_of(outcome.uri) is not None for outcome in ledger(store, day).values()):
                raise


def _is_gone(source: Source, folder: str, names: list[str]) -> bool:
    present = source.names(folder)
    if present is None:
        return True
    return len(names) > 1 and present.isdisjoint(names)
