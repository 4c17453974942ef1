"""Presets: settings for a family of models. Explicit settings override them.

Each strategy has a row of settings, too, which the preset's row overrides: one request per frame makes frames costly.
PROFILES has what was measured with the profiles of GPU nodes, for clipdex plan.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Row = Mapping[str, Mapping[str, Any]]

STRATEGIES: Mapping[str, Row] = {
    "video": {"engine": {"prompt": "describe"}},
    "frames-concat": {
        "engine": {"prompt": "frame", "frame_tokens": 256},
        "sampling": {"fps": 0.5, "min_fps": 0.1, "max_frames": 8, "visual_tokens": 65536},
    },
    "frames-merge": {
        "engine": {"prompt": "frame", "frame_tokens": 384},
        "sampling": {"fps": 0.5, "min_fps": 0.1, "max_frames": 8, "visual_tokens": 65536},
    },
}

# What the makers advise (families/table.py has the sources); the temperature is a setting of its own.
_QWEN3 = {"top_p": 0.8, "top_k": 20, "presence_penalty": 1.5}
_NO_THINKING = {"chat_template_kwargs": {"enable_thinking": False}}

PRESETS: Mapping[str, Row] = {
    # Its processor resizes to multiples of 28: with these sizes it resizes nothing on the GPU node.
    "qwen-vl": {
        "engine": {"strategy": "video", "max_tokens": 1024, "temperature": 0.2},
        "sampling": {"fps": 2.0, "max_frames": 32, "short_side": 448, "multiple_of": 28},
    },
    # Sides in multiples of 32; times are written as text. SGLang 0.5.17 resizes to multiples of 28 before.
    "qwen3-vl": {
        "engine": {"strategy": "video", "max_tokens": 1024, "temperature": 0.7, "options": _QWEN3},
        "sampling": {"fps": 2.0, "max_frames": 32, "short_side": 448, "multiple_of": 32, "family": "qwen3-vl"},
    },
    # Reasons unless it is told not to.
    "qwen3.5-vl": {
        "engine": {"strategy": "video", "max_tokens": 1024, "temperature": 0.7, "options": {**_QWEN3, **_NO_THINKING}},
        "sampling": {"fps": 2.0, "max_frames": 32, "short_side": 448, "multiple_of": 32, "family": "qwen3.5-vl"},
    },
    # 256 tokens per frame of any size, and no times: few frames.
    "internvl3.5": {
        "engine": {"strategy": "video", "max_tokens": 1024, "temperature": 0.2},
        "sampling": {"fps": 1.0, "max_frames": 32, "short_side": 448, "family": "internvl3.5"},
    },
    "minicpm-v-4.5": {
        "engine": {
            "strategy": "video",
            "max_tokens": 1024,
            "temperature": 0.7,
            "options": {"top_p": 0.8, "top_k": 100, **_NO_THINKING},
        },
        "sampling": {"fps": 2.0, "max_frames": 32, "short_side": 448, "multiple_of": 14, "family": "minicpm-v-4.5"},
    },
    # Takes pictures alone, 256 tokens each.
    "gemma-3": {
        "engine": {
            "strategy": "frames-merge",
            "max_tokens": 1024,
            "temperature": 1.0,
            "frame_tokens": 384,
            "options": {"top_p": 0.95, "top_k": 64},
        },
        "sampling": {"short_side": 448, "family": "gemma-3"},
    },
    # At most 70 tokens per frame, in squares of 48: larger frames would be reduced on the node.
    "gemma-4": {
        "engine": {
            "strategy": "video",
            "max_tokens": 1024,
            "temperature": 1.0,
            "options": {"top_p": 0.95, "top_k": 64, **_NO_THINKING},
        },
        "sampling": {"fps": 2.0, "max_frames": 32, "short_side": 288, "multiple_of": 48, "family": "gemma-4"},
    },
    # A context of 8,192 tokens: 81 and a line of text per frame.
    "smolvlm2": {
        "engine": {"strategy": "video", "max_tokens": 1024, "temperature": 0.0},
        "sampling": {"fps": 1.0, "max_frames": 32, "short_side": 384, "visual_tokens": 4096, "family": "smolvlm2"},
    },
    "nemotron-vl": {
        "engine": {"strategy": "video", "max_tokens": 1024, "temperature": 0.0, "options": _NO_THINKING},
        "sampling": {"fps": 2.0, "max_frames": 32, "short_side": 384, "multiple_of": 32, "family": "nemotron-vl"},
    },
    # A Qwen3-VL for machines that move; it reasons if the prompt asks for it.
    "cosmos-reason2": {
        "engine": {"strategy": "video", "max_tokens": 1024, "temperature": 0.7, "options": _QWEN3},
        "sampling": {"fps": 2.0, "max_frames": 32, "short_side": 448, "multiple_of": 32, "family": "cosmos-reason2"},
    },
    # Splits an image into squares of 336 pixels; writes short texts unless the prompt lists items one by one.
    "phi-vision": {
        "engine": {"strategy": "frames-merge", "max_tokens": 1024, "temperature": 0.2, "frame_tokens": 384},
        "sampling": {"short_side": 336},
    },
    # Tiles one or two images at 384 pixels, but not more than two.
    "deepseek-vl2": {
        "engine": {"strategy": "frames-merge", "max_tokens": 1024, "temperature": 0.1, "frame_tokens": 384},
        "sampling": {"short_side": 384},
    },
    # Small, with a context of 2,048 tokens: follows short prompts, and cannot merge eight texts.
    "moondream": {
        "engine": {"strategy": "frames-concat", "prompt": "frame-short", "temperature": 0.0, "frame_tokens": 200},
        "sampling": {"short_side": 378},
    },
}


@dataclass(frozen=True, slots=True)
class Measured:
    """Hold a measured throughput. clips_per_second: of one GPU or one core [1/s]; conditions: what was measured."""

    clips_per_second: float
    conditions: str


PROFILES: Mapping[str, Measured | None] = {
    # benchmarks/results/summary.json, pipeline_whole_clips_per_s
    "h100-h200": Measured(11.9, "measured on one H200: clips of 10 s, 512 tokens per caption, 7B model in fp8"),
    "rtx4090-24gb": None,
    "small-3b": None,
    "qwen3-vl-8b": None,
    "qwen3-vl-30b-a3b": None,
    "qwen3-vl-4b-24gb": None,
}
"""Of the profiles in docker/sglang/profiles; None if the profile was never run on its cards."""

# benchmarks/results/detectors.json
DETECTORS = Measured(0.35, "measured on an AMD EPYC: clips of 10 s")


def row(engine: Mapping[str, Any]) -> Row:
    """Return the settings of the strategy and preset of these engine settings. Raises KeyError for unknown presets."""
    preset = PRESETS[str(engine["preset"])] if engine.get("preset") else {}
    strategy = str(engine.get("strategy") or preset.get("engine", {}).get("strategy", "video"))
    rows = (STRATEGIES.get(strategy, {}), preset)
    merged: dict[str, dict[str, Any]] = {}
    for group, fields in ((group, fields) for one in rows for group, fields in one.items()):
        merged[group] = {**merged.get(group, {}), **fields}
    return merged
