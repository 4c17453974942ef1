"""A task in a process of its own, that dies of SIGKILL: when it is told to from outside, or at an exact moment.

    task = Task(pipeline, "caption", try_number=1)      # runs until it is done or killed
    task = Task(pipeline, "index", die_at="os.rename:outcomes/:2")

A moment is EVENT:PATTERN:COUNT: the COUNT-th time that the interpreter's audit event (open, os.rename, os.link) names a
path in which the pattern is found, before it takes place. The code of the task does not know of it.
"""

import argparse
import logging
import os
import re
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil

from clipdex.planning import load_plan
from clipdex.report import report_run
from tests.support.pipeline import Pipeline

REPOSITORY = Path(__file__).parents[2]


class Task:
    """One try at one phase of the first batch of a run, started."""

    def __init__(
        self, pipeline: Pipeline, phase: str, *, run: str = "r.1", try_number: int = 1, die_at: str = ""
    ) -> None:
        engine = pipeline.settings.engine
        arguments = [
            phase, str(pipeline.home), str(pipeline.clips), ",".join(engine.base_urls), run, str(try_number),
            f"--in-flight={engine.in_flight}", f"--die-at={die_at}",
        ]  # fmt: skip
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.killed", *arguments],
            cwd=REPOSITORY,
            stderr=subprocess.PIPE,
            text=True,
        )

    def wait(self) -> int:
        """Its return code, -9 if it was killed."""
        _, told = self._process.communicate(timeout=120)
        if self._process.returncode not in (0, -signal.SIGKILL):
            raise AssertionError(f"the task failed by itself:\n{told[-3000:]}")
        return self._process.returncode

    def kill(self) -> list[psutil.Process]:
        """SIGKILL, to it alone; the processes that it had started."""
        started = psutil.Process(self._process.pid).children(recursive=True)
        self._process.kill()
        self._process.wait()
        return started

    @property
    def running(self) -> bool:
        return self._process.poll() is None


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("phase", choices=["caption", "index", "report"])
    parser.add_argument("home", type=Path)
    parser.add_argument("clips", type=Path)
    parser.add_argument("urls", type=lambda text: text.split(","))
    parser.add_argument("run")
    parser.add_argument("try_number", type=int)
    parser.add_argument("--in-flight", type=int, default=4)
    parser.add_argument("--die-at", default="")
    given = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO)
    pipeline = Pipeline(given.home, given.urls, given.clips, engine={"in_flight": given.in_flight})
    (batch, *_) = load_plan(pipeline.store, given.run).batches
    if given.die_at:
        die_at(given.die_at)
    if given.phase == "report":
        report_run(pipeline.store, given.run)
    elif given.phase == "index":
        pipeline.index(batch, given.try_number)
    else:
        pipeline.caption(batch, given.try_number)


def die_at(moment: str) -> None:
    """SIGKILL this process just before the moment comes."""
    event, pattern, count = moment.split(":")
    left = int(count)

    def hear(happens: str, about: tuple[Any, ...]) -> None:
        nonlocal left
        if happens != event or not any(isinstance(one, str) and re.search(pattern, one) for one in about):
            return
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hear)


if __name__ == "__main__":
    main()
