"""The families: one row each. docs/models.md shows this table.

Token counts are from the processors of transformers 5.23, limits of pixels from the preprocessor files that the makers
published with the weights, and resizing by SGLang from sglang 0.5.17.
"""

import re

from clipdex.families.counting import Fixed, Grid, Near, Pooled
from clipdex.families.family import Family, Times

_TRANSFORMERS = "huggingface/transformers v5.23.0 src/transformers/models"
_SGLANG_QWEN = "sgl-project/sglang v0.5.17 python/sglang/srt/multimodal/processors/qwen_vl.py"
_NO_THINKING = {"chat_template_kwargs": {"enable_thinking": False}}
# Also for models with squares of 32, whose processor then resizes a second time.
_SGLANG_VIDEO = (28, 128 * 28 * 28, 768 * 28 * 28)
_QWEN3_GRID = Grid(side=32, fewest=4096, most=25_165_824, whole=True, stamps=True)


def _named(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern, re.IGNORECASE)


_ROWS = (
    Family(
        name="qwen2.5-vl",
        models=("3B", "7B", "32B", "72B"),
        types=("qwen2_5_vl",),
        pattern=_named(r"qwen-?_?2[._-]?5[-_]?vl"),
        counting=Grid(side=28, fewest=3136, most=12_845_056),
        multiple_of=28,
        times=Times.POSITIONS,
        context=128_000,
        advice={"temperature": 0.000001, "repetition_penalty": 1.05},
        sglang=_SGLANG_VIDEO,
        sources=(
            f"{_TRANSFORMERS}/qwen2_vl/video_processing_qwen2_vl.py",
            _SGLANG_QWEN,
            "Qwen/Qwen2.5-VL-7B-Instruct preprocessor_config.json, generation_config.json",
        ),
    ),
    Family(
        name="qwen3-vl",
        models=("2B", "4B", "8B", "30B-A3B"),
        types=("qwen3_vl", "qwen3_vl_moe"),
        pattern=_named(r"qwen-?_?3[-_]?vl"),
        counting=_QWEN3_GRID,
        multiple_of=32,
        times=Times.TEXT,
        context=262_144,
        advice={"temperature": 0.7, "top_p": 0.8, "top_k": 20, "presence_penalty": 1.5},
        sglang=_SGLANG_VIDEO,
        sources=(
            f"{_TRANSFORMERS}/qwen3_vl/video_processing_qwen3_vl.py, processing_qwen3_vl.py",
            _SGLANG_QWEN,
            "Qwen/Qwen3-VL-8B-Instruct video_preprocessor_config.json, README.md (Generation Hyperparameters)",
        ),
    ),
    Family(
        name="qwen3.5-vl",
        models=("4B", "9B", "27B", "35B-A3B"),
        types=("qwen3_5", "qwen3_5_moe"),
        pattern=_named(r"qwen-?_?3[._-]?[5-9]"),
        counting=_QWEN3_GRID,
        multiple_of=32,
        times=Times.TEXT,
        context=262_144,
        without_thinking=_NO_THINKING,
        advice={"temperature": 0.7, "top_p": 0.8, "top_k": 20, "presence_penalty": 1.5},
        sglang=_SGLANG_VIDEO,
        sources=(
            f"{_TRANSFORMERS}/qwen3_5/modeling_qwen3_5.py",
            f"{_TRANSFORMERS}/qwen3_vl/processing_qwen3_vl.py",
            "Qwen/Qwen3.5-9B video_preprocessor_config.json, README.md (Best Practices)",
        ),
    ),
    Family(
        name="internvl3.5",
        models=("1B", "2B", "4B", "8B", "14B", "30B-A3B", "38B"),
        types=("internvl", "internvl_chat"),
        pattern=_named(r"internvl"),
        counting=Fixed(tokens=256, words=7),
        multiple_of=2,
        times=Times.NONE,
        context=40_960,
        advice={"temperature": 0.6},
        sources=(
            f"{_TRANSFORMERS}/internvl/processing_internvl.py",
            "sgl-project/sglang v0.5.17 python/sglang/srt/multimodal/processors/internvl.py",
            "OpenGVLab/InternVL3_5-8B README.md",
        ),
    ),
    Family(
        name="minicpm-v-4.5",
        models=("8B",),
        types=("minicpmv",),
        pattern=_named(r"minicpm-?v"),
        counting=Fixed(tokens=64, words=2, slack=4),
        certain=False,
        multiple_of=14,
        times=Times.NONE,
        context=40_960,
        without_thinking=_NO_THINKING,
        advice={"temperature": 0.7, "top_p": 0.8, "top_k": 100, "repetition_penalty": 1.03},
        sources=(
            "OpenBMB/MiniCPM-V docs/minicpm_v4dot5_en.md",
            "OpenSQZ/MiniCPM-V-CookBook deployment/vllm/minicpm-v4_5_vllm.md",
            f"{_TRANSFORMERS}/minicpmv4_6/processing_minicpmv4_6.py (the next release)",
        ),
    ),
    Family(
        name="gemma-3",
        models=("4B", "12B", "27B"),
        types=("gemma3",),
        pattern=_named(r"gemma-?3(?!n)"),
        counting=Fixed(tokens=256, words=4),
        multiple_of=2,
        times=Times.NONE,
        context=131_072,
        advice={"temperature": 1.0, "top_p": 0.95, "top_k": 64},
        video=False,
        sources=(
            f"{_TRANSFORMERS}/gemma3/processing_gemma3.py",
            "google/gemma-3-4b-it generation_config.json",
        ),
    ),
    Family(
        name="gemma-4",
        models=("E2B", "E4B", "26B-A4B", "31B"),
        types=("gemma4", "gemma4_unified"),
        pattern=_named(r"gemma-?4"),
        counting=Pooled(patch=16, pool=3, most=70),
        multiple_of=48,
        times=Times.TEXT,
        context=131_072,
        without_thinking=_NO_THINKING,
        advice={"temperature": 1.0, "top_p": 0.95, "top_k": 64},
        sources=(
            f"{_TRANSFORMERS}/gemma4/video_processing_gemma4.py, processing_gemma4.py",
            "ai.google.dev/gemma/docs/core/prompt-formatting-gemma4",
        ),
    ),
    Family(
        name="smolvlm2",
        models=("2.2B",),
        types=("smolvlm",),
        pattern=_named(r"smolvlm2?-?(?!256|500)"),
        counting=Fixed(tokens=81, words=13, intro=30, slack=4),
        multiple_of=2,
        times=Times.TEXT,
        context=8_192,
        advice={"temperature": 0.0},
        sources=(
            f"{_TRANSFORMERS}/smolvlm/processing_smolvlm.py",
            "HuggingFaceTB/SmolVLM2-2.2B-Instruct processor_config.json (image_seq_len)",
        ),
    ),
    Family(
        name="smolvlm2-small",
        models=("256M", "500M"),
        types=(),
        pattern=_named(r"smolvlm2?-(256|500)m"),
        counting=Fixed(tokens=64, words=13, intro=30, slack=4),
        multiple_of=2,
        times=Times.TEXT,
        context=8_192,
        advice={"temperature": 0.0},
        sources=(
            f"{_TRANSFORMERS}/smolvlm/processing_smolvlm.py",
            "HuggingFaceTB/SmolVLM2-500M-Video-Instruct processor_config.json (image_seq_len)",
        ),
    ),
    Family(
        name="nemotron-vl",
        models=("Nano 12B v2 VL", "Nano 30B-A3B Omni"),
        types=("nemotron_h_omni", "nemotronh_nano_vl_v2"),
        pattern=_named(r"nemotron.*(vl|omni)"),
        counting=Near(target=1024, merge=2, unit=2),
        multiple_of=32,
        times=Times.TEXT,
        context=131_072,
        without_thinking=_NO_THINKING,
        advice={"temperature": 0.0},
        sources=(
            f"{_TRANSFORMERS}/nemotron_h_omni/video_processing_nemotron_h_omni.py, processing_nemotron_h_omni.py",
            "docs.vllm.ai/projects/recipes NVIDIA/Nemotron-Nano-12B-v2-VL",
        ),
    ),
    Family(
        name="cosmos-reason1",
        models=("7B",),
        types=(),
        pattern=_named(r"cosmos-?reason-?1"),
        counting=Grid(side=28, fewest=3136, most=12_845_056),
        multiple_of=28,
        times=Times.POSITIONS,
        context=128_000,
        advice={"temperature": 0.6, "top_p": 0.95},
        sglang=_SGLANG_VIDEO,
        sources=("nvidia-cosmos/cosmos-reason1 README.md (a Qwen2.5-VL)",),
    ),
    Family(
        name="cosmos-reason2",
        models=("2B", "8B"),
        types=(),
        pattern=_named(r"cosmos-?reason-?2"),
        counting=_QWEN3_GRID,
        multiple_of=32,
        times=Times.TEXT,
        context=262_144,
        advice={"temperature": 0.7, "top_p": 0.8, "top_k": 20, "presence_penalty": 1.5},
        sglang=_SGLANG_VIDEO,
        sources=("nvidia-cosmos/cosmos-reason2 README.md (a Qwen3-VL)",),
    ),
)

FAMILIES = {row.name: row for row in _ROWS}

DEFAULT = FAMILIES["qwen2.5-vl"]
"""Counts the tokens of models whose family is not set."""


def by_type(model_type: str) -> Family | None:
    """Return the family of a model_type in config.json, or None."""
    return next((row for row in _ROWS if model_type in row.types), None)


def by_name(*names: str) -> Family | None:
    """Return the family of the first of these names of a model that has one, such as a Hub name or a folder."""
    for name in names:
        last = name.rstrip("/").rpartition("/")[2]
        if found := next((row for row in reversed(_ROWS) if row.pattern.search(last)), None):
            return found
    return None
