"""Metrics: what a run does, as numbers for whoever watches it. Every name is told in docs/observability.md.

Counters only grow, and are counted when something happens, so that a killed task takes nothing with it. They go to
Airflow's own StatsD or OpenTelemetry (airflow_tasks.py); without it, as on the command line, nothing is sent. A name
carries all that tells one number from another, since plain StatsD has no tags.
"""

from collections.abc import Mapping
from typing import Protocol


class Sink(Protocol):
    """What takes numbers: Airflow's facade over StatsD and OpenTelemetry."""

    def incr(self, stat: str, count: int, /) -> None: ...

    def gauge(self, stat: str, value: float, /) -> None: ...


_sink: Sink | None = None


def send_to(sink: Sink | None) -> None:
    """From now on, in this process."""
    global _sink
    _sink = sink


def count(name: str, by: float = 1) -> None:
    """Add to a counter, in whole numbers: so seconds are counted as milliseconds."""
    if _sink is not None and round(by) > 0:
        _sink.incr(f"clipdex.{name}", round(by))


def counts(by_name: Mapping[str, float]) -> None:
    for name, by in by_name.items():
        count(name, by)


def gauge(name: str, value: float) -> None:
    if _sink is not None:
        _sink.gauge(f"clipdex.{name}", value)
