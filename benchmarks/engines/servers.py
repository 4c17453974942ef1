"""Start engines on a free port of this host, wait until they are healthy, and stop them with all child processes.

SGLang and vLLM are imported from Host.sites (written by unpack.sh) or from Python's path. The stand-in of the tests can
replace them for a rehearsal without a GPU.
"""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

SERVED = "qwen2.5-vl-7b"
REPOSITORY = Path(__file__).parents[2]


class ServerDied(Exception):
    """An engine did not become healthy, or ended; the message includes its last lines."""


@dataclass(frozen=True, slots=True)
class Host:
    """The paths on the GPU host.

    sites: PYTHONPATH folder by engine
    model: model folder; served: name under which it is served
    load_format: dummy for random weights
    """

    sites: Mapping[str, str] = field(default_factory=dict)
    model: str = ""
    served: str = SERVED
    load_format: str = "dummy"


@dataclass(slots=True)
class Server:
    """A running engine."""

    engine: str
    url: str
    command: list[str]
    start_s: float
    log: Path
    process: subprocess.Popen[bytes]

    @property
    def alive(self) -> bool:
        return self.process.poll() is None

    def cpu_s(self) -> float:
        """Return the CPU time of this process and its children so far [s]."""
        with contextlib.suppress(psutil.NoSuchProcess):
            root = psutil.Process(self.process.pid)
            return sum(_cpu_s(one) for one in (root, *root.children(recursive=True)))
        return 0.0

    def tail(self, lines: int = 30) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def stop(self) -> None:
        for kind, patience_s in ((signal.SIGTERM, 8.0), (signal.SIGKILL, 20.0)):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, kind)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(patience_s)
        _wait_for_memory()


def start(
    host: Host,
    engine: str,
    flags: Sequence[str],
    env: Mapping[str, str],
    gpu: int,
    cores: str,
    log: Path,
    wait_s: float,
) -> Server:
    """Start an engine and wait until it is healthy. Raise ServerDied."""
    port = _free_port()
    command = _command(engine, host, port, flags)
    log.parent.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    with log.open("wb") as output:
        process = subprocess.Popen(
            ["taskset", "-c", cores, *command] if cores else command, stdin=subprocess.DEVNULL, stdout=output,
            stderr=subprocess.STDOUT, start_new_session=True, env=_environment(host, engine, gpu, env), cwd=REPOSITORY,
        )  # fmt: skip
    server = Server(engine, f"http://127.0.0.1:{port}", command, 0.0, log, process)
    while not _answers(f"{server.url}/health"):
        if not server.alive:
            raise ServerDied(f"{engine} ended with {process.returncode}:\n{server.tail()}")
        if time.monotonic() - began > wait_s:
            server.stop()
            raise ServerDied(f"{engine} is not healthy after {wait_s:.0f} s:\n{server.tail()}")
        time.sleep(0.5)
    server.start_s = round(time.monotonic() - began, 1)
    return server


def start_gateway(urls: Sequence[str], log: Path) -> Server:
    """Start docker/gateway/serve in front of these nodes. Raise ServerDied."""
    port = _free_port()
    command = [sys.executable, str(REPOSITORY / "docker/gateway/serve"), "--port", str(port), *urls]
    began = time.monotonic()
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
    server = Server("gateway", f"http://127.0.0.1:{port}", command, 0.0, log, process)
    while not _answers(f"{server.url}/readiness"):
        if not server.alive or time.monotonic() - began > 120:
            server.stop()
            raise ServerDied(f"the gateway is not ready:\n{server.tail()}")
        time.sleep(0.2)
    server.start_s = round(time.monotonic() - began, 1)
    return server


def get(url: str, timeout_s: float = 10.0) -> Any:
    with urllib.request.urlopen(url, timeout=timeout_s) as answer:
        return json.loads(answer.read() or b"null")


def _command(engine: str, host: Host, port: int, flags: Sequence[str]) -> list[str]:
    common = ["--host", "127.0.0.1", "--port", str(port), "--served-model-name", host.served]
    common += ["--load-format", host.load_format]
    if engine == "serve":
        return [sys.executable, str(REPOSITORY / "docker/sglang/serve"), "--model", host.model, *common, *flags]
    if engine == "sglang":
        return [sys.executable, "-m", "sglang.launch_server", "--model-path", host.model, *common, *flags]
    if engine == "vllm":
        return [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", host.model, *common, *flags]
    if engine == "stand-in":
        return [sys.executable, "-m", "tests.support.engine", "--port", str(port), "--model", host.served, *flags]
    raise SystemExit(f"unknown engine {engine!r}: use serve, sglang, vllm or stand-in")


def _environment(host: Host, engine: str, gpu: int, env: Mapping[str, str]) -> dict[str, str]:
    site = host.sites.get("sglang" if engine == "serve" else engine, "")
    ours = [str(REPOSITORY), str(REPOSITORY / "include")] if engine == "stand-in" else []
    python_path = os.pathsep.join(filter(None, [site, *ours]))
    given = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return {**given, "PYTHONPATH": python_path or os.environ.get("PYTHONPATH", ""), "CUDA_VISIBLE_DEVICES": str(gpu),
            "HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", **env}  # fmt: skip


def _cpu_s(process: psutil.Process) -> float:
    with contextlib.suppress(psutil.NoSuchProcess):
        times = process.cpu_times()
        return float(times.user + times.system)
    return 0.0


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def _wait_for_memory() -> None:
    """Wait until the driver has freed the memory of an ended process."""
    time.sleep(2.0)


def _free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])
