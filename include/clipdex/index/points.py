"""Points: one per chunk, their collection, and queries, common to both backends.

A point's id is derived from its content, so writes are idempotent.
"""

import hashlib
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from clipdex.config import MetadataType, Settings
from clipdex.errors import ConfigurationError
from clipdex.index.chunking import Chunk
from clipdex.index.derived import FOLDERS, LOCAL_MINUTE, folders_of
from clipdex.index.embeddings import Embedder
from clipdex.index.lexical import ENGLISH, Sparse, analysis, sparse_document
from clipdex.index.probe import difference, kept
from clipdex.storage.caption import Caption
from clipdex.storage.metadata import types_in_path

DENSE, SPARSE = "dense", "bm25"
PAYLOAD_INDEXES = {
    "clip_id": MetadataType.STRING,
    "day": MetadataType.STRING,
    "engine": MetadataType.STRING,
    "model": MetadataType.STRING,
    "part_of": MetadataType.STRING,
    "chunk_no": MetadataType.NUMBER,
    "duration_s": MetadataType.NUMBER,
    "recorded_at": MetadataType.TIME,
    FOLDERS: MetadataType.STRING,
    LOCAL_MINUTE: MetadataType.NUMBER,
}
"""Type of each indexed field of a payload. The metadata of clips is indexed, too."""

NO_VECTOR = np.zeros(0, np.float32)
_NAMESPACE = uuid.UUID("6f1d0d5e-0f3c-5b44-9f0e-2c1b7d0c1e5a")


@dataclass(frozen=True, slots=True)
class Collection:
    """Name the collection of one embedding model, one chunking and one language.

    embedder: the model's identity; "" if the collection does not record it
    language: of the captions, ISO 639-1; English if the collection does not record it
    probe: of the embedder that created it (probe.py); empty if the collection does not record it
    """

    name: str
    embedder: str
    dimension: int
    language: str = ENGLISH
    probe: Sequence[Sequence[float]] = field(default=(), compare=False, repr=False)

    @classmethod
    def of(cls, settings: Settings, embedder: Embedder) -> "Collection":
        name = cls.name_for(settings, embedder)
        probe = kept(embedder.probe)
        return cls(name, embedder.identity, embedder.dimension, settings.engine.language.lower(), probe)

    @staticmethod
    def name_for(settings: Settings, embedder: Embedder) -> str:
        """Return the collection name without loading the model."""
        chunking, words = settings.chunking, analysis(settings.engine.language)
        parts = [embedder.identity, str(chunking.tokens), str(chunking.overlap), *([words] if words else [])]
        digest = hashlib.sha256("\0".join(parts).encode()).hexdigest()
        return f"{settings.index.alias}-{digest[:8]}"

    def check(self, embedder: str, dimension: int, probe: Sequence[Sequence[float]] | np.ndarray = ()) -> None:
        """Raise ConfigurationError unless this embedder's vectors are comparable with the collection's.

        probe: of the embedder; not compared if it is empty, or if the collection has none
        """
        if dimension != self.dimension or embedder != (self.embedder or embedder):
            language = "" if self.language == ENGLISH else f" (or CLIPDEX_ENGINE__LANGUAGE to {self.language})"
            raise ConfigurationError(
                f"collection {self.name} was made by the embedding model {self.embedder or '(unknown)'} of "
                f"{self.dimension} dimensions, this one is {embedder} of {dimension}; set CLIPDEX_EMBEDDING__MODEL to "
                f"the former{language}, or index again with the latter and then switch the alias"
            )
        if len(self.probe) and len(probe) and (why := difference(self.probe, probe)):
            raise ConfigurationError(
                f"collection {self.name} was made by another model behind the name {embedder}: the vectors of one text "
                f"differ ({why}); serve the former model again, or give this one another name "
                "(CLIPDEX_EMBEDDING__MODEL) and reindex"
            )


@dataclass(frozen=True, slots=True)
class Point:
    """Hold one chunk as stored in the index. dense: of length 1."""

    id: str
    dense: Sequence[float]
    sparse: Sparse
    payload: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Range:
    """Filter a number between low and high, inclusive, and less than below. None means no bound."""

    low: float | None = None
    high: float | None = None
    below: float | None = None


