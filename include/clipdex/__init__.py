"""clipdex: from video clips to a search index, in batches that lose nothing and repeat nothing.

    import clipdex

    pipeline = clipdex.Pipeline.open()            # CLIPDEX_* variables, or Pipeline.open(settings)
    pipeline.ingest("s3://bucket/clips")
    for hit in pipeline.search("a red car turns left", limit=5):
        print(hit.uri, hit.start_s, hit.end_s, hit.text, hit.score)

Each name is imported when it is first used, so that importing clipdex costs little.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from clipdex.config import Settings
    from clipdex.errors import (
        BatchRejected,
        ClipdexError,
        ClipRejected,
        ConfigurationError,
        EmbeddingUnavailable,
        EngineUnavailable,
        IndexUnavailable,
        InvalidFilter,
        LeaseHeld,
        NothingIndexed,
        Reason,
        RunIncomplete,
        Unavailable,
        UnknownClip,
    )
    from clipdex.index.search import ChunkHit, ClipHit, EmptyQuery
    from clipdex.pipeline import Ingested, Pipeline

    __version__: str

__all__ = [
    "BatchRejected",
    "ChunkHit",
    "ClipHit",
    "ClipRejected",
    "ClipdexError",
    "ConfigurationError",
    "EmbeddingUnavailable",
    "EmptyQuery",
    "EngineUnavailable",
    "IndexUnavailable",
    "Ingested",
    "InvalidFilter",
    "LeaseHeld",
    "NothingIndexed",
    "Pipeline",
    "Reason",
    "RunIncomplete",
    "Settings",
    "Unavailable",
    "UnknownClip",
    "__version__",
]

_MODULES = {
    "ChunkHit": "index.search",
    "ClipHit": "index.search",
    "EmptyQuery": "index.search",
    "Ingested": "pipeline",
    "Pipeline": "pipeline",
    "Settings": "config",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name == "__version__":
        from importlib.metadata import version

        return version("clipdex")
    return getattr(import_module(f"{__name__}.{_MODULES.get(name, 'errors')}"), name)


def __dir__() -> list[str]:
    return __all__
