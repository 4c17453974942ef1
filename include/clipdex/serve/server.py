"""The server: the web app with its gate, in a process that ends on SIGTERM and SIGINT."""

import logging
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import uvicorn
from fastapi import FastAPI

from clipdex.config import Settings
from clipdex.errors import ConfigurationError, Unavailable
from clipdex.serve import peer, routes
from clipdex.serve.gate import MAX_HEADERS, Gate, passed
from clipdex.serve.tokens import Tokens, read, token_file
from clipdex.web.app import create_app
from clipdex.web.backend import Backend
from clipdex.web.rendering import url
from clipdex.web.startup import read_ahead

log = logging.getLogger(__name__)

_RETRY_S = 15.0
_MOST_CONNECTIONS = 512
_FINISH_S = 20  # that open requests have at the end


def create(
    settings: Settings,
    host: str = "127.0.0.1",
    clock: Callable[[], float] = time.time,
    tick: Callable[[], float] = time.monotonic,
) -> FastAPI:
    """Return the app of `clipdex serve`.

    host: that it listens on; clock: of tokens and sessions; tick: of the rate limits
    """
    tokens = Tokens(token_file(settings), clock)
    app = create_app(lambda: settings, passed, lambda request: url(request, "login"))
    app.include_router(routes.router)
    app.state.tokens, app.state.ready = tokens, threading.Event()
    app.state.api_access = "Read-only. Each request needs a token that `clipdex token create` made."
    names = (*peer.LOOPBACK_NAMES, host, *settings.serve.hosts)
    app.add_middleware(Gate, settings=settings.serve, tokens=tokens, names=names, clock=tick)
    return app


def run(settings: Settings, host: str, port: int, announce: Callable[[str], None]) -> None:
    """Serve until SIGTERM or SIGINT, then finish the open requests.

    port: 0 for a free one. announce: called with the URL as soon as connections are accepted. Raises ConfigurationError
    without a valid token, or if the address cannot be used.
    """
    app = create(settings, host)
    tokens: Tokens = app.state.tokens
    read(tokens.path)
    if not tokens.valid():
        raise ConfigurationError(
            f"{tokens.path} has no valid token, so the server would refuse every request: clipdex token create NAME "
            "makes one"
        )
    server = uvicorn.Server(
        uvicorn.Config(
            app,
            http="h11",  # bounds what it buffers of the headers
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,  # it would have the queries; the gate writes one without
            proxy_headers=False,  # uvicorn trusts each process of this machine; the gate only configured addresses
            server_header=False,
            limit_concurrency=_MOST_CONNECTIONS,
            h11_max_incomplete_event_size=MAX_HEADERS,
            timeout_graceful_shutdown=_FINISH_S,
        )
    )
    with _listening(host, port) as listener, _stopped_by_signals(server):
        ended = threading.Event()
        loading = threading.Thread(target=_load, args=(app, ended), name="clipdex-load")
        loading.start()
        try:
            announce(_url(listener))
            server.run(sockets=[listener])
        finally:
            ended.set()
            loading.join()


def _load(app: FastAPI, ended: threading.Event) -> None:
    """Load the embedding model; try again while it cannot be reached. Then read ahead."""
    backend: Backend = app.state.backend
    while not ended.is_set():
        try:
            backend.load()
        except (ConfigurationError, Unavailable) as error:
            log.error("not ready: %s", error)
            ended.wait(_RETRY_S)
        else:
            app.state.ready.set()
            read_ahead(app)
            return


def _listening(host: str, port: int) -> socket.socket:
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0][0]
        return socket.create_server((host, port), family=family, backlog=_MOST_CONNECTIONS)
    except (OSError, OverflowError) as error:
        why = getattr(error, "strerror", None) or error
        raise ConfigurationError(
            f"cannot listen on {host} port {port}: {why}; choose another --host or --port"
        ) from None


def _url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


@contextmanager
def _stopped_by_signals(server: uvicorn.Server) -> Iterator[None]:
    """Stop the server on SIGINT and SIGTERM. uvicorn raises them again when it has stopped; they mean nothing then."""

    def stop(*_: object) -> None:
        server.should_exit = True

    former = {one: signal.signal(one, stop) for one in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for one, handler in former.items():
            signal.signal(one, handler)
