"""Clock check: does a server pass the frame times to the model?

Qwen2.5-VL encodes time in token positions. If a server does not pass the frame rate to the model's processor, all
frames of a clip are simultaneous: captions lose order, direction and speed, and no metric shows it (docs/gpu.md, The
clock). The check uses what a server reports: its version, its model and the processor that docker/sglang/serve loads.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class ClockFinding:
    """A clock problem and its fix. certain: this server version is known to drop the frame times."""

    text: str
    certain: bool


def sglang_clock(server: Mapping[str, Any], model: Mapping[str, Any]) -> ClockFinding | None:
    """Return the clock problem of an SGLang node, or None.

    server: GET /server_info; model: GET /model_info, {} if there is none.
    """
    model_type = model.get("model_type")
    if model_type and model_type not in _COUNTS_TIME:
        return None
    config = server.get("mm_process_config")
    if isinstance(config, Mapping) and config.get("clock") == {"positions": "frames"}:
        return None
    version = str(server.get("version") or "of unknown version")
    if not model_type:
        return ClockFinding(f"SGLang {version} does not report its model type: the clock is unchecked", certain=False)
    if _SGLANG_WRONG[0] <= _release(version) <= _SGLANG_WRONG[1]:
        text = f"SGLang {version} gives {model_type} no frame times: captions lose order, direction and speed"
        return ClockFinding(f"{text}; start the node with docker/sglang/serve of this release", certain=True)
    old = _RELEASES < _release(version) < _SGLANG_WRONG[0]
    text = "assumes 2 frames per second for" if old else "was not checked for the frame times of"
    return ClockFinding(
        f"SGLang {version} {text} {model_type}; start the node with docker/sglang/serve of this release", certain=False
    )


def vllm_clock(server: Mapping[str, Any], model: Mapping[str, Any]) -> ClockFinding | None:
    """Return the clock problem of a vLLM node, or None.

    server: GET /version; model: its card at GET /v1/models, where "root" is a Hub name or a folder.
    """
    version = str(server.get("version") or "of unknown version")
    if _release(version) >= _VLLM_RIGHT:
        return None
    root = str(model.get("root") or "")
    name = root.rstrip("/").rpartition("/")[2]
    right = ".".join(map(str, _VLLM_RIGHT))
    if _QWEN2_5_VL.search(name) and _release(version) > _RELEASES:
        text = f"vLLM {version} gives {root} no frame times: captions lose order, direction and speed"
        return ClockFinding(f"{text}; use vLLM {right} or newer", certain=True)
    if _OTHERS.search(name):
        return None
    return ClockFinding(
        f"vLLM {version} gives Qwen2.5-VL no frame times, vLLM {right} does: if {root or 'the model'} is one, captions "
        "lose order, direction and speed",
        certain=False,
    )


_COUNTS_TIME = ("qwen2_5_vl",)
"""Model types whose token positions encode time."""

_SGLANG_WRONG = [0, 5, 10], [0, 5, 23]
"""The first and last reviewed versions that assume 24 frames per second for these models."""

_RELEASES = [0, 2]
"""Lower versions are builds from source without a release number, such as 0.1.dev12345."""

_VLLM_RIGHT = [0, 31, 0]
"""The first release with pull request 47736."""

_QWEN2_5_VL = re.compile(r"qwen-?_?2[._-]?5[-_]?vl", re.IGNORECASE)
_OTHERS = re.compile(
    r"^(qwen-?2-vl|qwen-?3[._-]?(5|vl|omni)|internvl|minicpm|gemma|smolvlm|llava|phi-?[34]|moondream)", re.IGNORECASE
)
"""Names of models without time positions; other names may be anything."""


def _release(version: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", version)[:3]]
