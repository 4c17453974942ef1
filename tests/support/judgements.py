"""Write a file of judgements for clipdex eval."""

import json
from pathlib import Path

from clipdex.evaluation import Judgements


def write_set(path: Path, judgements: Judgements) -> Path:
    """Write judgements as a file."""
    texts = [{"clip_id": clip_id, "text": text} for clip_id, text in judgements.texts.items()]
    queries = [
        {"query": one.query, **({"clip_id": one.clip_id} if one.clip_id else {"answerable": False})}
        for one in judgements.queries
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in texts + queries))
    return path
