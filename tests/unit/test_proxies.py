"""Test the proxy variables of a machine: errors name the variable, the proxy, and no password."""

import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from clipdex import config
from clipdex.cli import main
from clipdex.errors import ConfigurationError, EngineUnavailable, IndexUnavailable
from clipdex.index.server import ServerIndex
from clipdex.index.server_client import connect
from clipdex.proxies import check_proxies, through_proxy
from tests.support.engine import StandIn
from tests.support.pipeline import Pipeline

AWAY = "http://192.0.2.1:9"
"""An address that nothing answers: requests to it reach the proxy, or nothing."""


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch):
    for scheme in ("http", "https", "all", "no"):
        monkeypatch.delenv(f"{scheme}_proxy", raising=False)
        monkeypatch.delenv(f"{scheme.upper()}_PROXY", raising=False)


@pytest.fixture
def closed() -> Iterator[str]:
    """A proxy that refuses connections."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{taken.getsockname()[1]}"


@pytest.fixture
def locked() -> Iterator[str]:
    """A proxy that requires a user and a password."""

    class Locked(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_error(407)

        do_CONNECT = do_GET

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Locked)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


UNREADABLE = [
    ("NO_PROXY", "localhost,fd07:b51a:cc66:f0::/64", "NO_PROXY has the entry fd07:b51a:cc66:f0::/64"),
    ("no_proxy", "::1/128", "no_proxy has the entry ::1/128"),
    ("NO_PROXY", "localhost,[::1]", "NO_PROXY has the entry [::1]"),
    ("NO_PROXY", "localhost,host:port", "NO_PROXY has the entry host:port"),
    ("ALL_PROXY", "socks5://me:secret@127.0.0.1:1080", "ALL_PROXY=socks5://127.0.0.1:1080: SOCKS proxies need"),
    ("HTTP_PROXY", "http://me:secret#1@proxy:3128", "HTTP_PROXY=http://proxy:3128 is not the address of a proxy"),
    ("http_proxy", "me:secret@proxy:port", "http_proxy=http://proxy:port is not the address of a proxy"),
    ("HTTPS_PROXY", "ftp://proxy", "HTTPS_PROXY=ftp://proxy is not the address of a proxy"),
    ("HTTPS_PROXY", "http://", "HTTPS_PROXY=http:// is not the address of a proxy"),
    ("ALL_PROXY", "http://proxy:99999", "ALL_PROXY=http://proxy:99999 is not the address of a proxy"),
]


@pytest.mark.parametrize(("variable", "value", "message"), UNREADABLE)
def test_an_unreadable_variable_is_named_without_its_password(monkeypatch, tmp_path, variable, value, message):
    monkeypatch.setenv(variable, value)
    for open_client in (
        lambda: connect(config.Index(url="http://127.0.0.1:9")),
        lambda: Pipeline(tmp_path, ["http://127.0.0.1:9"]).describe(tmp_path / "clip.mp4"),
    ):
        with pytest.raises(ConfigurationError) as raised:
            open_client()
        assert str(raised.value).startswith(message) and "secret" not in str(raised.value)


@pytest.mark.parametrize(
    "value", ["localhost,.example.com,*.example.com,10.0.0.7,10.0.0.0/8,::1,host:80", "*,[::1]", ""]
)
def test_what_httpx_reads_is_accepted(monkeypatch, value):
    monkeypatch.setenv("NO_PROXY", value)
    monkeypatch.setenv("HTTP_PROXY", "proxy:3128")
    monkeypatch.setenv("HTTPS_PROXY", "https://me:p%40ss@proxy:3128/")
    check_proxies()


@pytest.mark.parametrize(
    ("url", "through"),
    [
        ("http://gpu-1:30000", " through the proxy http://first:3128 (HTTP_PROXY)"),
        ("https://gpu-1:30000", " through the proxy https://other (all_proxy)"),
        ("http://www.example.com", ""),
        ("http://notexample.com", " through the proxy http://first:3128 (HTTP_PROXY)"),
        ("http://[::1]:6333", ""),
        ("https://127.0.0.1", ""),
    ],
)
def test_the_proxy_of_a_request_is_the_one_that_httpx_uses(monkeypatch, url, through):
    monkeypatch.setenv("HTTP_PROXY", "me:secret@first:3128")
    monkeypatch.setenv("all_proxy", "https://me:secret@other")
    monkeypatch.setenv("NO_PROXY", "example.com, ::1 ,127.0.0.1")
    assert through_proxy(url) == through


def test_a_proxy_that_does_not_answer_is_named(monkeypatch, tmp_path, closed):
    monkeypatch.setenv("HTTP_PROXY", f"http://me:secret@{closed}")
    pipeline = Pipeline(tmp_path, [AWAY], engine={"tries": 1})
    pipeline.put(1)
    named = rf"{AWAY}.* through the proxy http://{closed} \(HTTP_PROXY\)"
    with pytest.raises(EngineUnavailable, match=named) as raised:
        pipeline.caption(pipeline.plan().batches[0])
    assert "secret" not in str(raised.value)
    with pytest.raises(IndexUnavailable, match=named) as unavailable:
        ServerIndex(connect(config.Index(url=AWAY)), "clips")
    assert "secret" not in str(unavailable.value)


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_proxy_that_requires_a_password_stops_the_task(monkeypatch, tmp_path, locked, scheme):
    monkeypatch.setenv(f"{scheme.upper()}_PROXY", locked)
    url = AWAY.replace("http", scheme)
    pipeline = Pipeline(tmp_path, [url])
    pipeline.put(1)
    named = rf"through the proxy http://{locked} \({scheme.upper()}_PROXY\).*407.*user and password"
    with pytest.raises(ConfigurationError, match=named):
        pipeline.caption(pipeline.plan().batches[0])
    with pytest.raises(ConfigurationError, match=named):
        ServerIndex(connect(config.Index(url=url)), "clips")


def test_an_index_that_can_never_be_reached_costs_no_caption(tmp_path):
    with StandIn(words=80) as engine:
        index = {"url": "http://127.0.0.1:9", "ca_file": str(tmp_path / "missing.pem")}
        pipeline = Pipeline(tmp_path, [engine.url], index=index)
        pipeline.put(1)
        with pytest.raises(ConfigurationError, match="CLIPDEX_INDEX__CA_FILE"):
            pipeline.ingest(pipeline.clips)
        assert engine.requests == []


def test_the_command_reports_an_unreadable_variable_in_one_line(monkeypatch, tmp_path, capsys):
    pipeline = Pipeline(tmp_path, ["http://127.0.0.1:9"])
    for name, value in {**pipeline.environment(), "NO_PROXY": "localhost,[::1]"}.items():
        monkeypatch.setenv(name, value)
    assert main(["caption", str(pipeline.put(1)[0])]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("clipdex caption: NO_PROXY has the entry [::1]")
