"""The gateway as docker/gateway/serve starts it: what it waits for, what it says, what smg is told. In place of smg
stands a script that prints what it was told; benchmarks/fleet.py drives smg itself.
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
    """What smg was started with, and what was said before."""

    words: list[str]
    nodes: list[str]
    said: str

    def flag(self, name: str) -> str:
        assert self.words.count(name) == 1
        return self.words[self.words.index(name) + 1]


@pytest.fixture
def smg(tmp_path) -> dict[str, str]:
    """An environment that has smg."""
    script = tmp_path / "smg"
    script.write_text(SMG)
    script.chmod(0o755)
    return os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}


@pytest.fixture
def serve() -> Iterator[Callable[..., StandIn]]:
    """Starts nodes; all end with the test."""
    with ExitStack() as stack:
        yield lambda *args, **options: stack.enter_context(StandIn(*args, **options))


@pytest.fixture
def nobody() -> str:
    """The address of a node that is down."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}"


def started(smg: dict[str, str], *words: str) -> Started:
    done = subprocess.run([sys.executable, SERVE, *words], env=smg, capture_output=True, text=True, timeout=20)
    assert done.returncode == 0, done.stderr
    *said, last = done.stdout.splitlines()
    return Started(**json.loads(last), said="\n".join(said))


def refused(smg: dict[str, str], *words: str) -> str:
    done = subprocess.run([sys.executable, SERVE, *words], env=smg, capture_output=True, text=True, timeout=20)
    assert done.returncode != 0
    assert "words" not in done.stdout, "smg was started"
    return done.stderr


def test_all_nodes_are_given_to_the_gateway(smg, serve):
    urls = [serve().url for _ in range(3)]
    gateway = started(smg, *urls)
    assert gateway.nodes == urls
    assert "3 of 3 nodes are ready" in gateway.said


def test_requests_are_spread_by_load_and_may_take_as_long_as_captions_take(smg, serve):
    gateway = started(smg, serve().url)
    assert gateway.flag("--policy") == "least_load"
    assert float(gateway.flag("--request-timeout-secs")) > 600
    assert float(gateway.flag("--worker-wedge-secs")) >= 180


def test_a_health_check_outlasts_a_long_prefill(smg, serve):
    assert float(started(smg, serve().url).flag("--health-check-timeout-secs")) > 20


def test_only_this_machine_reaches_the_gateway_unless_a_host_is_given(smg, serve):
    assert started(smg, serve().url).flag("--host") == "127.0.0.1"
    assert started(smg, "--host", "0.0.0.0", serve().url).flag("--host") == "0.0.0.0"


def test_a_flag_on_the_command_line_overrules_ours(smg, serve):
    gateway = started(smg, serve().url, "--policy", "round_robin", "--log-level", "warn")
    assert gateway.flag("--policy") == "round_robin"
    assert gateway.flag("--log-level") == "warn"


def test_a_node_that_is_late_is_waited_for(smg, serve, nobody):
    first = serve()
    command = [sys.executable, SERVE, first.url, nobody]
    process = subprocess.Popen(command, env=smg, stdout=subprocess.PIPE, text=True)
    assert process.stdout
    assert process.stdout.readline() == f"gateway: waiting for 1 of 2 nodes: {nobody}\n"
    serve(port=int(nobody.rpartition(":")[2]))
    said, _ = process.communicate(timeout=20)
    assert process.returncode == 0
    assert "2 of 2 nodes are ready" in said


def test_a_node_that_is_missing_is_named_and_may_join_later(smg, serve, nobody):
    first = serve()
    gateway = started(smg, "--wait-s", "0.5", first.url, nobody)
    assert f"not ready, will join later: {nobody}" in gateway.said
    assert gateway.nodes == [first.url, nobody]


def test_a_node_that_still_loads_its_model_is_not_there(smg, serve):
    loading, ready = serve("503:1.0:at=models"), serve()
    assert f"not ready, will join later: {loading.url}" in started(smg, "--wait-s", "0.5", loading.url, ready.url).said


def test_without_any_node_nothing_is_started(smg, nobody):
    assert f"none of 1 nodes answered within 0.5 s: {nobody}" in refused(smg, "--wait-s", "0.5", nobody)


@pytest.mark.parametrize("node", ["gpu-1:30000", "http://", "http://gpu-1:30000/v1", "ftp://gpu-1"])
def test_what_is_no_address_of_a_node_is_refused(smg, node):
    assert f"{node}: expected a node address such as http://gpu-1:30000" in refused(smg, node)


def test_a_list_without_nodes_is_refused(smg):
    assert "pass at least one" in refused(smg)


def test_what_to_install_is_told_where_there_is_no_smg(tmp_path, nobody):
    assert "pip install smg" in refused({"PATH": str(tmp_path)}, nobody)
