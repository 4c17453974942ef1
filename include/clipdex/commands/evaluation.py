"""The command clipdex eval."""

import argparse
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from clipdex.commands.terminal import console, print_result, require_file
from clipdex.pipeline import Pipeline
from clipdex.sanitize import escape_line


def evaluate(args: argparse.Namespace) -> int:
    """Measure how well search answers the queries of a file; print a table, or JSON."""
    from clipdex.evaluation.terminal import progress, table
    from clipdex.variants import Variant

    require_file(args.file)
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
        print_result(found.to_json())
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
