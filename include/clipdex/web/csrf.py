"""Cross-site requests: a form on another site must not act with the cookie of a user of this one."""

from fastapi import Request

from clipdex.web.problems import Refused


def require_same_site(request: Request) -> None:
    """Raise 403 unless a page of this server sent the request.

    A browser names the relation in Sec-Fetch-Site, which scripts cannot set, where the connection is secure; else the
    site in Origin. A request with neither is no form of a page of this server.
    """
    relation = request.headers.get("sec-fetch-site")
    origin, host = request.headers.get("origin", ""), request.headers.get("host", "")
    same = origin.lower().partition("://")[2] == host.lower() and bool(origin)
    if relation == "same-origin" or (relation is None and same):
        return
    raise Refused(
        403, f"the form comes from {origin or 'an unknown origin'}, not from {host}: open the page here, or let the "
        "reverse proxy pass the header Host",
    )  # fmt: skip