@dataclass(frozen=True, slots=True)
class Moments:
    """Filter a time between low and high, inclusive, and before below: ISO 8601 with a zone. None means no bound."""

    low: str | None = None
    high: str | None = None
    below: str | None = None


@dataclass(frozen=True, slots=True)
class Missing:
    """Filter points without this field."""


Scalar = str | int | float | bool
Wanted = Scalar | Range | Moments | Missing
# By payload field: one condition, or several of which one must match. The conditions of all fields must match.
Filters = Mapping[str, Wanted | Sequence[Wanted] | Sequence[str] | Sequence[int]]


@dataclass(frozen=True, slots=True)
class Query:
    """Query by meaning (dense) and by words (sparse).

    dense, sparse: empty to leave that search out
    depth: most chunks that each of the two returns
    fields: of the payload that the hits have; () for all
    """

    dense: Sequence[float]
    sparse: Sparse
    depth: int
    filters: Filters | None = None
    fields: Sequence[str] = ()

    @property
    def with_payload(self) -> bool | list[str]:
        return list(self.fields) or True

    @property
    def vectors(self) -> dict[str, Sequence[float] | Sparse]:
        """Return what to search by, by the name of the vector."""
        wanted: dict[str, Sequence[float] | Sparse] = {}
        if len(self.dense):
            wanted[DENSE] = self.dense
        if self.sparse.indices:
            wanted[SPARSE] = self.sparse
        return wanted


@dataclass(frozen=True, slots=True)
class Hit:
    """Hold a point that matched.

    score: cosine or BM25, or a combination of both
    vector: dense, float32, of length 1; empty if the query had none
    """

    id: str
    score: float
    payload: dict[str, Any]
    vector: np.ndarray = field(default_factory=lambda: NO_VECTOR, compare=False)


@dataclass(frozen=True, slots=True)
class Candidates:
    """Hold the chunks nearest in meaning (score: cosine) and in words (score: BM25), best first."""

    dense: Sequence[Hit] = ()
    sparse: Sequence[Hit] = ()


def payload_indexes(settings: Settings) -> dict[str, MetadataType]:
    """Return the type of each field of a payload that the index of these settings keeps searchable."""
    source = settings.source
    return {**types_in_path(source), **source.metadata, **PAYLOAD_INDEXES}


def point_id(clip_id: str, caption_key: str, chunk_no: int) -> str:
    """Return a deterministic id for a chunk of a caption of a clip."""
    return str(uuid.uuid5(_NAMESPACE, f"{clip_id}/{caption_key}/{chunk_no}"))


def make_points(
    clip_id: str,
    uri: str,
    day: str,
    caption: Caption,
    chunks: Sequence[Chunk],
    vectors: np.ndarray,
    more: Mapping[str, Any] | None = None,
    language: str = ENGLISH,
) -> list[Point]:
    """Return the points of a clip.

    vectors: one row per chunk; more: further fields of each payload; language: of the caption, ISO 639-1
    """
    payloads = make_payloads(clip_id, uri, day, caption, chunks, more)
    return [
        Point(id=id, dense=vector.tolist(), sparse=sparse_document(payload["text"], language), payload=payload)
        for (id, payload), vector in zip(payloads.items(), vectors, strict=True)
    ]


def make_payloads(
    clip_id: str,
    uri: str,
    day: str,
    caption: Caption,
    chunks: Sequence[Chunk],
    more: Mapping[str, Any] | None = None,
) -> dict[str, dict[str, Any]]:
    """Return the payloads of the points of a clip by their ids. more: further fields of each payload."""
    return {
        point_id(clip_id, caption.key, chunk.no): {
            **(more or {}),
            "clip_id": clip_id,
            "uri": uri,
            FOLDERS: folders_of(uri),
            "day": day,
            "chunk_no": chunk.no,
            "text": chunk.text,
            "start_s": chunk.start_s,
            "end_s": chunk.end_s,
            "duration_s": caption.duration_s,
            "width": caption.width,
            "height": caption.height,
            "engine": caption.engine,
            "model": caption.model,
            "caption_key": caption.key,
            "poster": caption.poster,
            **({"moments": [list(one) for one in chunk.moments]} if chunk.moments else {}),
        }
        for chunk in chunks
    }


def in_batches(items: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    return (items[start : start + size] for start in range(0, len(items), size))
