"""A client of a Qdrant server: its address, its proxy, and its errors as those of clipdex."""

import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from urllib.parse import urlsplit

import httpx
from pydantic import ValidationError
from qdrant_client import QdrantClient
from qdrant_client.common.client_exceptions import QdrantException, ResourceExhaustedResponse
from qdrant_client.http.exceptions import ResponseHandlingException, UnexpectedResponse

from clipdex import config, proxies, tls
from clipdex.errors import ConfigurationError, IndexUnavailable, NothingIndexed
from clipdex.sanitize import escape_line

_CA_FILE = "CLIPDEX_INDEX__CA_FILE"
_PORTS = {"http": 6333, "https": 443}
_BUSY = (408, 425, 429)
_NOT_QDRANT = (
    "Qdrant sent an answer that is not one of its API; if it stays so, check what listens at CLIPDEX_INDEX__URL, and "
    "the proxies in between"
)
_NO_INDEX = "Index required but not found"  # of strict mode


def connect(settings: config.Index) -> QdrantClient:
    """Return a client. The first call connects. Raises ConfigurationError if the settings or a proxy are invalid."""
    proxies.check_proxies()
    client = QdrantClient(
        url=address(settings.url),
        api_key=settings.api_key.get_secret_value() or None,
        timeout=int(max(1, settings.timeout_s)),
        check_compatibility=False,
        verify=tls.certificates(settings.ca_file, _CA_FILE),
    )
    client.http.client.add_middleware(_checked_proxy)
    return client


def address(url: str) -> str:
    """Return the complete address of a server: scheme, host, port and path prefix. Raises ConfigurationError.

    Without a scheme it is http, or https on port 443. Without a port, https has 443, and http has 6333, Qdrant's own.
    """
    text = url.strip()
    try:
        parts = urlsplit(text if "://" in text else f"//{text}")
        scheme, port = parts.scheme or ("https" if parts.port == 443 else "http"), parts.port
        host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
        standard = _PORTS[scheme]
        whole = f"{scheme}://{host}:{standard if port is None else port}{parts.path.rstrip('/')}"
        if host and port != 0 and httpx.URL(whole).host and not (parts.query or parts.fragment or "@" in parts.netloc):
            return whole
    except (KeyError, ValueError, httpx.InvalidURL):
        pass
    shown = proxies.without_credentials(re.split("[?#]", text)[0])
    raise ConfigurationError(
        f"CLIPDEX_INDEX__URL: {shown} is not the address of a Qdrant server: expected one such as "
        "https://qdrant.example.com or http://[::1]:6333/prefix, without query, user or password; the key belongs in "
        "CLIPDEX_INDEX__API_KEY or the password of the connection clipdex_index"
    )


def is_transient(status: int) -> bool:
    """Return whether the same request may succeed later."""
    return status >= 500 or status in _BUSY


@contextmanager
def server_errors(collection: str = "") -> Iterator[None]:
    """Convert the client's errors to clipdex errors. Messages never contain the API key."""
    try:
        yield
    except ResourceExhaustedResponse as error:
        raise IndexUnavailable(f"Qdrant is rate limiting: {error}", float(error.retry_after_s)) from error
    except QdrantException as error:  # of the client: Retry-After is no number
        raise IndexUnavailable(f"Qdrant is rate limiting: {error}") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise IndexUnavailable(_NOT_QDRANT) from error
    except ResponseHandlingException as error:
        if why := tls.certificate_error(error):
            raise ConfigurationError(
                f"Qdrant's certificate is not trusted ({why}): if a private authority signed it, set "
                f"{_CA_FILE} to that authority's PEM file"
            ) from None
        if isinstance(error.source, httpx.ProxyError) and str(error.source).startswith("407"):
            raise _proxy_refused(error.source.request, str(error.source)) from None
        if isinstance(error.source, ValidationError):
            raise IndexUnavailable(_NOT_QDRANT) from error
        where = _address(error.source.request) if isinstance(error.source, httpx.RequestError) else ""
        raise IndexUnavailable(f"Qdrant does not answer{where}: {error.source}") from error
    except UnexpectedResponse as error:
        status = error.status_code or 0
        if status in (401, 403):  # the body may repeat the key
            raise ConfigurationError(
                f"Qdrant refused the key ({status} {error.reason_phrase}): check CLIPDEX_INDEX__API_KEY or the "
                "password of the connection clipdex_index"
            ) from None
        message = f"{status} {error.reason_phrase}: {_reason(error.content)}"
        if is_transient(status):
            raise IndexUnavailable(f"Qdrant answered {message}") from error
        if status == 404 and collection:
            raise NothingIndexed(f"collection {collection} does not exist; run an ingestion first") from error
        if _NO_INDEX in message:
            message += "; the next ingestion makes the payload indexes of declared fields"
        raise ConfigurationError(f"Qdrant refused the request: {message}") from error


def _reason(body: bytes) -> str:
    """Return the message of an error response of Qdrant, or the start of another response."""
    text = body.decode(errors="replace")
    with suppress(ValueError, TypeError, LookupError):
        text = str(json.loads(text)["status"]["error"])
    return escape_line(text[:300])


def _checked_proxy(request: httpx.Request, send: Callable[[httpx.Request], httpx.Response]) -> httpx.Response:
    response = send(request)
    if response.status_code == 407:
        raise _proxy_refused(request, f"407 {response.reason_phrase}")
    return response


def _proxy_refused(request: httpx.Request, answer: str) -> ConfigurationError:
    return ConfigurationError(
        f"Qdrant{_address(request)}: {answer}; give the proxy's user and password in its variable, or name "
        "Qdrant's host in NO_PROXY"
    )


def _address(request: httpx.Request) -> str:
    """Return " at ADDRESS", with the proxy on the way to it."""
    url = request.url
    return f" at {url.scheme}://{url.netloc.decode()}{proxies.through_proxy(str(url))}"
