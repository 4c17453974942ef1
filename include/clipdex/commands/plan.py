"""The command clipdex plan."""

import argparse
import json
import sys
from datetime import date, timedelta
from typing import TYPE_CHECKING

from rich.table import Table

from clipdex.commands.terminal import console, nothing_in
from clipdex.config import Settings
from clipdex.errors import ConfigurationError
from clipdex.pipeline import Pipeline, resolved
from clipdex.sanitize import escape_line
from clipdex.storage.listing import describe

if TYPE_CHECKING:
    from clipdex.runs.estimate import Totals


def plan(args: argparse.Namespace) -> int:
    """Print what a run would caption, in how many batches, and how long it would take."""
    from clipdex.runs.estimate import Totals, estimate, expected_speed

    if args.day is not None:
        if args.first or args.last:
            raise ConfigurationError("--day is one day, and --from and --to are several: give the one or the others")
        args.first = args.last = args.day
    source = {"url": resolved(args.source)} if args.source else {}
    if source and args.first is None:  # as clipdex ingest names the folder; with days, it is the archive of the DAG
        source["name"] = source["url"]
    settings = Settings.load(source=source)
    if args.clips is not None:
        totals = Totals(discovered={"all": args.clips}, to_do={"all": args.clips})
    elif args.source:
        totals = _surveyed(settings, args.first, args.last)
    else:
        raise ConfigurationError("nothing to plan: give a folder, a URL, or --clips 1000000")
    speed = expected_speed(settings, args.gpus, args.profile, args.clips_per_second_per_gpu)
    costs = estimate(settings, totals, speed)
    if args.json:
        print(json.dumps({**totals.to_json(), **costs}))
        return 0
    if left_out := describe(totals.skipped.to_json(), totals.skipped.excluded):
        print(escape_line(f"left out: {left_out}"), file=sys.stderr)
    for folder in totals.vanished:
        print(folder, file=sys.stderr)
    if not sum(totals.discovered.values()):
        print(escape_line(totals.nothing or nothing_in(settings.source_url, settings)), file=sys.stderr)
        return 0
    table = Table("day", "found", "to do", "batches")
    for day, to_do in sorted(totals.to_do.items()):
        table.add_row(day, str(totals.discovered[day]), str(to_do), str(costs["batches_by_day"][day]))
    console.print(table)
    if moved := sum(totals.moved.values()):
        console.print(
            f"{moved} clips were done under another day before the time zone became "
            f"{settings.source.timezone}: they get their day without a request to the engine",
            soft_wrap=True,
        )
    if points_only := sum(totals.points_only.values()):
        console.print(
            f"{points_only} of the clips to do have a caption, and other metadata than before: only their points are "
            "written, without a request to the engine",
            soft_wrap=True,
        )
    duration = "no estimate of the time"
    if costs["hours"] is not None:
        duration = f"{costs['hours']:.1f} h at {costs['clips_per_second']:.2f} clips/s"
    console.print(
        f"{costs['clips']} clips in {costs['batches']} batches of up to {costs['batch_size']}; "
        f"{duration} ({costs['basis']})",
        soft_wrap=True,
    )
    return 0


def _surveyed(settings: Settings, first: date | None, last: date | None) -> "Totals":
    from clipdex.runs.estimate import Totals

    pipeline = Pipeline.open(settings)
    criteria = pipeline.criteria()
    if first is None and last is None:
        surveys = iter([pipeline.survey([], criteria, "")])
    elif first is None or last is None or last < first:
        raise ConfigurationError("--from and --to go together, the earlier day first")
    else:
        days = [(first + timedelta(days=n)).isoformat() for n in range((last - first).days + 1)]
        surveys = (pipeline.survey([day], criteria) for day in days)  # one after the other: a day fits into memory
    totals = Totals()
    for found in surveys:
        totals.add(found)
    if not sum(totals.discovered.values()):
        totals.nothing = pipeline.source.why_nothing(tuple(totals.discovered))
    return totals
