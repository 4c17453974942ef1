"""Write the folder of a Qwen3-VL 8B without weights, for --load-format dummy.

python -m benchmarks.engines.configs QWEN2_5_VL_FOLDER OUT

The tokenizer and the chat template are those of a Qwen2.5-VL folder, which share the special tokens. The other values
are published with Qwen/Qwen3-VL-8B-Instruct: config.json, preprocessor_config.json and video_preprocessor_config.json.
"""

import argparse
import json
import shutil
from pathlib import Path
from typing import Any

_NORMAL = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3, "processor_class": "Qwen3VLProcessor"}
_PATCHES = {"patch_size": 16, "temporal_patch_size": 2, "merge_size": 2}

FILES: dict[str, dict[str, Any]] = {
    "config.json": {
        "architectures": ["Qwen3VLForConditionalGeneration"],
        "model_type": "qwen3_vl",
        "dtype": "bfloat16",
        "torch_dtype": "bfloat16",
        "image_token_id": 151655,
        "video_token_id": 151656,
        "vision_start_token_id": 151652,
        "vision_end_token_id": 151653,
        "tie_word_embeddings": False,
        "text_config": {
            "model_type": "qwen3_vl_text",
            "vocab_size": 151936,
            "hidden_size": 4096,
            "intermediate_size": 12288,
            "num_hidden_layers": 36,
            "num_attention_heads": 32,
            "num_key_value_heads": 8,
            "head_dim": 128,
            "hidden_act": "silu",
            "max_position_embeddings": 262144,
            "rms_norm_eps": 1e-06,
            "rope_theta": 5000000,
            "rope_scaling": {"rope_type": "default", "mrope_interleaved": True, "mrope_section": [24, 20, 20]},
            "attention_bias": False,
            "attention_dropout": 0.0,
            "bos_token_id": 151643,
            "eos_token_id": 151645,
            "initializer_range": 0.02,
            "dtype": "bfloat16",
            "use_cache": True,
        },
        "vision_config": {
            "model_type": "qwen3_vl",
            "depth": 27,
            "hidden_size": 1152,
            "intermediate_size": 4304,
            "num_heads": 16,
            "in_channels": 3,
            "patch_size": 16,
            "temporal_patch_size": 2,
            "spatial_merge_size": 2,
            "out_hidden_size": 4096,
            "num_position_embeddings": 2304,
            "deepstack_visual_indexes": [8, 16, 24],
            "hidden_act": "gelu_pytorch_tanh",
            "initializer_range": 0.02,
        },
    },
    "generation_config.json": {
        "bos_token_id": 151643,
        "pad_token_id": 151643,
        "eos_token_id": [151645, 151643],
        "do_sample": True,
        "temperature": 0.7,
        "top_p": 0.8,
        "top_k": 20,
    },
    "preprocessor_config.json": {
        "size": {"longest_edge": 16777216, "shortest_edge": 65536},
        **_PATCHES,
        **_NORMAL,
        "image_processor_type": "Qwen2VLImageProcessorFast",
    },
    "video_preprocessor_config.json": {
        "size": {"longest_edge": 25165824, "shortest_edge": 4096},
        **_PATCHES,
        **_NORMAL,
        "video_processor_type": "Qwen3VLVideoProcessor",
    },
}
_SHARED = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")


def write_qwen3_vl(tokenizer: Path, out: Path) -> Path:
    """Write the folder. tokenizer: of a Qwen2.5-VL"""
    out.mkdir(parents=True, exist_ok=True)
    for name in _SHARED:
        if (tokenizer / name).is_file():
            (out / name).unlink(missing_ok=True)
            shutil.copyfile(tokenizer / name, out / name)
    for name, document in FILES.items():
        (out / name).write_text(json.dumps(document, indent=1) + "\n")
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tokenizer", type=Path)
    parser.add_argument("out", type=Path)
    args = parser.parse_args()
    print(write_qwen3_vl(args.tokenizer, args.out))


if __name__ == "__main__":
    main()
