"""The commands clipdex caption, clipdex compare and clipdex captions."""

import argparse
import sys
from dataclasses import asdict
from pathlib import Path

from rich.table import Table

from clipdex.captions.captioner import CaptionDraft, Flaw
from clipdex.commands.terminal import console, print_result, require_file
from clipdex.errors import ClipdexError, ClipRejected, ConfigurationError
from clipdex.pipeline import Pipeline
from clipdex.sanitize import escape_line
from clipdex.storage.filesystem import require_writable


def caption(args: argparse.Namespace) -> int:
    """Print a caption of one file; nothing is stored."""
    require_file(args.file)
    try:
        reply = Pipeline.open().describe(args.file)
    except ClipRejected as refusal:
        raise ClipdexError(f"{args.file}: {refusal}") from None
    print_result(asdict(reply) if args.json else _timed_text(reply))
    return 0


def compare(args: argparse.Namespace) -> int:
    """Caption the same clips with several variants; write a page, or print JSON."""
    from clipdex.compare import Variant
    from clipdex.compare.comparison import Column
    from clipdex.compare.page import page

    for file in args.files:
        require_file(file)
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
    print_result(comparison.to_json() if args.json else str(out))
    return 1 if any(column.error for column in comparison.columns) else 0


def captions(args: argparse.Namespace) -> int:
    """Count the captions of each day by what they were made with."""
    days = list(Pipeline.open().captions())
    if args.json:
        print_result([day.to_json() for day in days])
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


def _timed_text(reply: CaptionDraft) -> str:
    """Return the text with the times of its segments, unless they are in it."""
    marks = [f"{one.start_s:.1f}-{one.end_s:.1f} s" for one in reply.segments]
    parts = list(zip(marks, reply.segments, strict=True))
    if not parts or any(one.text.startswith(f"{mark}: ") for mark, one in parts):
        return reply.text
    return "\n\n".join(f"[{mark}] {one.text}" for mark, one in parts)
