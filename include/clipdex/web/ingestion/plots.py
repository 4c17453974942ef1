"""Plots: the series that the page draws with Chart.js, as JSON in attributes of the page."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from clipdex.runs.summary import DaySummary
from clipdex.web.ingestion.statistics import DayFigures, Figures, NodeStats, figures

MOST_NODES = 8
_MOST_DAYS = 200
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
    """Hold the plots and their days, as JSON.

    weekly: whether a value is that of a week, under its first day
    left_out: number of nodes that are not drawn
    """

    days: str
    plots: list[Plot]
    weekly: bool
    left_out: int


_Points = Sequence[tuple[str, Figures]]


def plots(days: Sequence[DayFigures], known: Mapping[str, DaySummary]) -> Plots:
    """Return the plots of these days, without the days before the first and after the last clip."""
    filled = [number for number, one in enumerate(days) if one.figures.total or one.figures.captioned]
    days = days[filled[0] : filled[-1] + 1] if filled else []
    weekly = len(days) > _MOST_DAYS
    points = _weeks(days, known) if weekly else [(one.day, one.figures) for one in days]
    names, left_out = _nodes(points)
    every = [
        _plot(points, f"Clips per {'week' if weekly else 'day'}", "clips", "bar", [
            ("indexed", lambda one: one.clips.get("indexed", 0)),
            ("quarantined", lambda one: one.clips.get("quarantined", 0)),
            ("unfinished", lambda one: one.unfinished),
        ]),
        _plot(points, "Clips captioned per second", "clips/s", "line", [("clips/s", lambda one: one.clips_per_s)]),
        _plot(points, "Output tokens per second", "tokens/s", "line", [("tokens/s", lambda one: one.tokens_per_s)]),
        _plot(points, "GPU-seconds per clip", "GPU-s", "line", [("GPU-s", lambda one: one.gpu_s_per_clip)]),
        _plot(points, "Latency per clip, median", "s", "line", _per_node(names, lambda one: one.p50_s)),
        _plot(points, "Latency per clip, 95th percentile", "s", "line", _per_node(names, lambda one: one.p95_s)),
        _plot(points, "Requests in flight, mean", "requests", "line", _per_node(names, lambda one: one.in_flight)),
    ]  # fmt: skip
    labels = json.dumps([day for day, _ in points])
    return Plots(labels, [one for one in every if one is not None], weekly, left_out)


def _weeks(days: Sequence[DayFigures], known: Mapping[str, DaySummary]) -> _Points:
    """Return the figures of each week, under its first day."""
    groups = [days[start : start + 7] for start in range(0, len(days), 7)]
    return [(week[0].day, figures(known[one.day] for one in week if one.day in known)) for week in groups]


def _nodes(points: _Points) -> tuple[list[str], int]:
    """Return the nodes that captioned most clips, and the number of the others."""
    clips: dict[str, int] = {}
    for _, one in points:
        for node in one.nodes:
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
    points: _Points, title: str, unit: str, kind: str, series: list[tuple[str, Callable[[Figures], _Value]]]
) -> Plot | None:
    """Return a plot, None if no day has a value."""
    drawn: list[tuple[str, list[_Value]]] = [(name, [value(one) for _, one in points]) for name, value in series]
    drawn = [(name, values) for name, values in drawn if any(values)]
    if not drawn:
        return None
    texts = []
    for name, values in drawn:
        there = [value for value in values if value is not None]
        texts.append(f"{name} from {min(there):,.6g} to {max(there):,.6g}, last {there[-1]:,.6g}")
    label = f"{title}, {points[0][0]} to {points[-1][0]}, in {unit}: {'; '.join(texts)}"
    data = json.dumps([{"label": name, "data": values} for name, values in drawn], separators=(",", ":"))
    return Plot(title, unit, kind, data, label)
