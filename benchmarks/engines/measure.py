"""Start engines on the GPU host, load them, and write their rates: one JSON line per point.

    python -m benchmarks.engines.measure PLAN.toml --out DIR --work DIR --model DIR --site sglang=DIR --site vllm=DIR

A plan has lanes, which run in parallel, each on one GPU and its own cores.
A lane has cases: one engine with its flags each. A case has points.
A case that fails is recorded with its last lines and does not stop the others.
prepare.py must have written WORK/clips and WORK/proxies.
"""

import argparse
import json
import multiprocessing
import os
import platform
import subprocess
import sys
import tempfile
import time
import tomllib
import traceback
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any

from benchmarks.engines import load, servers
from benchmarks.engines.servers import SERVED, Host, Server, ServerDied

PROXIES: dict[str, dict[str, Any]] = {
    "20x476x280": {"fps": 2.0, "short_side": 280},
    "10x476x280": {"fps": 1.0, "short_side": 280},
    "20x336x196": {"fps": 2.0, "short_side": 196, "multiple_of": 28},
}
"""Sampling settings by frames and size of the proxy."""

PROMPT = (
    "Describe this clip for a search index: the setting, people, objects, actions in order, camera movement and any "
    "text on screen, in plain English."
)


@dataclass(slots=True)
class Lane:
    """The state of one measuring process."""

    plan: str
    gpu: int
    cores: str
    host: Host
    work: Path
    out: Path
    until: float
    next_clip: Iterator[int]

    def write(self, record: dict[str, Any]) -> None:
        line = {"at": datetime.now(UTC).isoformat(timespec="seconds"), "plan": self.plan, "gpu": self.gpu, **record}
        with (self.out / f"{self.plan}-{self.gpu}.jsonl").open("a") as file:
            file.write(json.dumps(line) + "\n")
        shown = {name: value for name, value in record.items() if name not in ("command", "log", "env", "flags")}
        print(f"[{self.gpu}] {json.dumps(shown)}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("plan", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--site", action="append", default=[], metavar="ENGINE=DIR")
    parser.add_argument("--seconds", type=float, default=3600.0, help="start no point after this time")
    args = parser.parse_args()
    plan = tomllib.loads(args.plan.read_text())
    host = Host(dict(site.split("=", 1) for site in args.site), args.model)
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / f"{args.plan.stem}-host.json").write_text(json.dumps(machine(host)) + "\n")
    until = time.time() + args.seconds
    lanes = [
        multiprocessing.Process(target=run_lane, args=(args.plan.stem, lane, host, args.work, args.out, until))
        for lane in plan["lane"]
    ]
    for lane in lanes:
        lane.start()
    for lane in lanes:
        lane.join()
    sys.exit(max(lane.exitcode or 0 for lane in lanes))


def run_lane(name: str, plan: dict[str, Any], host: Host, work: Path, out: Path, until: float) -> None:
    _pin(plan.get("cores", ""))
    lane = Lane(name, plan["gpu"], plan.get("cores", ""), host, work, out, until, count(plan.get("first_clip", 0)))
    _run_cases(lane, plan["case"])


def _pin(cores: str) -> None:
    """Pin this thread and its child processes to these cores."""
    if cores:
        first, last = (int(core) for core in cores.split("-"))
        os.sched_setaffinity(0, set(range(first, last + 1)) & os.sched_getaffinity(0))


def _run_cases(lane: Lane, cases: list[dict[str, Any]]) -> None:
    for case in cases:
        if time.time() > lane.until:
            lane.write({"case": case["name"], "left_out": "no time left"})
            continue
        run_case(lane, case)


def _about(case: dict[str, Any]) -> dict[str, Any]:
    about = {name: case.get(name, default) for name, default in
             (("engine", ""), ("flags", []), ("env", {}), ("why", ""))}  # fmt: skip
    return {**about, "case": case["name"]}


def run_case(lane: Lane, case: dict[str, Any]) -> None:
    """Run all points of one engine with its flags."""
    if case["engine"] == "transformers":
        _transformers(lane, case)
        return
    if case["engine"] == "gateway":
        _gateway(lane, case)
        return
    about = _about(case)
    log = lane.work / "logs" / f"{lane.plan}-{lane.gpu}-{case['name']}.log"
    try:
        server = servers.start(lane.host, case["engine"], about["flags"], about["env"], lane.gpu, lane.cores, log,
                               case.get("wait_s", 480.0))  # fmt: skip
    except ServerDied as error:
        lane.write({**about, "died": str(error)[-3000:]})
        return
    try:
        lane.write({**about, "command": server.command, "start_s": server.start_s})
        _run_points(lane, server, about, case["point"])
    finally:
        server.stop()


def _run_points(lane: Lane, server: Server, about: dict[str, Any], points: list[dict[str, Any]]) -> None:
    """Run the points in order until the server dies."""
    for point in points:
        _run_point(lane, server, about, point, [server])
        if not server.alive:
            lane.write({**about, "died": server.tail()})
            break


