"""Metrics: counters and gauges of a run. docs/observability.md lists every name.

Counters are incremented at each event, so that a killed task loses none. They go to Airflow's StatsD or OpenTelemetry
(airflow_tasks.py); without it, as on the command line, nothing is sent. Plain StatsD has no tags, so each metric has
its own name.
"""

from collections.abc import Mapping
from typing import Protocol


class Sink(Protocol):
    """Receive metrics: the interface of Airflow's StatsD and OpenTelemetry clients."""

    def incr(self, stat: str, count: int, /) -> None: ...

    def gauge(self, stat: str, value: float, /) -> None: ...


_sink: Sink | None = None


def send_to(sink: Sink | None) -> None:
    """Set the sink of this process; None drops metrics."""
    global _sink
    _sink = sink


def count(name: str, by: float = 1) -> None:
    """Add to a counter. Values are rounded to integers, so durations are counted in milliseconds."""
    if _sink is not None and round(by) > 0:
        _sink.incr(f"clipdex.{name}", round(by))


def counts(by_name: Mapping[str, float]) -> None:
    for name, by in by_name.items():
        count(name, by)


def gauge(name: str, value: float) -> None:
    if _sink is not None:
        _sink.gauge(f"clipdex.{name}", value)
