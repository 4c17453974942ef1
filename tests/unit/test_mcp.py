"""Test `clipdex mcp` with the official client: the real process over a small real index, by stdio and by HTTP."""

import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import anyio
import httpx
import mcp
import pytest
from anyio.from_thread import BlockingPortal, start_blocking_portal
from mcp import ClientSession, StdioServerParameters, stdio_client
from mcp.client.streamable_http import streamable_http_client
from mcp_types import CallToolResult

from clipdex.cli import main
from clipdex.config import Settings
from clipdex.index import open_index
from clipdex.index.clips import IndexedClip
from clipdex.index.edge import locked
from clipdex.index.facets import Facet, FacetValue
from clipdex.index.search import ChunkHit, ClipHit
from clipdex.mcp.results import MOST_CHARACTERS, ClipResult, Facets, FoundClips
from clipdex.storage.caption import Segment
from tests.support.indexes import SCENES, STREET, small_archive

COMMAND = [sys.executable, "-m", "clipdex.cli", "-v", "mcp"]
DEADLINE_S = 120.0


class Client:
    """Call the tools of a server from a test that is not async. strange: what the server wrote beside the protocol"""

    def __init__(self, portal: BlockingPortal, session: ClientSession, log: Path) -> None:
        self._portal, self.session, self._log = portal, session, log

    def call(self, tool: str, **arguments: Any) -> dict[str, Any]:
        """Return the structured result of a call, which must succeed. The client checks it against the schema."""
        result = self._portal.call(self.session.call_tool, tool, arguments)
        assert not result.is_error and result.structured_content is not None, result.content
        assert json.loads(result.content[0].text) == result.structured_content
        return result.structured_content

    def fail(self, tool: str, **arguments: Any) -> str:
        """Return the message of a call, which must fail with one line."""
        result = self._portal.call(self.session.call_tool, tool, arguments)
        assert result.is_error and len(result.content) == 1
        assert "\n" not in result.content[0].text and "Traceback" not in result.content[0].text
        return result.content[0].text

    def at_once(self, calls: list[tuple[str, dict[str, Any]]]) -> list[CallToolResult]:
        async def every() -> list[CallToolResult]:
            results: dict[int, CallToolResult] = {}

            async def one(number: int, tool: str, arguments: dict[str, Any]) -> None:
                results[number] = await self.session.call_tool(tool, arguments)

            async with anyio.create_task_group() as tasks:
                for number, call in enumerate(calls):
                    tasks.start_soon(one, number, *call)
            return [results[number] for number in range(len(calls))]

        return self._portal.call(every)

    def wait_for_log(self, pattern: str) -> str:
        """Return what a pattern matches in the server's log, once it does."""
        deadline = time.monotonic() + DEADLINE_S
        while not (found := re.search(pattern, self._log.read_text())):
            assert time.monotonic() < deadline, self._log.read_text()
            time.sleep(0.05)
        return found[0]


def environment(home: Path, **more: str) -> dict[str, str]:
    own = {name: value for name, value in os.environ.items() if not name.startswith("CLIPDEX_")}
    metadata = json.dumps({"camera": "string"})
    return {**own, "CLIPDEX_HOME": str(home), "CLIPDEX_SOURCE__METADATA": metadata, **more}


@contextmanager
def over_stdio(log: Path, env: Mapping[str, str]) -> Iterator[Client]:
    strange: list[Exception] = []

    async def remember(message: Any) -> None:
        if isinstance(message, Exception):
            strange.append(message)

    with log.open("w") as stderr, start_blocking_portal() as portal:

        @asynccontextmanager
        async def connected() -> AsyncIterator[ClientSession]:
            server = StdioServerParameters(command=COMMAND[0], args=COMMAND[1:], env=dict(env))
            async with (
                stdio_client(server, stderr) as streams,
                ClientSession(*streams, message_handler=remember) as session,
            ):
                await session.initialize()
                yield session

        with portal.wrap_async_context_manager(connected()) as session:
            yield Client(portal, session, log)
    assert not strange, f"on stdout beside the protocol: {strange}"


