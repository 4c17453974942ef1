"""Run a task in its own process, as Airflow does. A test can kill it from outside or at an exact moment.

    task = Task(pipeline, "caption", try_number=1)      # runs until it ends or is killed
    task = Task(pipeline, "index", die_at="os.rename:outcomes/:2")

A moment is EVENT:PATTERN:COUNT. For an audit event of the interpreter (open, os.rename, os.link) it is just before the
COUNT-th event with a path that matches the pattern. For call and return it is the COUNT-th call or return of a Python
function whose module.qualname matches the pattern. The code of the task is unchanged.

Processes are forked from a server that has imported all modules, so that a task has no import cost.
"""

import logging
import multiprocessing
import os
import re
import signal
import sys
import threading
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from multiprocessing import connection
from types import FrameType
from typing import Any

import psutil
import sentence_transformers  # noqa: F401
import time_machine

# Imported once for all forked processes: these imports take seconds.
import clipdex
import clipdex.index.edge
import clipdex.index.server
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
# start() polls the processes of other threads, too; of two polls at the same time, one finds the exit code 255.
_polling = threading.Lock()


@dataclass(frozen=True, slots=True)
class Job:
    """The work of a task, and the fault to inject.

    phase: discover, caption, index, report, or ingest for all of them in one process
    batch: number of the batch in the plan
    days: days of discover
    die_at, die_of: the moment and the signal
    uid: user of the process; 0: unchanged
    clock_s: offset of its clock, ahead [s]
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
    """Start one try of one phase."""

    def __init__(self, pipeline: Pipeline, phase: str, **job: Any) -> None:
        self.job = Job(phase, **job)
        folder = pipeline.home / "tasks"
        folder.mkdir(exist_ok=True)
        self.log = folder / f"{time.monotonic_ns()}-{phase}-{self.job.try_number}.log"
        self.log.touch()
        self._process = _context.Process(target=_work, args=(pipeline.settings, self.job, str(self.log)))
        with _polling:
            self._process.start()

    def wait(self) -> int:
        """Return the exit code, -9 after a kill. Raise AssertionError if the task fails by itself."""
        code = self.ended()
        if code not in (0, -self.job.die_of):
            raise AssertionError(f"the task failed by itself ({code}):\n{self.log.read_text()[-3000:]}")
        return code

    def ended(self, limit_s: float = LIMIT_S) -> int:
        """Return any exit code. On a hang, kill the task and raise TimeoutError."""
        if not connection.wait([self._process.sentinel], limit_s):
            self.kill()
            raise TimeoutError(f"{self.job.phase} did not end within {limit_s:g} s")
        return self._join()

    def stop(self) -> None:
        """Stop the task, as a suspended machine or an overloaded one does, until go_on()."""
        assert self._process.pid is not None
        os.kill(self._process.pid, signal.SIGSTOP)

    def go_on(self) -> None:
        assert self._process.pid is not None
        os.kill(self._process.pid, signal.SIGCONT)

    def kill(self, number: signal.Signals = signal.SIGKILL) -> list[psutil.Process]:
        """Send a signal to the task only; return its child processes."""
        assert self._process.pid is not None
        try:
            started = psutil.Process(self._process.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            started = []
        os.kill(self._process.pid, number)
        self._join()
        return started

    @property
    def running(self) -> bool:
        with _polling:
            return self._process.is_alive()

    def _join(self) -> int:
        """Wait for the end; return the exit code."""
        connection.wait([self._process.sentinel])
        with _polling:
            self._process.join()
        assert self._process.exitcode is not None
        return self._process.exitcode


def _work(settings: Settings, job: Job, log: str) -> None:
    output = os.open(log, os.O_WRONLY | os.O_APPEND)
    os.dup2(output, 1)
    os.dup2(output, 2)
    logging.basicConfig(level=logging.INFO, force=True)
    # As in a task of Airflow. Under forkserver, the lock of tqdm is a named semaphore, which a killed task leaves.
    multiprocessing.set_start_method("fork", force=True)
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
        _discover(pipeline, job)
        return
    if job.phase == "ingest":
        clipdex.Pipeline(pipeline.settings).ingest()
        return
    if job.phase == "report":
        check_report(report_run(pipeline.store, job.run), pipeline.settings.quarantine)
        return
    batch = load_plan(pipeline.store, job.run).batches[job.batch]
    {"caption": pipeline.caption, "index": pipeline.index}[job.phase](batch, job.try_number)


def _discover(pipeline: Pipeline, job: Job) -> None:
    """Plan as the DAG's task does: write a new plan per try, and take over the leases of earlier tries."""
    name, _, number = job.run.rpartition(".")
    for day in job.days:
        for earlier in range(1, int(number)):
            leases.release(pipeline.store, day, run_label(name, earlier))
        leases.acquire(pipeline.store, day, job.run, pipeline.settings.batches.lease_s)
    pipeline.plan(job.run, job.days, **dict(job.wishes))


def die_at(moment: str, number: signal.Signals = signal.SIGKILL) -> None:
    """Send this process a signal just before the moment."""
    event, pattern, count = moment.split(":")
    left = int(count)

    def count_down(names: Sequence[Any]) -> None:
        nonlocal left
        if any(isinstance(one, str) and re.search(pattern, one) for one in names):
            left -= 1
            if left == 0:
                os.kill(os.getpid(), number)
                time.sleep(1)  # another thread may receive the signal slightly later

    def audit(name: str, arguments: tuple[Any, ...]) -> None:
        if name == event:
            count_down(arguments)

    def profile(frame: FrameType, name: str, _: Any) -> None:
        if name == event:
            count_down([f"{frame.f_globals.get('__name__')}.{frame.f_code.co_qualname}"])

    if event in ("call", "return"):
        sys.setprofile(profile)
        threading.setprofile(profile)  # steps of the index stage run in threads of their own
    else:
        sys.addaudithook(audit)
