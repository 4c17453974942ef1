"""An evaluation on a terminal: a table of the figures, and a progress bar on stderr."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import astuple

from rich.console import Console
from rich.progress import Progress as Bar
from rich.table import Table

from clipdex.evaluation import Evaluation, Progress
from clipdex.evaluation.metrics import MEASURES, Difference, Figure
from clipdex.index.relevance import Calibration
from clipdex.sanitize import escape_line


def table(evaluation: Evaluation) -> Table:
    """Return one row per measure, and one column per configuration."""
    default = evaluation.default
    unanswerable = f", {default.unanswerable} without a clip" if default.unanswerable else ""
    title = f"{default.queries} queries{unanswerable}; {default.clips} clips in {evaluation.served or 'the file'}"
    drawn = Table(title=escape_line(title), caption=_CAPTION, caption_justify="left", title_justify="left")
    drawn.add_column("%")
    drawn.add_column("default")
    for name in evaluation.variants:
        drawn.add_column(escape_line(name).replace("[", r"\["))
    for measure in MEASURES:
        cells = [_cell(default.figures[measure])]
        for variant in evaluation.variants.values():
            cells.append(_cell(variant.figures[measure], variant.against_default[measure]))
        drawn.add_row(measure, *cells)
    results = [default, *evaluation.variants.values()]
    drawn.add_row("p50, p95 [ms]", *(f"{one.p50_ms:.1f}, {one.p95_ms:.1f}" for one in results))
    drawn.add_row("chunks", *(str(one.chunks) for one in results))
    if default.calibration:
        drawn.add_row("calibration", *(_calibration(one.calibration) for one in results))
    return drawn


@contextmanager
def progress() -> Iterator[Progress]:
    """Show what is done on stderr, if it is a terminal."""
    console = Console(stderr=True)
    with Bar(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=None)

        def show(what: str, done: int, total: int) -> None:
            bar.update(task, description=escape_line(what).replace("[", r"\["), completed=done, total=total)

        yield show


_CAPTION = "In parentheses: 95 % interval. Below: difference from the default, and p of a paired permutation test."


def _calibration(fitted: Calibration | None) -> str:
    return json.dumps(astuple(fitted)) if fitted else "-"


def _cell(figure: Figure | None, difference: Difference | None = None) -> str:
    if figure is None:
        return "-"
    shown = f"{figure.value:.1f} ({figure.low:.1f} to {figure.high:.1f})"
    return f"{shown}\n{difference.value:+.1f}, p {difference.p:.4f}" if difference else shown
