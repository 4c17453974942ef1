"""The version of a Qdrant server, and what the settings need of it."""

import json
import logging
import re
from contextlib import closing, suppress

from pydantic import ValidationError
from qdrant_client import QdrantClient
from qdrant_client.http.exceptions import ResponseHandlingException, UnexpectedResponse

from clipdex import config
from clipdex.config import Quantization
from clipdex.errors import ConfigurationError, IndexUnavailable
from clipdex.index.server_client import address, connect, is_transient, server_errors
from clipdex.index.server_layout import Layout
from clipdex.sanitize import escape_line

Version = tuple[int, int]

log = logging.getLogger(__name__)
_VERSION = re.compile(r"v?(\d{1,4})\.(\d{1,4})\b")
_found: dict[str, Version | None] = {}
"""By address, of the servers that this process has connected to. None: unreadable"""


def check_version(client: QdrantClient, settings: config.Index) -> None:
    """Raise ConfigurationError if the server is too old for the settings, IndexUnavailable if it does not answer.

    A process reads the version of a server once. An unreadable one is logged: a proxy may hide it.
    """
    url = address(settings.url)
    if url not in _found:
        _found[url] = _version(client, url)
    version = _found[url]
    if version is None:
        return
    lacking = [f"{_text(first)} for {feature}" for first, feature in _needs(settings) if version < first]
    if lacking:
        del _found[url]  # read it again, it may be another one then
        raise ConfigurationError(
            f"Qdrant at {url} has version {_text(version)}, which is too old: expected {', '.join(lacking)}; upgrade "
            "the server" + ("" if version < _MINIMUM else ", or unset those of CLIPDEX_INDEX__*")
        )


def require_usable(settings: config.Index) -> None:
    """Raise ConfigurationError if the address is invalid or the server too old. It need not answer yet."""
    with closing(connect(settings)) as client, suppress(IndexUnavailable):
        check_version(client, settings)


_MINIMUM = (1, 16)


def _needs(settings: config.Index) -> list[tuple[Version, str]]:
    """Return what is needed of a server: the first version that has it, and its name."""
    layout = Layout.of(settings)
    needs = [(_MINIMUM, "the metadata of collections")]
    if layout.quantization is Quantization.TURBO:
        needs.append(((1, 18), "quantization=turbo"))
    on_disk = [name for name in ("vectors_on_disk", "payload_on_disk") if getattr(layout, name) is not None]
    return [*needs, *(((1, 19), name) for name in on_disk)]


def _version(client: QdrantClient, url: str) -> Version | None:
    with server_errors():
        try:
            answer = str(client.info().version)
        except UnexpectedResponse as error:
            if is_transient(error.status_code or 0):
                raise
            answer = f"{error.status_code} {error.reason_phrase}"
        except (ResponseHandlingException, json.JSONDecodeError, UnicodeDecodeError) as error:
            if isinstance(error, ResponseHandlingException) and not isinstance(error.source, ValidationError):
                raise
            answer = "an answer that is not Qdrant's"
    if found := _VERSION.match(answer):
        return int(found[1]), int(found[2])
    log.warning(
        "the version of Qdrant at %s is unreadable: %s; expected %s or later", url, escape_line(answer)[:80],
        _text(_MINIMUM),
    )  # fmt: skip
    return None


def _text(version: Version) -> str:
    return ".".join(map(str, version))
