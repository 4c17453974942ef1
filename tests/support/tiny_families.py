"""Write configurations of tiny models with random weights, one per family that transformers knows.

python -m tests.support.tiny_families OUT         (a folder per family, for --load-format dummy or from_config)

The structure and all other values are those of the published configuration classes of transformers 5.23
(src/transformers/models/*/configuration_*.py); the sizes are reduced.
"""

import json
import sys
from pathlib import Path
from typing import Any

_TEXT = {
    "vocab_size": 512, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 16, "max_position_embeddings": 4096,
}  # fmt: skip
_QWEN_VISION = {
    "depth": 2, "hidden_size": 32, "intermediate_size": 64, "num_heads": 2, "out_hidden_size": 64,
}  # fmt: skip
_VISION = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
_MROPE = {"rope_type": "default", "rope_theta": 5e6, "mrope_section": [4, 2, 2], "mrope_interleaved": True}

CONFIGS: dict[str, dict[str, Any]] = {
    "qwen2_5_vl": {
        "text_config": {**_TEXT, "rope_parameters": {"rope_type": "default", "mrope_section": [2, 3, 3]}},
        "vision_config": {**_QWEN_VISION, "fullatt_block_indexes": [1]},
    },
    "qwen3_vl": {
        "text_config": {**_TEXT, "rope_parameters": _MROPE},
        "vision_config": {**_QWEN_VISION, "deepstack_visual_indexes": [0]},
    },
    "qwen3_vl_moe": {
        "text_config": {
            **_TEXT, "rope_parameters": _MROPE, "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32,
        },
        "vision_config": {**_QWEN_VISION, "deepstack_visual_indexes": [0]},
    },
    "qwen3_5": {
        "text_config": {**_TEXT, "layer_types": ["linear_attention", "full_attention"]},
        "vision_config": _QWEN_VISION,
    },
    "internvl": {"text_config": {"model_type": "qwen3", **_TEXT}, "vision_config": _VISION},
    "gemma3": {"text_config": _TEXT, "vision_config": _VISION},
    "gemma4": {"text_config": _TEXT, "vision_config": _VISION},
    "smolvlm": {"text_config": {"model_type": "llama", **_TEXT}, "vision_config": _VISION},
}  # fmt: skip


def write_config(model_type: str, folder: Path) -> Path:
    """Write config.json of a tiny model of this type."""
    from transformers import AutoConfig

    AutoConfig.for_model(model_type, **CONFIGS[model_type]).save_pretrained(folder)
    return folder


def main() -> None:
    for model_type in CONFIGS:
        folder = write_config(model_type, Path(sys.argv[1]) / model_type)
        print(json.dumps({"type": model_type, "folder": str(folder)}))


if __name__ == "__main__":
    main()
