"""Presets: what suits a family of models, as settings; whatever is set by hand wins over them.

A strategy has its own row, on which a preset's row is laid: a question a picture makes pictures dear.
"""

from collections.abc import Mapping
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

PRESETS: Mapping[str, Row] = {
    # Sizes in multiples of 28 are what its processor would make of them anyway: nothing is resized on the GPU node.
    "qwen-vl": {
        "engine": {"strategy": "video", "max_tokens": 1024, "temperature": 0.2},
        "sampling": {"fps": 2.0, "max_frames": 32, "short_side": 448, "multiple_of": 28},
    },
    # Cuts a picture into squares of 336 pixels; writes short texts unless it is asked for one thing after the other.
    "phi-vision": {
        "engine": {"strategy": "frames-merge", "max_tokens": 1024, "temperature": 0.2, "frame_tokens": 384},
        "sampling": {"short_side": 336},
    },
    # Cuts one or two pictures into tiles of 384 pixels, and more than two not at all.
    "deepseek-vl2": {
        "engine": {"strategy": "frames-merge", "max_tokens": 1024, "temperature": 0.1, "frame_tokens": 384},
        "sampling": {"short_side": 384},
    },
    # Small, with a context of 2,048 tokens: it follows a short prompt, and cannot read eight texts to merge them.
    "moondream": {
        "engine": {"strategy": "frames-concat", "prompt": "frame-short", "temperature": 0.0, "frame_tokens": 200},
        "sampling": {"short_side": 378},
    },
}


def row(engine: Mapping[str, Any]) -> Row:
    """What the strategy and the preset of these engine settings stand for. KeyError for a preset that is not known."""
    preset = PRESETS[str(engine["preset"])] if engine.get("preset") else {}
    strategy = str(engine.get("strategy") or preset.get("engine", {}).get("strategy", "video"))
    rows = (STRATEGIES.get(strategy, {}), preset)
    merged: dict[str, dict[str, Any]] = {}
    for group, fields in ((group, fields) for one in rows for group, fields in one.items()):
        merged[group] = {**merged.get(group, {}), **fields}
    return merged
