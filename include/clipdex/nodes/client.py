"""Endpoint: HTTP requests to one base URL of a service, and the meaning of its responses.

Document            2xx with a JSON object
Unavailable         connect, reset, timeout, 408 409 425 429 5xx, 2xx without a JSON object, and 404 model_not_found
                    from a gateway that served the model before; of the class that the service names
Refused             400 413 422 to a POST; one response alone does not prove a bad request
Absent              404 405 501 to a GET; a ConfigurationError
ConfigurationError  all others, such as 401 403 404 407, redirects and untrusted certificates
"""

import ssl
from collections.abc import AsyncIterable, Generator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import httpx
from pydantic import SecretStr

from clipdex import proxies, tls
from clipdex.errors import ConfigurationError
from clipdex.nodes.service import Access, Service
from clipdex.sanitize import escape_line

Document = dict[str, Any]


class Refused(Exception):
    """400, 413 or 422: the server rejected the request; confirm before quarantine."""


class Absent(ConfigurationError):
    """The server responded, but it does not have the page."""


def endpoints(access: Access, service: Service) -> list["Endpoint"]:
    """Return one endpoint per base URL.

    Raises ConfigurationError if a URL, the key, the CA file or a proxy variable is invalid.
    """
    proxies.check_proxies()
    key, certificates = _checked_key(access.api_key, service), tls.certificates(access.ca_file, service.ca_file)
    urls = dict.fromkeys(_base_url(url, service) for url in access.base_urls)
    return [Endpoint(url, access, service, key, certificates) for url in urls]


class Endpoint:
    """One base URL with its own httpx client, because httpx scans all connections of a client per request.

    name: host and port, for statistics
    model_seen: the endpoint served the model before, so model_not_found is transient.
    """

    def __init__(
        self, url: str, access: Access, service: Service, key: SecretStr, certificates: ssl.SSLContext
    ) -> None:
        self.name = httpx.URL(url).netloc.decode()[:_LONGEST_NAME]
        self.url, self.model_seen, self._service, self._key = url, False, service, key
        self._through_proxy = proxies.through_proxy(url)
        self._client = httpx.AsyncClient(
            auth=_Bearer(key),
            verify=certificates,
            timeout=httpx.Timeout(
                connect=access.connect_timeout_s,
                read=access.request_timeout_s,
                write=access.request_timeout_s,
                pool=access.connect_timeout_s,
            ),
            # Nodes limits the connections. Idle ones close before uvicorn's 5 s keep-alive can reset a new request.
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=None, keepalive_expiry=4.0),
        )

    async def get(self, path: str) -> Document:
        """Return the document of a page. Raises as listed in the module docstring."""
        return self._read(path, await self._send("GET", path))

    async def post(self, path: str, body: AsyncIterable[bytes], size: int) -> Document:
        """Send a body of size bytes and return the document. Raises as listed in the module docstring."""
        headers = {"Content-Type": "application/json", "Content-Length": str(size)}
        response = await self._send("POST", path, content=body, headers=headers)
        if response.status_code in _ABOUT_THE_REQUEST:
            raise Refused(self._error_line(path, response))
        return self._read(path, response)

    async def aclose(self) -> None:
        await self._client.aclose()

    async def _send(self, method: str, path: str, **options: Any) -> httpx.Response:
        try:
            return await self._client.request(method, self.url + path, **options)
        except httpx.HTTPError as error:
            if why := tls.certificate_error(error):
                raise ConfigurationError(
                    f"{self.url}: its certificate is not trusted ({why}): if a private authority signed it, set "
                    f"{self._service.ca_file} to that authority's file"
                ) from None
            text = f"{self.url}{self._through_proxy}: {type(error).__name__} {self._redacted(str(error))}".rstrip()
            if isinstance(error, httpx.ProxyError) and str(error).startswith("407"):
                raise ConfigurationError(f"{text}; {_proxy_advice(self._service)}") from None
            raise self._service.unavailable(text) from None

    def _read(self, path: str, response: httpx.Response) -> Document:
        status, message = response.status_code, self._error_line(path, response)
        if response.is_success:
            try:
                document = response.json()
            except (ValueError, RecursionError):
                document = None
            if not isinstance(document, dict):
                raise self._service.unavailable(f"{message}: expected a JSON object")
            return document
        if status in _ABSENT and response.request.method == "GET":
            raise Absent(message)
        if status in _LATER or status >= 500:
            raise self._service.unavailable(message, _retry_after(response))
        if status == 404 and self.model_seen and "model_not_found" in response.text:
            raise self._service.unavailable(f"{message} (the model was served before: the gateway has lost its nodes)")
        raise ConfigurationError(f"{message}; {_advice(response, self._service)}")

    def _error_line(self, path: str, response: httpx.Response) -> str:
        via = self._through_proxy if response.status_code in _FROM_A_PROXY else ""
        return f"{self.url}{path}{via}: {response.status_code} {self._redacted(_message(response))}".rstrip()

    def _redacted(self, text: str) -> str:
        """Return one line without the API key, which servers echo when they reject it."""
        line = escape_line(" ".join(text.split()))
        if key := self._key.get_secret_value():
            line = line.replace(key, "**********")
        return line if len(line) <= _LONGEST_MESSAGE else line[: _LONGEST_MESSAGE - 1] + "…"