@contextmanager
def served(log: Path, env: Mapping[str, str]) -> Iterator[str]:
    """Start the server on a free port and yield its address. Ctrl-C ends it."""
    with log.open("w") as stderr:
        process = subprocess.Popen([*COMMAND, "--http", "--port", "0"], env=dict(env), stderr=stderr)
    try:
        deadline = time.monotonic() + DEADLINE_S
        while not (found := re.search(r"listens at (http://\S+)", log.read_text())):
            assert process.poll() is None and time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)
        yield found[1]
        process.send_signal(signal.SIGINT)
        assert process.wait(DEADLINE_S) == 130
        assert "Traceback" not in log.read_text()
    finally:
        process.kill()
        process.wait()


@contextmanager
def over_http(address: str, log: Path) -> Iterator[Client]:
    with start_blocking_portal() as portal:

        @asynccontextmanager
        async def connected() -> AsyncIterator[ClientSession]:
            async with streamable_http_client(address) as streams, ClientSession(*streams) as session:
                await session.initialize()
                yield session

        with portal.wrap_async_context_manager(connected()) as session:
            yield Client(portal, session, log)


@pytest.fixture(scope="module")
def settings(tmp_path_factory) -> Settings:
    return small_archive(tmp_path_factory.mktemp("home"))


@pytest.fixture(scope="module")
def log(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("log") / "log"


@pytest.fixture(scope="module")
def address(settings, log) -> Iterator[str]:
    with served(log, environment(settings.home)) as address:
        yield address


@pytest.fixture(scope="module", params=["stdio", "http"])
def client(request, settings, log) -> Iterator[Client]:
    if request.param == "stdio":
        with over_stdio(log, environment(settings.home)) as client:
            yield client
    else:
        with over_http(request.getfixturevalue("address"), log) as client:
            yield client


@pytest.mark.slow
def test_the_model_is_loaded_before_the_first_call_and_logs_go_to_stderr(client):
    assert client.wait_for_log("embedding model .* on cpu").startswith("embedding model all-MiniLM-L6-v2 from ")


def contents(settings: Settings) -> tuple[dict[str, str], dict[str, Any]]:
    """Return the digest of each file, without locks and Qdrant's own files, and the points of the index."""
    digests = {
        str(path.relative_to(settings.home)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in settings.home.rglob("*")
        if path.is_file() and path.name not in ("lock", "waiting") and "shard" not in path.parts
    }
    with open_index(settings) as index:
        return digests, {hit.id: hit.payload for hit in index.scroll()}


def test_every_tool_describes_itself_and_writes_nothing(client):
    tools = {tool.name: tool for tool in client._portal.call(client.session.list_tools).tools}
    assert set(tools) == {"search_clips", "get_clip", "list_days", "facets"}
    for tool in tools.values():
        assert tool.annotations.read_only_hint and not tool.annotations.open_world_hint
        assert "Use it" in tool.description and "\n    " not in tool.description
        assert all("description" in one for one in tool.input_schema["properties"].values())
    found = tools["search_clips"].output_schema["$defs"]["FoundClip"]["properties"]
    assert found.keys() >= {"clip_id", "uri", "start_s", "end_s", "text", "relevance", "metadata"}
    assert all(one["description"] for one in found.values())


def test_a_clip_is_found_and_read(client):
    found = client.call("search_clips", query="house number 7", limit=1)
    [hit] = found["clips"]
    assert (hit["clip_id"], hit["uri"], hit["day"]) == ("street", "street.mp4", "2026-11-04")
    assert "number 7 " in hit["text"] and hit["start_s"] <= 7 < 8 <= hit["end_s"] and hit["relevance"] > 0.35
    assert hit["metadata"] == {"camera": "cam-7"} and found["note"] == ""
    clip = client.call("get_clip", clip_id=hit["clip_id"])
    assert [one["text"] for one in clip["caption"]] == STREET
    assert clip["caption"][7] == {"start_s": 7.0, "end_s": 8.0, "text": STREET[7]}
    assert clip["outcome"]["outcome"] == "indexed" and clip["captioned_at"] == "2026-11-03T00:00:00Z"


def test_searches_follow_their_arguments(client):
    def ids(**arguments: Any) -> list[str]:
        return [clip["clip_id"] for clip in client.call("search_clips", **arguments)["clips"]]

    assert sorted(ids(query="a red car")) == ["car", "street"]
    assert ids(query="a red car", where={"camera": ["cam-7", "cam-8"]}) == ["street"]
    assert ids(query="a red car", where={"day": "2026-11-01..2026-11-03"}) == ["car"]
    assert ids(query="a red car", where='{"day": "2026-11-03"}') == ["car"]  # as some clients write an object
    assert len(ids(query="a red car", weak=True)) == 6
    assert len(ids(query="a red car", weak=True, limit=3, diversity=1)) == 3
    nothing = client.call("search_clips", query="a submarine under the ice")
    assert nothing["clips"] == [] and "weak=true" in nothing["note"]


def test_days_and_fields_are_listed(client):
    first = client.call("list_days", limit=1)
    assert first == {"days": [{"day": "2026-11-04", "clips": 1}], "clips": 6, "next_last_day": "2026-11-03"}
    then = client.call("list_days", limit=1, last_day=first["next_last_day"])
    assert then == {"days": [{"day": "2026-11-03", "clips": 5}], "clips": 5, "next_last_day": ""}
    [camera] = client.call("facets", field="camera")["fields"]
    assert camera == {"field": "camera", "values": [{"value": "cam-7", "clips": 1}], "without": 5, "more": False}
    every = client.call("facets", where={"day": "2026-11-03"})
    assert every["clips"] == 5 and {"day", "camera", "duration"} <= {one["field"] for one in every["fields"]}


def test_the_outcome_says_why_a_clip_is_not_found(client):
    assert "give day to learn why" in client.fail("get_clip", clip_id="broken")
    clip = client.call("get_clip", clip_id="broken", day="2026-11-04")
    assert clip["caption"] == [] and clip["outcome"]["outcome"] == "quarantined"
    assert (clip["outcome"]["reason"], clip["uri"]) == ("not_a_video", "broken.mp4")
    assert "2026-11-03 has no outcome of it" in client.fail("get_clip", clip_id="broken", day="2026-11-03")


@pytest.mark.parametrize(
    ("tool", "arguments", "message"),
    [
        ("search_clips", {}, "query: Field required"),
        ("search_clips", {"query": " "}, "the query is empty"),
        ("search_clips", {"query": "x" * 1001}, "query: String should have at most 1000 characters"),
        ("search_clips", {"query": "x", "limit": 51}, "limit: Input should be less than or equal to 50"),
        ("search_clips", {"query": "x", "limit": 0}, "limit: Input should be greater than or equal to 1"),
        ("search_clips", {"query": "x", "diversity": 2}, "diversity: Input should be less than or equal to 1"),
        ("search_clips", {"query": "x", "filter": {}}, "search_clips has no argument 'filter'; it takes query, limit"),
        ("search_clips", {"query": "x", "where": {"camara": "x"}}, "there is no field camara; did you mean camera?"),
        ("search_clips", {"query": "x", "where": {"day": "3.11.2026"}}, "day: '3.11.2026' is not a day"),
        ("search_clips", {"query": "x", "where": {"camera": {}}}, "where.camera"),
        ("search_clips", {"query": "x", "where": "camera=x"}, "where: Input should be a valid dictionary"),
        ("get_clip", {"clip_id": "nobody"}, "the index has no clip 'nobody'"),
        ("get_clip", {"clip_id": "../../etc"}, "the index has no clip '../../etc'"),
        ("get_clip", {"clip_id": "x", "day": "../../x"}, "day: '../../x' is not a date"),
        ("list_days", {"limit": 101}, "limit: Input should be less than or equal to 100"),
        ("list_days", {"first_day": "2026-11-04", "last_day": "2026-11-03"}, "give the lower end first"),
        ("facets", {"field": "camara"}, "'camara' is not a field; values are counted of"),
        ("drop_clips", {}, "Unknown tool: drop_clips"),
    ],
)  # fmt: skip
def test_a_wrong_call_is_one_clear_line(client, tool, arguments, message):
    assert message in client.fail(tool, **arguments)


def test_many_calls_at_once_are_all_answered_and_nothing_is_written(client, settings):
    before = contents(settings)
    words = {"bikes": "two people ride bicycles", "cat": "a cat sleeps", "sea": "waves on a beach"}
    searches = [("search_clips", {"query": text, "limit": 1}) for text in words.values()] * 6
    others = [("get_clip", {"clip_id": "street"}), ("list_days", {}), ("facets", {"field": "camera"})] * 6
    results = client.at_once([*searches, *others])
    assert not any(result.is_error for result in results)
    found = [one.structured_content for one in results]
    assert [one["clips"][0]["clip_id"] for one in found[: len(searches)]] == list(words) * 6
    assert found[len(searches) :] == found[len(searches) :][:3] * 6
    assert contents(settings) == before and len(before[0]) > 3


def test_an_index_that_is_missing_or_held_by_another_process_is_one_clear_line(tmp_path):
    settings = Settings.load(home=tmp_path / "home")
    env = environment(settings.home, CLIPDEX_INDEX__LOCK_WAIT_S="0.2", CLIPDEX_INDEX__API_KEY="a-secret")
    with over_stdio(tmp_path / "log", env) as client:
        assert "nothing is indexed yet" in client.fail("list_days")
        assert "nothing is indexed yet" in client.fail("get_clip", clip_id="a")
        with locked(settings.edge_path, DEADLINE_S):
            message = client.fail("facets")
        assert f"is held by process {os.getpid()}" in message and "admits one process at a time" in message
    assert "a-secret" not in (tmp_path / "log").read_text()


def test_a_client_of_the_newer_protocol_is_served(address):
    async def days() -> tuple[str, Any]:
        async with mcp.Client(address) as client:
            return client.protocol_version, (await client.call_tool("list_days", {"limit": 1})).structured_content

    version, found = anyio.run(days)
    assert version >= "2026" and found["days"] == [{"day": "2026-11-04", "clips": 1}]


@pytest.mark.parametrize(
    ("headers", "status"),
    [({}, 200), ({"Host": "clips.example:80"}, 421), ({"Origin": "http://clips.example"}, 403),
     ({"Content-Type": "text/plain"}, 400), ({"MCP-Protocol-Version": "2026-07-28", "Host": "clips.example"}, 421)],
)  # fmt: skip
def test_a_page_that_rebinds_a_name_is_refused(address, headers, status):
    call = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "list_days", "arguments": {}}}
    accept = {"Accept": "application/json, text/event-stream", "Content-Type": "application/json"}
    answer = httpx.post(address, content=json.dumps(call), headers={**accept, **headers})
    assert answer.status_code == status
    assert ("2026-11-04" in answer.text) == (status == 200)


