"""Replace the expensive parts of a task for load tests of the rest: prepared clips and random vectors."""

import os
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Self

import numpy as np

from benchmarks.fleet import Ready
from clipdex.config import Settings
from clipdex.index import embeddings
from clipdex.index.probe import PROBE
from clipdex.stages import caption


class Embedder:
    """Embed a text as a vector seeded by its checksum, without meaning."""

    identity, dimension, max_tokens = "drawn@0", 384, 254

    @property
    def probe(self) -> np.ndarray:
        return self.embed_documents([PROBE, PROBE])

    def count_tokens(self, text: str) -> int:
        return len(text.split())

    def embed_documents(self, texts: Sequence[str]) -> np.ndarray:
        rows = [np.random.default_rng(zlib.crc32(text.encode())).standard_normal(self.dimension) for text in texts]
        vectors = np.asarray(rows, np.float32).reshape(len(texts), self.dimension)
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    def embed_query(self, text: str) -> np.ndarray:
        vector: np.ndarray = self.embed_documents([text])[0]
        return vector


class Decoders(Ready):
    """Replace the pool of decoder processes."""

    def __init__(self, *_: object) -> None:
        super().__init__(Settings.load(home=Path(os.environ["CLIPDEX_HOME"])))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        pass


def install() -> None:
    """Install the stand-ins in this process."""
    embeddings._embedder = lambda *_: Embedder()  # type: ignore[assignment]
    caption.DecoderPool = Decoders  # type: ignore[misc, assignment]
