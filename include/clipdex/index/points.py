"""Points: one a chunk, as both backends hold it; where they lie, and what is asked of them.

Ids follow from what a point says, so that writing twice is writing once.
"""

import functools
import hashlib
import re
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from clipdex.captions.caption import Caption
from clipdex.config import Settings
from clipdex.errors import ConfigurationError
from clipdex.index.chunking import Chunk
from clipdex.index.embeddings import Embedder

if TYPE_CHECKING:
    from qdrant_edge import Bm25

DENSE, SPARSE = "dense", "bm25"
PAYLOAD_INDEXES = ("clip_id", "day", "model")

_NAMESPACE = uuid.UUID("6f1d0d5e-0f3c-5b44-9f0e-2c1b7d0c1e5a")
_RRF_K = 60
# Scripts that put no space between words: Thai, Lao, Burmese, Khmer, kana and CJK ideographs.
_UNSPACED = re.compile(r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]")


@dataclass(frozen=True, slots=True)
class Collection:
    """Where the points of one embedding model and one way of chunking lie.

    embedder: the identity of that model, "" where an index made by other means does not tell it.
    """

    name: str
    embedder: str
    dimension: int

    @classmethod
    def of(cls, settings: Settings, embedder: Embedder) -> "Collection":
        return cls(cls.name_for(settings, embedder), embedder.identity, embedder.dimension)

    @staticmethod
    def name_for(settings: Settings, embedder: Embedder) -> str:
        """The name alone, which needs no model in memory."""
        chunking = settings.chunking
        digest = hashlib.sha256(f"{embedder.identity}\0{chunking.tokens}\0{chunking.overlap}".encode()).hexdigest()
        return f"{settings.index.alias}-{digest[:8]}"

    def check(self, embedder: str, dimension: int) -> None:
        """ConfigurationError unless vectors of this embedder can be compared with those that lie here."""
        if dimension != self.dimension or embedder != (self.embedder or embedder):
            raise ConfigurationError(
                f"collection {self.name} was made by the embedding model {self.embedder or '(not told)'} of "
                f"{self.dimension} dimensions, this one is {embedder} of {dimension}; set CLIPDEX_EMBEDDING__MODEL to "
                "the former, or index again with the latter and then switch the alias"
            )


@dataclass(frozen=True, slots=True)
class Sparse:
    """A BM25 vector: hashes of words, and their weights but for the inverse document frequency, which the index
    puts in when it is asked."""

    indices: tuple[int, ...]
    values: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Point:
    """One chunk in the index. dense: of length 1."""

    id: str
    dense: Sequence[float]
    sparse: Sparse
    payload: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Range:
    """A filter on a number: from low to high, both included; None leaves an end open."""

    low: float | None = None
    high: float | None = None


Scalar = str | int | float | bool
# By payload field: this value, one of these values, or a number in this range. All must hold.
Filters = Mapping[str, Scalar | Sequence[str] | Sequence[int] | Range]


@dataclass(frozen=True, slots=True)
class Query:
    """What to look for: nearest by meaning (dense) and by words (sparse), fused by reciprocal rank.

    limit: points that come back; depth: points that each of the two contributes.
    """

    dense: Sequence[float]
    sparse: Sparse
    limit: int
    depth: int
    filters: Filters | None = None
    rrf_k: int = _RRF_K


@dataclass(frozen=True, slots=True)
class Hit:
    """A point that was found. score: of the fusion, comparable within one answer only."""

    id: str
    score: float
    payload: dict[str, Any]


def point_id(clip_id: str, caption_key: str, chunk_no: int) -> str:
    """The same for the same chunk of the same caption of the same clip, whoever writes it."""
    return str(uuid.uuid5(_NAMESPACE, f"{clip_id}/{caption_key}/{chunk_no}"))


def make_points(
    clip_id: str, uri: str, day: str, caption: Caption, chunks: Sequence[Chunk], vectors: np.ndarray
) -> list[Point]:
    """The points of a clip. vectors: one row a chunk, as the embedder gave them."""
    return [
        Point(
            id=point_id(clip_id, caption.key, chunk.no),
            dense=vector.tolist(),
            sparse=sparse_document(chunk.text),
            payload={
                "clip_id": clip_id,
                "uri": uri,
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
            },
        )
        for chunk, vector in zip(chunks, vectors, strict=True)
    ]


def sparse_document(text: str) -> Sparse:
    """Weights by Qdrant's own BM25, the same that its server gives for Qdrant/bm25."""
    return _sparse(_bm25(_UNSPACED.search(text) is not None).embed_document(text))


def sparse_query(text: str) -> Sparse:
    """Empty where no word of the text counts."""
    return _sparse(_bm25(_UNSPACED.search(text) is not None).embed_query(text))


def in_batches(items: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    return (items[start : start + size] for start in range(0, len(items), size))


@functools.cache
def _bm25(unspaced: bool) -> "Bm25":
    from qdrant_edge import Bm25, Bm25Config, TokenizerType

    return Bm25(Bm25Config(tokenizer=TokenizerType.Multilingual if unspaced else TokenizerType.Word))


def _sparse(vector: Any) -> Sparse:
    return Sparse(tuple(vector.indices), tuple(vector.values))
