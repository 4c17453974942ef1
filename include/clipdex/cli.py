"""The command clipdex: what the DAGs do, from a terminal, without Airflow."""

import argparse
import io
import logging
import os
import sys
from collections.abc import Callable

from clipdex.arguments import parser
from clipdex.commands import captions, engine, evaluation, gates, ingest, plan, quarantine, search, serving, upkeep
from clipdex.errors import ClipdexError, RunIncomplete, describe_os_error, is_of_storage
from clipdex.sanitize import escape_line


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
        if not is_of_storage(error):
            raise
        return _fail(args, f"object storage: {error}; check the URL, options, key and secret of source and store", 2)
    return result


def _fail(args: argparse.Namespace, why: str, code: int) -> int:
    print(escape_line(f"clipdex {args.command}: {why}"), file=sys.stderr)
    return code


_COMMANDS: dict[str, Callable[[argparse.Namespace], int]] = {
    "search": search.search,
    "facets": search.facets,
    "caption": captions.caption,
    "compare": captions.compare,
    "eval": evaluation.evaluate,
    "ingest": ingest.ingest,
    "plan": plan.plan,
    "captions": captions.captions,
    "check-engine": engine.check,
    "gates": gates.gates,
    "quarantine": quarantine.quarantine,
    "reindex": upkeep.reindex,
    "summarize": upkeep.summarize,
    "playback": upkeep.playback,
    "mcp": serving.mcp,
    "serve": serving.serve,
    "token": serving.token,
}


if __name__ == "__main__":
    sys.exit(main())
