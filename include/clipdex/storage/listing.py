"""Listing: the files of a source that are clips, and the number of the others."""

from collections import Counter
from dataclasses import dataclass, field

_MOST_EXTENSIONS = 20
_LONGEST_EXTENSION = 12


@dataclass(slots=True)
class Skipped:
    """Count the files that a listing saw and left out.

    by_extension: files that are no clips, by extension ("" for none)
    excluded: files and folders that the setting `exclude` leaves out; nothing in such a folder is counted
    """

    by_extension: Counter[str] = field(default_factory=Counter)
    excluded: int = 0

    def add(self, path: str) -> None:
        """Count a file that is no clip."""
        _, dot, extension = path.rpartition("/")[2].rpartition(".")
        known = f".{extension.lower()}" if dot else ""
        self.by_extension[known if len(known) <= _LONGEST_EXTENSION else ""] += 1

    def __iadd__(self, other: "Skipped") -> "Skipped":
        self.by_extension += other.by_extension
        self.excluded += other.excluded
        return self

    @property
    def files(self) -> int:
        return self.by_extension.total()

    def to_json(self) -> dict[str, int]:
        """Return the counts by extension, the most frequent first; the rest is "other"."""
        most = dict(self.by_extension.most_common(_MOST_EXTENSIONS))
        rest = self.files - sum(most.values())
        return {
            **{extension or "(none)": count for extension, count in most.items()},
            **({"other": rest} if rest else {}),
        }


def describe(skipped: dict[str, int], excluded: int) -> str:
    """Return the counts in words, "" if nothing was left out."""
    kinds = ", ".join(f"{extension} {count}" for extension, count in skipped.items())
    parts = [f"{sum(skipped.values())} files of other kinds ({kinds})"] if skipped else []
    return ", ".join([*parts, *([f"{excluded} excluded"] if excluded else [])])
