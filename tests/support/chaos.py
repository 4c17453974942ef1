"""Run a day of clips with faults, task by task as Airflow does, and compare the result with a run without faults.

    with Drill(home, archive, fleet=3) as drill:
        drill.engines[0].plan.set("503:0.5")
        drill.task("caption", die_at="os.rename:captions/:2")      # one try; it may fail
        drill.finish()                                             # the tries that Airflow makes
        drill.verdict(baseline)

Each task is a process (killed.py). The engines are stand-ins in this process.
"""

import os
import shutil
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from clipdex.runs.planning import Plan, load_plan
from clipdex.runs.report import load_report
from tests.support.engine import StandIn
from tests.support.killed import PERSON, Task
from tests.support.pipeline import DAY, Pipeline
from tests.support.qdrant import QdrantServer
from tests.support.verdict import (
    NotInjected,
    State,
    Verdict,
    asked_after_stored,
    digests,
    left_behind,
    repeated,
    state_of,
)

CLIPS, IN_FLIGHT, BATCH = 12, 4, 7
WORDS = 400
TRIES = 7
"""Equal to the tries of a task in the DAG."""
HANG_S = 90.0


def make_archive(home: Path) -> Path:
    """Write a day of clips, with one duplicate and one empty file; return the folder."""
    clips = Pipeline(home, ["http://nowhere"]).put(CLIPS)
    clips[0].with_name("copy.mp4").write_bytes(clips[3].read_bytes())
    clips[0].with_name("empty.mp4").touch()
    return home / "clips"


