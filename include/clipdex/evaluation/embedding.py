"""One embedder for all variants: each text is embedded once."""

from collections.abc import Callable, Sequence

import numpy as np

from clipdex.index.embeddings import Embedder


class SharedEmbedder:
    """Embed as the given embedder does, and keep the vectors.

    single: the given embedder, which keeps nothing
    """

    def __init__(self, embedder: Embedder) -> None:
        self.single = embedder
        self._documents: dict[str, np.ndarray] = {}
        self._queries: dict[str, np.ndarray] = {}

    @property
    def identity(self) -> str:
        return self.single.identity

    @property
    def dimension(self) -> int:
        return self.single.dimension

    @property
    def max_tokens(self) -> int:
        return self.single.max_tokens

    @property
    def probe(self) -> np.ndarray:
        return self.single.probe

    def count_tokens(self, text: str) -> int:
        return self.single.count_tokens(text)

    def embed_documents(self, texts: Sequence[str]) -> np.ndarray:
        return self._kept(self._documents, self.single.embed_documents, texts)

    def embed_query(self, text: str) -> np.ndarray:
        vector: np.ndarray = self.embed_queries([text])[0]
        return vector

    def embed_queries(self, texts: Sequence[str]) -> np.ndarray:
        return self._kept(self._queries, self.single.embed_queries, texts)

    def _kept(
        self, kept: dict[str, np.ndarray], embed: Callable[[Sequence[str]], np.ndarray], texts: Sequence[str]
    ) -> np.ndarray:
        if new := [text for text in dict.fromkeys(texts) if text not in kept]:
            kept.update(zip(new, embed(new), strict=True))
        return np.array([kept[text] for text in texts], np.float32).reshape(len(texts), self.dimension)
