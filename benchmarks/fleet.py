"""Compare captioning on twenty faulty nodes with a list schedule, with a list of nodes or through the gateway.

One node dies, one flaps, one is three times slower, and one rejects every request.

    python -m benchmarks.fleet [--clips 4000]                    the list of nodes
    python -m benchmarks.fleet --smg FOLDER [--clips 4000]       the gateway; FOLDER: a virtual environment with smg

The nodes are stand-ins (tests/support/engine.py) in their own process, with 16 parallel requests and 8 s per caption.
Clips are already prepared: the benchmark measures the client of a task (caption_batch: store, journal, gates, nodes) in
real time. The list schedule has the same faults without foresight: a free slot of a running node takes the next clip,
and dropped clips return to the list. Write results/fleet.json; new runs replace earlier ones of the same kind.
"""

import argparse
import asyncio
import heapq
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from clipdex import Pipeline
from clipdex.captions.engines import open_captioner
from clipdex.config import REPOSITORY, Settings
from clipdex.errors import ClipdexError
from clipdex.runs.completion import CompletionCriteria
from clipdex.runs.outcomes import Outcome, run_outcomes
from clipdex.runs.planning import BatchRef
from clipdex.stages.caption import caption_batch
from clipdex.video import Prepared, prepare
from demo.samples import write_tiny_clips
from tests.support.engine import MODEL, StandIn

DAY, RUN = "2026-11-03", "fleet.1"
CAPACITY, CAPTION_S = 16, 8.0
TRIES = 4
FOREVER = float("inf")
RESULT = Path(__file__).parent / "results" / "fleet.json"


@dataclass(frozen=True, slots=True)
class Behaviour:
    """The behaviour of a node.

    caption_s: time per caption [s]
    down: intervals without service [s from the start]
    refuses: return 400 for every request
    words: words per caption, None for random
    """

    caption_s: float = CAPTION_S
    down: tuple[tuple[float, float], ...] = ()
    refuses: bool = False
    words: int | None = None


HEALTHY = Behaviour()
SLOW = Behaviour(caption_s=3 * CAPTION_S)
DYING = Behaviour(down=((30.0, FOREVER),))
FLAPPING = Behaviour(down=tuple((start, start + 10.0) for start in range(20, 1000, 40)))
REFUSING = Behaviour(refuses=True)
WHOLE, QUICK = "slow, dying, flapping, refusing", "quick"
FLEETS = {
    WHOLE: [SLOW, DYING, FLAPPING, REFUSING] + 16 * [HEALTHY],
    "slow, dying, flapping": [SLOW, DYING, FLAPPING] + 17 * [HEALTHY],
    QUICK: 20 * [Behaviour(caption_s=0.2, words=400)],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=4000)
    parser.add_argument("--smg", type=Path)
    parser.add_argument("--nodes", metavar="FLEET", help="run the nodes (internal)")
    options = parser.parse_args()
    if options.nodes:
        asyncio.run(run_nodes(FLEETS[options.nodes]))
        return
    by = "gateway" if options.smg else "list of nodes"
    kept = json.loads(RESULT.read_text())["runs"] if RESULT.exists() else []
    runs = [run for run in kept if run["by"] != by]
    for name in [name for name in FLEETS if name != QUICK]:
        runs.append({"by": by, **measure(name, options.clips, options.smg)})
        print(json.dumps(runs[-1], indent=1), flush=True)
    setting = {"nodes": 20, "capacity": CAPACITY, "caption_s": CAPTION_S, "in_flight": 20 * CAPACITY}
    RESULT.write_text(json.dumps({**setting, "cores": os.cpu_count(), "runs": runs}, indent=1) + "\n")


