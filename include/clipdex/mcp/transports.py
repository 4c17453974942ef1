"""Transports: stdio for a client that starts the server, and streamable HTTP on a loopback address."""

import ipaddress
import os
import socket
import sys

import anyio
import uvicorn
from mcp.server.transport_security import TransportSecuritySettings

from clipdex.errors import ConfigurationError
from clipdex.mcp.server import create_server
from clipdex.pipeline import Pipeline

PATH = "/mcp"
_IN_A_TERMINAL = (
    "clipdex mcp speaks the Model Context Protocol on stdin and stdout; a client starts it (docs/programs.md)"
)
_MOST_REQUEST_BYTES = 1 << 20


def serve_stdio(pipeline: Pipeline) -> None:
    """Serve one client until it closes stdin. Only the protocol is written to stdout."""
    if sys.stdin.isatty():
        print(_IN_A_TERMINAL, file=sys.stderr)
    create_server(pipeline).run("stdio")


def serve_http(pipeline: Pipeline, host: str | None = None, port: int | None = None) -> None:
    """Serve clients on this machine, until a signal. port: 0 for a free one; the address is printed to stderr.

    Raises ConfigurationError for an address that other machines reach, OSError if it is in use.
    """
    host, port = "127.0.0.1" if host is None else host, 8765 if port is None else port
    require_loopback(host)
    listening = _listen(host, port)
    port = listening.getsockname()[1]
    shown = f"[{host}]" if ":" in host else host
    names = [f"{name}:{port}" for name in {"127.0.0.1", "localhost", "[::1]", shown}]
    app = create_server(pipeline).streamable_http_app(
        streamable_http_path=PATH,
        json_response=True,
        stateless_http=True,
        max_request_body_size=_MOST_REQUEST_BYTES,
        transport_security=TransportSecuritySettings(
            allowed_hosts=names, allowed_origins=[f"http://{name}" for name in names]
        ),
    )
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, access_log=False))
    print(f"clipdex mcp listens at http://{shown}:{port}{PATH}", file=sys.stderr)
    anyio.run(server.serve, [listening])


def require_loopback(host: str) -> None:
    """Raise ConfigurationError unless only this machine reaches an address."""
    try:
        is_loopback = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        is_loopback = False
    if not is_loopback:
        raise ConfigurationError(
            f"--host {host[:64]} is not a loopback address such as 127.0.0.1: clipdex mcp has no tokens, and whoever "
            "reaches it reads the index; for other machines, run clipdex serve, which has tokens"
        )


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except OSError as error:
        why = os.strerror(error.errno) if error.errno else str(error)
        raise ConfigurationError(f"{host}:{port}: {why}; give another --port, or 0 for a free one") from None
