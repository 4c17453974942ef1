"""The command clipdex: what the DAGs do, from a terminal, without Airflow."""

import argparse
import io
import json
import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import date, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from clipdex.arguments import parser
from clipdex.captions.captioner import CaptionDraft, Flaw
from clipdex.config import Settings
from clipdex.errors import (
    BatchRejected,
    ClipdexError,
    ClipRejected,
    ConfigurationError,
    RunIncomplete,
    Unavailable,
    describe_os_error,
)
from clipdex.pipeline import Ingested, Pipeline, resolved
from clipdex.sanitize import escape_line, escape_text
from clipdex.storage.filesystem import require_writable
from clipdex.storage.listing import describe

if TYPE_CHECKING:
    from clipdex.index.search import ClipHit
    from clipdex.index.where import Where
    from clipdex.runs.estimate import Totals

console = Console(highlight=False)


def main(argv: list[str] | None = None) -> int:
    """Run a command and return its exit code.

    0: done; 1: clips are unfinished, or a variant failed; 2: an argument, a setting or the environment is wrong; 130:
    interrupted. One line on stderr has the reason.
    """
    args = parser().parse_args(argv)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # captions have letters that a terminal may not
    logging.basicConfig(level=logging.INFO if args.verbose else logging.ERROR, format="%(message)s", stream=sys.stderr)
    logging.getLogger("httpx").setLevel(logging.WARNING)  # at INFO it logs one line per request
    logging.getLogger("clipdex.index.where").setLevel(logging.WARNING)  # clips that a filter cannot find
    try:
        result = _COMMANDS[args.command](args)
        sys.stdout.flush()
    except RunIncomplete as error:
        return _fail(args, str(error), 1)
    except BrokenPipeError:  # the reader, such as head, has all that it wants
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        kept = "nothing is kept" if args.command == "eval" else "what is finished is kept"
        return _fail(args, f"interrupted; {kept}: run the same command again", 130)
    except ClipdexError as error:
        return _fail(args, str(error), 2)
    except OSError as error:
        return _fail(args, describe_os_error(error), 2)
    except Exception as error:
        if type(error).__module__.partition(".")[0] not in _STORAGE_CLIENTS:
            raise
        return _fail(args, f"object storage: {error}; check the URL, options, key and secret of source and store", 2)
    return result


def _fail(args: argparse.Namespace, why: str, code: int) -> int:
    print(escape_line(f"clipdex {args.command}: {why}"), file=sys.stderr)
    return code


_STORAGE_CLIENTS = {"adlfs", "aiobotocore", "aiohttp", "azure", "botocore", "gcsfs", "google", "paramiko", "s3fs"}
"""Packages whose errors mean that object storage or its settings are wrong."""


def search(args: argparse.Namespace) -> int:
    """Search the index and print the clips that match."""
    if args.query is None and args.like is None:
        args.error("the following arguments are required: query")
    if args.query is not None and args.like is not None:
        args.error("argument --like: not allowed with a query; give the one or the other")
    pipeline, where = Pipeline.open(), _where(args)
    diverse = args.diversity if args.diversity is not None else args.diverse
    if args.like is None:
        hits = pipeline.search(args.query, limit=args.limit, where=where, diverse=diverse, weak=args.weak)
    else:
        hits = pipeline.similar(args.like, limit=args.limit, where=where, diverse=diverse)
    if args.json:
        _print([asdict(hit) for hit in hits])
        return 0
    for number, hit in enumerate(hits, 1):
        part = f"  part {hit.part_no + 1}, from {hit.clip_start_s:.1f} s" if hit.part_of else ""
        title = escape_line(f"{number}. {hit.uri}{part}  {hit.day}  {_match(hit)}")
        console.print(title, style="bold", markup=False, soft_wrap=True)
        text = escape_text(f"   [{hit.start_s:.1f}-{hit.end_s:.1f} s] {hit.text}")
        console.print(text, markup=False, soft_wrap=True)
    if not hits:
        console.print(_nothing_found(args), soft_wrap=True)
    return 0


def _nothing_found(args: argparse.Namespace) -> str:
    filtered = args.where or args.day or args.first or args.last
    if args.like is not None or args.weak:
        return "no clip is found" + ("; try fewer filters" if filtered else "")
    fewer = ", or fewer filters" if filtered else ""
    return f"no clip matches well; try other words{fewer}; --weak shows the nearest clips"


def _match(hit: "ClipHit") -> str:
    """Return how well a hit matches: its relevance, or its score where the model is not calibrated."""
    if hit.relevance is None:
        return f"score {hit.score:.3f}"
    return f"relevance {hit.relevance:.2f}" + (", weak" if hit.weak else "")


