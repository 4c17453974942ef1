"""The commands clipdex search and clipdex facets."""

import argparse
from dataclasses import asdict
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from clipdex.commands.terminal import console, print_result
from clipdex.pipeline import Pipeline
from clipdex.sanitize import escape_line, escape_text

if TYPE_CHECKING:
    from clipdex.index.search import ClipHit
    from clipdex.index.where import Where


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
        print_result([asdict(hit) for hit in hits])
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


def facets(args: argparse.Namespace) -> int:
    """Print the values of fields, with the number of clips that have each."""
    found = Pipeline.open().facets(args.fields, where=_where(args), limit=args.limit)
    if args.json:
        print_result([asdict(facet) for facet in found])
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


def _where(args: argparse.Namespace) -> "Where":
    """Return the filters of a command. Raises InvalidFilter."""
    from clipdex.index.where import from_words, with_days

    return with_days(from_words(args.where), args.day, args.first, args.last)