def test_a_body_that_is_too_large_is_refused(address):
    assert httpx.post(address, content=b" " * (1 << 20 | 1)).status_code == 413


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "clips.example", ""])
def test_only_this_machine_is_served(host, capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("CLIPDEX_HOME", str(tmp_path))
    assert main(["mcp", "--http", "--host", host, "--port", "0"]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith(f"clipdex mcp: --host {host} is not a loopback address") and "clipdex serve" in line


def test_a_port_in_use_is_one_line(address, capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("CLIPDEX_HOME", str(tmp_path))
    assert main(["mcp", "--http", "--port", str(httpx.URL(address).port)]) == 2
    assert "address already in use; give another --port" in capsys.readouterr().err.lower()


def hit(number: int, text: str) -> ClipHit:
    chunk = ChunkHit(text, 0.0, 1.0, 1.0)
    return ClipHit(f"c{number}", "uri", "2026-11-03", 1.0, "", 1.0, text, 0.0, 1.0, (chunk,), {"note": "n" * 1000})


def test_long_results_are_cut_with_a_mark():
    found = FoundClips.of([hit(number, "word " * 2000) for number in range(50)], weak=False).clips
    assert len(found) == 50 and sum(len(clip.text) for clip in found) < 1.2 * MOST_CHARACTERS
    assert "[cut: 800 of 10000 characters; get_clip has the whole caption]" in found[0].text
    assert found[0].metadata["note"].endswith("[cut: 200 of 1000 characters]")
    assert FoundClips.of([hit(0, "a cat")], weak=False).clips[0].text == "a cat"

    def caption(*texts: str) -> list[str]:
        segments = tuple(Segment(number, number + 1.0, text) for number, text in enumerate(texts))
        clip = IndexedClip("c", "uri", "2026-11-03", " ".join(texts), segments, 1.0, 1, 1, "e", "m")
        return [passage.text for passage in ClipResult.of(clip, None).caption]

    assert caption(*STREET, *SCENES.values()) == [*STREET, *SCENES.values()]
    long = caption(*["word " * 2000] * 5)
    assert long[-1] == "… [cut: 1 further passages]" and sum(map(len, long)) < 1.1 * MOST_CHARACTERS
    values = tuple(FacetValue(f"{number:01000d}", 1) for number in range(50))
    facets = Facets.of([Facet(name, values, 50, 0, False) for name in ("a", "b")]).fields
    assert [(len(one.values), one.more) for one in facets] == [(40, True), (0, True)]
