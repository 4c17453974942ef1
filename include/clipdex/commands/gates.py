"""The command clipdex gates: stored captions that the gates of today would refuse, and their replacement."""

import argparse
from collections import Counter
from typing import TYPE_CHECKING

from clipdex.commands.terminal import console, print_result
from clipdex.errors import BatchRejected, RunIncomplete, Unavailable
from clipdex.pipeline import Ingested, Pipeline
from clipdex.sanitize import escape_line

if TYPE_CHECKING:  # it loads the gates
    from clipdex.runs.regating import RefusedCaption

MOST_CLIPS_IN_PARAMS = 500  # as in airflow_tasks.py, which needs Airflow


def gates(args: argparse.Namespace) -> int:
    """List the captions, print the params of runs that replace them, or replace them here; return the exit code."""
    pipeline = Pipeline.open()
    found = list(pipeline.refused_captions(args.reason, args.first or "", args.last or ""))
    if args.recaption:
        return _recaption(pipeline, found, args.json)
    if args.params:
        for params in _params(pipeline, found):
            print_result(params)
        return 0
    if args.json:
        print_result([one.to_json() for one in found])
        return 0
    for one in found:
        done = "cleaned" if one.cleaned else "refused"
        line = f"{one.day} {one.clip_id} {done} {one.reason} {one.uri}: {one.detail}"
        console.print(escape_line(line), markup=False, soft_wrap=True)
    counts = ", ".join(f"{reason} {number}" for reason, number in Counter(one.reason for one in found).most_common())
    total = f"{len(found)} stored captions would not be stored today{f': {counts}' if counts else ''}"
    console.print(total, soft_wrap=True)
    if found:
        console.print(
            "They stay until they are replaced: clipdex gates --reason REASON --recaption does it here, and --params "
            "prints the params for ingest_clips, one run per day",
            soft_wrap=True,
        )
    return 0


def _params(pipeline: Pipeline, found: "list[RefusedCaption]") -> list[dict[str, object]]:
    """Return the params of one run of ingest_clips per day. Many clips are named by a list in the store."""
    from clipdex.runs.quarantine.requeues import write_list

    params: list[dict[str, object]] = []
    for day, clips in _by_day(found).items():
        named: dict[str, object] = {"clips": clips}
        if len(clips) > MOST_CLIPS_IN_PARAMS:
            named = {"clip_list": write_list(pipeline.store, clips)}
        params.append({"day": day, "recaption": True, **named})
    return params


def _by_day(found: "list[RefusedCaption]") -> dict[str, list[str]]:
    days: dict[str, list[str]] = {}
    for one in found:
        days.setdefault(one.day, []).append(one.clip_id)
    return days


def _recaption(pipeline: Pipeline, found: "list[RefusedCaption]", as_json: bool) -> int:
    results: list[Ingested] = []
    stopped = ""
    try:
        pipeline.recaption(_by_day(found), lambda event: results.append(event) if isinstance(event, Ingested) else None)
    except (Unavailable, BatchRejected) as error:
        if not results:
            raise
        stopped = f" ({error})"
    names = ("planned", "indexed", "quarantined", "unfinished")
    totals = {name: sum(one.report.total(name) for one in results) for name in names}
    print_result(totals if as_json else ", ".join(f"{name} {value}" for name, value in totals.items()))
    if totals["unfinished"] or stopped:
        raise RunIncomplete(f"{totals['unfinished']} clips are unfinished{stopped}; run the same command again")
    return 0
