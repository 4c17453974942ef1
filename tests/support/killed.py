"""A task in a process of its own, as Airflow gives it one: it can be killed, from outside or at an exact moment.

    task = Task(pipeline, "caption", try_number=1)      # runs until it is done or killed
    task = Task(pipeline, "index", die_at="os.rename:outcomes/:2")

A moment is EVENT:PATTERN:COUNT: the COUNT-th time that the interpreter's audit event (open, os.rename, os.link) names a
path in which the pattern is found, before it takes place; or that a Python function is called, or returns, in whose
module.qualname the pattern is found (call, return). The code of the task does not know of it.

Processes are forked from a server that has imported everything once, so that a task costs what it does.
"""

import logging
import multiprocessing
import os
import re
import signal
import sys
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from types import FrameType
from typing import Any

import psutil
import sentence_transformers  # noqa: F401
import time_machine

# Imported for the processes that are forked: these take seconds, and are the same for every task.
import clipdex.index.edge
import clipdex.index.server  # noqa: F401
from clipdex.config import Settings
from clipdex.errors import BatchRejected, ConfigurationError, RunIncomplete, Unavailable
from clipdex.runs import leases
from clipdex.runs.planning import load_plan, run_label
from clipdex.runs.report import check_report, report_run
from clipdex.stages.caption import DecoderPool  # noqa: F401
from tests.support.pipeline import DAY, Pipeline

LATER, REJECTED, INCOMPLETE, PERSON = 75, 65, 66, 78
"""Exit codes: Unavailable, BatchRejected, RunIncomplete, ConfigurationError; 1 is anything else."""

LIMIT_S = 120.0
NOBODY = 65534

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(["tests.support.killed"])


@dataclass(frozen=True, slots=True)
class Job:
    """What a task does, and what happens to it.

    phase: discover, caption, index or report; batch: its number in the plan; days: of discover. die_at, die_of: the
    moment and the signal. uid: the user that it runs as, if not this one. clock_s: how far its clock is ahead [s].
    """

    phase: str
    run: str = "r.1"
    try_number: int = 1
    batch: int = 0
    days: tuple[str, ...] = (DAY,)
    wishes: tuple[tuple[str, Any], ...] = ()
    die_at: str = ""
    die_of: signal.Signals = signal.SIGKILL
    uid: int = 0
    clock_s: float = 0.0


class Task:
    """One try at one phase, started."""

    def __init__(self, pipeline: Pipeline, phase: str, **job: Any) -> None:
        self.job = Job(phase, **job)
        folder = pipeline.home / "tasks"
        folder.mkdir(exist_ok=True)
        self.log = folder / f"{time.monotonic_ns()}-{phase}-{self.job.try_number}.log"
        self.log.touch()
        self._process = _context.Process(target=_work, args=(pipeline.settings, self.job, str(self.log)))
        self._process.start()

    def wait(self) -> int:
        """Its return code, -9 if it was killed. Raises AssertionError if it failed by itself or did not end."""
        code = self.ended()
        if code not in (0, -self.job.die_of):
            raise AssertionError(f"the task failed by itself ({code}):\n{self.log.read_text()[-3000:]}")
        return code

    def ended(self, limit_s: float = LIMIT_S) -> int:
        """Its return code, whatever it is. Raises TimeoutError, with it killed, if it hangs."""
        self._process.join(limit_s)
        if self._process.exitcode is None:
            self.kill()
            raise TimeoutError(f"{self.job.phase} did not end within {limit_s:g} s")
        return self._process.exitcode

    def kill(self, number: signal.Signals = signal.SIGKILL) -> list[psutil.Process]:
        """To it alone; the processes that it had started."""
        assert self._process.pid is not None
        try:
            started = psutil.Process(self._process.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            started = []
        os.kill(self._process.pid, number)
        self._process.join()
        return started

    @property
    def running(self) -> bool:
        return self._process.is_alive()


def _work(settings: Settings, job: Job, log: str) -> None:
    output = os.open(log, os.O_WRONLY | os.O_APPEND)
    os.dup2(output, 1)
    os.dup2(output, 2)
    logging.basicConfig(level=logging.INFO, force=True)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if job.uid:
        os.setgroups([])
        os.setresgid(job.uid, job.uid, job.uid)
        os.setresuid(job.uid, job.uid, job.uid)
    if job.clock_s:
        time_machine.travel(datetime.now(UTC) + timedelta(seconds=job.clock_s), tick=True).start()
    try:
        _do(Pipeline.of(settings), job)
    except BaseException as error:
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(_code(error))


def _code(error: BaseException) -> int:
    codes = {Unavailable: LATER, BatchRejected: REJECTED, RunIncomplete: INCOMPLETE, ConfigurationError: PERSON}
    return next((code for kind, code in codes.items() if isinstance(error, kind)), 1)


def _do(pipeline: Pipeline, job: Job) -> None:
    if job.die_at:
        die_at(job.die_at, job.die_of)
    if job.phase == "discover":
        return _discover(pipeline, job)
    if job.phase == "report":
        return check_report(report_run(pipeline.store, job.run), pipeline.settings.quarantine)
    batch = load_plan(pipeline.store, job.run).batches[job.batch]
    {"caption": pipeline.caption, "index": pipeline.index}[job.phase](batch, job.try_number)


def _discover(pipeline: Pipeline, job: Job) -> None:
    """As the DAG's task: each try plans anew, and takes the days over from its own earlier tries."""
    name, _, number = job.run.rpartition(".")
    for day in job.days:
        for earlier in range(1, int(number)):
            leases.release(pipeline.store, day, run_label(name, earlier))
        leases.acquire(pipeline.store, day, job.run, pipeline.settings.batches.lease_s)
    pipeline.plan(job.run, job.days, **dict(job.wishes))


def die_at(moment: str, number: signal.Signals = signal.SIGKILL) -> None:
    """Send this process a signal just before the moment comes."""
    event, pattern, count = moment.split(":")
    left = int(count)

    def count_down(names: Sequence[Any]) -> None:
        nonlocal left
        if any(isinstance(one, str) and re.search(pattern, one) for one in names):
            left -= 1
            if left == 0:
                os.kill(os.getpid(), number)
                signal.pause()  # the signal may be taken by another thread, an instant later

    def hear(happens: str, about: tuple[Any, ...]) -> None:
        if happens == event:
            count_down(about)

    def see(frame: FrameType, happens: str, _: Any) -> None:
        if happens == event:
            count_down([f"{frame.f_globals.get('__name__')}.{frame.f_code.co_qualname}"])

    if event in ("call", "return"):
        sys.setprofile(see)
    else:
        sys.addaudithook(hear)
