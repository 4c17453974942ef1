"""Summaries: the small record of a day that the page of ingestion and /api/stats read.

    summaries/MONTH/DAY.json      the day: its clips by outcome, from its ledger, and the pace of each of its runs
    summaries/MONTH/DAY+RUN.json  the pace of one run of the day
    summaries/MONTH.json          the days of a month in one object (catalog.py)

The report of a run writes the pace of its days, then their summaries. A summary is computed from the whole ledger, so a
repeated or concurrent run counts no clip twice, and a pace is kept by the name of its run. A summary names the files of
the ledger that it was computed from: if the ledger has others, the summary is outdated, whatever changed them: a
report, a move to another day, retention, a reindex. Retention keeps all of them.
"""

import json
import logging
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any, Self

from clipdex.errors import Reason
from clipdex.runs.latencies import Latencies
from clipdex.runs.outcomes import ClipOutcome, Origin, Outcome, ledger, ledger_path
from clipdex.runs.throughput import throughput
from clipdex.storage.artifacts import Store

log = logging.getLogger(__name__)

_PAUSE_S = 600.0  # without an answer, between two runs whose records are gone
_MOST_NODES = 64  # named in a pace; clips of others are under OTHER
_TRIES = 5
OTHER = "other nodes"
_LITTER = frozenset(reason for reason in Reason if reason.is_litter)


@dataclass(frozen=True, slots=True)
class NodePace:
    """Hold what one node did in a run. clips: captioned; engine_s: sum of their times at the engine [s]"""

    clips: int
    engine_s: float
    latencies: Latencies

    def to_json(self) -> dict[str, Any]:
        return {"clips": self.clips, "engine_s": self.engine_s, "latencies": self.latencies.to_json()}

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Self:
        return cls(record["clips"], record["engine_s"], Latencies.from_json(record["latencies"]))


@dataclass(frozen=True, slots=True)
class Pace:
    """Hold what the engine did for one day in one run: the captions that it wrote, not copies or stored ones.

    run: "" for clips that were captioned while no known run worked on the day
    began, ended: the first request, the last answer; wall_s: between them [s]
    engine_s, gpu_s, preparing_s, waiting_s: as in Throughput
    nodes: by host and port; "" for an engine in the process, or captions of earlier releases
    """

    run: str
    began: str
    ended: str
    clips: int
    wall_s: float
    prompt_tokens: int
    completion_tokens: int
    engine_s: float
    gpu_s: float
    preparing_s: float
    waiting_s: float
    attempts: int
    nodes: dict[str, NodePace] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "nodes": {name: node.to_json() for name, node in self.nodes.items()}}

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Self:
        nodes = {name: NodePace.from_json(node) for name, node in record["nodes"].items()}
        return cls(**{**record, "nodes": nodes})

    @classmethod
    def of(cls, run: str, captioned: Sequence[ClipOutcome]) -> Self:
        """Return the pace of these captions, which the engine wrote. At least one."""
        measured = throughput(captioned)
        ended = max(one.answered_at for one in captioned)
        began = datetime.fromtimestamp(min(map(_began, captioned)), datetime.fromisoformat(ended).tzinfo)
        by_node: dict[str, list[ClipOutcome]] = defaultdict(list)
        for one in captioned:
            by_node[one.node if one.node in by_node or len(by_node) < _MOST_NODES else OTHER].append(one)
        return cls(
            run=run,
            began=began.isoformat(timespec="milliseconds"),
            ended=ended,
            clips=measured.clips,
            wall_s=measured.wall_s,
            prompt_tokens=sum(one.prompt_tokens for one in captioned),
            completion_tokens=measured.output_tokens,
            engine_s=measured.engine_s,
            gpu_s=measured.gpu_s,
            preparing_s=measured.preparing_s,
            waiting_s=measured.waiting_s,
            attempts=sum(one.attempts for one in captioned),
            nodes={
                name: NodePace(
                    len(some), round(sum(one.seconds for one in some), 3), Latencies.of(one.seconds for one in some)
                )
                for name, some in by_node.items()
            },
        )


@dataclass(frozen=True, slots=True)
class DaySummary:
    """Hold the state of a day and the pace of its runs.

    ledger: the names of the ledger's files that it was computed from; none for a day without clips
    discovered: files that the last run listed; None if no run is known
    clips: number of clips by outcome; of a file that is cut, each part is a clip, and the file is not
    quarantine: number of clips by reason
    unread: of the quarantined clips, those that are no films (Reason.is_litter)
    chunks: of the indexed clips, which is the number of their points
    origins: number of captioned clips by origin (outcomes.Origin)
    at: time of the latest outcome
    """

    day: str
    ledger: tuple[str, ...] = ()
    discovered: int | None = None
    clips: dict[str, int] = field(default_factory=dict)
    quarantine: dict[str, int] = field(default_factory=dict)
    unread: int = 0
    chunks: int = 0
    origins: dict[str, int] = field(default_factory=dict)
    at: str = ""
    paces: tuple[Pace, ...] = ()

    @property
    def total(self) -> int:
        return sum(self.clips.values())

    @property
    def unfinished(self) -> int:
        """Return the number of clips without a final outcome."""
        return sum(count for outcome, count in self.clips.items() if not Outcome(outcome).final)

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "paces": [pace.to_json() for pace in self.paces]}

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Self:
        paces = tuple(Pace.from_json(pace) for pace in record["paces"])
        return cls(**{**record, "ledger": tuple(record["ledger"]), "paces": paces})