def _run_point(lane: Lane, server: Server, about: dict[str, Any], point: dict[str, Any], nodes: list[Server]) -> None:
    """Measure one point on a server with these nodes, and write the result."""
    _wait_for_clips(lane)
    if time.time() > lane.until:
        lane.write({**about, "point": point, "left_out": "no time left"})
        return
    for node in nodes:
        _flush(node)
    cpu_s = server.cpu_s()
    try:
        found = _POINTS[point.get("kind", "load")](lane, server, point, about)
    except Exception:  # a failed point must not stop the others
        found = {"failed": traceback.format_exc()[-3000:]}
    lane.write({**about, "point": point, **found, "server_cpu_s": round(server.cpu_s() - cpu_s, 1)})


def _wait_for_clips(lane: Lane) -> None:
    """Wait for prepare.py, which may still run while the first engine starts."""
    while not (lane.work / "ready").exists() and time.time() < lane.until:
        time.sleep(1)


def _load(lane: Lane, server: Server, point: dict[str, Any], about: dict[str, Any]) -> dict[str, Any]:
    """Run a closed loop with prepared proxies or original clips."""
    kind = point.get("proxy", "20x476x280")
    tokens = point.get("tokens", 512)

    def bodies() -> Iterator[bytes]:
        return load.video_bodies(SERVED, _prompt(point), tokens, _videos(lane, kind))

    options = {name: point[name] for name in ("ramp_s", "limit_s", "fresh") if name in point}
    warm_up = point.get("warm_up", 0)
    if warm_up:
        load.run(server.url, bodies, min(warm_up, point["in_flight"]), warm_up)
    found = load.run(server.url, bodies, point["in_flight"], point["requests"], **options)
    return {"proxy": kind, "rates": found.to_json()}


def _pipeline(lane: Lane, server: Server, point: dict[str, Any], about: dict[str, Any]) -> dict[str, Any]:
    """Alternate clipdex on stored clips and the bare generator on as many proxies; write each result."""
    from benchmarks.engines import pipeline

    def of_clipdex() -> dict[str, Any]:
        clips = [_clip(lane, next(lane.next_clip)) for _ in range(point["requests"])]
        folder = Path(tempfile.mkdtemp(prefix="pipeline-", dir=lane.work))
        return pipeline.run(point.get("urls", [server.url]), clips, folder, point)

    def of_generator() -> dict[str, Any]:
        found = _load(lane, server, {**point, "prompt": "describe", "in_flight": point["bare_in_flight"]}, about)
        rates: dict[str, Any] = found["rates"]
        return rates

    turns = [("pipeline", of_clipdex)] + ([("bare", of_generator)] if point.get("bare", True) else [])
    if point.get("bare_first"):
        turns.reverse()
    rounds: list[dict[str, Any]] = []
    for number in range(point.get("rounds", 1)):
        rounds.append({})
        for name, run in turns:
            _flush(server)
            rounds[-1][name] = run()
            lane.write({**about, "point": point, "round": number, name: rounds[-1][name]})
    return {"rounds": len(rounds)}


_POINTS: dict[str, Callable[[Lane, Server, dict[str, Any], dict[str, Any]], dict[str, Any]]] = {
    "load": _load, "pipeline": _pipeline,
}  # fmt: skip


def _gateway(lane: Lane, case: dict[str, Any]) -> None:
    """Run nodes on separate GPUs and cores: one alone, all through the gateway, all as a list.

    Then each node of "apart" runs its own points and cases, in parallel.
    """
    about = _about(case)

    def start(gpu: int) -> Server:
        log = lane.work / "logs" / f"{lane.plan}-{case['name']}-{gpu}.log"
        return servers.start(lane.host, case["nodes"], case["flags"], case.get("env", {}), gpu, case["cores"][gpu], log,
                             case.get("wait_s", 480.0))  # fmt: skip

    with ThreadPoolExecutor(len(case["cores"])) as starting:
        started = [starting.submit(start, gpu) for gpu in range(len(case["cores"]))]
    nodes = [one.result() for one in started if not one.exception()]
    try:
        if died := [str(one.exception())[-3000:] for one in started if one.exception()]:
            lane.write({**about, "died": died})
            return
        lane.write({**about, "commands": [node.command for node in nodes], "start_s": [node.start_s for node in nodes]})
        _through_gateway(lane, nodes, about, case["point"])
        apart = case.get("apart", [])
        with ThreadPoolExecutor(max(1, len(apart))) as going_on:
            list(going_on.map(lambda gpu: _run_apart(lane, case, gpu, nodes[gpu]), range(len(apart))))
    finally:
        for node in nodes:
            if node.alive:
                node.stop()


def _through_gateway(lane: Lane, nodes: list[Server], about: dict[str, Any], points: list[dict[str, Any]]) -> None:
    log = lane.work / "logs" / f"{lane.plan}-gateway.log"
    urls = [node.url for node in nodes]
    try:
        gateway = servers.start_gateway(urls, log)
    except ServerDied as error:  # continue with the nodes
        lane.write({**about, "died": str(error)[-3000:]})
        return
    targets = {"node": (nodes[0], urls[:1]), "gateway": (gateway, [gateway.url]), "list": (nodes[0], urls)}
    try:
        for point in points:
            server, addresses = targets[point["through"]]
            _run_point(lane, server, about, {**point, "urls": addresses}, nodes)
    finally:
        gateway.stop()