def measure(name: str, clips: int, smg: Path | None) -> dict[str, Any]:
    """Run one batch on one fleet. busy_cores shows whether the machine limited the run."""
    fleet = FLEETS[name]
    with tempfile.TemporaryDirectory() as folder, nodes(name) as serving:
        with gateway(serving.urls, smg) as entrance:
            settings = Settings.load(
                home=folder,
                source={"url": f"{folder}/clips"},
                batches={"size": clips, "max_size": clips, "preparing": 8},
                engine={"name": "sglang", "model": MODEL, "base_urls": entrance, "in_flight": len(fleet) * CAPACITY},
            )
            ready = Ready(settings)
            ready.write(clips)
            pipeline = Pipeline(settings)
            wanted = CompletionCriteria(open_captioner(settings).fingerprint.digest(), collection="none")
            [batch] = pipeline.plan(RUN, pipeline.survey([DAY], wanted)).batches
            serving.begin()
            began, own, machine = time.perf_counter(), time.process_time(), busy_s()
            errors = asyncio.run(caption(pipeline, batch, ready))
            seconds = time.perf_counter() - began
            own, machine = time.process_time() - own, busy_s() - machine
        seen = serving.end()
        outcomes = Counter(one.outcome for one in run_outcomes(pipeline.store, DAY, RUN).values())
    scheduled = list_schedule(fleet, clips)
    return {
        "fleet": name,
        "command": "python -m benchmarks.fleet" + (" --smg FOLDER" if smg else ""),
        "date": f"{datetime.now(UTC):%Y-%m-%dT%H:%MZ}",
        "niceness": os.nice(0),
        "clips": clips,
        "makespan_s": round(seconds, 1),
        "list_schedule_s": round(scheduled, 1),
        "ratio": round(seconds / scheduled, 3),
        "captioned": outcomes[Outcome.CAPTIONED],
        "quarantined": outcomes[Outcome.QUARANTINED],
        "without_outcome": clips - outcomes[Outcome.CAPTIONED] - outcomes[Outcome.QUARANTINED],
        "asked_again": seen["asked_again"],
        "requests": seen["requests"],
        "tries": len(errors) + 1,
        "errors": errors,
        "client_cores": round(own / seconds, 2),
        "busy_cores": round(machine / seconds, 2),
        "answers": seen["answers"],
    }


async def caption(pipeline: Pipeline, batch: BatchRef, ready: "Ready") -> list[str]:
    """Run as many tries as the DAG does; return the errors of failed tries."""
    errors: list[str] = []
    async with pipeline.engine() as engine:
        while len(errors) < TRIES:
            try:
                await caption_batch(
                    pipeline.settings, pipeline.store, pipeline.source, engine, batch, len(errors) + 1, ready
                )
                break
            except ClipdexError as error:
                errors.append(f"{type(error).__name__}: {error}"[:400])
    return errors


class Ready:
    """Provide prepared clips: each file is its own proxy, with the same video and unique bytes."""

    def __init__(self, settings: Settings) -> None:
        self.folder = Path(settings.source_url)
        [clip] = write_tiny_clips(settings.home / "template", 1, DAY)
        self.template = prepare(clip, settings.video, settings.sampling)

    def write(self, clips: int) -> None:
        day = self.folder / DAY.replace("-", "/")
        day.mkdir(parents=True)
        for number in range(clips):
            unique = f"{number:08d}".encode()  # in an MP4 box that readers skip
            box = (8 + len(unique)).to_bytes(4, "big") + b"free" + unique
            (day / f"clip-{number:06d}.mp4").write_bytes(self.template.windows[0].proxy + box)

    async def prepare(self, path: str | Path) -> Prepared:
        window = replace(self.template.windows[0], proxy=Path(path).read_bytes())  # noqa: ASYNC240 (1 kB)
        return replace(self.template, windows=(window,))


def list_schedule(fleet: list[Behaviour], clips: int) -> float:
    """Return the makespan if a free slot of a running node takes the next clip at once [s]."""
    up, running, life = [not node.refuses for node in fleet], [0] * len(fleet), [0] * len(fleet)
    events = [(at, kind, number, 0) for number, node in enumerate(fleet)
              for span in node.down for at, kind in zip(span, ("down", "up"), strict=True)]  # fmt: skip
    heapq.heapify(events)
    waiting, left, now = clips, clips, 0.0
    while left:
        for number, node in enumerate(fleet):
            while waiting and up[number] and running[number] < CAPACITY:
                waiting, running[number] = waiting - 1, running[number] + 1
                heapq.heappush(events, (now + node.caption_s, "done", number, life[number]))
        now, kind, number, of_life = heapq.heappop(events)
        if kind == "done" and of_life == life[number]:
            running[number], left = running[number] - 1, left - 1
        elif kind == "down":
            waiting, running[number] = waiting + running[number], 0
            up[number], life[number] = False, life[number] + 1
        elif kind == "up":
            up[number] = True
    return now


