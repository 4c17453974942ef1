"""TLS: certificate verification. Certificates are always verified; a private authority is configured as a PEM file."""

import ssl

import httpx

from clipdex.errors import ConfigurationError


def certificates(ca_file: str, setting: str) -> ssl.SSLContext:
    """Return a context with the public authorities, or with those of a PEM file. Raises ConfigurationError.

    setting: the variable that names ca_file, for the error message
    """
    if not ca_file:
        return httpx.create_ssl_context()
    try:
        return ssl.create_default_context(cafile=ca_file)
    except (OSError, ValueError) as error:  # missing, unreadable or not PEM
        raise ConfigurationError(f"{setting}={ca_file}: no certificates can be read there ({error})") from None


def certificate_error(error: BaseException | None) -> str:
    """Return why a certificate was rejected, if that caused the error; else ""."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        if isinstance(error, ssl.SSLCertVerificationError):
            return error.verify_message
        seen.add(id(error))
        error = getattr(error, "source", None) or error.__cause__ or error.__context__
    return ""
