"""The app: one guard before every route, headers on every response, errors as HTML or as JSON."""

import logging
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any

from fastapi import Depends, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from clipdex.config import Settings
from clipdex.errors import (
    ClipdexError,
    InvalidFilter,
    NothingIndexed,
    Unavailable,
    UnknownClip,
    describe_os_error,
    is_of_storage,
)
from clipdex.index.search import EmptyQuery
from clipdex.sanitize import escape_line
from clipdex.web import assets, clips, ingestion, quarantine, reference, search
from clipdex.web.backend import Backend
from clipdex.web.ingestion.overview import Overview
from clipdex.web.operations import Operations
from clipdex.web.rendering import page, route_path

log = logging.getLogger(__name__)

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; img-src 'self'; style-src 'self'; script-src 'self'; media-src 'self'; "
        "connect-src 'self'; form-action 'self'; frame-ancestors 'self'; base-uri 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
}


def create_app(
    settings: Callable[[], Settings],
    guard: Callable[..., Any],
    login_url: Callable[[Request], str],
    operations: Operations | None = None,
) -> FastAPI:
    """Return the app, to be mounted.

    guard: a dependency of every route that raises 401 or 403 for unauthorized users
    login_url: the link on the login page
    operations: what users may start; None for a host that only reads
    """
    app = FastAPI(title="clipdex", dependencies=[Depends(guard)], openapi_url=None, docs_url=None, redoc_url=None)
    app.state.backend = Backend(settings)
    app.state.login_url, app.state.operations, app.state.descriptions = login_url, operations, {}
    app.state.overview = Overview(app.state.backend.pipeline)
    routers = [
        reference.router,
        assets.router,
        *search.ROUTERS,
        *clips.ROUTERS,
        *ingestion.ROUTERS,
        *quarantine.ROUTERS,
    ]
    if operations is not None:
        routers += [*ingestion.WRITES, *quarantine.WRITES]
    for router in routers:
        app.include_router(router)
    app.middleware("http")(_with_headers)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(RequestValidationError, _validation_error)
    app.add_exception_handler(ClipdexError, _clipdex_error)
    app.add_exception_handler(OSError, _store_error)
    return app


async def _with_headers(request: Request, proceed: Callable[[Request], Awaitable[Response]]) -> Response:
    try:
        response = await proceed(request)
    except Exception as error:  # clients of object storage have their own, of no common type
        if not is_of_storage(error):
            raise
        response = _away(request, str(error))
    return add_headers(response)


def add_headers(response: Response) -> Response:
    """Add the headers that each response has, except those that it has already."""
    for name, value in HEADERS.items():
        response.headers.setdefault(name, value)
    response.headers.setdefault("Cache-Control", "private, no-store")
    return response


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.status_code in (401, 403) and request.method == "GET" and not _is_api(request):
        return page(request, "login.html", status=error.status_code, login_url=request.app.state.login_url(request))
    return error_response(request, error.status_code, str(error.detail), dict(error.headers or {}))


async def _validation_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    messages = [f"{mistake['loc'][-1]}: {mistake['msg'].removeprefix('Value error, ')}" for mistake in error.errors()]
    return error_response(request, 422, "; ".join(messages))


async def _clipdex_error(request: Request, error: Exception) -> Response:
    match error:
        case NothingIndexed():
            return error_response(request, 404, "Nothing is indexed yet: run the DAG ingest_clips, or clipdex ingest.")
        case UnknownClip():
            return error_response(request, 404, str(error))
        case EmptyQuery() | InvalidFilter():
            return error_response(request, 422, str(error))
        case Unavailable():
            log.warning("%s: %s", escape_line(route_path(request)), error)
            return error_response(request, 503, str(error), {"Retry-After": str(int(error.retry_after_s or 5))})
        case _:
            log.error("%s: %s", escape_line(route_path(request)), error)
            return error_response(request, 500, str(error))


async def _store_error(request: Request, error: Exception) -> Response:
    """Report a store that is away: its disk, mount or bucket."""
    assert isinstance(error, OSError)
    return _away(request, describe_os_error(error))


def _away(request: Request, why: str) -> Response:
    log.warning("%s: %s", escape_line(route_path(request)), escape_line(why))
    return error_response(request, 503, escape_line(f"the artifact store does not answer: {why}"), {"Retry-After": "5"})


def error_response(request: Request, status: int, message: str, headers: dict[str, str] | None = None) -> Response:
    """Return an error as a page, or as JSON below /api/."""
    if _is_api(request):
        return JSONResponse({"detail": message}, status, headers)
    title = _TITLES.get(status, HTTPStatus(status).phrase)
    return page(request, "notice.html", status=status, headers=headers, title=title, message=message)


_TITLES = {
    403: "Refused",
    404: "Not found",
    422: "Invalid query",
    429: "Too many requests",
    503: "Busy, try again in a moment",
}


def _is_api(request: Request) -> bool:
    return route_path(request).startswith("/api/")
