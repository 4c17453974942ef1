"""Payloads: what the points of a clip hold of the clip itself, as the fields of what searches return."""

from collections.abc import Mapping
from typing import Any

from clipdex.config import RESERVED_FIELDS


def clip_fields(payload: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields that ClipHit and IndexedClip share. payload: of any chunk of the clip"""
    return {
        "clip_id": payload["clip_id"],
        "uri": payload["uri"],
        "day": payload["day"],
        "duration_s": payload["duration_s"],
        "poster": payload["poster"],
        "metadata": {name: value for name, value in payload.items() if name not in RESERVED_FIELDS},
        "recorded_at": payload.get("recorded_at", ""),
        "recorded_from": payload.get("recorded_from", ""),
        "part_of": payload.get("part_of", ""),
        "part_no": payload.get("part_no", 0),
        "clip_start_s": payload.get("clip_start_s", 0.0),
    }
