"""Proxies: HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY, as httpx reads them for engines and for Qdrant.

httpx reads all of them whenever a client is opened, and its errors name no variable. Messages of this module name the
variable, and never the user or the password of a proxy.
"""

import ipaddress
import os
import re
import ssl
from collections.abc import Iterator
from urllib.request import getproxies

import httpx

from clipdex.errors import ConfigurationError

_LAST_PORT = 65535


def check_proxies() -> None:
    """Raise ConfigurationError if httpx cannot read a proxy variable."""
    for variable, proxy in _proxies().values():
        try:
            if not httpx.URL(proxy).host or (httpx.URL(proxy).port or 0) > _LAST_PORT:
                raise ValueError
            httpx.HTTPTransport(proxy=httpx.Proxy(proxy), verify=_unused_tls()).close()
        except ImportError:
            raise ConfigurationError(
                f"{variable}={without_credentials(proxy)}: SOCKS proxies need the package socksio: run "
                "pip install 'httpx[socks]', or unset the variable"
            ) from None
        except (httpx.InvalidURL, ValueError):
            raise ConfigurationError(
                f"{variable}={without_credentials(proxy)} is not the address of a proxy: expected one such as "
                "http://proxy.example.com:3128, with special characters of the password percent-encoded"
            ) from None
    for entry, pattern in _exceptions():
        try:
            httpx.URL(pattern)
        except httpx.InvalidURL:
            raise ConfigurationError(
                f"{_variable('no')} has the entry {without_credentials(entry)}, which httpx cannot read: expected "
                "names and addresses such as localhost,.example.com,10.0.0.7,::1, without brackets and IPv6 ranges"
            ) from None
    try:
        httpx.Client(verify=_unused_tls()).close()
    except (ImportError, ValueError, httpx.InvalidURL):
        raise ConfigurationError(
            "httpx cannot read HTTP_PROXY, HTTPS_PROXY, ALL_PROXY or NO_PROXY: correct or unset them"
        ) from None


def through_proxy(url: str) -> str:
    """Return " through the proxy ADDRESS (VARIABLE)" if requests to a URL go through one; else ""."""
    target, proxies = httpx.URL(url), _proxies()
    if any(_matches(pattern, target) for _, pattern in _exceptions()):
        return ""
    found = proxies.get(target.scheme) or proxies.get("all")
    return f" through the proxy {without_credentials(found[1])} ({found[0]})" if found else ""


def without_credentials(address: str) -> str:
    """Return an address, which may be invalid, without its user and password."""
    return re.sub(r"^([A-Za-z0-9+.-]+://)?.*@", r"\1", address, flags=re.DOTALL)


def _proxies() -> dict[str, tuple[str, str]]:
    """Return the variable and the address of each proxy, by the scheme of the requests that use it."""
    given = getproxies()
    if "*" in _no_proxy():
        return {}
    addresses = {scheme: given[scheme] for scheme in ("http", "https", "all") if given.get(scheme)}
    return {
        scheme: (_variable(scheme), address if "://" in address else f"http://{address}")
        for scheme, address in addresses.items()
    }


def _no_proxy() -> list[str]:
    return [entry for entry in map(str.strip, getproxies().get("no", "").split(",")) if entry]


def _exceptions() -> Iterator[tuple[str, str]]:
    """Yield each entry of NO_PROXY with the pattern that httpx makes of it; nothing if an entry is "*"."""
    for entry in [] if "*" in _no_proxy() else _no_proxy():
        version = _ip_version(entry)
        if "://" in entry:
            yield entry, entry
        elif version == 6:
            yield entry, f"all://[{entry}]"
        elif version == 4 or entry.lower() == "localhost":
            yield entry, f"all://{entry}"
        else:
            yield entry, f"all://*{entry}"


def _ip_version(entry: str) -> int:
    """Return 4 or 6 for an address or a range, 0 for a name."""
    try:
        return ipaddress.ip_address(entry.split("/")[0]).version
    except ValueError:
        return 0


def _matches(pattern: str, target: httpx.URL) -> bool:
    try:
        wanted = httpx.URL(pattern)
    except httpx.InvalidURL:
        return False
    if wanted.scheme not in ("all", target.scheme) or (wanted.port is not None and wanted.port != target.port):
        return False
    if not wanted.host.startswith("*"):
        return wanted.host in ("", target.host)
    domain = wanted.host[1:]
    return target.host == domain or target.host.endswith(domain if domain.startswith(".") else f".{domain}")


def _variable(scheme: str) -> str:
    """Return the name of the variable that names the proxy of a scheme; lower case comes first, as in urllib."""
    name = f"{scheme}_proxy"
    for variable in (name, name.upper(), *os.environ):
        if variable.lower() == name and os.environ.get(variable):
            return variable
    return f"the system's setting {name.upper()}"


def _unused_tls() -> ssl.SSLContext:
    """Return a context that is never used, instead of one that reads certificates."""
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