_ABOUT_THE_REQUEST = {400, 413, 422}
_LATER = {408, 409, 425, 429}
_ABSENT = {404, 405, 501}
_FROM_A_PROXY = {403, 407, 502, 503, 504}
_LONGEST_RETRY_AFTER_S = 120.0
_LONGEST_MESSAGE = 300
_LONGEST_NAME = 100


class _Bearer(httpx.Auth):
    """Adds the key when a request is sent, so that no stored header contains it."""

    def __init__(self, key: SecretStr) -> None:
        self._key = key

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        if key := self._key.get_secret_value():
            request.headers["Authorization"] = f"Bearer {key}"
        yield request


def _base_url(text: str, service: Service) -> str:
    """Normalize a base URL: http://node:30000/v1/ becomes http://node:30000."""
    try:
        url = httpx.URL(text.strip().rstrip("/").removesuffix("/v1"))
    except httpx.InvalidURL:
        url = httpx.URL("")
    if url.scheme not in ("http", "https") or not url.host or url.query or url.userinfo or (url.port or 0) > 65535:
        shown = url.copy_with(userinfo=None, query=None) if url.host else "one of base_urls"
        raise ConfigurationError(
            f"{shown}: expected a base URL such as http://gpu-1:30000, without query, user or password; "
            f"set the key in {service.key}"
        )
    return str(url).rstrip("/")


def _checked_key(key: SecretStr, service: Service) -> SecretStr:
    """Strip the key, since files end with a newline. Raises ConfigurationError if a header cannot contain it."""
    value = key.get_secret_value().strip()
    if not (value.isascii() and value.isprintable()):
        raise ConfigurationError(
            f"the {service.name}'s API key has characters that are invalid in a header: set it again"
        )
    return SecretStr(value)


def _message(response: httpx.Response) -> str:
    """Return the error message: SGLang's field, the nested one of gateways and vLLM, or the response text."""
    if response.is_success:
        return str(response.headers.get("content-type", ""))
    try:
        body = response.json()
    except (ValueError, RecursionError):
        return response.text
    for _ in range(2):
        if isinstance(body, dict):
            body = body.get("message") or body.get("error") or body.get("detail") or body
    return str(body)


def _retry_after(response: httpx.Response) -> float | None:
    """Return Retry-After [s], given in seconds or as a date, limited to _LONGEST_RETRY_AFTER_S; None if invalid."""
    value = response.headers.get("retry-after", "").strip()
    try:
        seconds = float(value)
    except ValueError:
        try:
            date = parsedate_to_datetime(value)
        except ValueError:
            return None
        seconds = ((date if date.tzinfo else date.replace(tzinfo=UTC)) - datetime.now(UTC)).total_seconds()
    return min(max(seconds, 0.0), _LONGEST_RETRY_AFTER_S) if seconds == seconds else None


def _advice(response: httpx.Response, service: Service) -> str:
    if response.status_code == 407:
        return _proxy_advice(service)
    if response.status_code in (401, 403):
        return f"check the key: {service.key}"
    if response.has_redirect_location:
        return f"base_urls must name the {service.name} itself, not a redirect to {_host(response.headers['location'])}"
    return f"check that base_urls name the {service.name}, and that it serves the model"


def _proxy_advice(service: Service) -> str:
    return f"give the proxy's user and password in its variable, or name the {service.name}'s host in NO_PROXY"


def _host(location: str) -> str:
    """Return only the host: the URL of a login page may contain secrets."""
    try:
        return httpx.URL(location).host or "another path"
    except httpx.InvalidURL:
        return "an invalid URL"
