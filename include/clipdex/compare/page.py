"""A comparison as one page that needs nothing else: posters are inside, every text is escaped."""

import base64
import json
import re
from collections.abc import Mapping
from importlib import resources
from typing import Any

from jinja2 import Environment

from clipdex.compare.comparison import Comparison


def page(comparison: Comparison) -> str:
    """HTML."""
    columns = comparison.columns
    summaries = [(column, column.summary()) for column in columns]
    return (
        _environment()
        .from_string(_template())
        .render(
            comparison=comparison,
            columns=columns,
            summaries=summaries,
            fastest=max((summary["clips_per_second"] for _, summary in summaries), default=0.0),
            richest=max((summary["different_words"] for _, summary in summaries), default=0.0),
            rows=[
                (clip, [(column, one) for column in columns for one in column.captions if one.clip == clip.name])
                for clip in comparison.clips
            ],
        )
    )


_TIMES = re.compile(r"^\d+\.\d-\d+\.\d s: ")


def _template() -> str:
    return (resources.files("clipdex.compare") / "page.html").read_text(encoding="utf-8")


def _environment() -> Environment:
    pages = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    pages.filters |= {"data_url": _data_url, "figure": _figure, "gate": _gate, "plain": _plain, "spoken": _spoken}
    pages.globals["share"] = _share
    return pages


def _data_url(jpeg: bytes) -> str:
    return f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}"


def _figure(value: float) -> str:
    """Three digits where they mean something: 0.412, 3.81, 27.5, 1,752."""
    if value == 0 or value >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def _gate(reason: str) -> str:
    return reason.removeprefix("caption_").replace("_", " ")


def _spoken(text: str) -> str:
    """A segment without the times that it begins with: they stand beside it."""
    return _TIMES.sub("", text)


def _plain(value: Mapping[str, Any]) -> str:
    return json.dumps(value, ensure_ascii=False)


def _share(value: float, most: float) -> str:
    return f"{100 * value / most if most else 0:.0f}%"
