"""The commands clipdex quarantine list, requeue, never and allow."""

import argparse
import getpass
import json
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from clipdex.commands.terminal import console, print_result
from clipdex.errors import BatchRejected, RunIncomplete, Unavailable
from clipdex.pipeline import Ingested, Pipeline
from clipdex.sanitize import escape_line

if TYPE_CHECKING:
    from clipdex.runs.quarantine.catalog import Quarantine, QuarantineFilter


def quarantine(args: argparse.Namespace) -> int:
    """List the clips in quarantine, try them again, or exclude them from further tries."""
    if args.action != "list" and not args.clips and not args.all:
        args.error("name clips by CLIP_ID, or give --all for all that the filters leave; clipdex quarantine list shows")
    pipeline = Pipeline.open()
    pipeline.index_quarantine()
    found = pipeline.quarantine(_filter(args))
    missing = sorted(set(args.clips) - {one.clip_id for one in found.clips})
    if missing:
        print(escape_line(f"not in quarantine under these filters: {', '.join(missing)}"), file=sys.stderr)
    match args.action:
        case "list":
            _list(found, args)
        case "requeue":
            return _requeue(pipeline, found, args.json)
        case _:
            changed = pipeline.mark_never(found.clips, getpass.getuser(), never=args.action == "never")
            done = "are never tried again" if args.action == "never" else "may be tried again"
            print(json.dumps({"changed": changed}) if args.json else f"{changed} clips {done}")
    return 0


def _filter(args: argparse.Namespace) -> "QuarantineFilter":
    from clipdex.runs.quarantine.catalog import QuarantineFilter

    pairs = [word.partition("=") for word in args.where]
    if wrong := [word for word in args.where if "=" not in word]:
        args.error(f"argument --where: {wrong[0]!r} is not FIELD=VALUE, such as camera=cam-7")
    return QuarantineFilter(
        tuple(args.reason), args.first or "", args.last or "", tuple((name, value) for name, _, value in pairs),
        args.folder, args.words, clips=frozenset(args.clips),
    )  # fmt: skip


def _list(found: "Quarantine", args: argparse.Namespace) -> None:
    if args.csv:
        from clipdex.runs.quarantine.export import as_csv

        sys.stdout.write(as_csv(found))
        return
    if args.json:
        lines: list[dict[str, Any]] = []
        for one in found.clips:
            mark = found.mark_of(one)
            lines.append({**asdict(one), "never_by": mark.by if mark else "", "never_at": mark.at if mark else ""})
        print_result(lines)
        return
    for one in found.clips:
        times = f" ({one.start_s:.1f}-{one.end_s:.1f} s)" if one.part_of else ""
        mark = found.mark_of(one)
        never = f" [never again: {mark.by}]" if mark else ""
        line = f"{one.day} {one.clip_id} {one.reason}{never} {one.uri}{times}: {one.detail}"
        console.print(escape_line(line), markup=False, soft_wrap=True)
    counts = ", ".join(f"{reason} {number}" for reason, number in found.reasons.items())
    console.print(f"{len(found.clips)} clips in quarantine{f': {counts}' if counts else ''}", soft_wrap=True)


def _requeue(pipeline: Pipeline, found: "Quarantine", as_json: bool) -> int:
    wanted = [one for one in found.clips if found.mark_of(one) is None]
    if left_out := len(found.clips) - len(wanted):
        print(f"{left_out} clips are marked never again and stay; clipdex quarantine allow undoes it", file=sys.stderr)
    results: list[Ingested] = []
    stopped = ""
    try:
        pipeline.requeue(wanted, lambda event: results.append(event) if isinstance(event, Ingested) else None)
    except (Unavailable, BatchRejected) as error:
        if not results:
            raise
        stopped = f" ({error})"
    totals = {
        name: sum(one.report.total(name) for one in results)
        for name in ("planned", "indexed", "quarantined", "unfinished")
    }
    print(json.dumps(totals) if as_json else ", ".join(f"{name} {value}" for name, value in totals.items()))
    if totals["unfinished"] or stopped:
        raise RunIncomplete(f"{totals['unfinished']} clips are unfinished{stopped}; run the same command again")
    return 0