def facets(args: argparse.Namespace) -> int:
    """Print the values of fields, with the number of clips that have each."""
    found = Pipeline.open().facets(args.fields, where=_where(args), limit=args.limit)
    if args.json:
        _print([asdict(facet) for facet in found])
        return 0
    table = Table("field", "value", "clips")
    for facet in found:
        for number, one in enumerate(facet.values):
            table.add_row("" if number else facet.field, Text(escape_line(one.value)), str(one.clips))
        if facet.more:
            table.add_row("", "… (more: --limit)", "")
        if facet.without:
            table.add_row(facet.field if not facet.values else "", "(none)", str(facet.without))
    console.print(table)
    return 0


def _where(args: argparse.Namespace) -> "Where":
    """Return the filters of a command. Raises InvalidFilter."""
    from clipdex.index.where import from_words, with_days

    return with_days(from_words(args.where), args.day, args.first, args.last)


def caption(args: argparse.Namespace) -> int:
    """Print a caption of one file; nothing is stored."""
    _require_file(args.file)
    try:
        reply = Pipeline.open().describe(args.file)
    except ClipRejected as refusal:
        raise ClipdexError(f"{args.file}: {refusal}") from None
    _print(asdict(reply) if args.json else _timed_text(reply))
    return 0


def _timed_text(reply: CaptionDraft) -> str:
    """Return the text with the times of its segments, unless they are in it."""
    marks = [f"{one.start_s:.1f}-{one.end_s:.1f} s" for one in reply.segments]
    parts = list(zip(marks, reply.segments, strict=True))
    if not parts or any(one.text.startswith(f"{mark}: ") for mark, one in parts):
        return reply.text
    return "\n\n".join(f"[{mark}] {one.text}" for mark, one in parts)


def compare(args: argparse.Namespace) -> int:
    """Caption the same clips with several variants; write a page, or print JSON."""
    from clipdex.compare import Variant
    from clipdex.compare.comparison import Column
    from clipdex.compare.page import page

    for file in args.files:
        _require_file(file)
    out = args.out or (None if args.json else Path("compare.html"))
    if out:
        if any(file.samefile(out) for file in args.files if out.exists()):
            raise ConfigurationError(f"--out {out} is one of the clips: name another file")
        require_writable(out)

    def show(column: Column) -> None:
        done = column.summary()
        counts = (
            f"{done['captions']} captions of {done['clips']} clips in {column.seconds:.1f} s, {done['passed']} pass"
        )
        print(escape_line(f"{column.variant}: {column.error or counts}"), file=sys.stderr)

    comparison = Pipeline.compare(args.files, [Variant.parsed(text) for text in args.variants], show)
    if out:
        out.write_text(page(comparison), encoding="utf-8")
    _print(comparison.to_json() if args.json else str(out))
    return 1 if any(column.error for column in comparison.columns) else 0


def evaluate(args: argparse.Namespace) -> int:
    """Measure how well search answers the queries of a file; print a table, or JSON."""
    from clipdex.evaluation.terminal import progress, table
    from clipdex.variants import Variant

    _require_file(args.file)
    variants = [Variant.parsed(text, "--variant", group="") for text in args.variants]
    with progress() as show, _interrupts() as check:

        def on_progress(what: str, done: int, total: int) -> None:
            check()
            show(what, done, total)

        found = Pipeline.open().evaluate(args.file, variants, on_progress)
    for name, lines in found.ignored.items():
        print(escape_line(f"{args.file}: the unknown field {name} of {lines} lines is ignored"), file=sys.stderr)
    if found.missing:
        print(
            escape_line(f"{len(found.missing)} clips are not in each served index, such as {found.missing[0]}"),
            file=sys.stderr,
        )
    if args.json:
        _print(found.to_json())
    else:
        console.print(table(found))
    return 0


@contextmanager
def _interrupts() -> Iterator[Callable[[], None]]:
    """Raise KeyboardInterrupt on Ctrl-C and on SIGTERM, so that temporary data is deleted.

    Yield a function that raises it again: Python discards an exception that a signal raises in a finalizer.
    """
    received = False

    def interrupt(*_: object) -> None:
        nonlocal received
        received = True
        raise KeyboardInterrupt

    def check() -> None:
        if received:
            raise KeyboardInterrupt

    former = {one: signal.signal(one, interrupt) for one in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield check
    finally:
        for one, handler in former.items():
            signal.signal(one, handler)


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
                    nothing = event.nothing or _nothing_in(folder, pipeline.settings)
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
        _print({**summary, "timed_share": report.timed_share, "clips": clips})
        return
    for clip in result.clips:
        if clip.reason:
            line = escape_line(f"{clip.uri}: {clip.outcome}, {clip.reason} ({clip.detail})")
            console.print(line, markup=False, soft_wrap=True)
    counts = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in summary.items())
    console.print(counts, markup=False, soft_wrap=True)
    for line in filter(None, (report.saved, report.times)):
        console.print(line, markup=False, soft_wrap=True)


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
        print(escape_line(totals.nothing or _nothing_in(settings.source_url, settings)), file=sys.stderr)
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


