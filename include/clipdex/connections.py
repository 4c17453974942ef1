"""Airflow Connections as settings: every field counts, or is rejected by name.

Airflow makes the same fields of a Connection that is written as fields, as a URI or as JSON. A URI's scheme is its
conn_type, and its path is its schema.

field      engine, index                                          source, store
host       addresses; commas between several engines              a URL, a folder, or the bucket of an s3 Connection
conn_type  https, http; generic adds nothing                      a filesystem such as s3; generic, aws add nothing
port       of each address without one                            of a server such as sftp; a bucket has none
schema     https or http, else the path prefix                    the path in the bucket or on the server
login      rejected                                               access key
password   API key                                                secret key
extra      fields of the settings group                           fields of the settings group
"""

import contextlib
import ipaddress
import json
from typing import Any, Protocol
from urllib.parse import SplitResult, urlsplit

from clipdex.config import Engine, Index, Source, StoreSettings
from clipdex.errors import ConfigurationError


class ConnectionFields(Protocol):
    """The fields of an Airflow Connection that clipdex reads."""

    conn_id: str
    conn_type: str | None
    host: str | None
    port: int | None
    schema: str | None
    login: str | None
    password: str | None
    extra: str | None


def storage_settings(connection: ConnectionFields) -> dict[str, Any]:
    """Return the settings of a source or a store. Raises ConfigurationError."""
    given, url = _extra(connection), _storage_url(connection)
    scheme = url.partition("://")[0] if "://" in url else ""
    for field in ("login", "password"):
        if url and getattr(connection, field) and scheme in ("", *_SERVERS):
            where = (
                f'{scheme} takes it in extra, such as {{"options": {{"username": "…"}}}}'
                if scheme
                else "a folder has none"
            )
            raise _rejected(connection, field, f"is the access key of object storage: {where}")
    _set(connection, given, "url", "host", url)
    _set(connection, given, "key", "login", connection.login)
    _set(connection, given, "secret", "password", connection.password)
    return given


def engine_settings(connection: ConnectionFields) -> dict[str, Any]:
    """Return the settings of an engine, or of embedding servers. Raises ConfigurationError."""
    given = _extra(connection)
    _set(connection, given, "base_urls", "host", _addresses(connection, ("generic", "http", "https")))
    _set_key(connection, given)
    return given


def index_settings(connection: ConnectionFields) -> dict[str, Any]:
    """Return the settings of an index. Raises ConfigurationError."""
    given = _extra(connection)
    addresses = _addresses(connection, ("generic", "http", "https", "qdrant"))
    if len(addresses) > 1:
        raise _rejected(connection, "host", "has several addresses; expected one Qdrant server or its load balancer")
    _set(connection, given, "url", "host", "".join(addresses))
    _set_key(connection, given)
    return given


def _set_key(connection: ConnectionFields, given: dict[str, Any]) -> None:
    if connection.login:
        raise _rejected(connection, "login", "is not used: remove it; the API key belongs in the password")
    _set(connection, given, "api_key", "password", connection.password)


def _set(connection: ConnectionFields, given: dict[str, Any], name: str, field: str, value: Any) -> None:
    if value and given.get(name):
        raise _rejected(connection, field, f"and the field {name} of extra are both set: remove one")
    if value:
        given[name] = value


def _extra(connection: ConnectionFields) -> dict[str, Any]:
    """Return extra. Lists and objects may be JSON text, as in the query of a URI."""
    try:
        extra = json.loads(connection.extra or "{}")
    except ValueError:
        extra = None
    if not isinstance(extra, dict):
        raise _rejected(connection, "extra", 'is not a JSON object such as {"name": "sglang"}')
    return {name: _parsed(connection, name, value) for name, value in extra.items()}


def _parsed(connection: ConnectionFields, name: str, value: Any) -> Any:
    if not isinstance(value, str) or value[:1] not in ("[", "{") or name in _TEXTS:
        return value
    try:
        return json.loads(value)
    except ValueError:
        raise _rejected(connection, "extra", f"has invalid JSON in its field {name}") from None


def _addresses(connection: ConnectionFields, kinds: tuple[str, ...]) -> list[str]:
    """Return the addresses in host, each with the scheme, port and path prefix of the other fields."""
    kind, schema = _kind(connection), (connection.schema or "").strip("/")
    if kind not in kinds:
        raise _rejected(connection, "conn_type", f"is {kind}: expected {', '.join(kinds)}")
    # As in Airflow's HttpHook: conn_type http is any web server, and schema may be its scheme.
    schemes = {schema.lower()} & _WEB | {kind} & {"https"}
    if len(schemes) > 1:
        raise _rejected(connection, "schema", f"is {schema}, and conn_type is {kind}: correct one")
    prefix = "" if schema.lower() in _WEB else schema
    default = "http" if kind == "http" else ""
    hosts = [one for one in map(str.strip, (connection.host or "").split(",")) if one]
    if not hosts:
        _require_no_parts(connection)
    return [_address(connection, host, "".join(schemes), default, prefix) for host in hosts]


