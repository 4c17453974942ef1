"""Tasks killed with SIGKILL at any moment: the next try ends as if nothing had happened, and pays for nothing twice."""

import hashlib
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import httpx
import psutil
import pytest

from clipdex.runs.planning import load_plan
from clipdex.runs.report import RunReport, check_report, report_run
from tests.support.engine import StandIn
from tests.support.killed import Task
from tests.support.pipeline import Pipeline

CLIPS, IN_FLIGHT = 12, 4


@pytest.fixture
def engine():
    with StandIn(words=400) as engine:
        yield engine


@pytest.fixture
def pipeline(tmp_path, engine, archive) -> Pipeline:
    return Pipeline(tmp_path, [engine.url], archive, engine={"in_flight": IN_FLIGHT})


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    """A day of clips, one of them there twice, one without a byte."""
    home = tmp_path_factory.mktemp("archive")
    clips = Pipeline(home, ["http://nowhere"]).put(CLIPS)
    clips[0].with_name("copy.mp4").write_bytes(clips[3].read_bytes())
    clips[0].with_name("empty.mp4").touch()
    return home / "clips"


@pytest.fixture(scope="module")
def undisturbed(archive, tmp_path_factory):
    """What a run leaves that nobody disturbs: its points, and its report."""
    with StandIn(words=400) as engine:
        pipeline = Pipeline(tmp_path_factory.mktemp("undisturbed"), [engine.url], archive)
        report = pipeline.run()
        return pipeline.points(), told(report)


@pytest.mark.parametrize("answered", [pytest.param(1, marks=pytest.mark.slow), 6])
def test_a_killed_caption_task_repeats_at_most_the_requests_in_flight(pipeline, engine, undisturbed, answered):
    engine.latency_s = 0.4
    pipeline.plan()
    task = Task(pipeline, "caption")
    wait_until(lambda: len(pipeline.store.list("captions")) >= answered and in_flight(engine) >= 2, task)
    task.kill()
    kept, before = stored(pipeline), len(engine.chats)
    engine.latency_s = 0.0
    Task(pipeline, "caption", try_number=2).wait()
    after = engine.chats[before:]
    assert len(kept) >= answered
    assert not kept & {request.digest for request in after}
    # The kill may cut a request in the middle of its body: it has no digest.
    repeated = Counter(request.digest for request in engine.chats if request.digest)
    assert max(repeated.values()) <= 2
    assert sum(count - 1 for count in repeated.values()) <= IN_FLIGHT
    assert finished(pipeline) == undisturbed


def test_a_killed_caption_task_leaves_no_process_behind(pipeline, engine):
    engine.latency_s = 0.4
    pipeline.plan()
    task = Task(pipeline, "caption")
    wait_until(lambda: in_flight(engine) >= 2, task)
    started = task.kill()
    assert started
    _, alive = psutil.wait_procs(started, timeout=60)
    assert not alive


@pytest.mark.slow
def test_a_killed_index_task_leaves_no_semaphore(tmp_path, archive):
    """The resource tracker of multiprocessing prints a warning at the end of the process for each one left."""
    program = f"""
import sys
from pathlib import Path
from tests.support.engine import StandIn
from tests.support.killed import Task
from tests.support.pipeline import Pipeline

if __name__ == "__main__":
    with StandIn(words=80) as engine:
        pipeline = Pipeline(Path({str(tmp_path)!r}), [engine.url], Path({str(archive)!r}))
        pipeline.caption(pipeline.plan().batches[0])
        sys.exit(Task(pipeline, "index", die_at="os.rename:outcomes/:1").wait() != -9)
"""
    script = tmp_path / "killed_index.py"
    script.write_text(program)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=False, env=environment)
    assert (done.returncode, "semaphore" in done.stderr) == (0, False), done.stderr


def arrived(engine) -> int:
    """Return the number of requests, also of those that a killed task had sent and the engine was still reading."""
    counts = [-1]
    while len(counts) < 6 or len(set(counts[-5:])) > 1:
        httpx.get(f"{engine.url}/v1/models")
        counts.append(len(engine.chats))
    return counts[-1]


@pytest.mark.parametrize(
    "moment",
    [
        "os.rename:captions/:1",  # the caption is written, not yet in its place
        "open:captions/:9",
        "open:posters/:5",
        "open:outcomes/:1",  # all are stored, no outcome is told
        "os.rename:outcomes/:1",
    ],
)
@pytest.mark.slow
def test_captioning_killed_as_it_writes_ends_the_same(pipeline, engine, undisturbed, moment):
    pipeline.plan()
    assert Task(pipeline, "caption", die_at=moment).wait() == -9
    kept, before = stored(pipeline), arrived(engine)
    Task(pipeline, "caption", try_number=2).wait()
    assert finished(pipeline) == undisturbed
    assert len(engine.chats) - before == CLIPS - len(kept)


@pytest.mark.parametrize(
    "moment",
    [
        "open:rebuild/:1",
        "os.rename:\\.new-:1",  # the collection is made, not yet in its place
        "open:\\.alias:1",  # no search can find it yet
        "open:outcomes/.*\\.tmp-:1",  # the points are written, nobody has told so
    ],
)
@pytest.mark.slow
def test_indexing_killed_as_it_writes_ends_the_same(pipeline, engine, undisturbed, moment):
    (batch,) = pipeline.plan().batches
    pipeline.caption(batch)
    assert Task(pipeline, "index", die_at=moment).wait() == -9
    assert finished(pipeline, try_number=2) == undisturbed


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["open:reports/:1", "os.rename:ledger/:1", "os.rename:all.jsonl:1", "os.remove::2"])
def test_a_report_killed_as_it_writes_says_the_same_when_it_is_made_again(pipeline, engine, undisturbed, moment):
    (batch,) = pipeline.plan().batches
    pipeline.caption(batch)
    pipeline.index(batch)
    assert Task(pipeline, "report", die_at=moment).wait() == -9
    assert (pipeline.points(), told(report_run(pipeline.store, "r.1"))) == undisturbed
    assert pipeline.plan("r.2").to_do == 0


def finished(pipeline: Pipeline, try_number: int = 1):
    """Index and report; what the run left."""
    (batch,) = load_plan(pipeline.store, "r.1").batches
    pipeline.index(batch, try_number)
    report = report_run(pipeline.store, "r.1")
    check_report(report, pipeline.settings.quarantine)
    return pipeline.points(), told(report)


def told(report: RunReport) -> dict:
    """A report without what a clock says."""
    record = report.to_json()
    return {**record, "days": [{**day, "pace": None} for day in record["days"]]}


def stored(pipeline: Pipeline) -> set[str]:
    """How the engine sees the clips whose captions are stored."""
    contents = {pipeline.store.read_json(key)["content"] for key in pipeline.store.list("captions")}
    return {pipeline.proxy_digest(path) for path in pipeline.clips.rglob("*.mp4") if sha256(path) in contents}


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def in_flight(engine: StandIn) -> int:
    return sum(request.status is None for request in engine.chats)


def wait_until(true: Callable[[], bool], task: Task) -> None:
    deadline = time.monotonic() + 60
    while not true():
        assert task.running and time.monotonic() < deadline, (
            "the task ended, or 60 s went by, before it could be killed"
        )
        time.sleep(0.01)
