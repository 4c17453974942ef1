"""Embeddings: text vectors from sentence-transformers, loaded on first use, or from servers (http_embedder.py)."""

import contextlib
import copy
import ctypes
import functools
import logging
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from clipdex import config
from clipdex.errors import ConfigurationError
from clipdex.index import weights
from clipdex.index.lexical import ENGLISH
from clipdex.index.precision import in_precision
from clipdex.index.probe import PROBE

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

log = logging.getLogger(__name__)

_FEW_QUERIES = 32  # as of one search


class Embedder(Protocol):
    """Embed texts as vectors. Thread-safe.

    identity: the model's name, the digest of its weights and of prompts that are not its own, available without
        loading the model; only vectors of one identity are comparable
    max_tokens: longest document that the model reads, without special tokens and prompt
    probe: the vectors of a fixed text as a document and as a query (probe.py), float32, of shape (2, dimension)
    """

    @property
    def identity(self) -> str: ...

    @property
    def dimension(self) -> int: ...

    @property
    def max_tokens(self) -> int: ...

    @property
    def probe(self) -> np.ndarray: ...

    def count_tokens(self, text: str) -> int:
        """Count the tokens of a text, without special tokens."""

    def embed_documents(self, texts: Sequence[str]) -> np.ndarray:
        """Return one row per text, float32, of length 1."""

    def embed_query(self, text: str) -> np.ndarray:
        """Return one vector, float32, of length 1."""

    def embed_queries(self, texts: Sequence[str]) -> np.ndarray:
        """Return one row per query, as embed_query does for each."""


def open_embedder(settings: config.Embedding, language: str = ENGLISH) -> Embedder:
    """Return the embedder of these settings, cached per process. The model loads on first use.

    language: of the captions, ISO 639-1; it selects the model if the settings name none
    """
    with _opening:  # functools.cache alone calls the function in every thread that misses
        name = settings.model or weights.default_model(language)
        return _remote(settings, name) if settings.base_urls else _embedder(settings, name)


_opening = threading.Lock()


class _SentenceTransformers:
    def __init__(self, settings: config.Embedding, name: str) -> None:
        self._settings, self._name = settings, name
        self._lock = threading.Lock()
        self._loaded: _Loaded | None = None

    @property
    def identity(self) -> str:
        return weights.identity(self._settings, self._name, weights.locate(self._name))

    @property
    def dimension(self) -> int:
        return self._load().dimension

    @property
    def max_tokens(self) -> int:
        return self._load().max_tokens

    @functools.cached_property
    def probe(self) -> np.ndarray:
        return np.concatenate([self.embed_documents([PROBE]), self.embed_queries([PROBE])])

    def count_tokens(self, text: str) -> int:
        tokenizer = self._load().tokenizer
        return len(tokenizer.encode(text, add_special_tokens=False, truncation=False, verbose=False))

    def embed_documents(self, texts: Sequence[str]) -> np.ndarray:
        return self._encoded(self._load().model.encode_document, texts)

    def embed_query(self, text: str) -> np.ndarray:
        vector: np.ndarray = self.embed_queries([text])[0]
        return vector

    def embed_queries(self, texts: Sequence[str]) -> np.ndarray:
        encode = self._load().model.encode_query
        with _one_thread() if len(texts) <= _FEW_QUERIES else contextlib.nullcontext():
            return self._encoded(encode, texts)

    def _encoded(self, encode: Any, texts: Sequence[str]) -> np.ndarray:
        if not texts:
            return np.zeros((0, self.dimension), np.float32)
        vectors = encode(
            list(texts), batch_size=self._settings.batch_size, normalize_embeddings=True, show_progress_bar=False
        )
        if len(texts) >= self._settings.batch_size:  # a query retains little, and trimming takes milliseconds
            _trim_memory()
        return np.asarray(vectors, np.float32)

    def _load(self) -> "_Loaded":
        with self._lock:
            if self._loaded is None:
                self._loaded = _Loaded(self._settings, self._name)
            return self._loaded


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """Compute with one thread. Several wait for each other, and for a core that another process needs.

    A query on two cores takes 8 ms with two threads and 11 ms with one; beside a busy process, 260 and 14 ms.
    """
    import torch

    every = _threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(every)  # not what is set now: another query may have set 1


@functools.cache
def _threads() -> int:
    """Return how many threads compute documents: one per core, or OMP_NUM_THREADS.

    On 16 cores, 16 threads embed 637 chunks/s in bfloat16, and 8 embed 361.
    """
    import torch

    return torch.get_num_threads()


def _trim_memory() -> None:
    """Release memory that glibc retains of a batch's tensors, up to 140 MB after some batches."""
    with contextlib.suppress(AttributeError, OSError):  # another C library
        ctypes.CDLL(None).malloc_trim(0)


class _Loaded:
    """Hold a loaded model, its tokenizer and its limits."""

    def __init__(self, settings: config.Embedding, name: str) -> None:
        path, device = weights.locate(name), settings.device
        self.model = in_precision(_load(name, path, device), settings.precision, name)
        self.model.prompts.update(weights.prompts(settings, name))
        self.dimension = _dimension(self.model, name)
        # A copy for counting: encode() sets truncation on the model's own tokenizer, from any thread.
        self.tokenizer = copy.deepcopy(self.model.tokenizer)
        self.max_tokens = _max_tokens(self.model, self.tokenizer)
        log.info("embedding model %s from %s: %d tokens, on %s", name, path, self.max_tokens, device)


@functools.cache
def _embedder(settings: config.Embedding, name: str) -> _SentenceTransformers:
    return _SentenceTransformers(settings, name)


@functools.cache
def _remote(settings: config.Embedding, name: str) -> Embedder:
    from clipdex.index.http_embedder import HttpEmbedder  # lazy: httpx is not needed without servers

    return HttpEmbedder(settings, name)


def _load(name: str, path: Path, device: str) -> "SentenceTransformer":
    from sentence_transformers import SentenceTransformer
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()  # type: ignore[no-untyped-call]
    _threads()  # before a query of any thread sets 1
    if path.is_file():
        from clipdex.index import quantized_e5

        return quantized_e5.load(path, device)
    try:
        return SentenceTransformer(str(path), device=device, local_files_only=True)
    except (OSError, ValueError) as error:
        raise ConfigurationError(
            f"embedding model {name!r} cannot be loaded from {path}: {str(error).splitlines()[0]}; "
            "CLIPDEX_EMBEDDING__MODEL must name a complete sentence-transformers model"
        ) from error


def _dimension(model: "SentenceTransformer", name: str) -> int:
    dimension = model.get_embedding_dimension()
    if not dimension:
        raise ConfigurationError(f"embedding model {name!r} does not report its vector dimension; use another")
    return int(dimension)


def _max_tokens(model: "SentenceTransformer", tokenizer: Any) -> int:
    longest = int(model.max_seq_length or tokenizer.model_max_length)
    own = next((model.prompts[one] for one in ("document", "passage", "corpus") if one in model.prompts), "")
    prompt = tokenizer.encode(own or "", add_special_tokens=True, truncation=False)
    return longest - len(prompt)
