"""The arguments of the command clipdex, checked one by one."""

import argparse
import math
from datetime import date
from pathlib import Path
from typing import NoReturn

from clipdex.captions.captioner import Flaw
from clipdex.config import source_timezone
from clipdex.days import parse_day
from clipdex.errors import ConfigurationError, Reason
from clipdex.presets import PROFILES
from clipdex.sanitize import escape_line


class _Parser(argparse.ArgumentParser):
    """Report a wrong argument in one line; --help has the usage."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, escape_line(f"{self.prog}: {message}; see {self.prog} --help") + "\n")


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command; `command` of its result is the name of the subcommand."""
    all_commands = _Parser("clipdex", description="From video clips to a search index.")
    all_commands.add_argument("-v", "--verbose", action="store_true", help="write log messages to stderr")
    commands = all_commands.add_subparsers(dest="command", required=True)

    one = commands.add_parser("search", help="search the index")
    one.add_argument("query", nargs="?", help="words to search for")
    one.add_argument("--like", metavar="CLIP_ID", help="clips similar to this one, instead of a query")
    one.add_argument("--limit", type=_positive, default=5, help="most clips (default 5)")
    one.add_argument("--weak", action="store_true", help="include clips that are probably no match; not with --like")
    one.add_argument("--diverse", action="store_true", help="choose clips that differ from each other")
    one.add_argument(
        "--diversity", type=_share, metavar="0..1", help="how much they differ: 0, as ranked; --diverse is 0.5"
    )
    _add_filters(one)
    one.set_defaults(error=one.error)

    one = commands.add_parser("facets", help="count the clips by the values of their fields")
    one.add_argument("fields", nargs="*", metavar="FIELD", help="such as camera; without one, all that can be counted")
    one.add_argument("--limit", type=_positive, default=10, help="values per field")
    _add_filters(one)

    one = commands.add_parser("caption", help="describe one file; nothing is stored")
    one.add_argument("file", type=Path)

    one = commands.add_parser("compare", help="the same clips through several engines or strategies, side by side")
    one.add_argument("files", nargs="+", type=Path, metavar="CLIP")
    one.add_argument(
        "--with", dest="variants", action="append", required=True, metavar="NAME:KEY=VALUE,...",
        help="a variant and what it changes, such as frames:engine=vllm,strategy=frames-concat; repeat for others",
    )  # fmt: skip
    one.add_argument("--out", type=Path, help="the page to write; compare.html unless --json is given")

    one = commands.add_parser("eval", help="measure how well search answers queries whose clips are known")
    one.add_argument(
        "file", type=Path, help='JSON lines such as {"clip_id": "a", "text": "a caption", "query": "words"}'
    )
    one.add_argument(
        "--variant", dest="variants", action="append", default=[], metavar="NAME:SETTING=VALUE,...",
        help="settings to compare with the default, such as dense:search.mode=dense; repeat for each variant",
    )  # fmt: skip

    one = commands.add_parser("ingest", help="caption and index one folder, without Airflow")
    one.add_argument("folder", help="a folder or an fsspec URL")
    one.add_argument("--recaption", action="store_true", help="caption clips again that have a caption")
    one.add_argument(
        "--recaption-for", nargs="+", default=[], metavar="FLAW", choices=list(map(str, Flaw)),
        help=f"replace captions with these flaws of earlier releases: {', '.join(Flaw)}",
    )  # fmt: skip
    one.add_argument(
        "--retry-quarantined", nargs="+", default=[], metavar="REASON", choices=["all", *map(str, Reason)],
        help='reasons to try again, such as engine_failed, or "all"',
    )  # fmt: skip
    one.add_argument("--day", type=_day_text, help="only this day, listed as the DAG lists it")

    one = commands.add_parser("plan", help="print what would be captioned, and how long it would take")
    one.add_argument("source", nargs="?", help="a folder or an fsspec URL")
    one.add_argument("--day", type=_day, metavar="DAY", help="2026-11-03, today or yesterday")
    one.add_argument("--from", dest="first", type=_day, metavar="DAY", help="first day")
    one.add_argument("--to", dest="last", type=_day, metavar="DAY", help="last day")
    one.add_argument("--clips", type=_positive, help="a number of clips, instead of a folder")
    one.add_argument("--gpus", type=_positive, help="GPUs of the nodes together; 1 if a rate or a profile is given")
    one.add_argument("--profile", choices=PROFILES, help="of the GPU nodes (docs/gpu.md): plan with its measured rate")
    one.add_argument("--clips-per-second-per-gpu", type=_rate, metavar="RATE", help="instead of a measured rate")

    one = commands.add_parser("captions", help="count the captions of each day, by engine, model and settings")

    one = commands.add_parser("gates", help="list stored captions that the gates of today would refuse; replace them")
    one.add_argument(
        "--reason", nargs="+", default=[], choices=list(map(str, Reason)), metavar="REASON",
        help="only for these reasons, such as caption_reasoning",
    )  # fmt: skip
    one.add_argument("--from", dest="first", type=_day_text, metavar="DAY", help="this day or later")
    one.add_argument("--to", dest="last", type=_day_text, metavar="DAY", help="this day or earlier")
    action = one.add_mutually_exclusive_group()
    action.add_argument("--recaption", action="store_true", help="caption and index them again, here and now")
    action.add_argument(
        "--params", action="store_true", help="print the params of ingest_clips that do, a day per line"
    )

    one = commands.add_parser("quarantine", help="list the clips in quarantine, try them again, or never again")
    of_quarantine = one.add_subparsers(dest="action", required=True)
    one = of_quarantine.add_parser("list", help="print the clips in quarantine, with the reason")
    one.add_argument("--csv", action="store_true", help="comma-separated values instead of text")
    _add_quarantine_filters(one)
    one = of_quarantine.add_parser("requeue", help="caption and index them again, here and now, without Airflow")
    _add_quarantine_filters(one)
    one.add_argument("--all", action="store_true", help="all that the filters leave; needed without CLIP_ID")
    for name, what in (("never", "exclude them from every further try"), ("allow", "undo never")):
        one = of_quarantine.add_parser(name, help=what)
        _add_quarantine_filters(one)
        one.add_argument("--all", action="store_true", help="all that the filters leave; needed without CLIP_ID")

    one = commands.add_parser("check-engine", help="check each node of the engine with known videos")
    one.add_argument("--strict", action="store_true", help="warnings fail the check, too")

    one = commands.add_parser("reindex", help="rebuild the index, for another embedding model, chunking or language")

    one = commands.add_parser("summarize", help="write the figures per day that the page Ingestion shows")
    one = commands.add_parser("playback", help="make what the pages play, of clips that were captioned without it")
    one.add_argument("folder", nargs="?", help="that was ingested, or its URL; without one, the configured source")
    one.add_argument("--day", type=_day_text, metavar="DAY", help="only this day: 2026-11-03, today or yesterday")
    one.add_argument("--from", dest="first", type=_day_text, metavar="DAY", help="only this day or later")
    one.add_argument("--to", dest="last", type=_day_text, metavar="DAY", help="only this day or earlier")
    one.add_argument("--again", action="store_true", help="also those that are there, for another setting")

    one = commands.add_parser("serve", help="serve the search page and its JSON API, behind tokens")
    one.add_argument("--host", default="127.0.0.1", help="address to listen on (default 127.0.0.1)")
    one.add_argument("--port", type=_port, default=8088, help="default 8088; 0 for a free one")

    one = commands.add_parser("token", help="make, list and revoke tokens for clipdex serve")
    actions = one.add_subparsers(dest="action", required=True)
    one = actions.add_parser("create", help="make a token and print it, once")
    one.add_argument("name", metavar="NAME", help="who or what uses it")
    one.add_argument("--days", type=_days, help="until it expires; without, it never does")
    actions.add_parser("list", help="names, when they were made, when they expire")
    one = actions.add_parser("revoke", help="end a token and its sessions")
    one.add_argument("name", metavar="NAME")

    for command in [one for name, one in commands.choices.items() if name not in ("token", "quarantine")] + [
        *actions.choices.values(), *of_quarantine.choices.values()
    ]:  # fmt: skip
        command.add_argument("--json", action="store_true", help="one JSON document instead of text")

    one = commands.add_parser("mcp", help="serve searches to agents: Model Context Protocol on stdin and stdout")
    one.add_argument("--http", action="store_true", help="streamable HTTP instead, for programs on this machine")
    one.add_argument("--host", help="a loopback address (default 127.0.0.1); with --http")
    one.add_argument("--port", type=_port, help="0 for a free one (default 8765); with --http")
    one.set_defaults(error=one.error)
    return all_commands


