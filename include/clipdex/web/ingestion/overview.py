"""The state of ingestion as the pages read it: summaries, running runs, index and store, each as a snapshot."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import chain

from clipdex.errors import NothingIndexed
from clipdex.pipeline import Pipeline
from clipdex.runs.catalog import Catalog, compute_outdated, read_catalog
from clipdex.runs.progress import ProgressReader, Running
from clipdex.runs.summary import DaySummary
from clipdex.storage.artifacts import Store
from clipdex.storage.usage import Usage, read_usage
from clipdex.web.ingestion.snapshots import Held, Snapshot
from clipdex.web.ingestion.statistics import Figures, figures

WAIT_S = 0.3
"""How long a request waits for newer values [s]."""

_FRESH_S, _SLOW_S = 5.0, 60.0
_READ_S, _COMPUTE_S, _PARTS_S = 5.0, 2.0, 2.0


@dataclass(frozen=True, slots=True)
class IndexFacts:
    """Hold what the index is. points: None if there is no index yet; bytes: of the embedded one, None on a server"""

    collection: str = ""
    points: int | None = None
    bytes: int | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Days:
    """Hold the summaries and their figures by day. The same object while nothing changed, equal to no other."""

    store: Store
    days: dict[str, DaySummary]
    catalog: Catalog
    figures: dict[str, Figures]

    @property
    def missing(self) -> int:
        """Return the number of days without a current summary."""
        return len(self.catalog.outdated)


@dataclass(frozen=True, slots=True)
class State:
    """Hold what was read last. loading: whether a part of it is not read yet, so that a later request shows more"""

    days: Held[Days]
    running: Held[list[Running]]
    index: Held[IndexFacts]
    usage: Held[Usage | None]

    @property
    def empty(self) -> bool:
        """Return whether the first values are being read."""
        return any(one.value is None and one.loading for one in (self.days, self.running))

    @property
    def loading(self) -> bool:
        first = any(one.value is None and one.loading for one in (self.days, self.running, self.index))
        more = self.days.value is not None and bool(self.days.value.catalog.outdated)
        return first or more or any(one.partial for one in self.running.value or ())

    @property
    def known(self) -> dict[str, DaySummary]:
        return self.days.value.days if self.days.value else {}

    @property
    def busy(self) -> frozenset[str]:
        """Return the days that a run works on now."""
        return frozenset(chain.from_iterable(one.days for one in self.running.value or () if one.alive))

    @property
    def problems(self) -> list[str]:
        return sorted({one.problem for one in (self.days, self.running, self.index, self.usage) if one.problem})


def _same(these: dict[str, DaySummary], those: dict[str, DaySummary]) -> bool:
    return these.keys() == those.keys() and all(one is those[day] for day, one in these.items())


class Overview:
    """Keep the snapshots of one app. pipeline: returns one over the current settings"""

    def __init__(self, pipeline: Callable[[], Pipeline]) -> None:
        self._pipeline, self._progress = pipeline, ProgressReader()
        self.days = Snapshot(self._read_days, _FRESH_S)
        self.running = Snapshot(self._read_running, _FRESH_S)
        self.index = Snapshot(self._read_index, _SLOW_S)
        self.usage = Snapshot(self._read_usage, _SLOW_S)

    def state(self, wait_s: float = WAIT_S) -> State:
        """Return what is known now; wait up to wait_s for newer values [s]. Blocks."""
        until = time.monotonic() + wait_s
        every = (self.days, self.running, self.index, self.usage)
        for one in every:
            one.get(0)  # each in its thread, at the same time
        left = (one.get(max(0.0, until - time.monotonic())) for one in every)
        return State(*left)  # type: ignore[arg-type]

    def _read_days(self, last: Days | None) -> Days:
        """Read the summaries; of those that were outdated the last time, compute some in memory."""
        store = self._pipeline().store
        if last is not None and last.store is not store:
            last = None
        known = last.days if last else {}
        catalog = read_catalog(store, known, _READ_S)
        days = dict(catalog.days)
        if last is not None and catalog.outdated:
            days |= {one.day: one for one in compute_outdated(store, catalog, _COMPUTE_S)}
            catalog = read_catalog(store, days, 0.0)
        if last is not None and catalog.outdated == last.catalog.outdated and _same(days, known):
            return last
        kept = {day: one for day, one in last.figures.items() if days.get(day) is known.get(day)} if last else {}
        return Days(store, days, catalog, {day: kept.get(day) or figures([one]) for day, one in days.items()})

    def _read_running(self, last: list[Running] | None) -> list[Running]:
        return self._progress.read(self._pipeline().store, _PARTS_S)

    def _read_index(self, last: IndexFacts | None) -> IndexFacts:
        pipeline = self._pipeline()
        try:
            with pipeline.open_index() as index:
                collection, points = index.collection.name, index.count()
        except NothingIndexed:
            return IndexFacts()
        if pipeline.settings.index.url:
            return IndexFacts(collection, points)
        files = (file for file in pipeline.settings.edge_path.rglob("*") if file.is_file())
        return IndexFacts(collection, points, sum(file.stat().st_size for file in files))

    def _read_usage(self, last: Usage | None) -> Usage | None:
        return read_usage(self._pipeline().store)
