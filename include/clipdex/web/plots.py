"""Plots: the series that the page draws with Chart.js, as JSON in attributes of the page."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from clipdex.web.statistics import DayFigures, Figures, NodeStats

MOST_NODES = 8
_Value = float | int | None


@dataclass(frozen=True, slots=True)
class Plot:
    """Hold one plot. kind: "bar", stacked, or "line"; series: JSON; label: what it shows, for screen readers"""

    title: str
    unit: str
    kind: str
    series: str
    label: str


@dataclass(frozen=True, slots=True)
class Plots:
    """Hold the plots and their days, as JSON. left_out: number of nodes that are not drawn"""

    days: str
    plots: list[Plot]
    left_out: int


def plots(days: Sequence[DayFigures]) -> Plots:
    """Return the plots of these days, without the days before the first and after the last clip."""
    filled = [number for number, one in enumerate(days) if one.figures.total or one.figures.captioned]
    days = days[filled[0] : filled[-1] + 1] if filled else []
    names, left_out = _nodes(days)
    every = [
        _plot(days, "Clips per day", "clips", "bar", [
            ("indexed", lambda one: one.clips.get("indexed", 0)),
            ("quarantined", lambda one: one.clips.get("quarantined", 0)),
            ("unfinished", lambda one: one.unfinished),
        ]),
        _plot(days, "Clips captioned per second", "clips/s", "line", [("clips/s", lambda one: one.clips_per_s)]),
        _plot(days, "Output tokens per second", "tokens/s", "line", [("tokens/s", lambda one: one.tokens_per_s)]),
        _plot(days, "GPU-seconds per clip", "GPU-s", "line", [("GPU-s", lambda one: one.gpu_s_per_clip)]),
        _plot(days, "Latency per clip, median", "s", "line", _per_node(names, lambda one: one.p50_s)),
        _plot(days, "Latency per clip, 95th percentile", "s", "line", _per_node(names, lambda one: one.p95_s)),
        _plot(days, "Requests in flight, mean", "requests", "line", _per_node(names, lambda one: one.in_flight)),
    ]  # fmt: skip
    return Plots(json.dumps([one.day for one in days]), [one for one in every if one is not None], left_out)


def _nodes(days: Sequence[DayFigures]) -> tuple[list[str], int]:
    """Return the nodes that captioned most clips, and the number of the others."""
    clips: dict[str, int] = {}
    for one in days:
        for node in one.figures.nodes:
            clips[node.node] = clips.get(node.node, 0) + node.clips
    most = sorted(clips, key=lambda name: (-clips[name], name))[:MOST_NODES]
    return sorted(most), len(clips) - len(most)


def _per_node(
    names: Sequence[str], value: Callable[[NodeStats], _Value]
) -> list[tuple[str, Callable[[Figures], _Value]]]:
    def of(name: str) -> Callable[[Figures], _Value]:
        return lambda one: next((value(node) for node in one.nodes if node.node == name), None)

    return [(name or "engine", of(name)) for name in names]


def _plot(
    days: Sequence[DayFigures], title: str, unit: str, kind: str, series: list[tuple[str, Callable[[Figures], _Value]]]
) -> Plot | None:
    """Return a plot, None if no day has a value."""
    drawn = [{"label": name, "data": [value(one.figures) for one in days]} for name, value in series]
    drawn = [one for one in drawn if any(value for value in one["data"] if value is not None)]
    if not drawn:
        return None
    texts = []
    for one in drawn:
        values = [value for value in one["data"] if isinstance(value, int | float)]
        texts.append(f"{one['label']} from {min(values):,.6g} to {max(values):,.6g}, last {values[-1]:,.6g}")
    label = f"{title}, {days[0].day} to {days[-1].day}, in {unit}: {'; '.join(texts)}"
    return Plot(title, unit, kind, json.dumps(drawn, separators=(",", ":")), label)
