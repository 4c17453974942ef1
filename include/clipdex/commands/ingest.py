"""The command clipdex ingest."""

import argparse
import sys
import time

from clipdex.commands.terminal import console, nothing_in, print_result
from clipdex.errors import BatchRejected, RunIncomplete, Unavailable
from clipdex.pipeline import Ingested, Pipeline, resolved
from clipdex.sanitize import escape_line
from clipdex.storage.listing import describe


def ingest(args: argparse.Namespace) -> int:
    """Make one folder searchable; 0 when every file is captioned or quarantined."""
    from clipdex.runs.planning import Plan
    from clipdex.stages.batch_state import CaptionTotals

    folder, started, done, unfinished = resolved(args.folder), time.monotonic(), 0, 0

    def show(event: Plan | CaptionTotals | Ingested) -> None:
        nonlocal done, unfinished
        match event:
            case Plan():
                found = f"{sum(event.discovered.values())} clips found, {event.done} done before"
                moved = f" ({event.moved} moved from another day)" if event.moved else ""
                print(f"{found}, {event.quarantined} known quarantined, {event.to_do} to do{moved}", file=sys.stderr)
                if left_out := describe(event.skipped, event.excluded):
                    print(f"left out: {left_out}", file=sys.stderr)
                for gone in event.vanished:
                    print(gone, file=sys.stderr)
                if not sum(event.discovered.values()):
                    nothing = event.nothing or nothing_in(folder, pipeline.settings)
                    print(escape_line(nothing), file=sys.stderr)
            case CaptionTotals():
                done += event.clips
                rate = done / (time.monotonic() - started)
                print(
                    f"{done} clips, {rate:.1f} clips/s, {event.quarantined} quarantined in this batch", file=sys.stderr
                )
            case Ingested():
                unfinished = len(event.report.unfinished)
                _show_ingested(event, time.monotonic() - started, args.json)

    pipeline = Pipeline.open()
    stopped = ""
    try:
        pipeline.ingest(
            folder,
            day=args.day,
            recaption=args.recaption,
            recaption_for=args.recaption_for,
            retry_quarantined=args.retry_quarantined,
            on_progress=show,
        )
    except (Unavailable, BatchRejected) as error:
        if not unfinished:
            raise
        stopped = f" ({error})"
    if unfinished:
        raise RunIncomplete(f"{unfinished} clips are unfinished{stopped}; run the same command again")
    return 0


def _show_ingested(result: Ingested, seconds: float, as_json: bool) -> None:
    report = result.report
    summary = {
        "run": report.run,
        "discovered": report.total("discovered"),
        "captioned": report.total("captioned"),
        "asked": report.total("asked"),
        "similar": report.total("similar"),
        "quarantined": report.total("quarantined"),
        "unfinished": report.total("unfinished"),
        "done_before": report.done_before,
        "known_quarantined": report.known_quarantined,
        "moved": report.moved,
        "skipped": sum(report.skipped.values()),
        "excluded": report.excluded,
        "chunks": report.total("chunks"),
        "paragraphs": report.total("paragraphs"),
        "timed": report.total("timed"),
        "seconds": round(seconds, 1),
    }
    if as_json:
        fields = (
            "uri", "day", "outcome", "reason", "detail", "caption_key", "chunks", "origin", "similar_to", "distance",
        )  # fmt: skip
        clips = [{field: getattr(clip, field) for field in fields} for clip in result.clips]
        print_result({**summary, "timed_share": report.timed_share, "clips": clips})
        return
    for clip in result.clips:
        if clip.reason:
            line = escape_line(f"{clip.uri}: {clip.outcome}, {clip.reason} ({clip.detail})")
            console.print(line, markup=False, soft_wrap=True)
    counts = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in summary.items())
    console.print(counts, markup=False, soft_wrap=True)
    for line in filter(None, (report.saved, report.times)):
        console.print(line, markup=False, soft_wrap=True)
