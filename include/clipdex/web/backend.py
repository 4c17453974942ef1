"""The backend of the pages: settings, store and index, read in worker threads.

Thread limits are separate from the server's pool: waiting for the index or a slow object store does not block other
requests of the server.
"""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Annotated, Concatenate, ParamSpec, TypeVar

from anyio import CapacityLimiter, to_thread
from fastapi import Depends, Request

from clipdex.config import Settings
from clipdex.errors import ClipdexError, ConfigurationError, NothingIndexed, Unavailable
from clipdex.index.facets import Facet
from clipdex.index.where import Where
from clipdex.pipeline import Pipeline
from clipdex.storage.artifacts import Store

log = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")

_FRESH_S = 30.0  # settings are read again after this time
_COUNTS_FRESH_S, _FEW_CHUNKS = 60.0, 100_000
FACET_VALUES = 10
_MOST_COUNTS = 256
_WAIT_FOR_INDEX_S = 10.0  # upper limit for interactive requests


class Backend:
    """Provide settings, store and search to the routes; one per app. read_settings is called again every 30 s."""

    def __init__(self, read_settings: Callable[[], Settings]) -> None:
        self._read_settings = read_settings
        self._lock = threading.Lock()
        self._pipeline: Pipeline | None = None
        self._fresh_until = 0.0
        self._facets: dict[str, tuple[float, list[Facet]]] = {}  # by filters, until when they are fresh
        self._language_of = "", 0.0  # and until when it is fresh
        self._searches, self._reads = CapacityLimiter(4), CapacityLimiter(8)

    async def query(self, function: Callable[Concatenate[Pipeline, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call a function of the pipeline that reads the index, such as Pipeline.search, in a thread."""
        return await self._run(lambda: function(self._now(), *args, **kwargs))

    async def language(self) -> str:
        """Return the language of the captions, by which queries are analysed: that of the index, if it can be read."""
        return await self._run(self._language)

    async def facets(
        self, where: Where, fields: Sequence[str] = (), limit: int = FACET_VALUES, *, at_once: bool = True
    ) -> list[Facet]:
        """Return Pipeline.facets().

        at_once: count now; otherwise return counts of up to a minute ago, and none of a large index, whose counting
        would keep searches waiting.
        """
        if at_once:
            return await self.query(Pipeline.facets, fields, where=where, limit=limit)
        return await self._run(lambda: self._counted(where, limit, fields))

    async def read(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call a blocking read function, such as Store.read, in a thread."""
        return await to_thread.run_sync(partial(function, *args, **kwargs), limiter=self._reads)

    def pipeline(self) -> Pipeline:
        """Return a pipeline over the current settings, from a worker thread. Raises ConfigurationError."""
        return self._now()

    async def store(self) -> Store:
        return await self.read(lambda: self._now().store)

    async def settings(self) -> Settings | None:
        """Return the settings; None if they are wrong, which the first search reports."""
        try:
            return (await self.read(self._now)).settings
        except ConfigurationError:
            return None

    async def warm(self) -> None:
        """Load the embedding model before the first search."""
        await to_thread.run_sync(self.try_load, limiter=self._searches)

    def load(self) -> None:
        """Load the embedding model and open the index, in this thread. Raises ConfigurationError, Unavailable.

        Without an index, or if it cannot be searched, the model alone.
        """
        pipeline = self._now()
        pipeline.embedder.embed_query("a clip")
        try:
            pipeline.search("a clip", limit=1, weak=True)
            self._language()
        except ClipdexError as error:  # the first search reports it
            log.info("searches are not rehearsed: %s", error)

    def try_load(self) -> None:
        """Load as load() does, and log what prevents it: the first search reports it to its user."""
        started = time.monotonic()
        try:
            self.load()
        except Exception as error:  # of settings, a driver or a server: nothing here may end the process
            log.warning("searches will load the embedding model: %s", error)
        else:
            log.info("ready to search after %.1f s", time.monotonic() - started)

    async def _run(self, function: Callable[[], T]) -> T:
        return await to_thread.run_sync(function, limiter=self._searches)

    def _language(self) -> str:
        pipeline, now = self._now(), time.monotonic()
        with self._lock:
            if self._language_of[1] > now:
                return self._language_of[0]
        try:
            with pipeline.open_index() as index:
                found = index.collection.language
        except (NothingIndexed, Unavailable):
            return pipeline.settings.engine.language.lower()
        with self._lock:
            self._language_of = found, now + _FRESH_S
        return found

    def _counted(self, where: Where, limit: int, fields: Sequence[str] = ()) -> list[Facet]:
        key, now = repr((sorted(where.items()), fields)), time.monotonic()
        with self._lock:
            self._facets = {one: kept for one, kept in self._facets.items() if kept[0] > now}
            if key in self._facets:
                return self._facets[key][1]
            while len(self._facets) >= _MOST_COUNTS:  # the oldest: filters are what clients send
                del self._facets[next(iter(self._facets))]
        pipeline = self._now()
        try:
            with pipeline.open_index() as index:
                few = index.count() <= _FEW_CHUNKS
            found = pipeline.facets(fields, where=where, limit=limit) if few else []
        except Unavailable as error:  # the hits are there
            log.warning("no facets: %s", error)
            return []
        with self._lock:
            self._facets[key] = now + _COUNTS_FRESH_S, found
        return found

    def _now(self) -> Pipeline:
        with self._lock:
            if self._pipeline is None or time.monotonic() > self._fresh_until:
                self._pipeline = self._opened(self._read_settings())
                self._fresh_until = time.monotonic() + _FRESH_S
            return self._pipeline

    def _opened(self, settings: Settings) -> Pipeline:
        """Open a pipeline; reuse the store if its settings are unchanged: opening may cost a handshake."""
        wait_s = min(settings.index.lock_wait_s, _WAIT_FOR_INDEX_S)
        settings = settings.model_copy(update={"index": settings.index.model_copy(update={"lock_wait_s": wait_s})})
        if self._pipeline is not None and self._pipeline.settings.store == settings.store:
            return Pipeline(settings, self._pipeline.store)
        return Pipeline.open(settings)


def _of_app(request: Request) -> Backend:
    backend: Backend = request.app.state.backend
    return backend


TheBackend = Annotated[Backend, Depends(_of_app)]
"""Type of a route parameter that receives the app's backend."""
