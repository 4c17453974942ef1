"""Forms that change something: they must come from a page of this app, in the browser of the user who sends them.

Two checks, each sufficient against a page of another site. The browser names the origin of the form (Sec-Fetch-Site, or
Origin), which must be this server. The form repeats the random value of a cookie that other sites can neither read nor
send (SameSite=Strict). A program that sends its own credentials in the header Authorization has no cookie to abuse; it
needs neither.
"""

import hmac
import secrets
from typing import Any
from urllib.parse import parse_qs

from fastapi import HTTPException, Request, Response

from clipdex.web.operations import Operations

COOKIE, FIELD = "clipdex_form", "form_token"
MOST_BYTES = 1_000_000


def token_of(request: Request) -> str:
    """Return the value for the forms of a page: that of the cookie, or a new one, which set_token() sends."""
    known = request.cookies.get(COOKIE, "")
    return known if len(known) >= 32 else secrets.token_urlsafe(32)


def set_token(request: Request, response: Response, token: str) -> None:
    """Send the cookie with a page that has forms."""
    if request.cookies.get(COOKIE) == token:
        return
    scope: dict[str, Any] = {
        "path": request.scope.get("root_path", "") or "/",
        "secure": request.url.scheme == "https",
        "httponly": True,
        "samesite": "strict",
    }
    response.set_cookie(COOKIE, token, **scope)


async def writer_form(request: Request) -> tuple[Operations, dict[str, list[str]]]:
    """Return the operations of the host and the form of a user who may write. Raises 403."""
    operations: Operations | None = request.app.state.operations
    if operations is None:
        raise HTTPException(403, "this server only reads: use the pages in Airflow, or the command clipdex")
    form = await checked_form(request)
    if not await operations.may_write(request):
        raise HTTPException(
            403, "your role may not trigger runs of ingest_clips, so it may neither backfill days nor change the "
            "quarantine: ask an admin of this Airflow",
        )  # fmt: skip
    return operations, form


async def checked_form(request: Request) -> dict[str, list[str]]:
    """Return the fields of a form. Raises 403 for one that another site may have sent, and 413, 415."""
    if request.headers.get("content-type", "").partition(";")[0] != "application/x-www-form-urlencoded":
        raise HTTPException(415, "expected a form: application/x-www-form-urlencoded")
    if not request.headers.get("content-length", "").isdecimal():
        raise HTTPException(411, "a form needs Content-Length")
    if int(request.headers["content-length"]) > MOST_BYTES:
        raise HTTPException(413, f"the form has more than {MOST_BYTES} bytes: choose fewer clips, or all of a filter")
    form = parse_qs((await request.body()).decode("utf-8", "replace"), keep_blank_values=True, max_num_fields=20_000)
    if not request.headers.get("authorization"):
        _require_own_form(request, form)
    return form


def _require_own_form(request: Request, form: dict[str, list[str]]) -> None:
    site, origin = request.headers.get("sec-fetch-site", ""), request.headers.get("origin", "")
    same = site == "same-origin" if site else origin.partition("://")[2].lower() == _host(request)
    if not same:
        raise HTTPException(
            403, f"refused: the form comes from {origin or site or 'an unknown origin'}, not from a page of this "
            "server; open the page here and send it again. Behind a reverse proxy, let it pass the header Host",
        )  # fmt: skip
    cookie, given = request.cookies.get(COOKIE, ""), form.get(FIELD, [""])[0]
    if len(cookie) < 32 or not hmac.compare_digest(cookie.encode(), given.encode()):
        raise HTTPException(
            403, "refused: the form does not belong to this session: cookies are off, or the page is old; reload the "
            "page and send it again",
        )  # fmt: skip


def _host(request: Request) -> str:
    return request.headers.get("host", "").lower()
