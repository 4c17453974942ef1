"""What the pages read: settings, store and index; opened off the event loop, a bounded number at a time.

The threads are of our own count: a search that waits for the index, or a slow object store, takes none of those that
the server answers its other requests with.
"""

import logging
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Annotated, ParamSpec, TypeVar

from anyio import CapacityLimiter, to_thread
from fastapi import Depends, Request

from clipdex.config import Settings
from clipdex.errors import ConfigurationError
from clipdex.index.embeddings import open_embedder
from clipdex.index.search import ClipHit, ask
from clipdex.storage.artifacts import Store

log = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")

_FRESH_S = 30.0  # a changed Connection is seen after so long
_WAIT_FOR_INDEX_S = 10.0  # a person waits no longer


class Backend:
    """One an app. read_settings: called again when what it gave is no longer fresh."""

    def __init__(self, read_settings: Callable[[], Settings]) -> None:
        self._read_settings = read_settings
        self._lock = threading.Lock()
        self._known: tuple[Settings, Store] | None = None
        self._fresh_until = 0.0
        self._searches, self._reads = CapacityLimiter(4), CapacityLimiter(8)

    async def search(self, query: str, *, limit: int, day: str) -> list[ClipHit]:
        return await to_thread.run_sync(self._search, query, limit, day, limiter=self._searches)

    async def read(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call a function that reads, such as one of the store's."""
        return await to_thread.run_sync(partial(function, *args, **kwargs), limiter=self._reads)

    async def store(self) -> Store:
        return (await self.read(self._now))[1]

    async def warm(self) -> None:
        """Load the embedding model, so that the first question is answered as quickly as the next."""
        await to_thread.run_sync(self._warm, limiter=self._searches)

    def _search(self, query: str, limit: int, day: str) -> list[ClipHit]:
        return ask(self._now()[0], query, limit=limit, day=day or None)

    def _warm(self) -> None:
        try:
            open_embedder(self._now()[0].embedding).embed_query("a clip")
        except ConfigurationError as error:  # the first search says so to a person
            log.warning("no embedding model: %s", error)

    def _now(self) -> tuple[Settings, Store]:
        with self._lock:
            if self._known is None or time.monotonic() > self._fresh_until:
                self._known = self._opened(self._read_settings())
                self._fresh_until = time.monotonic() + _FRESH_S
            return self._known

    def _opened(self, settings: Settings) -> tuple[Settings, Store]:
        """A store is kept as long as its settings hold: opening one may cost a handshake."""
        wait_s = min(settings.index.lock_wait_s, _WAIT_FOR_INDEX_S)
        settings = settings.model_copy(update={"index": settings.index.model_copy(update={"lock_wait_s": wait_s})})
        if self._known is not None and self._known[0].store == settings.store:
            return settings, self._known[1]
        return settings, Store.open(settings)


def _of_app(request: Request) -> Backend:
    backend: Backend = request.app.state.backend
    return backend


TheBackend = Annotated[Backend, Depends(_of_app)]
"""A route's parameter of this type is the app's backend."""
