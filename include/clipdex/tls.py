"""TLS: whom we believe to be who they say. Certificates are always checked; a private authority has a file."""

import ssl

import httpx

from clipdex.errors import ConfigurationError


def certificates(ca_file: str, setting: str) -> ssl.SSLContext:
    """The public authorities, or those of a PEM file instead. setting: what a person has to change, for errors."""
    if not ca_file:
        return httpx.create_ssl_context()
    try:
        return ssl.create_default_context(cafile=ca_file)
    except (OSError, ValueError) as error:  # absent, unreadable, or no PEM
        raise ConfigurationError(f"{setting}={ca_file}: no certificates can be read there ({error})") from None


def certificate_error(error: BaseException | None) -> str:
    """Why a certificate was not believed, where that is at the bottom of an error; else ""."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        if isinstance(error, ssl.SSLCertVerificationError):
            return error.verify_message
        seen.add(id(error))
        error = getattr(error, "source", None) or error.__cause__ or error.__context__
    return ""
