"""Temporary collections: texts indexed as captions are, beside the served index, and deleted afterwards.

With Qdrant Edge, a collection is in a temporary folder. On a server, it has a name and an alias of its own:
ALIAS-eval-TOKEN-N-DIGEST under ALIAS-eval-TOKEN-N, where ALIAS is that of the settings.
"""

import hashlib
import logging
import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from clipdex.config import Settings
from clipdex.errors import ClipdexError
from clipdex.index import Collection, open_index, replace
from clipdex.index.embeddings import Embedder
from clipdex.index.points import in_batches
from clipdex.stages.index import CLIPS_AT_ONCE, CaptionedClip, points_of
from clipdex.storage.caption import Caption
from clipdex.storage.tempdir import scratch

log = logging.getLogger(__name__)

Progress = Callable[[int, int], None]
"""Called with the number of finished items, and of all."""


@dataclass(frozen=True, slots=True)
class Built:
    """Hold settings whose searches read a temporary collection. chunks: its points"""

    settings: Settings
    chunks: int


class TemporaryCollections:
    """Index the same texts under several settings; settings that index alike share a collection."""

    def __init__(self, texts: Mapping[str, str], folder: Path, stack: ExitStack) -> None:
        self._clips = [_clip(clip_id, text) for clip_id, text in texts.items()]
        self._folder, self._stack = folder, stack
        self._token = secrets.token_hex(4)
        self._built: dict[tuple[str, str], Built] = {}

    def build(self, settings: Settings, embedder: Embedder, on_progress: Progress) -> Built:
        """Return settings that search the texts, indexed as these settings do. Raises IndexUnavailable."""
        key = settings.index.url, Collection.name_for(settings, embedder)
        if key not in self._built:
            own = self._settings(settings)
            collection = Collection.of(own, embedder)
            self._stack.callback(_drop, own, collection)
            self._built[key] = Built(own, _fill(own, collection, embedder, self._clips, on_progress))
        built = self._built[key]
        return Built(settings.model_copy(update={"home": self._folder, "index": built.settings.index}), built.chunks)

    def _settings(self, settings: Settings) -> Settings:
        alias = f"{settings.index.alias}-eval-{self._token}-{len(self._built)}"
        index = settings.index.model_copy(update={"alias": alias})
        return settings.model_copy(update={"home": self._folder, "index": index})


@contextmanager
def temporary_collections(texts: Mapping[str, str]) -> Iterator[TemporaryCollections]:
    """Delete all collections at the end of the block. texts: by clip_id"""
    with scratch() as folder, ExitStack() as stack:
        yield TemporaryCollections(texts, folder, stack)


def _fill(
    settings: Settings, collection: Collection, embedder: Embedder, clips: list[CaptionedClip], on_progress: Progress
) -> int:
    """Write the points of these clips as the index stage does. Return their number."""
    for done, some in enumerate(in_batches(clips, CLIPS_AT_ONCE)):
        on_progress(done * CLIPS_AT_ONCE, len(clips))
        points = points_of(settings, embedder, some)
        with open_index(settings, collection) as index:
            index.ensure()
            replace(index, points)
    on_progress(len(clips), len(clips))
    with open_index(settings, collection) as index:
        return index.count()


def _drop(settings: Settings, collection: Collection) -> None:
    try:
        with open_index(settings, collection) as index:
            index.drop()
    except ClipdexError as error:  # keep the error that ended the block
        log.error("the temporary collection %s was not deleted: %s; delete it by hand", collection.name, error)


def _clip(clip_id: str, text: str) -> CaptionedClip:
    caption = Caption(
        key=hashlib.sha256(text.encode()).hexdigest()[:32], content="", text=text, segments=(), fingerprint="",
        engine="", model="", prompt_tokens=0, completion_tokens=0, seconds=0.0, attempts=1, finish_reason="stop",
        created_at="", run="", duration_s=0.0, width=0, height=0, clip_id=clip_id,
    )  # fmt: skip
    return CaptionedClip(clip_id, clip_id, "1970-01-01", caption)
