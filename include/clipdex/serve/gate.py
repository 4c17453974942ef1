"""The gate: admit or refuse each request before a route sees it.

Whatever is not in OPEN needs a token, also a path that does not exist. A route that is added later is therefore closed.
The routes also depend on passed(), so that the app answers nothing without a gate.
"""

import logging
import math
import re
import time
from collections.abc import Callable
from datetime import UTC, datetime
from urllib.parse import quote

from fastapi import HTTPException, Request, Response
from fastapi.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from clipdex.config import Serve
from clipdex.sanitize import escape_line
from clipdex.serve import peer
from clipdex.serve.rate_limit import RateLimit
from clipdex.serve.sessions import COOKIE, token_of
from clipdex.serve.tokens import Token, Tokens
from clipdex.web.app import add_headers, error_response
from clipdex.web.rendering import page, route_path, url

log = logging.getLogger(__name__)

OPEN = {
    "/health": {"GET", "HEAD"},
    "/login": {"GET", "POST"},
    "/static/style.css": {"GET"},
    "/static/theme.js": {"GET"},
    "/static/clips.svg": {"GET"},
}
"""Methods that need no token, by path: the health check, the login, and what its page loads."""

MAX_HEADERS, MAX_QUERY, MAX_BODY = 32_768, 16_384, 4_096
"""Bytes of all headers, of a query string, and of the body of a form."""

FAILURES_PER_MINUTE = 10
"""Wrong tokens per address, before their response is 429. A valid token is always accepted."""

_LOCAL = re.compile(r"/(?![/\\])[^\x00-\x20\\]*")
_SCHEME = 'Bearer realm="clipdex"'


def passed(request: Request) -> None:
    """Raise 401 if this request did not pass a gate: the app is served without one."""
    if not request.scope.get("clipdex.gate"):
        raise HTTPException(401, "this app is to be served by clipdex serve", {"WWW-Authenticate": _SCHEME})


class Gate:
    """Middleware of one app. Writes a line per request to the log, without its query, its token and its cookie.

    names: allowed in the header Host
    """

    def __init__(
        self,
        app: ASGIApp,
        settings: Serve,
        tokens: Tokens,
        names: tuple[str, ...],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._app, self._tokens, self._names = app, tokens, names
        self._proxies = peer.networks(settings.trusted_proxies)
        self._requests = RateLimit(settings.requests_per_minute, clock)
        self._failures = RateLimit(FAILURES_PER_MINUTE, clock)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            return await self._app(scope, receive, send)
        if scope["type"] != "http":
            return await send({"type": "websocket.close", "code": 1008})
        scope = peer.behind_proxy({**scope, "clipdex.gate": self}, self._proxies)
        request, started, status = Request(scope), time.monotonic(), 500

        async def watched(message: Message) -> None:
            nonlocal status
            status = message.get("status", status)
            await send(message)

        try:
            refusal = self._refusal(request)
            await (self._app if refusal is None else add_headers(refusal))(scope, receive, watched)
        finally:
            _log(request, status, time.monotonic() - started)

    def wrong_token(self, request: Request, message: str, after: str = "") -> Response:
        """Return the response to a wrong token, 401 or 429, and count it. after: see unauthorized()"""
        if wait_s := self._failures.wait_s(peer.limit_key(request.scope)):
            return _too_many(request, "too many wrong tokens from this address", wait_s)
        return unauthorized(request, message, f'{_SCHEME}, error="invalid_token"', after)

    def _refusal(self, request: Request) -> Response | None:
        """Return the response to a request that no route may see; None admits it."""
        if not peer.allows_host(request.scope, self._names):
            log.warning(
                "%s: Host is not one of %s", escape_line(request.headers.get("host", "")[:200]), list(self._names)
            )
            return _plain(421, "this name is not served here; CLIPDEX_SERVE__HOSTS lists the names (docs/serve.md)")
        if sum(len(name) + len(value) for name, value in request.scope["headers"]) > MAX_HEADERS:
            return _plain(431, f"the headers have more than {MAX_HEADERS} bytes")
        if len(request.scope["query_string"]) > MAX_QUERY:
            return _plain(414, f"the query has more than {MAX_QUERY} bytes")
        if "transfer-encoding" in request.headers:
            return _plain(411, "a body needs Content-Length")
        length = request.headers.get("content-length", "0")
        if not length.isdecimal() or int(length) > MAX_BODY:
            return _plain(413, f"the body has more than {MAX_BODY} bytes")
        if request.method in OPEN.get(route_path(request), ()):
            return None
        authorization = request.headers.getlist("authorization")
        token = self._token(request, authorization)
        if token is None:
            if authorization:
                return self.wrong_token(request, "this token is not valid: it may be mistyped, revoked or expired")
            return unauthorized(request, "a token is needed: Authorization: Bearer TOKEN")
        request.scope["clipdex.token"] = token.name
        if wait_s := self._requests.wait_s(token.sha256):
            return _too_many(request, "too many requests with this token", wait_s)
        return None

    def _token(self, request: Request, authorization: list[str]) -> Token | None:
        """Return the valid token of a request, of its header or else of its cookie."""
        if authorization:
            scheme, _, secret = authorization[0].partition(" ")
            only = len(authorization) == 1 and scheme.lower() == "bearer"
            return self._tokens.find(secret.strip()) if only else None
        token = token_of(request.cookies.get(COOKIE, ""), self._tokens)
        if token is not None:
            request.state.logout_url = url(request, "logout")
        return token


def unauthorized(request: Request, message: str, scheme: str = _SCHEME, after: str = "") -> Response:
    """Return 401: the login page for a browser that requests a page, else JSON.

    after: path of the page to open after the login; "" for the one of this request
    """
    headers = {"WWW-Authenticate": scheme}
    if route_path(request).startswith("/api/") or "text/html" not in request.headers.get("accept", ""):
        return JSONResponse({"detail": message}, 401, headers)
    wrong = message if "error=" in scheme else ""
    return page(request, "token.html", status=401, headers=headers, wrong=wrong, after=after or _asked_for(request))


def _asked_for(request: Request) -> str:
    """Return the path of a request for a page; for another request, the path of the search page."""
    if request.method != "GET":
        return url(request, "search")
    query = request.scope["query_string"].decode("latin-1")
    return local_path(quote(request.scope["path"]) + (f"?{query}" if query else ""), request)


def local_path(text: str, request: Request) -> str:
    """Return a path on this server as it is; instead of anything else, such as //other.example, that of the search."""
    return text if _LOCAL.fullmatch(text) else url(request, "search")


def _too_many(request: Request, message: str, wait_s: float) -> Response:
    seconds = math.ceil(wait_s)
    return error_response(request, 429, f"{message}; try again in {seconds} s", {"Retry-After": str(seconds)})


def _plain(status: int, message: str) -> Response:
    return JSONResponse({"detail": message}, status)


def _log(request: Request, status: int, seconds: float) -> None:
    client, moment = request.client, datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    path = escape_line(request.scope["path"][:200])
    token = request.scope.get("clipdex.token", "-")
    level = logging.DEBUG if route_path(request) == "/health" else logging.INFO  # probes come every few seconds
    log.log(level, "%s %s %s %s %s %d %.0f ms", moment, client.host if client else "-", token, request.method, path,
             status, seconds * 1000)  # fmt: skip