@dataclass(slots=True)
class Serving:
    """Control the nodes from the measuring process."""

    process: "subprocess.Popen[str]"
    urls: list[str]

    def begin(self) -> None:
        """Start the clock of the faults."""
        assert self.process.stdin
        print("begin", file=self.process.stdin, flush=True)

    def end(self) -> dict[str, Any]:
        seen: dict[str, Any] = json.loads(self.process.communicate()[0])
        return seen


@contextmanager
def nodes(name: str) -> Iterator[Serving]:
    command = [sys.executable, "-m", "benchmarks.fleet", "--nodes", name]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout
        yield Serving(process, json.loads(process.stdout.readline()))
    finally:
        process.kill()
        process.wait()


@contextmanager
def gateway(urls: list[str], smg: Path | None) -> Iterator[list[str]]:
    """Yield the URLs for requests: the nodes, or smg started by docker/gateway/serve."""
    if smg is None:
        yield urls
        return
    port, metrics = free_port(), free_port()
    command = [sys.executable, str(REPOSITORY / "docker/gateway/serve"), "--port", str(port), *urls,
               "--prometheus-host", "127.0.0.1", "--prometheus-port", str(metrics), "--log-level", "error"]  # fmt: skip
    path = f"{smg.resolve() / 'bin'}:{os.environ['PATH']}"
    process = subprocess.Popen(command, env=os.environ | {"PATH": path}, start_new_session=True)
    try:
        wait_for_workers(f"http://127.0.0.1:{port}", len(urls))
        yield [f"http://127.0.0.1:{port}"]
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def wait_for_workers(url: str, count: int) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with suppress(OSError), urllib.request.urlopen(f"{url}/workers", timeout=5) as answer:
            if sum(worker["is_healthy"] for worker in json.load(answer)["workers"]) == count:
                return
        time.sleep(0.5)
    raise SystemExit(f"{url}: the gateway did not find all {count} nodes within 60 s")


async def run_nodes(fleet: list[Behaviour]) -> None:
    """Serve until standard input ends, and print the request counts."""
    lives: list[list[StandIn]] = [[new_stand_in(node)] for node in fleet]
    serving = {asyncio.create_task(life[0].run()) for life in lives}
    for life in lives:
        await asyncio.to_thread(life[0].started.wait, 10)
    print(json.dumps([life[0].url for life in lives]), flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    absences = [asyncio.create_task(stop_and_restart(*one, serving)) for one in zip(fleet, lives, strict=True)]
    await asyncio.to_thread(sys.stdin.read)
    for task in absences:
        task.cancel()
    for life in lives:
        life[-1].stop()
    await asyncio.gather(*serving, *absences, return_exceptions=True)
    requests_by_node = [[request for engine in life for request in engine.chats] for life in lives]
    everything = [request for requests in requests_by_node for request in requests]
    answered: dict[str, float] = {}
    for request in everything:
        if request.status == 200 and request.end is not None:
            answered[request.digest] = min(request.end, answered.get(request.digest, FOREVER))
    again = [request for request in everything if request.at > answered.get(request.digest, FOREVER)]
    counts = [Counter(str(request.status) for request in requests) for requests in requests_by_node]
    print(json.dumps({"asked_again": len(again), "requests": len(everything), "answers": counts}))


async def stop_and_restart(node: Behaviour, life: list[StandIn], serving: "set[asyncio.Task[None]]") -> None:
    began = time.monotonic()
    for gone, back in node.down:
        await asyncio.sleep(began + gone - time.monotonic())
        life[-1].stop()
        if back == FOREVER:
            return
        await asyncio.sleep(began + back - time.monotonic())
        life.append(new_stand_in(node, life[-1].port))
        serving.add(asyncio.create_task(life[-1].run()))


def new_stand_in(node: Behaviour, port: int = 0) -> StandIn:
    faults = "400:1.0" if node.refuses else ""
    return StandIn(faults, latency_s=node.caption_s, capacity=CAPACITY, words=node.words, port=port)


def busy_s() -> float:
    """Return the busy time of all cores since boot [s]."""
    user, nice, system, _, _, irq, soft = map(int, Path("/proc/stat").read_text().split()[1:8])
    return (user + nice + system + irq + soft) / os.sysconf("SC_CLK_TCK")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


if __name__ == "__main__":
    main()
