"""Usage: how many objects and bytes the artifact store holds, by kind, from a sample of its folders.

A store may hold millions of captions. Their keys are digests, so the folders of a kind are of about equal size: a few
of them are listed, and the rest is estimated.
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, Self

from clipdex.storage.artifacts import Store

_KEY = "summaries/usage.json"
_SAMPLE = 16  # folders of a kind that are listed


@dataclass(frozen=True, slots=True)
class Usage:
    """Hold objects and bytes by kind, such as captions. estimated: kinds of which a sample was listed; at: when"""

    at: str
    objects: dict[str, int]
    bytes: dict[str, int]
    estimated: tuple[str, ...]

    @property
    def total(self) -> int:
        """Return all bytes."""
        return sum(self.bytes.values())

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Self:
        return cls(**{**record, "estimated": tuple(record["estimated"])})


def measure_usage(store: Store) -> Usage:
    """List a sample of the store's folders, and write the result. Takes seconds, also with millions of objects."""
    objects: dict[str, int] = {}
    sizes: dict[str, int] = {}
    estimated = []
    for kind in store.folders(""):
        folders = store.folders(kind)
        sample = _spread(folders) if len(folders) > _SAMPLE else [kind]
        found = [size for folder in sample for size in store.sizes(folder).values()]
        factor = len(folders) / len(sample) if len(folders) > _SAMPLE else 1.0
        objects[kind], sizes[kind] = round(len(found) * factor), round(sum(found) * factor)
        if factor > 1:
            estimated.append(kind)
    usage = Usage(datetime.now(UTC).isoformat(timespec="seconds"), objects, sizes, tuple(estimated))
    store.write_json(_KEY, asdict(usage))
    return usage


def read_usage(store: Store) -> Usage | None:
    """Return what was measured last, or None."""
    try:
        return Usage.from_json(store.read_json(_KEY))
    except (FileNotFoundError, ValueError, TypeError, KeyError):
        return None


def _spread(folders: Iterable[str]) -> list[str]:
    """Return some folders, evenly spread over all of them."""
    ordered = sorted(folders)
    return [ordered[(2 * n + 1) * len(ordered) // (2 * _SAMPLE)] for n in range(_SAMPLE)]