def _run_apart(lane: Lane, case: dict[str, Any], gpu: int, node: Server) -> None:
    apart = case["apart"][gpu]
    own = replace(lane, gpu=gpu, cores=case["cores"][gpu], next_clip=count(apart.get("first_clip", 0)))
    _pin(own.cores)
    _run_points(own, node, {**_about(case), "engine": case["nodes"]}, apart["point"])
    node.stop()
    _run_cases(own, apart.get("case", []))


def _transformers(lane: Lane, case: dict[str, Any]) -> None:
    """Measure transformers in another process, so that its memory is freed."""
    command = [sys.executable, "-m", "benchmarks.engines.vanilla", "--model", lane.host.model]
    for point in case["point"]:
        videos = [str(_proxy(lane, "20x476x280", next(lane.next_clip))) for _ in range(point["requests"])]
        options = ["--batch", str(point["in_flight"]), "--tokens", str(point.get("tokens", 512))]
        done = subprocess.run(
            [*command, *options, *videos], capture_output=True, text=True, cwd=servers.REPOSITORY,
            env={**os.environ, "CUDA_VISIBLE_DEVICES": str(lane.gpu)},
        )  # fmt: skip
        about = {"case": case["name"], "engine": "transformers", "point": point, "command": command}
        if done.returncode:
            lane.write({**about, "died": done.stderr[-3000:]})
            return
        lane.write({**about, **json.loads(done.stdout.splitlines()[-1])})


def _prompt(point: dict[str, Any]) -> str:
    """Return the prompt with 1,752 prompt tokens for the fixed proxy, or clipdex's prompt."""
    if point.get("prompt") != "describe":
        return PROMPT
    from clipdex.captions.strategies import prompt_text
    from clipdex.config import Engine

    return prompt_text("describe", "en", Engine().max_tokens)


def _videos(lane: Lane, kind: str) -> Iterator[bytes]:
    for number in lane.next_clip:
        yield (_clip(lane, number) if kind == "original" else _proxy(lane, kind, number)).read_bytes()


def _clip(lane: Lane, number: int) -> Path:
    return lane.work / "clips" / f"clip-{number % _count(lane):06d}.mp4"


def _proxy(lane: Lane, kind: str, number: int) -> Path:
    folder = lane.work / "proxies" / kind
    return folder / f"{number % _count(lane, folder):06d}.mp4"


def _count(lane: Lane, folder: Path | None = None) -> int:
    folder = folder or lane.work / "clips"
    if folder not in _COUNTS:
        _COUNTS[folder] = sum(path.suffix == ".mp4" for path in folder.iterdir())
    return _COUNTS[folder]


_COUNTS: dict[Path, int] = {}
_SGLANG = ("sglang", "serve")


def _flush(server: Server) -> None:
    """Clear the prefix cache."""
    if server.engine in _SGLANG:
        request = urllib.request.Request(f"{server.url}/flush_cache", method="POST")
        try:
            urllib.request.urlopen(request, timeout=10).close()
        except OSError as error:
            print(f"flush_cache: {error}", flush=True)


def make_proxies(work: Path, kinds: dict[str, int]) -> None:
    """Write this many proxies of each kind from WORK/clips, with clipdex's preparation."""
    with ProcessPoolExecutor(len(os.sched_getaffinity(0))) as processes:
        for kind, wanted in kinds.items():
            folder = work / "proxies" / kind
            folder.mkdir(parents=True, exist_ok=True)
            clips = sorted((work / "clips").glob("clip-*.mp4"))[:wanted]
            list(processes.map(_make_proxy, clips, [kind] * len(clips), [folder] * len(clips), chunksize=8))


def _make_proxy(clip: Path, kind: str, folder: Path) -> None:
    from clipdex.config import Sampling, VideoLimits
    from clipdex.video import prepare

    path = folder / f"{clip.stem.rpartition('-')[2]}.mp4"
    if not path.exists():
        (window,) = prepare(clip, VideoLimits(), Sampling(**PROXIES[kind])).windows
        part = path.with_suffix(".part")
        part.write_bytes(window.proxy)
        part.replace(path)


def machine(host: Host) -> dict[str, Any]:
    """Describe the machine."""
    cards = subprocess.run(
        ["nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"],
        capture_output=True, text=True,
    ) if Path("/usr/bin/nvidia-smi").exists() or _on_path("nvidia-smi") else None  # fmt: skip
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "gpus": cards.stdout.strip().splitlines() if cards else [],
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "versions": {name: _version(Path(site), name) for name, site in host.sites.items()},
    }


def _on_path(name: str) -> bool:
    return any((Path(folder) / name).exists() for folder in os.environ.get("PATH", "").split(os.pathsep))


def _version(site: Path, package: str) -> str:
    return next((found.name.split("-")[1].removesuffix(".dist") for found in site.glob(f"{package}-*.dist-info")), "")


if __name__ == "__main__":
    main()
