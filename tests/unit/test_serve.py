"""Test docker/sglang/serve, which starts a GPU node. A stand-in module replaces SGLang; ENGINE_MODE makes it
healthy, die or hang.
"""

import json
import os
import re
import select
import signal
import socket
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from clipdex.config import Sampling, Settings
from clipdex.presets import PRESETS
from tests.support.processes import ended

SERVE = Path(__file__).resolve().parents[2] / "docker" / "sglang" / "serve"
ALL_PROFILES = {path.stem: tomllib.loads(path.read_text()) for path in (SERVE.parent / "profiles").glob("*.toml")}
PROFILES = {name: profile for name, profile in ALL_PROFILES.items() if "sampling" in profile}
DEADLINE_S = 120.0

ENGINE = """
import argparse, importlib.util, json, os, subprocess, sys, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

parser = argparse.ArgumentParser()
for flag in ("--model-path", "--host", "--mm-process-config", "--quantization"):
    parser.add_argument(flag)
parser.add_argument("--port", type=int)
options, _ = parser.parse_known_args()
mode = os.environ["ENGINE_MODE"]
print("loading weights", options.model_path, flush=True)
print("quantization", options.quantization, flush=True)
if mode == "dies":
    print("torch.OutOfMemoryError: CUDA out of memory", file=sys.stderr)
    sys.exit(3)
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print("worker", child.pid, flush=True)
if mode == "hangs":
    time.sleep(600)
config = json.loads(options.mm_process_config or "{}")
processors = os.environ.get("SGLANG_EXTERNAL_MM_PROCESSOR_PACKAGE")
if processors and importlib.util.find_spec(processors):
    config["clock"] = {"positions": "frames"}
pages = {
    "/health": {},
    "/v1/models": {"data": [{"id": options.model_path}]},
    "/server_info": {"version": os.environ.get("ENGINE_VERSION", "0.5.17"), "mm_process_config": config},
    "/model_info": {"model_type": os.environ.get("ENGINE_MODEL_TYPE", "qwen2_5_vl")},
}

class Pages(BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/crash":
            print("CUDA error: an illegal memory access", flush=True)
            os._exit(9)
        body = json.dumps(pages[self.path]).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass

ThreadingHTTPServer((options.host, options.port), Pages).serve_forever()
"""


class Node:
    """A started node. `until` and `end` read its output, standard error included."""

    def __init__(self, process: "subprocess.Popen[bytes]", port: int) -> None:
        self.process, self.port, self.output = process, port, ""

    def until(self, what: str) -> str:
        deadline = time.monotonic() + DEADLINE_S
        while what not in self.output:
            assert self.process.stdout
            ready, _, _ = select.select([self.process.stdout], [], [], max(0.0, deadline - time.monotonic()))
            more = os.read(self.process.stdout.fileno(), 65536).decode() if ready else ""
            assert more, f"expected {what!r} in the output, found:\n{self.output}"
            self.output += more
        return self.output

    def end(self) -> int:
        remaining, _ = self.process.communicate(timeout=DEADLINE_S)
        self.output += remaining.decode()
        return self.process.returncode

    @property
    def worker(self) -> int:
        """Return the process id of the engine's own child process."""
        [pid] = re.findall(r"^worker (\d+)$", self.until("worker "), re.MULTILINE)
        return int(pid)


