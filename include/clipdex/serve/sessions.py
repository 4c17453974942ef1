"""Sessions: the cookie that a browser gets for a token, checked without a record of it.

The cookie is EXPIRES.SIGNATURE.NAME. The signature (Ed25519) is made at the login, with a key that is derived from the
token. The file of tokens has the public key. So nothing is written for a session, each process can check it, a copy of
the file makes none, and a session ends with its token: when it is revoked, the public key is gone.
"""

import hmac
from base64 import urlsafe_b64decode, urlsafe_b64encode

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from clipdex.serve.tokens import Token, Tokens

COOKIE = "clipdex_session"
SESSION_S = 12 * 3600
_LONGEST = 300  # characters


def public_key(secret: str) -> str:
    """Return the key that checks the sessions of a token, hex."""
    return _private_key(secret).public_key().public_bytes_raw().hex()


def issue(secret: str, token: Token, now: float) -> tuple[str, int]:
    """Return a cookie for a token, and how long it is valid [s]: 12 hours, or until the token expires."""
    expires = int(min(now + SESSION_S, token.expires_at))
    signature = urlsafe_b64encode(_private_key(secret).sign(_message(token.name, expires))).decode().rstrip("=")
    return f"{expires}.{signature}.{token.name}", max(expires - int(now), 0)


def token_of(cookie: str, tokens: Tokens) -> Token | None:
    """Return the valid token of a cookie, or None."""
    expires, _, rest = cookie[:_LONGEST].partition(".")
    signature, _, name = rest.partition(".")
    if not (expires.isascii() and expires.isdigit() and int(expires) > tokens.clock()):
        return None
    token = tokens.named(name)
    if token is None:
        return None
    try:
        key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(token.session_key))
        key.verify(urlsafe_b64decode(signature + "=="), _message(name, int(expires)))
    except (InvalidSignature, ValueError):
        return None
    return token


def _private_key(secret: str) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(hmac.digest(secret.encode(), b"clipdex session key", "sha256"))


def _message(name: str, expires: int) -> bytes:
    return f"clipdex session {expires} {name}".encode()
