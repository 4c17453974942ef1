"""clipdex serve in a process of its own."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_END_S = 60


@dataclass(frozen=True, slots=True)
class Served:
    """A running server. log: the file of its standard error"""

    url: str
    process: subprocess.Popen[str]
    log: Path


@contextmanager
def serving(home: Path, log: Path, environment: Mapping[str, str] | None = None) -> Iterator[Served]:
    """Run the command on a free port until the end of the block."""
    command = [sys.executable, "-m", "clipdex.cli", "serve", "--port", "0", "--json"]
    variables = {**os.environ, "CLIPDEX_HOME": str(home), **(environment or {})}
    with log.open("w") as errors, subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=errors, env=variables, text=True
    ) as process:  # fmt: skip
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line, log.read_text()
            yield Served(json.loads(line)["url"], process, log)
        finally:
            process.terminate()
            try:
                process.wait(_END_S)
            except subprocess.TimeoutExpired:
                process.kill()
                raise
