"""The gateway as docker/gateway/serve starts it: the nodes it waits for, its output, and the arguments of smg.

A script that prints its arguments replaces smg. benchmarks/fleet.py runs smg itself.
"""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.engine import StandIn

SERVE = Path(__file__).resolve().parents[2] / "docker" / "gateway" / "serve"
SMG = f"""#!{sys.executable}
import json, sys
words = sys.argv[1:]
nodes = json.load(open(words[words.index("--discovery-file") + 1]))
print(json.dumps({{"words": words, "nodes": [one["url"] for one in nodes["workers"]]}}))
"""


@dataclass(slots=True)
class Started:
    """The arguments and nodes that smg was started with, and the earlier output of serve."""

    words: list[str]
    nodes: list[str]
    output: str

    def flag(self, name: str) -> str:
        assert self.words.count(name) == 1
        return self.words[self.words.index(name) + 1]


@pytest.fixture
def smg(tmp_path) -> dict[str, str]:
    """Return an environment whose PATH has smg."""
    script = tmp_path / "smg"
    script.write_text(SMG)
    script.chmod(0o755)
    return os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}


@pytest.fixture
def serve() -> Iterator[Callable[..., StandIn]]:
    """Return a function that starts nodes. Stop all of them after the test."""
    with ExitStack() as stack:
        yield lambda *args, **options: stack.enter_context(StandIn(*args, **options))


@pytest.fixture
def node_down() -> str:
    """Return the address of a node that is down."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}"


def started(smg: dict[str, str], *words: str) -> Started:
    done = subprocess.run([sys.executable, SERVE, *words], env=smg, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    *output, last = done.stdout.splitlines()
    return Started(**json.loads(last), output="\n".join(output))


def startup_error(smg: dict[str, str], *words: str) -> str:
    done = subprocess.run([sys.executable, SERVE, *words], env=smg, capture_output=True, text=True, timeout=120)
    assert done.returncode != 0
    assert "words" not in done.stdout, "smg was started"
    return done.stderr


def test_the_gateway_gets_all_nodes(smg, serve):
    urls = [serve().url for _ in range(3)]
    gateway = started(smg, *urls)
    assert gateway.nodes == urls
    assert "3 of 3 nodes are ready" in gateway.output


def test_requests_are_balanced_by_load_and_time_out_later_than_captions_take(smg, serve):
    gateway = started(smg, serve().url)
    assert gateway.flag("--policy") == "least_load"
    assert float(gateway.flag("--request-timeout-secs")) > 600
    assert float(gateway.flag("--worker-wedge-secs")) >= 180


def test_a_health_check_outlasts_a_long_prefill(smg, serve):
    assert float(started(smg, serve().url).flag("--health-check-timeout-secs")) > 20


def test_only_this_machine_reaches_the_gateway_unless_a_host_is_given(smg, serve):
    assert started(smg, serve().url).flag("--host") == "127.0.0.1"
    assert started(smg, "--host", "0.0.0.0", serve().url).flag("--host") == "0.0.0.0"


def test_a_flag_on_the_command_line_overrides_the_default(smg, serve):
    gateway = started(smg, serve().url, "--policy", "round_robin", "--log-level", "warn")
    assert gateway.flag("--policy") == "round_robin"
    assert gateway.flag("--log-level") == "warn"


def test_the_gateway_waits_for_a_node_that_is_late(smg, serve, node_down):
    first = serve()
    command = [sys.executable, SERVE, first.url, node_down]
    process = subprocess.Popen(command, env=smg, stdout=subprocess.PIPE, text=True)
    assert process.stdout
    assert process.stdout.readline() == f"gateway: waiting for 1 of 2 nodes: {node_down}\n"
    serve(port=int(node_down.rpartition(":")[2]))
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 0
    assert "2 of 2 nodes are ready" in output


def test_a_missing_node_is_named_and_may_join_later(smg, serve, node_down):
    first = serve()
    gateway = started(smg, "--wait-s", "0.5", first.url, node_down)
    assert f"not ready, will join later: {node_down}" in gateway.output
    assert gateway.nodes == [first.url, node_down]


def test_a_node_that_loads_its_model_is_not_ready(smg, serve):
    loading, ready = serve("503:1.0:at=models"), serve()
    gateway = started(smg, "--wait-s", "0.5", loading.url, ready.url)
    assert f"not ready, will join later: {loading.url}" in gateway.output


def test_the_gateway_does_not_start_without_any_node(smg, node_down):
    assert f"none of 1 nodes answered within 0.5 s: {node_down}" in startup_error(smg, "--wait-s", "0.5", node_down)


@pytest.mark.parametrize("node", ["gpu-1:30000", "http://", "http://gpu-1:30000/v1", "ftp://gpu-1"])
def test_an_invalid_node_address_is_rejected(smg, node):
    assert f"{node}: expected a node address such as http://gpu-1:30000" in startup_error(smg, node)


def test_an_empty_list_of_nodes_is_rejected(smg):
    assert "pass at least one" in startup_error(smg)


def test_error_for_a_missing_smg_names_the_package_to_install(tmp_path, node_down):
    assert "pip install smg" in startup_error({"PATH": str(tmp_path)}, node_down)