def captions(args: argparse.Namespace) -> int:
    """Count the captions of each day by what they were made with."""
    days = list(Pipeline.open().captions())
    if args.json:
        _print([day.to_json() for day in days])
        return 0
    table = Table("day", "with these settings", *(f"flaw: {flaw}" for flaw in Flaw), "with other settings")
    for day in days:
        table.add_row(day.day, str(day.current), *(str(day.flawed.get(flaw, 0)) for flaw in Flaw), str(day.other))
    console.print(table)
    for flaw in Flaw:
        if count := sum(day.flawed.get(flaw, 0) for day in days):
            console.print(
                f"{count} captions have the flaw {flaw} (docs/operations.md, Flaws of earlier releases). To replace "
                f"them: clipdex ingest FOLDER --recaption-for {flaw}, or trigger ingest_clips for each day with "
                f'{{"day": "DAY", "recaption_for": ["{flaw}"]}}',
                soft_wrap=True, markup=False,
            )  # fmt: skip
    return 0


def gates(args: argparse.Namespace) -> int:
    """List stored captions that the gates of today would refuse, or replace them."""
    from clipdex.gate_commands import run

    return run(args)


def quarantine(args: argparse.Namespace) -> int:
    """List the clips in quarantine, try them again, or exclude them from further tries."""
    from clipdex.quarantine_commands import run

    return run(args)


def reindex(args: argparse.Namespace) -> int:
    """Make the index again from the stored captions, then switch searches to it."""
    from clipdex.stages.reindex import DayTotals

    days: list[DayTotals] = []

    def show(done: DayTotals) -> None:
        days.append(done)
        print(f"{done.day}: {done.clips} clips in {done.chunks} chunks, {done.written} written now", file=sys.stderr)

    served = Pipeline.open().reindex(show)
    if args.json:
        _print({**served.to_json(), "days": [day.to_json() for day in days]})
        return 0
    console.print(f"searches read {served.collection} now, {served.points} points", soft_wrap=True)
    if served.before:
        console.print(f"{served.before} is kept; delete it when nothing else reads it", soft_wrap=True)
    return 0


def summarize(args: argparse.Namespace) -> int:
    """Write the summaries of days that the page Ingestion shows, where they are missing or outdated."""
    done = Pipeline.open().summarize(lambda day: print(day, file=sys.stderr))
    if args.json:
        _print(done.to_json())
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
        _print({**totals, "failed": failed, "unfinished": unfinished, "days": [day.to_json() for day in days]})
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


def mcp(args: argparse.Namespace) -> int:
    """Serve the index to agents until the client, or a signal, ends it."""
    if not args.http and not (args.host is None and args.port is None):
        args.error("arguments --host and --port: only with --http")
    try:
        from clipdex.mcp.transports import serve_http, serve_stdio
    except ModuleNotFoundError as error:
        raise ConfigurationError(f"the package {error.name} is not installed: pip install 'clipdex[mcp]'") from None
    pipeline = Pipeline.open()
    try:
        if args.http:
            serve_http(pipeline, args.host, args.port)
        else:
            serve_stdio(pipeline)
    except KeyboardInterrupt:
        return 130  # the usual end of a server: nothing to run again
    return 0


def serve(args: argparse.Namespace) -> int:
    """Serve the search page and its JSON API."""
    from clipdex.serve import commands

    return commands.serve(args)


def token(args: argparse.Namespace) -> int:
    """Make, list or revoke tokens."""
    from clipdex.serve import commands

    return commands.token(args)


def _require_file(path: Path) -> None:
    """Raise ConfigurationError or OSError if this is no file that can be read."""
    if path.is_dir():
        raise ConfigurationError(f"{path} is a folder; a file expected: clipdex ingest takes a folder")
    if not path.is_file():
        raise ConfigurationError(f"{path}: no such file")
    path.open("rb").close()


def _print(what: Any) -> None:
    """Print text as it is and anything else as JSON, with control characters escaped."""
    print(escape_text(what if isinstance(what, str) else json.dumps(what, ensure_ascii=False)))


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


def _nothing_in(folder: str, settings: Settings) -> str:
    return f"no clip in {folder}: looked for {' '.join(settings.source.extensions)}"


_COMMANDS: dict[str, Callable[[argparse.Namespace], int]] = {
    "search": search,
    "facets": facets,
    "caption": caption,
    "compare": compare,
    "eval": evaluate,
    "ingest": ingest,
    "plan": plan,
    "captions": captions,
    "gates": gates,
    "quarantine": quarantine,
    "reindex": reindex,
    "summarize": summarize,
    "playback": playback,
    "mcp": mcp,
    "serve": serve,
    "token": token,
}


if __name__ == "__main__":
    sys.exit(main())
