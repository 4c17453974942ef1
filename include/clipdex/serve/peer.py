"""Peer: which client sent a request, and under which name of this server.

The headers X-Forwarded-For, -Proto and -Prefix count only if the connection comes from a configured proxy: anybody can
write them. The name in the header Host is checked, because the page of another site can point its own name at this
address, and would then read responses as its own (DNS rebinding).
"""

import re
from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import Scope

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

LOOPBACK_NAMES = ("localhost", "127.0.0.1", "::1")
_PREFIX = re.compile(r"(/[A-Za-z0-9_~-][A-Za-z0-9._~-]*){1,8}")
_MOST_HOPS = 16


def networks(texts: Iterable[str]) -> tuple[Network, ...]:
    """Return the networks of the setting trusted_proxies."""
    return tuple(ip_network(text, strict=False) for text in texts)


def behind_proxy(scope: Scope, proxies: Sequence[Network]) -> Scope:
    """Return the scope with the client, scheme and path prefix that a trusted proxy names; else as it is.

    The client is the last address in X-Forwarded-For that is no trusted proxy: those before it may be forged.
    """
    peer = _address((scope.get("client") or ("",))[0])
    if peer is None or not _trusted(peer, proxies):
        return scope
    headers, scope = Headers(scope=scope), dict(scope)
    hops = [part for value in headers.getlist("x-forwarded-for") for part in value.split(",")][-_MOST_HOPS:]
    for hop in reversed(hops):
        found = _address(hop.strip())
        if found is None:
            break
        scope["client"] = (str(found), 0)
        if not _trusted(found, proxies):
            break
    if (scheme := _last(headers, "x-forwarded-proto")) in ("http", "https"):
        scope["scheme"] = scheme
    prefix = _last(headers, "x-forwarded-prefix").rstrip("/")
    if _PREFIX.fullmatch(prefix):
        scope["root_path"], scope["path"] = prefix, prefix + scope["path"]
    return scope


def allows_host(scope: Scope, names: Iterable[str]) -> bool:
    """Return whether the header Host has one of these names, or the address that the client connected to."""
    host = hostname(Headers(scope=scope).get("host", ""))
    server = (scope.get("server") or ("",))[0]
    return bool(host) and host in {*(name.lower() for name in names), _plain(server)}


def hostname(authority: str) -> str:
    """Return the name of HOST:PORT in lower case, without brackets, "" if it cannot be read."""
    try:
        return (urlsplit(f"//{authority}").hostname or "").rstrip(".")
    except ValueError:
        return ""


def limit_key(scope: Scope) -> str:
    """Return the client's address, of IPv6 its network of 64 bits, which one customer has."""
    address = _address((scope.get("client") or ("",))[0])
    if isinstance(address, IPv6Address):
        return str(ip_network((address, 64), strict=False))
    return str(address)


def _trusted(address: Address, proxies: Sequence[Network]) -> bool:
    return any(address in network for network in proxies)


def _last(headers: Headers, name: str) -> str:
    """Return the value that the nearest proxy wrote."""
    return (headers.getlist(name) or [""])[-1].rpartition(",")[2].strip()


def _address(text: str) -> Address | None:
    """Return an address, also one with a port; of IPv4 in IPv6, the former."""
    for one in (text, hostname(text)):
        try:
            address = ip_address(one.partition("%")[0])  # a scope is any text
        except ValueError:
            continue
        return (address.ipv4_mapped or address) if isinstance(address, IPv6Address) else address
    return None


def _plain(text: str) -> str:
    return str(_address(text) or text)
