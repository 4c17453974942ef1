"""Addresses of what a page shows: pictures and videos of the store."""

import re

from fastapi import Request

from clipdex.web.rendering import url

_KEY = re.compile(r"(?:posters|playbacks)/[0-9a-f]{2}/([0-9a-f]{64})\.(?:jpg|mp4)")


def stored_url(request: Request, key: str) -> str:
    """Return the URL of a poster or a playback by its store key, or "" if the key is neither."""
    known = _KEY.fullmatch(key)
    return url(request, key.partition("s/")[0], content=known[1]) if known else ""


def poster_url(request: Request, key: str) -> str:
    """Return the URL of a poster by its store key, or "" if the key is not a poster's."""
    return stored_url(request, key) if key.startswith("posters/") else ""


def shown_path(uri: str) -> str:
    """Return the path of a local file, and the URI of any other. Control characters stay percent-encoded."""
    return uri.removeprefix("file://") if uri.startswith("file:///") else uri
