"""The commands clipdex reindex, clipdex summarize and clipdex playback."""

import argparse
import sys

from clipdex.commands.terminal import console, print_result
from clipdex.errors import ConfigurationError, RunIncomplete
from clipdex.pipeline import Pipeline, resolved
from clipdex.sanitize import escape_line


def reindex(args: argparse.Namespace) -> int:
    """Make the index again from the stored captions, then switch searches to it."""
    from clipdex.stages.reindex import DayTotals

    days: list[DayTotals] = []

    def show(done: DayTotals) -> None:
        days.append(done)
        print(f"{done.day}: {done.clips} clips in {done.chunks} chunks, {done.written} written now", file=sys.stderr)

    served = Pipeline.open().reindex(show)
    if args.json:
        print_result({**served.to_json(), "days": [day.to_json() for day in days]})
        return 0
    console.print(f"searches read {served.collection} now, {served.points} points", soft_wrap=True)
    if served.before:
        console.print(f"{served.before} is kept; delete it when nothing else reads it", soft_wrap=True)
    return 0


def summarize(args: argparse.Namespace) -> int:
    """Write the summaries of days that the page Ingestion shows, where they are missing or outdated."""
    done = Pipeline.open().summarize(lambda day: print(day, file=sys.stderr))
    if args.json:
        print_result(done.to_json())
        return 0
    print(f"{done.days} days and {done.months} months written; the page Ingestion and /api/stats show them")
    return 0


def playback(args: argparse.Namespace) -> int:
    """Make the missing playbacks, day by day; 1 if a file could not be read now."""
    if args.day and (args.first or args.last):
        raise ConfigurationError("--day is one day, and --from and --to are several: give the one or the others")
    folder = resolved(args.folder) if args.folder else None
    pipeline = Pipeline.open()
    days = []
    for day in pipeline.captioned_days(args.day or args.first or "", args.day or args.last or ""):
        days.append(done := pipeline.make_playbacks(day, folder, again=args.again))
        print(f"{day}: {done.made} made ({done.bytes} bytes), {done.there} there before", file=sys.stderr)
        for one in done.troubles:
            print(escape_line(f"{one.uri}: no playback, {one.reason} ({one.detail})"), file=sys.stderr)
    totals = {name: sum(getattr(day, name) for day in days) for name in ("made", "bytes", "there", "elsewhere")}
    failed, unfinished = sum(len(day.troubles) for day in days), sum(day.unfinished for day in days)
    if args.json:
        print_result({**totals, "failed": failed, "unfinished": unfinished, "days": [day.to_json() for day in days]})
    else:
        console.print(
            f"{totals['made']} playbacks made ({totals['bytes'] / 1e6:.1f} MB), {totals['there']} there before, "
            f"{failed} files without one",
            soft_wrap=True,
        )
        if totals["elsewhere"]:
            console.print(
                f"{totals['elsewhere']} clips are not in {folder or pipeline.settings.source_url}: name the folder "
                "that they were ingested from",
                soft_wrap=True, markup=False,
            )  # fmt: skip
    if unfinished:
        raise RunIncomplete(f"{unfinished} files could not be read; run the same command again")
    return 0