@pytest.fixture
def start(tmp_path) -> Iterator[Callable[..., Node]]:
    """Start nodes, and stop all at the end of the test."""
    (tmp_path / "sglang").mkdir()
    (tmp_path / "sglang" / "__init__.py").touch()
    (tmp_path / "sglang" / "launch_server.py").write_text(ENGINE)
    started: list[Node] = []

    def begin(mode: str, *flags: str) -> Node:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        process = subprocess.Popen(
            [sys.executable, SERVE, "--port", str(port), *flags],
            env=os.environ | {"PYTHONPATH": str(tmp_path), "ENGINE_MODE": mode},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        started.append(Node(process, port))
        return started[-1]

    yield begin
    for node in started:
        if node.process.poll() is None:
            node.process.terminate()
            node.end()


def refused(*flags: str) -> str:
    done = subprocess.run([sys.executable, SERVE, *flags], capture_output=True, text=True)
    assert done.returncode != 0
    return done.stderr


def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def exported(output: str) -> dict[str, str]:
    """Return the CLIPDEX_ variables of a shell that ran the printed export lines."""
    lines = "\n".join(re.findall(r"^export .*$", output, re.MULTILINE))
    shell = subprocess.run(["sh", "-c", f"{lines}\nenv"], env={}, capture_output=True, text=True, check=True)
    return dict(line.split("=", 1) for line in shell.stdout.splitlines() if line.startswith("CLIPDEX_"))


@pytest.mark.parametrize("profile", sorted(PROFILES))
def test_clipdex_accepts_the_settings_that_a_ready_node_prints(start, monkeypatch, profile):
    node = start("healthy", "--profile", profile)
    for name, value in exported(node.until("SHORT_SIDE")).items():
        monkeypatch.setenv(name, value)
    settings = Settings.load()
    assert settings.engine.model == PROFILES[profile]["model"]
    assert settings.engine.base_urls == (f"http://127.0.0.1:{node.port}",)
    assert settings.engine.in_flight == PROFILES[profile]["in_flight"]
    assert settings.engine.server_sampling == {"fps": 2, "max_frames": 32}
    preset = PRESETS[PROFILES[profile]["preset"]]["sampling"] if "preset" in PROFILES[profile] else {}
    assert settings.sampling == Sampling(**{**preset, **PROFILES[profile]["sampling"]})


def test_clipdex_accepts_the_settings_of_an_embedding_node(start, monkeypatch):
    node = start("healthy", "--profile", "embedding")
    output = node.until("BATCH_SIZE=")
    for name, value in exported(output).items():
        monkeypatch.setenv(name, value)
    settings = Settings.load().embedding
    assert settings.model == ALL_PROFILES["embedding"]["model"]
    assert settings.base_urls == (f"http://127.0.0.1:{node.port}",)
    assert settings.in_flight == ALL_PROFILES["embedding"]["in_flight"]
    [command] = [line for line in output.splitlines() if "sglang.launch_server" in line]
    assert "--is-embedding" in command and "--mm-process-config" not in command
    assert "warning" not in output and "EXTERNAL_MM_PROCESSOR" not in command


def test_the_engine_loads_the_processor_with_the_clock_without_a_warning(start):
    output = start("healthy", "--profile", "small-3b").until("SHORT_SIDE")
    assert "SGLANG_EXTERNAL_MM_PROCESSOR_PACKAGE=clipdex_clock" in output
    assert "warning" not in output


def test_a_node_without_frame_times_is_a_warning(start, monkeypatch):
    monkeypatch.setenv("SGLANG_EXTERNAL_MM_PROCESSOR_PACKAGE", "")
    assert "qwen2_5_vl gets no frame times" in start("healthy", "--profile", "small-3b").until("SHORT_SIDE")


def test_a_model_that_does_not_count_time_needs_no_clock(start, monkeypatch):
    monkeypatch.setenv("SGLANG_EXTERNAL_MM_PROCESSOR_PACKAGE", "")
    monkeypatch.setenv("ENGINE_MODEL_TYPE", "qwen3_vl")
    assert "warning" not in start("healthy", "--profile", "small-3b").until("SHORT_SIDE")


def test_an_untested_version_is_a_warning(start, monkeypatch):
    monkeypatch.setenv("ENGINE_VERSION", "0.6.0")
    output = start("healthy", "--profile", "small-3b").until("SHORT_SIDE")
    assert "checked with SGLang 0.5.10 to 0.5.23, this is 0.6.0" in output


def test_a_ready_node_prints_model_version_and_sampling(start):
    output = start("healthy", "--profile", "small-3b").until("SHORT_SIDE")
    [line] = [line for line in output.splitlines() if line.startswith("serve: ready")]
    assert "Qwen/Qwen2.5-VL-3B-Instruct on SGLang 0.5.17" in line
    assert '{"fps": 2, "max_frames": 32}' in line


def test_the_engine_gets_the_flags_of_the_profile(start):
    output = start("healthy", "--profile", "rtx4090-24gb").until("ready")
    [command] = [line for line in output.splitlines() if "sglang.launch_server" in line]
    assert "--kv-cache-dtype fp8_e4m3" in command
    assert "--mem-fraction-static 0.8 " in command
    assert command.endswith("--enable-metrics")


def test_a_flag_on_the_command_line_overrules_the_profile(start):
    assert "quantization awq" in start("healthy", "--profile", "h100-h200", "--quantization", "awq").until("ready")


def test_sampling_flags_change_the_printed_settings(start):
    output = start("healthy", "--profile", "small-3b", "--fps", "1", "--max-frames", "16").until("SHORT_SIDE")
    settings = exported(output)
    assert json.loads(settings["CLIPDEX_ENGINE__SERVER_SAMPLING"]) == {"fps": 1, "max_frames": 16}
    assert (settings["CLIPDEX_SAMPLING__FPS"], settings["CLIPDEX_SAMPLING__MAX_FRAMES"]) == ("1", "16")


def test_only_this_machine_reaches_a_node_unless_a_host_is_given(start):
    assert "--host 127.0.0.1" in start("healthy", "--profile", "small-3b").until("ready")


def test_an_engine_that_dies_while_it_starts_shows_its_last_lines(start):
    node = start("dies", "--profile", "small-3b")
    assert node.end() == 3
    assert "ended with exit code 3; its last lines:" in node.output
    assert "  torch.OutOfMemoryError: CUDA out of memory" in node.output


def test_an_engine_that_dies_at_work_ends_the_node(start):
    node = start("healthy", "--profile", "small-3b")
    worker = node.worker
    node.until("SHORT_SIDE")
    with socket.create_connection(("127.0.0.1", node.port)) as wire:
        wire.sendall(b"GET /crash HTTP/1.0\r\n\r\n")
        assert node.end() == 9
    assert "  CUDA error: an illegal memory access" in node.output
    until(lambda: ended(worker))


def test_an_engine_that_hangs_while_it_starts_is_ended(start):
    node = start("hangs", "--profile", "small-3b", "--start-timeout-s", "2")
    worker = node.worker
    assert node.end() == 1
    assert "was not healthy after 2 s" in node.output
    until(lambda: ended(worker))


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_stopping_a_node_stops_the_engine_with_exit_code_0(start, signum):
    node = start("healthy", "--profile", "small-3b")
    worker = node.worker
    node.until("SHORT_SIDE")
    node.process.send_signal(signum)
    assert node.end() == 0
    assert "last lines" not in node.output
    until(lambda: ended(worker))


@pytest.mark.parametrize(("flags", "message"), [([], "--profile"), (["--profile", "rtx5090"], "no profile 'rtx5090'")])
def test_a_missing_or_unknown_profile_is_rejected_with_the_available_names(flags, message):
    error = refused(*flags)
    assert message in error
    assert [name for name in ALL_PROFILES if name not in error] == []


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("qwen", "neither a folder nor a Hugging Face name"),
        ("/no/such/folder", "neither a folder"),
        (".", "config.json"),
    ],
)
def test_an_invalid_model_is_rejected_before_anything_starts(tmp_path, model, message):
    assert message in refused("--profile", "small-3b", "--model", str(tmp_path) if model == "." else model)


def test_a_client_fills_a_node_and_queues_at_most_half_as_many_requests():
    assert len(PROFILES) == 6
    for profile in PROFILES.values():
        running = profile["flags"]["max-running-requests"]
        assert running <= profile["in_flight"] <= 1.5 * running
        assert profile["flags"]["cuda-graph-max-bs-decode"] == running
