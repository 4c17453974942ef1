"""Points: one per chunk, their collection, and queries, common to both backends.

A point's id is derived from its content, so writes are idempotent.
"""

import functools
import hashlib
import re
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from clipdex.config import MetadataType, Search, Settings
from clipdex.errors import ConfigurationError
from clipdex.index.chunking import Chunk
from clipdex.index.derived import FOLDERS, LOCAL_MINUTE, folders_of
from clipdex.index.embeddings import Embedder
from clipdex.storage.caption import Caption
from clipdex.storage.metadata import types_in_path

if TYPE_CHECKING:
    from qdrant_edge import Bm25

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

_NAMESPACE = uuid.UUID("6f1d0d5e-0f3c-5b44-9f0e-2c1b7d0c1e5a")
# Scripts that put no space between words: Thai, Lao, Burmese, Khmer, kana and CJK ideographs.
_UNSPACED = re.compile(r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]")


@dataclass(frozen=True, slots=True)
class Collection:
    """Name the collection of one embedding model and one chunking.

    embedder: the model's identity; "" if the collection does not record it
    """

    name: str
    embedder: str
    dimension: int

    @classmethod
    def of(cls, settings: Settings, embedder: Embedder) -> "Collection":
        return cls(cls.name_for(settings, embedder), embedder.identity, embedder.dimension)

    @staticmethod
    def name_for(settings: Settings, embedder: Embedder) -> str:
        """Return the collection name without loading the model."""
        chunking = settings.chunking
        digest = hashlib.sha256(f"{embedder.identity}\0{chunking.tokens}\0{chunking.overlap}".encode()).hexdigest()
        return f"{settings.index.alias}-{digest[:8]}"

    def check(self, embedder: str, dimension: int) -> None:
        """Raise ConfigurationError unless this embedder's vectors are comparable with the collection's."""
        if dimension != self.dimension or embedder != (self.embedder or embedder):
            raise ConfigurationError(
                f"collection {self.name} was made by the embedding model {self.embedder or '(unknown)'} of "
                f"{self.dimension} dimensions, this one is {embedder} of {dimension}; set CLIPDEX_EMBEDDING__MODEL to "
                "the former, or index again with the latter and then switch the alias"
            )


@dataclass(frozen=True, slots=True)
class Sparse:
    """Hold a BM25 vector: word hashes and weights. The index applies the inverse document frequency at query time."""

    indices: tuple[int, ...]
    values: tuple[float, ...]


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
    """Query by meaning (dense) and by words (sparse), combined by reciprocal rank fusion.

    dense, sparse: empty to leave that ranking out
    limit: number of points returned
    depth: number of candidates from each of the two
    weights: of the dense and of the sparse ranking; a point of rank r (from 1) gets 1 / (r / weight + rrf_k - 1) from
        each, which is Qdrant's formula; 0 leaves a ranking out
    """

    dense: Sequence[float]
    sparse: Sparse
    limit: int
    depth: int
    filters: Filters | None = None
    rrf_k: int = Search().rrf_k
    weights: tuple[float, float] = (1.0, 1.0)

    @property
    def rankings(self) -> dict[str, float]:
        """Return the weight of each ranking that counts, by the name of its vector."""
        present = {DENSE: len(self.dense) > 0, SPARSE: len(self.sparse.indices) > 0}
        weights = zip(present, self.weights, strict=True)
        return {name: weight for name, weight in weights if present[name] and weight > 0}

    @property
    def fusion_weights(self) -> list[float] | None:
        """Return the weights to fuse with, or None if they change nothing."""
        weights = list(self.rankings.values())
        return weights if len(weights) > 1 and set(weights) != {1.0} else None


@dataclass(frozen=True, slots=True)
class Hit:
    """Hold a point that matched. score: fused score, comparable within one result list only."""

    id: str
    score: float
    payload: dict[str, Any]


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
) -> list[Point]:
    """Return the points of a clip. vectors: one row per chunk; more: further fields of each payload."""
    payloads = make_payloads(clip_id, uri, day, caption, chunks, more)
    return [
        Point(id=id, dense=vector.tolist(), sparse=sparse_document(payload["text"]), payload=payload)
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
        }
        for chunk in chunks
    }


def sparse_document(text: str) -> Sparse:
    """Return BM25 weights equal to those of the Qdrant server's model Qdrant/bm25."""
    return _sparse(_bm25(_UNSPACED.search(text) is not None).embed_document(text))


def sparse_query(text: str) -> Sparse:
    """Return the BM25 query vector; empty if the text has no indexable word."""
    return _sparse(_bm25(_UNSPACED.search(text) is not None).embed_query(text))


def in_batches(items: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    return (items[start : start + size] for start in range(0, len(items), size))


@functools.cache
def _bm25(unspaced: bool) -> "Bm25":
    from qdrant_edge import Bm25, Bm25Config, TokenizerType

    return Bm25(Bm25Config(tokenizer=TokenizerType.Multilingual if unspaced else TokenizerType.Word))


def _sparse(vector: Any) -> Sparse:
    return Sparse(tuple(vector.indices), tuple(vector.values))
