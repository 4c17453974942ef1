"""An endpoint: one base URL of an engine, how it is spoken to, and what its answers mean.

a document      2xx with a JSON object
unavailable     connect, reset, timeout, 408 409 425 429 5xx, 2xx with anything else, and 404 model_not_found from a
                gateway that served the model before: EngineUnavailable
about the clip  400 413 422 to a question: Refused, which one answer alone does not prove
no such page    404 405 501 to a GET: Absent, a ConfigurationError
configuration   anything else, such as 401 403 404, redirects and a certificate that nobody vouches for:
                ConfigurationError
"""

import logging
import ssl
from collections.abc import AsyncIterable, Generator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import httpx
from pydantic import SecretStr

from clipdex import tls
from clipdex.config import Engine
from clipdex.errors import ConfigurationError, EngineUnavailable
from clipdex.sanitize import escape_line

logging.getLogger("httpx").setLevel(logging.WARNING)  # at INFO it writes a line a request into a task's log

Document = dict[str, Any]


class Refused(Exception):
    """400, 413 or 422: this clip, says the engine, not by itself to be believed."""


class Absent(ConfigurationError):
    """The server is there, the page is not."""


def endpoints(engine: Engine) -> list["Endpoint"]:
    """One for each address of the engine. Raises ConfigurationError where address, key or authorities cannot work."""
    key, certificates = _checked_key(engine.api_key), tls.certificates(engine.ca_file, _CA_FILE)
    return [Endpoint(url, engine, key, certificates) for url in dict.fromkeys(map(_base_url, engine.base_urls))]


class Endpoint:
    """One base URL, with connections of its own, since httpx looks at all of a client's for each request.

    model_seen: it has served the model, so that not to know it any more passes.
    """

    def __init__(self, url: str, engine: Engine, key: SecretStr, certificates: ssl.SSLContext) -> None:
        self.url, self.model_seen, self._key = url, False, key
        self._client = httpx.AsyncClient(
            auth=_Bearer(key),
            verify=certificates,
            timeout=httpx.Timeout(
                connect=engine.connect_timeout_s,
                read=engine.request_timeout_s,
                write=engine.request_timeout_s,
                pool=engine.connect_timeout_s,
            ),
            # Nodes decide how many. Idle ones are closed before uvicorn does it (5 s), maybe as they are used again.
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=None, keepalive_expiry=4.0),
        )

    async def get(self, path: str) -> Document:
        """What a page says. Raises as told above."""
        return self._read(path, await self._sent("GET", path))

    async def post(self, path: str, body: AsyncIterable[bytes], size: int) -> Document:
        """The answer to a question of so many bytes. Raises as told above."""
        headers = {"Content-Type": "application/json", "Content-Length": str(size)}
        response = await self._sent("POST", path, content=body, headers=headers)
        if response.status_code in _ABOUT_THE_CLIP:
            raise Refused(self._told(path, response))
        return self._read(path, response)

    async def aclose(self) -> None:
        await self._client.aclose()

    async def _sent(self, method: str, path: str, **options: Any) -> httpx.Response:
        try:
            return await self._client.request(method, self.url + path, **options)
        except httpx.HTTPError as error:
            if why := tls.certificate_error(error):
                raise ConfigurationError(
                    f"{self.url}: its certificate is not trusted ({why}): if a private authority signed it, name that "
                    f"authority's file in {_CA_FILE}"
                ) from None
            text = f"{self.url}: {type(error).__name__} {self._short(str(error))}".rstrip()
            raise EngineUnavailable(text) from None

    def _read(self, path: str, response: httpx.Response) -> Document:
        status, told = response.status_code, self._told(path, response)
        if response.is_success:
            try:
                document = response.json()
            except (ValueError, RecursionError):
                document = None
            if not isinstance(document, dict):
                raise EngineUnavailable(f"{told}: not the JSON object that an engine answers with")
            return document
        if status in _ABSENT and response.request.method == "GET":
            raise Absent(told)
        if status in _LATER or status >= 500:
            raise EngineUnavailable(told, _retry_after(response))
        if status == 404 and self.model_seen and "model_not_found" in response.text:
            raise EngineUnavailable(f"{told} (the model was served before: the gateway has lost its nodes)")
        raise ConfigurationError(f"{told}; {_advice(response)}")

    def _told(self, path: str, response: httpx.Response) -> str:
        return f"{self.url}{path}: {response.status_code} {self._short(_message(response))}".rstrip()

    def _short(self, text: str) -> str:
        """One line, and never the key, which servers repeat when they refuse it."""
        line = escape_line(" ".join(text.split()))
        if key := self._key.get_secret_value():
            line = line.replace(key, "**********")
        return line if len(line) <= _LONGEST_MESSAGE else line[: _LONGEST_MESSAGE - 1] + "…"


_CA_FILE = "CLIPDEX_ENGINE__CA_FILE"
_ABOUT_THE_CLIP = {400, 413, 422}
_LATER = {408, 409, 425, 429}
_ABSENT = {404, 405, 501}
_LONGEST_RETRY_AFTER_S = 120.0
_LONGEST_MESSAGE = 300


class _Bearer(httpx.Auth):
    """Adds the key as the request goes out, so that it lies in no header that could be shown."""

    def __init__(self, key: SecretStr) -> None:
        self._key = key

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        if key := self._key.get_secret_value():
            request.headers["Authorization"] = f"Bearer {key}"
        yield request


def _base_url(text: str) -> str:
    """http://node:30000 of what people write, such as http://node:30000/v1/."""
    try:
        url = httpx.URL(text.strip().rstrip("/").removesuffix("/v1"))
    except httpx.InvalidURL:
        url = httpx.URL("")
    if url.scheme not in ("http", "https") or not url.host or url.query or url.userinfo:
        shown = url.copy_with(userinfo=None, query=None) if url.host else "one of base_urls"
        raise ConfigurationError(
            f"{shown}: an engine's address looks like http://gpu-1:30000, without query, user or password; "
            "the key goes into CLIPDEX_ENGINE__API_KEY or the password of the connection clipdex_engine"
        )
    return str(url).rstrip("/")


def _checked_key(key: SecretStr) -> SecretStr:
    """Keys that come from files end with a newline; other characters no header can carry."""
    value = key.get_secret_value().strip()
    if not (value.isascii() and value.isprintable()):
        raise ConfigurationError("the engine's API key has characters that no header can carry: set it again")
    return SecretStr(value)


def _message(response: httpx.Response) -> str:
    """What an error says: SGLang's message, the nested one of gateways and vLLM, or the text itself."""
    if response.is_success:
        return str(response.headers.get("content-type", ""))
    try:
        said = response.json()
    except (ValueError, RecursionError):
        return response.text
    for _ in range(2):
        if isinstance(said, dict):
            said = said.get("message") or said.get("error") or said.get("detail") or said
    return str(said)


def _retry_after(response: httpx.Response) -> float | None:
    """Seconds, from seconds or a date; a server does not get to stop us for hours."""
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


def _advice(response: httpx.Response) -> str:
    if response.status_code in (401, 403):
        return "check the key: CLIPDEX_ENGINE__API_KEY or the password of the connection clipdex_engine"
    if response.has_redirect_location:
        return f"base_urls must name the engine itself, not what redirects to {_host(response.headers['location'])}"
    return "check that base_urls name the engine, and that it serves the model"


def _host(location: str) -> str:
    """Not the rest: an address of a login page may carry secrets."""
    try:
        return httpx.URL(location).host or "another path"
    except httpx.InvalidURL:
        return "an address that is none"
