"""The command clipdex check-engine: what a preflight finds on each node."""

import argparse
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from clipdex.commands.terminal import console, print_result
from clipdex.config import Preflight, Settings
from clipdex.pipeline import Pipeline
from clipdex.sanitize import escape_line

if TYPE_CHECKING:  # its checks draw videos
    from clipdex.captions.preflight import NodeReport


def check(args: argparse.Namespace) -> int:
    """Check each node; return 1 if one has a fault. Also if CLIPDEX_ENGINE__PREFLIGHT is off."""
    settings = Settings.load()
    reports = Pipeline.open(settings).check_engine()
    strict = args.strict or settings.engine.preflight is Preflight.STRICT
    mode = Preflight.STRICT if strict else Preflight.WARN
    failed = any(report.faults(mode) for report in reports)
    if args.json:
        nodes = [{**report.to_json(), "passed": not report.faults(mode)} for report in reports]
        print_result({"mode": mode, "passed": not failed, "nodes": nodes})
    else:
        for report in reports:
            console.print(table(report, mode))
    return int(failed)


def table(report: "NodeReport", mode: Preflight) -> Table:
    """Return the table of a node."""
    state = "fails" if report.faults(mode) else "passes"
    title = f"{report.node}  {report.model}  {report.family or 'family unknown'}  {state}"
    shown = Table("check", "result", "found", title=escape_line(title), title_justify="left")
    for finding in report.findings:
        style = _STYLES[str(finding.level)]
        shown.add_row(str(finding.check), Text(str(finding.level), style=style), Text(escape_line(finding.text)))
    if report.requests:
        shown.caption = f"{report.requests} requests in {report.seconds:.1f} s"
    return shown


_STYLES = {"ok": "green", "note": "", "skipped": "dim", "warning": "yellow", "error": "bold red"}