def _address(connection: ConnectionFields, host: str, scheme: str, default: str, prefix: str) -> str:
    parts, port = _split(connection, host)
    if parts.scheme and scheme and parts.scheme.lower() != scheme:
        field = "conn_type" if _kind(connection) == scheme else "schema"
        raise _rejected(connection, field, f"is {scheme}, and the host begins with {parts.scheme}: correct one")
    if parts.path.strip("/") and prefix and parts.path.strip("/") != prefix:
        raise _rejected(connection, "schema", f"is the path {prefix}, and the host has another path: remove one")
    return parts._replace(
        scheme=parts.scheme or scheme or default or ("https" if port == 443 else "http"),
        netloc=_netloc(parts, port),
        path=f"/{prefix}" if prefix else parts.path,
    ).geturl()


def _storage_url(connection: ConnectionFields) -> str:
    """Return the URL or the folder in host, completed by conn_type, port and schema; "" for the default."""
    from fsspec import available_protocols

    kind, host, path = _kind(connection), connection.host or "", (connection.schema or "").strip("/")
    if kind not in (*_PLAIN, *available_protocols()):
        raise _rejected(connection, "conn_type", f"is {kind}: expected generic, or a filesystem such as s3")
    scheme = host.partition("://")[0] if "://" in host else "" if kind in (*_PLAIN, "file", "local") else kind
    if not host and not (path and kind == "file"):
        _require_no_parts(connection)
        return ""
    if "://" in host and kind not in (*_PLAIN, scheme):
        raise _rejected(connection, "conn_type", f"is {kind}, and the host begins with {scheme}: use generic")
    if connection.port and scheme not in _SERVERS:
        raise _rejected(
            connection, "port",
            "does not apply to a folder or a bucket: the address of object storage belongs in extra, such as "
            '{"options": {"endpoint_url": "http://objects:9000"}}',
        )  # fmt: skip
    if not scheme:
        return "/".join([host.rstrip("/"), path]) if path else host
    if host.startswith("/"):
        raise _rejected(connection, "conn_type", f"is {kind}, and the host is a folder: use generic")
    if connection.port:
        parts, port = _split(connection, host)
        host = parts._replace(scheme=scheme, netloc=_netloc(parts, port)).geturl()
    elif "://" not in host:
        host = f"{scheme}://{host}"
    return "/".join([host.rstrip("/"), path]) if path else host


def _split(connection: ConnectionFields, host: str) -> tuple[SplitResult, int | None]:
    """Return the parts of an address, which may lack a scheme or the brackets of IPv6, and its port."""
    scheme, separator, rest = host.rpartition("://")
    with contextlib.suppress(ValueError):  # not an IPv6 address
        rest = f"[{ipaddress.IPv6Address(rest)}]"
    try:
        parts = urlsplit(f"{scheme}{separator or '//'}{rest}")
        port = parts.port
    except ValueError:
        raise _rejected(connection, "host", "is not an address such as http://gpu-1:30000") from None
    if port and connection.port and port != connection.port:
        raise _rejected(connection, "port", f"is {connection.port}, and the host has port {port}: remove one")
    return parts, port or connection.port


def _netloc(parts: SplitResult, port: int | None) -> str:
    own = parts.netloc if parts.port is None else parts.netloc.rpartition(":")[0]
    return f"{own}:{port}" if port else own


def _require_no_parts(connection: ConnectionFields) -> None:
    for field in ("port", "schema"):
        if getattr(connection, field):
            raise _rejected(connection, field, "is set without a host: set the host, or remove it")


def _kind(connection: ConnectionFields) -> str:
    return (connection.conn_type or "generic").lower()


def _rejected(connection: ConnectionFields, field: str, why: str) -> ConfigurationError:
    return ConfigurationError(f"connection {connection.conn_id}: {field} {why}")


_TEXTS = {
    name
    for group in (Source, StoreSettings, Engine, Index)
    for name, field in group.model_fields.items()
    if field.annotation is str
}
"""Fields that are text, also with a brace at the start: a day_pattern."""
_WEB = {"http", "https"}
_PLAIN = ("generic", "aws", "fs")
"""Types of storage Connections that name no filesystem."""
_SERVERS = {"sftp", "ssh", "ftp", "smb", "hdfs", "webhdfs", "webdav", "http", "https"}
"""Filesystems on a server, with a port."""
