"""Statistics: the summaries of days as figures for the page of ingestion and /api/stats."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date, timedelta
from enum import StrEnum

from clipdex.config import Quarantine
from clipdex.runs.latencies import Latencies
from clipdex.runs.summary import DaySummary


class DayState(StrEnum):
    """Name what is to be done about a day, as the calendar colours it."""

    DONE = "done"  # every clip is indexed, but for files that are no films
    PARTLY = "partly"  # some films are in quarantine
    FAILED = "failed"  # clips without a final outcome, or too many in quarantine
    RUNNING = "running"  # a run works on it now
    EMPTY = "empty"  # a run found no clip
    GAP = "gap"  # no run reported it


@dataclass(frozen=True, slots=True)
class NodeStats:
    """Hold what a node did. p50_s, p95_s: time at the engine per clip [s]; in_flight: mean number of its requests"""

    node: str
    clips: int
    p50_s: float
    p95_s: float
    in_flight: float | None


@dataclass(frozen=True, slots=True)
class Figures:
    """Hold the figures of a day, or of several.

    clips: number by outcome; quarantine: number by reason; unread: of these, files that are no films
    unfinished: clips without a final outcome; chunks: points of the indexed clips
    captioned: captions that the engine wrote, in wall_s [s] of work
    prompt_tokens, completion_tokens: as counted by the engine; engine_s, gpu_s: sums over the captions [s, GPU-seconds]
    clips_per_s, tokens_per_s: of the engine's work; gpu_s_per_clip; p50_s, p95_s: time at the engine per clip [s]
    in_flight: mean number of requests, the sum of their times by the time of work
    """

    clips: dict[str, int] = field(default_factory=dict)
    quarantine: dict[str, int] = field(default_factory=dict)
    unread: int = 0
    unfinished: int = 0
    chunks: int = 0
    captioned: int = 0
    wall_s: float = 0.0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    engine_s: float = 0.0
    gpu_s: float = 0.0
    clips_per_s: float | None = None
    tokens_per_s: float | None = None
    gpu_s_per_clip: float | None = None
    p50_s: float | None = None
    p95_s: float | None = None
    in_flight: float | None = None
    nodes: tuple[NodeStats, ...] = ()

    @property
    def total(self) -> int:
        return sum(self.clips.values())


@dataclass(frozen=True, slots=True)
class DayFigures:
    """Hold a day. discovered: files that its last run listed, None if unknown"""

    day: str
    state: DayState
    discovered: int | None
    figures: Figures


def figures(days: Iterable[DaySummary]) -> Figures:
    """Return the figures of these days together. Their runs count as one after the other."""
    days = tuple(days)
    paces = [pace for day in days for pace in day.paces]
    clips: Counter[str] = Counter()
    quarantine: Counter[str] = Counter()
    for day in days:
        clips.update(day.clips)
        quarantine.update(day.quarantine)
    of_node: dict[str, tuple[int, float, Latencies]] = {}
    every = Latencies()
    wall_of: dict[str, float] = defaultdict(float)
    for pace in paces:
        for name, node in pace.nodes.items():
            count, engine_s, latencies = of_node.setdefault(name, (0, 0.0, Latencies()))
            latencies.add(node.latencies)
            every.add(node.latencies)
            of_node[name] = count + node.clips, engine_s + node.engine_s, latencies
            wall_of[name] += pace.wall_s
    wall_s, captioned = sum(pace.wall_s for pace in paces), sum(pace.clips for pace in paces)
    tokens, engine_s = sum(pace.completion_tokens for pace in paces), sum(pace.engine_s for pace in paces)
    gpu_s = sum(pace.gpu_s for pace in paces)
    return Figures(
        clips=dict(sorted(clips.items())),
        quarantine=dict(sorted(quarantine.items(), key=lambda one: (-one[1], one[0]))),
        unread=sum(day.unread for day in days),
        unfinished=sum(day.unfinished for day in days),
        chunks=sum(day.chunks for day in days),
        captioned=captioned,
        wall_s=round(wall_s, 3),
        prompt_tokens=sum(pace.prompt_tokens for pace in paces),
        completion_tokens=tokens,
        engine_s=round(engine_s, 3),
        gpu_s=round(gpu_s, 3),
        clips_per_s=_ratio(captioned, wall_s),
        tokens_per_s=_ratio(tokens, wall_s),
        gpu_s_per_clip=_ratio(gpu_s, captioned) if gpu_s else None,
        p50_s=every.quantile(0.5) if captioned else None,
        p95_s=every.quantile(0.95) if captioned else None,
        in_flight=_ratio(engine_s, wall_s),
        nodes=tuple(
            NodeStats(name, count, latencies.quantile(0.5), latencies.quantile(0.95), _ratio(engine_s, wall_of[name]))
            for name, (count, engine_s, latencies) in sorted(of_node.items())
        ),
    )


def state_of(summary: DaySummary | None, rule: Quarantine, running: bool) -> DayState:
    """Return the state of a day. rule: which number of quarantined clips makes a run red"""
    if running:
        return DayState.RUNNING
    if summary is None:
        return DayState.GAP
    films = sum(summary.quarantine.values()) - summary.unread
    if summary.unfinished:
        return DayState.FAILED
    if films > rule.floor and films > rule.max_share_of_run * (summary.total - summary.unread):
        return DayState.FAILED
    if films:
        return DayState.PARTLY
    return DayState.DONE if summary.total else DayState.EMPTY


def each_day(
    first: date,
    last: date,
    known: Mapping[str, DaySummary],
    rule: Quarantine,
    running: Iterable[str] = (),
    made: Mapping[str, Figures] | None = None,
) -> list[DayFigures]:
    """Return the figures of each day from first to last. made: figures that are there already, by day"""
    busy, found = set(running), []
    for number in range((last - first).days + 1):
        day = (first + timedelta(days=number)).isoformat()
        summary = known.get(day)
        state = state_of(summary, rule, day in busy)
        own = (made or {}).get(day) or (figures([summary]) if summary is not None else Figures())
        found.append(DayFigures(day, state, summary.discovered if summary else None, own))
    return found


def spans(days: Iterable[DayFigures], *states: DayState) -> list[tuple[str, str, int]]:
    """Return the first day, the last day and the number of days of each row of days in one of these states."""
    rows: list[list[str]] = []
    before: DayFigures | None = None
    for one in days:
        if one.state in states:
            if before is None or before.state not in states:
                rows.append([])
            rows[-1].append(one.day)
        before = one
    return [(row[0], row[-1], len(row)) for row in rows]


def _ratio(numerator: float, denominator: float) -> float | None:
    return round(numerator / denominator, 4) if denominator else None