class Drill:
    """Own one archive, store, index, fleet of engines, and one run of the day.

    fleet: number of nodes
    state: a .clipdex folder to start from
    served: whether the index is on a (stand-in) server
    settings: sections of Settings
    """

    def __init__(
        self,
        home: Path,
        archive: Path,
        *,
        fleet: int = 1,
        words: int = WORDS,
        state: Path | None = None,
        served: bool = False,
        **settings: Any,
    ) -> None:
        home.mkdir(parents=True, exist_ok=True)
        home.chmod(0o755)
        if state:
            shutil.copytree(state, home / ".clipdex")
        self.home, self.archive = home, archive
        self.engines = [StandIn(words=words, seed=number + 1) for number in range(fleet)]
        self.qdrant = QdrantServer() if served else None
        self._settings = settings
        self.verdict_so_far = Verdict()
        self.tries: Counter[str] = Counter()
        self.unfinished = 0
        self.plans = 0
        self.recaption = self.finished = self.asked_again = False
        self.name = "r"
        self.wishes: tuple[tuple[str, Any], ...] = ()
        self.storms: dict[str, list[tuple[str, signal.Signals]]] = {}
        self._everyone, self._stopped = ExitStack(), list[StandIn]()
        self.repair: Callable[[], None] = lambda: None
        """Removes the fault, as a person does after a task failed for good."""

    def __enter__(self) -> "Drill":
        for engine in self.engines:
            engine.__enter__()
        settings = {"batches": {"size": BATCH}, "index": {"lock_wait_s": 30}} | self._settings
        if self.qdrant:
            self._everyone.enter_context(self.qdrant)
            settings["index"] = {"url": self.qdrant.url, "timeout_s": 1.0}
        engine = {"in_flight": IN_FLIGHT} | settings.pop("engine", {})
        urls = [engine.url for engine in self.engines]
        self.pipeline = Pipeline(self.home, urls, self.archive, engine=engine, **settings)
        return self

    def __exit__(self, *_: object) -> None:
        for engine in self.engines:
            self.stop(engine)
        self._everyone.close()

    @property
    def run(self) -> str:
        return f"{'again' if self.recaption else self.name}.{max(1, self.plans)}"

    def start(self, phase: str, batch: int = 0, run: str = "", **job: Any) -> Task:
        """Start the next try of a task. Each try of discover writes a new plan. run: default self.run."""
        if phase == "discover":
            self.plans += not run
            wishes = (("recaption", True),) if self.recaption else self.wishes
            return Task(self.pipeline, phase, run=run or self.run, wishes=wishes, **job)
        run = run or self.run
        if self.storms.get(phase):
            job["die_at"], job["die_of"] = self.storms[phase].pop()
        self.tries[f"{run} {phase} {batch}"] += 1
        return Task(self.pipeline, phase, run=run, batch=batch, try_number=self.tries[f"{run} {phase} {batch}"], **job)

    def end(self, task: Task, limit_s: float = HANG_S) -> int:
        """Wait for a task and return its exit code; record a hang in the verdict."""
        try:
            code = task.ended(limit_s)
        except TimeoutError as hung:
            self.verdict_so_far.hangs.append(str(hung))
            code = -signal.SIGKILL
        if code and task.job.phase == "caption":
            self.unfinished += 1
        if code < 0 and task.job.phase in self.storms:
            self.injected()
        return code

    def must(self, phase: str, batch: int = 0, *, ends: int | None = None, **job: Any) -> None:
        """Run one try that must fail, with exit code ends if it is given."""
        code = self.task(phase, batch, **job)
        if code == 0 or ends not in (None, code):
            self.verdict_so_far.lost.append(f"{phase} ended with {code}, expected {ends or 'a failure'}")

    def task(self, phase: str, batch: int = 0, **job: Any) -> int:
        """Run one try and return its exit code."""
        return self.end(self.start(phase, batch, **job))

    def die(self, phase: str, batch: int = 0, *, at: str, of: signal.Signals = signal.SIGKILL) -> None:
        """Run one try that dies at a moment."""
        code = self.task(phase, batch, die_at=at, die_of=of)
        if code != -of:
            raise NotInjected(f"{phase} did not come to {at}: it ended with {code}")
        self.injected()

    def kill(self, task: Task, when: Callable[[], bool], of: signal.Signals = signal.SIGKILL) -> None:
        """Kill a task as soon as a condition is true."""
        self.wait(task, when)
        task.kill(of)
        if task.job.phase == "caption":
            self.unfinished += 1
        self.injected()

    def wait(self, task: Task, when: Callable[[], bool]) -> None:
        """Wait for a condition while a task runs; raise NotInjected if the task ends first."""
        deadline = time.monotonic() + HANG_S
        while not when():
            if not task.running or time.monotonic() > deadline:
                raise NotInjected(f"{task.job.phase} ended too early:\n{task.log.read_text()[-1500:]}")
            time.sleep(0.005)

    def stop(self, engine: StandIn) -> None:
        """Stop a node; its requests still count."""
        if engine not in self._stopped:
            self._stopped.append(engine)
            engine.__exit__()

    def serve(self, engine: StandIn) -> None:
        """Add and start a node."""
        self.engines.append(engine)
        engine.__enter__()

    def injected(self, count: int = 1) -> None:
        self.verdict_so_far.faults += count

    def until(self, phase: str) -> None:
        """Run all phases before this one without faults."""
        for earlier in ("discover", "caption", "index", "report"):
            if earlier == phase:
                return
            for batch in range(1 if earlier in ("discover", "report") else self.batches):
                assert self.task(earlier, batch) == 0

    @property
    def batches(self) -> int:
        return len(self.plan_of(self.run).batches)

    def plan_of(self, run: str) -> Plan:
        return load_plan(self.pipeline.store, run)

    def finish(self) -> None:
        """Run all tries, the index in any case, and the report. After a failure, repair once and rerun."""
        if self.finished:
            return
        self.finished = True
        if not self.plans or not self.pipeline.store.exists(f"runs/{self.run}.json"):
            self._run_tries("discover")
        codes = self._run_remaining()
        if any(codes):
            self.repair()
            codes = self._run_remaining()
        if any(codes):
            self.verdict_so_far.lost.append(f"the run stays red: {codes}")

    def _run_remaining(self) -> list[int]:
        codes = []
        for batch in range(self.batches):
            codes.append(self._run_tries("caption", batch))
            codes.append(self._run_tries("index", batch))
        return [*codes, self._run_tries("report", tries=2)]

    def _run_tries(self, phase: str, batch: int = 0, tries: int = TRIES) -> int:
        """Run the tries of a task; stop at success or at an error that needs a person."""
        code = 1
        for _ in range(tries):
            code = self.task(phase, batch)
            if code in (0, PERSON):
                break
        return code

    def state(self) -> State:
        return state_of(self.pipeline, self.archive, DAY)

    def verdict(self, expected: State) -> Verdict:
        """Compare the final state, the report and the requests with the expected state."""
        verdict = self.verdict_so_far
        verdict.compare(expected, self.state())
        report = load_report(self.pipeline.store, self.run)
        verdict.lost += [f"unfinished in the report: {uri}" for uri in report.unfinished]
        if not self.asked_again:
            contents = digests(self.pipeline, self.archive)
            verdict.captioned_twice = asked_after_stored(self.pipeline.store, contents, self.chats())
        again = repeated(self.chats())
        allowed = IN_FLIGHT * self.unfinished + self.asked_again
        if len(again) > allowed:
            verdict.repeated = again
        verdict.left_behind = left_behind()
        return verdict

    def digest_of(self, name: str) -> str:
        """Return the sha256 of the proxy that an engine receives for the clip of this name."""
        return self.pipeline.proxy_digest(next(self.archive.rglob(name)))

    def chats(self) -> list[Any]:
        return sorted((request for engine in self.engines for request in engine.chats), key=lambda one: one.at)

    def in_flight(self) -> int:
        return sum(engine.running for engine in self.engines)

    def stored(self) -> int:
        return len(self.pipeline.store.list("captions"))


@contextmanager
def held(lock: Path) -> Iterator[None]:
    """Hold this lock file in another process."""
    lock.parent.mkdir(parents=True, exist_ok=True)
    with subprocess.Popen(
        ["flock", str(lock), "sh", "-c", "echo held; exec sleep 600"], stdout=subprocess.PIPE, start_new_session=True
    ) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        yield
        os.killpg(holder.pid, signal.SIGKILL)


@contextmanager
def small_disk(folder: Path, kib: int) -> Iterator[Callable[[], None]]:
    """Move a folder to a tmpfs of this size [KiB]; yield a function that enlarges it.

    At the end, the folder is back on its own disk with all files. Needs root.
    """
    beside, disk = folder.with_name(f"{folder.name}.disk"), ["mount", "-t", "tmpfs", "-o"]
    folder.mkdir(parents=True, exist_ok=True)
    folder.rename(beside)
    folder.mkdir()
    subprocess.run([*disk, f"size={kib}k", "tmpfs", str(folder)], check=True)
    try:
        shutil.copytree(beside, folder, dirs_exist_ok=True)
        yield lambda: subprocess.run(["mount", "-o", "remount,size=512m", str(folder)], check=True) and None
        shutil.rmtree(beside)
        shutil.copytree(folder, beside)
    finally:
        subprocess.run(["umount", str(folder)], check=True)
        folder.rmdir()
        beside.rename(folder)