def _add_quarantine_filters(one: argparse.ArgumentParser) -> None:
    one.add_argument("clips", nargs="*", metavar="CLIP_ID", help="only these clips")
    one.add_argument(
        "--reason", nargs="+", default=[], choices=list(map(str, Reason)), metavar="REASON",
        help="only for these reasons, such as engine_failed",
    )  # fmt: skip
    one.add_argument("--from", dest="first", type=_day_text, metavar="DAY", help="this day or later")
    one.add_argument("--to", dest="last", type=_day_text, metavar="DAY", help="this day or earlier")
    one.add_argument(
        "--where", action="append", default=[], metavar="FIELD=VALUE", help="of the metadata, such as camera=cam-7"
    )
    one.add_argument("--folder", default="", help="URI of a folder, or of one above it")
    one.add_argument("--words", default="", help="in the path or in the message")
    one.set_defaults(error=one.error)


def _share(text: str) -> float:
    try:
        share = float(text)
    except ValueError:
        share = math.nan
    if not 0 <= share <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0 to 1")
    return share


def _add_filters(one: argparse.ArgumentParser) -> None:
    one.add_argument(
        "--where", action="append", default=[], metavar="FIELD=VALUE,...",
        help="only clips with one of these values, such as camera=cam-7, duration=..30, time=22:00..04:00 or "
        "source=s3://bucket/folder; again for another field (docs/search.md)",
    )  # fmt: skip
    one.add_argument("--day", type=_day_text, help="only clips of this day: 2026-11-03, today or yesterday")
    one.add_argument("--from", dest="first", type=_day_text, metavar="DAY", help="only clips of this day or later")
    one.add_argument("--to", dest="last", type=_day_text, metavar="DAY", help="only clips of this day or earlier")


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of 1 or more")
    return int(text)


def _days(text: str) -> int:
    days = _positive(text)
    if days > 36_500:
        raise argparse.ArgumentTypeError(f"{text!r} is more than 36500")
    return days


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65_535:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port from 0 to 65535")
    return int(text)


def _rate(text: str) -> float:
    try:
        rate = float(text)
    except ValueError:
        rate = 0.0
    if not 0 < rate < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")
    return rate


def _day(text: str) -> date:
    """Read a day; today and yesterday are those of the source's time zone."""
    try:
        return parse_day(text, source_timezone())
    except ConfigurationError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a date such as 2026-11-03, today or yesterday") from None


def _day_text(text: str) -> str:
    return _day(text).isoformat()
