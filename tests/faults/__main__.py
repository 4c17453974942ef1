"""The whole fault suite: every fault with several seeds, as many at once as there are cores; writes what came of it.

python -m tests.faults [--seeds 2] [--only PATTERN]

A scene in live Airflow takes most of a minute, one at a time: those get half as many seeds.
benchmarks/results/faults.json gets it, and the table of docs/reliability.md is made from that. Exits 1 if anything was
lost, asked for twice, wrongly in quarantine, or hung.
"""

import argparse
import json
import logging
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from demo.local_airflow import AirflowFailed
from tests.faults.airflow import Live, LiveScenario, playable
from tests.faults.scenarios import SCENARIOS, Scenario
from tests.faults.suite import Suite
from tests.support.verdict import Verdict

REPOSITORY = Path(__file__).parents[2]
RESULT, PAGE = REPOSITORY / "benchmarks/results/faults.json", REPOSITORY / "docs/reliability.md"
BEGIN, END = "<!-- made by python -m tests.faults -->", "<!-- end -->"


@dataclass(frozen=True, slots=True)
class Played:
    scenario: Scenario | LiveScenario
    seed: int
    verdict: Verdict
    error: str
    seconds: float

    @property
    def good(self) -> bool:
        return not self.error and not self.verdict.wrong()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--at-once", type=int, default=2)
    parser.add_argument("--only", default="", help="a pattern; nothing is written then")
    given = parser.parse_args()
    logging.getLogger("clipdex").addHandler(logging.NullHandler())  # what undisturbed runs say is no news
    began = time.monotonic()
    home = Path(tempfile.mkdtemp(prefix="clipdex-faults-"))
    seeds = range(1, given.seeds + 1)
    played = _in_processes(home, given.only, seeds, given.at_once) + _in_airflow(
        home, given.only, seeds[: max(1, given.seeds // 2)]
    )
    result = summary(played, time.monotonic() - began)
    print(json.dumps({name: value for name, value in result.items() if name != "by_fault"}, indent=1))
    if not given.only:
        RESULT.write_text(json.dumps(result, indent=1) + "\n")
        PAGE.write_text(with_table(PAGE.read_text(), result))
    if all(one.good for one in played):
        shutil.rmtree(home)
    else:
        sys.exit(f"something is wrong; what it left lies in {home}")


def summary(played: Iterable[Played], seconds: float) -> dict[str, Any]:
    """Sums over all, and by kind of fault."""
    by_fault: dict[str, dict[str, Any]] = {}
    for one in played:
        row = by_fault.setdefault(one.scenario.kind, {"how": one.scenario.how} | dict.fromkeys(_COUNTS, 0))
        for name, value in _counts(one).items():
            row[name] += value
    total = {name: sum(row[name] for row in by_fault.values()) for name in _COUNTS}
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "command": "make faults",
        "seconds": round(seconds),
        **total,
        "by_fault": by_fault,
    }


def with_table(page: str, result: dict[str, Any]) -> str:
    """The page with its table made anew."""
    rows = [
        f"| {kind} | {row['how']} | {row['runs']} | {row['faults_injected']} | {_result(row)} |"
        for kind, row in result["by_fault"].items()
    ]
    head = ["| fault | how it is injected | runs | faults | result |", "| --- | --- | --- | --- | --- |"]
    told = (
        f"{result['runs']} runs, {result['faults_injected']} faults, {result['clips']} clips: {result['lost']} lost, "
        f"{result['captioned_twice']} captioned twice, {result['repeated']} requests repeated beyond those in flight, "
        f"{result['wrong_quarantine']} wrong in quarantine, {result['hangs']} hangs; {result['seconds']} s, "
        f"{result['date']}."
    )
    before, rest = page.split(BEGIN)
    return f"{before}{BEGIN}\n\n{told}\n\n" + "\n".join([*head, *rows]) + f"\n\n{END}{rest.split(END)[1]}"


_COUNTS = (
    "runs", "faults_injected", "clips", "lost", "captioned_twice", "repeated", "wrong_quarantine", "hangs",
    "left_behind", "errors",
)  # fmt: skip


def _counts(one: Played) -> dict[str, int]:
    verdict = one.verdict
    found = {name: len(getattr(verdict, name)) for name in _COUNTS[3:-1]}
    return {"runs": 1, "faults_injected": verdict.faults, "clips": verdict.clips, **found, "errors": bool(one.error)}


def _result(row: dict[str, Any]) -> str:
    wrong = [f"{row[name]} {name.replace('_', ' ')}" for name in _COUNTS[3:] if row[name]]
    return ", ".join(wrong) or "as undisturbed"


def _in_processes(home: Path, only: str, seeds: Iterable[int], at_once: int) -> list[Played]:
    chosen = [one for one in SCENARIOS.values() if re.search(only, one.name)]
    if not chosen:
        return []
    suite = Suite(home / "suite")
    with ThreadPoolExecutor(at_once) as players:
        jobs = [players.submit(_play, suite.play, one, seed) for seed in seeds for one in chosen]
        return [job.result() for job in jobs]


def _in_airflow(home: Path, only: str, seeds: Iterable[int]) -> list[Played]:
    """One scene after another: each has all of Airflow. The nightly run of a day is there but once."""
    played: list[Played] = []
    for celery in (False, True):
        chosen = [one for one in playable() if one.celery is celery and re.search(only, one.name)]
        turns = [(one, seed) for seed in seeds for one in chosen if seed == 1 or not one.nightly]
        if turns:
            try:
                with Live(home / ("celery" if celery else "airflow"), celery) as live:
                    played += [_play(live.play, *turn) for turn in turns]
            except AirflowFailed as error:
                played += [Played(*turn, Verdict(), str(error), 0.0) for turn in turns]
    return played


def _play(play: Callable[[Any, int], Verdict], scenario: Scenario | LiveScenario, seed: int) -> Played:
    began, error, verdict = time.monotonic(), "", Verdict()
    try:
        verdict = play(scenario, seed)
    except Exception as raised:
        error = f"{type(raised).__name__}: {raised}"
    played = Played(scenario, seed, verdict, error, time.monotonic() - began)
    what = "ok" if played.good else f"WRONG {error or verdict.wrong()}"
    print(f"{scenario.name} ({seed}): {verdict.faults} faults, {played.seconds:.1f} s: {what}", flush=True)
    return played


if __name__ == "__main__":
    main()
