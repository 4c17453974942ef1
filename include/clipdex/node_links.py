"""Links from a task to the pages of the servers that it used: only http and https, and never with credentials."""

from urllib.parse import quote, urlsplit, urlunsplit

from clipdex.config import Settings


def metrics_url(settings: Settings) -> str:
    """Return the URL of the metrics of the first node of the engine, "" for an engine without nodes."""
    return _page(settings.engine.base_urls[0], "/metrics") if settings.engine.base_urls else ""


def collection_url(settings: Settings) -> str:
    """Return the URL of the collection in Qdrant's dashboard, "" for the embedded index."""
    path = urlsplit(settings.index.url).path.rstrip("/") if settings.index.url else ""
    return _page(settings.index.url, f"{path}/dashboard", f"/collections/{quote(settings.index.alias, safe='')}")


def _page(base: str, path: str, fragment: str = "") -> str:
    """Return a page of a server, "" if its URL is not http or https, or has a name or password in it."""
    try:
        parts = urlsplit(base)
        if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc:
            return ""
    except ValueError:
        return ""
    return urlunsplit((parts.scheme, parts.netloc, path, "", fragment))
