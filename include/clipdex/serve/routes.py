"""Routes of the server alone: whether it is ready, and the login of a browser."""

import asyncio
from typing import Any
from urllib.parse import parse_qs

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse, RedirectResponse

from clipdex.serve.gate import local_path
from clipdex.serve.sessions import COOKIE, issue
from clipdex.serve.tokens import Tokens
from clipdex.web.app import error_response
from clipdex.web.rendering import page, url

router = APIRouter(include_in_schema=False)

_BODY_S = 10  # of a form


@router.api_route("/health", methods=["GET", "HEAD"])
async def health(request: Request) -> Response:
    """Return 200 when the embedding model is loaded, else 503."""
    ready = request.app.state.ready.is_set()
    return JSONResponse({"status": "ready" if ready else "starting"}, 200 if ready else 503)


@router.get("/login", name="login")
async def login_page(request: Request) -> Response:
    return page(request, "token.html", wrong="", after=url(request, "search"))


@router.post("/login")
async def login(request: Request) -> Response:
    """Exchange a token for a cookie, and redirect to the requested page."""
    if (refusal := _from_another_origin(request)) is not None:
        return refusal
    try:
        async with asyncio.timeout(_BODY_S):
            body = await request.body()
    except TimeoutError:
        return error_response(request, 408, f"the form did not arrive within {_BODY_S} s: send it again")
    form = parse_qs(body.decode("utf-8", "replace"))
    secret, after = form.get("token", [""])[0].strip(), local_path(form.get("after", [""])[0], request)
    tokens: Tokens = request.app.state.tokens
    token = tokens.find(secret)
    if token is None:
        response: Response = request.scope["clipdex.gate"].wrong_token(request, "This token is not valid.", after)
        return response
    cookie, seconds = issue(secret, token, tokens.clock())
    response = RedirectResponse(after, 303)
    response.set_cookie(COOKIE, cookie, max_age=seconds, **_scope_of_cookie(request))
    return response


@router.post("/logout", name="logout")
async def logout(request: Request) -> Response:
    """Delete the cookie in the browser. Only to revoke its token ends a session everywhere."""
    if (refusal := _from_another_origin(request)) is not None:
        return refusal
    response = RedirectResponse(url(request, "login"), 303)
    response.delete_cookie(COOKIE, **_scope_of_cookie(request))
    return response


def _from_another_origin(request: Request) -> Response | None:
    """Return the refusal of a form that another site sent; a browser names the site in the header Origin."""
    origin, host = request.headers.get("origin", ""), request.headers.get("host", "")
    if origin and origin.lower().partition("://")[2] == host.lower():
        return None
    return error_response(
        request, 403, f"the form comes from {origin or 'an unknown origin'}, not from {host}: open the login here, or "
        "let the reverse proxy pass the header Host",
    )  # fmt: skip


def _scope_of_cookie(request: Request) -> dict[str, Any]:
    secure = request.scope["scheme"] == "https"
    return {"path": request.scope.get("root_path", "") or "/", "secure": secure, "httponly": True, "samesite": "strict"}