def summarize_run(
    store: Store, run: str, discovered: Mapping[str, int], outcomes: Mapping[str, Mapping[str, ClipOutcome]]
) -> None:
    """Write the pace of a run and the summaries of its days. outcomes: of the run, by day, then by clip_id"""
    for day, of_day in outcomes.items():
        captioned = [one for one in of_day.values() if one.origin == Origin.NEW and one.answered_at]
        if captioned:
            store.write_json(f"{_stem(day)}+{run}.json", Pace.of(run, captioned).to_json())
        summarize(store, day, discovered.get(day, 0))


def summarize(store: Store, day: str, discovered: int | None = None) -> DaySummary:
    """Compute the summary of a day and write it, unless the stored one is equal. discovered: as in DaySummary

    It is computed again if the ledger, or the paces, changed meanwhile: the last of several writers has read all.
    """
    for _ in range(_TRIES):
        before = store.list(ledger_path(day)), _pace_keys(store, day)
        stored = read_summary(store, day)
        known = discovered if discovered is not None or stored is None else stored.discovered
        found = compute(store, day, known)
        if found != stored:
            store.write_json(summary_path(day), found.to_json())
        if before == (store.list(ledger_path(day)), _pace_keys(store, day)):
            break
    return found


def compute(store: Store, day: str, discovered: int | None = None) -> DaySummary:
    """Return the summary of a day from its ledger and the paces of its runs. Writes nothing."""
    names = ledger_names(store.list(ledger_path(day)))
    clips = [one for one in ledger(store, day).values() if not one.parts]
    quarantined = [one for one in clips if one.outcome is Outcome.QUARANTINED]
    paces = [pace for record in _read_each(store, _pace_keys(store, day)) if (pace := _pace(record))]
    return DaySummary(
        day=day,
        ledger=names.get(day, ()),
        discovered=discovered,
        clips=dict(sorted(Counter(str(one.outcome) for one in clips).items())),
        quarantine=dict(sorted(Counter(one.reason for one in quarantined).items())),
        unread=sum(one.reason in _LITTER for one in quarantined),
        chunks=sum(one.chunks for one in clips if one.outcome is Outcome.INDEXED),
        origins=dict(sorted(Counter(str(one.origin) for one in clips if one.origin).items())),
        at=max((one.at for one in clips), default=""),
        paces=tuple(sorted([*paces, *_without_a_run(clips, paces)], key=lambda pace: pace.began)),
    )


def ledger_names(keys: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Return the short names of the ledger's files by day, in order."""
    names: dict[str, list[str]] = defaultdict(list)
    for key in keys:
        _, day, name = key.split("/")
        names[day.removeprefix("day=")].append(name.removesuffix(".jsonl")[:12])
    return {day: tuple(sorted(of_day)) for day, of_day in names.items()}


def summary_path(day: str) -> str:
    return f"{_stem(day)}.json"


def read_summary(store: Store, day: str) -> DaySummary | None:
    """Return the stored summary of a day, also an outdated one; None if it is missing or cannot be read."""
    for record in _read_each(store, [summary_path(day)]):
        return parsed(record)
    return None


def parsed(record: Any) -> DaySummary | None:
    """Return a summary from its record, None for one of another form, which is then made again."""
    try:
        return DaySummary.from_json(record)
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        log.warning("not a summary of a day (%r); it is made again", error)
        return None


def _pace(record: Any) -> Pace | None:
    try:
        return Pace.from_json(record)
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        log.warning("not the pace of a run (%r); skipped", error)
        return None


def _stem(day: str) -> str:
    return f"summaries/{day[:7]}/{day}"


def _pace_keys(store: Store, day: str) -> list[str]:
    return [key for key in store.list(f"summaries/{day[:7]}") if key.startswith(f"{_stem(day)}+")]


def _read_each(store: Store, keys: Iterable[str]) -> Iterable[Any]:
    for key in keys:
        try:
            yield store.read_json(key)
        except FileNotFoundError:
            continue
        except json.JSONDecodeError as error:
            log.warning("%s: %s; skipped", key, error)


def _began(outcome: ClipOutcome) -> float:
    return datetime.fromisoformat(outcome.answered_at).timestamp() - outcome.seconds


def _without_a_run(clips: Iterable[ClipOutcome], paces: Sequence[Pace]) -> list[Pace]:
    """Return the pace of the captions that no known run wrote: of earlier releases, and of killed runs.

    A long pause between two answers separates two runs.
    """
    spans = [(pace.began, pace.ended) for pace in paces]
    rest = [one for one in clips if one.origin == Origin.NEW and one.answered_at]
    rest = [one for one in rest if not any(began <= one.answered_at <= ended for began, ended in spans)]
    runs: list[list[ClipOutcome]] = []
    for one in sorted(rest, key=lambda one: one.answered_at):
        if not runs or _began(one) - _began(runs[-1][-1]) - runs[-1][-1].seconds > _PAUSE_S:
            runs.append([])
        runs[-1].append(one)
    return [Pace.of("", some) for some in runs]
