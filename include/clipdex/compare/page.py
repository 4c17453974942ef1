"""A comparison as one self-contained HTML page: posters are embedded, all text is escaped."""

import base64
import json
import re
from collections.abc import Mapping
from importlib import resources
from typing import Any

from jinja2 import Environment

from clipdex.compare.comparison import Comparison


def page(comparison: Comparison) -> str:
    """Render a comparison as HTML."""
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
    pages.filters |= {"data_url": _data_url, "figure": _figure, "gate": _gate, "plain": _plain, "untimed": _untimed}
    pages.globals["share"] = _share
    return pages


def _data_url(jpeg: bytes) -> str:
    return f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}"


def _figure(value: float) -> str:
    """Format a number with three significant digits: 0.412, 3.81, 27.5; whole from 100: 1,752."""
    if value == 0 or value >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def _gate(reason: str) -> str:
    return reason.removeprefix("caption_").replace("_", " ")


def _untimed(text: str) -> str:
    """Remove the leading times of a segment: the page shows them separately."""
    return _TIMES.sub("", text)


def _plain(value: Mapping[str, Any]) -> str:
    return json.dumps(value, ensure_ascii=False)


def _share(value: float, most: float) -> str:
    return f"{100 * value / most if most else 0:.0f}%"
