"""Tokens: secrets of programs and people, in a file that has no secret.

A token is 256 random bits. The file has the SHA-256 of each: 2^256 inputs cannot be tried, so a slow hash with a salt,
as passwords need it, would only slow the requests down. The file also has a public key per token, which checks sessions
(sessions.py). So who reads the file can neither call the API nor make a session. Who can write it can add a token: its
mode is 0600, and a file that others may write is refused.

Writers lock the folder and replace the file. Readers look at its modification time before each use, so that a new or
revoked token counts at once in each process that reads it.
"""

import fcntl
import hmac
import json
import logging
import os
import re
import secrets
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

from clipdex.config import Settings
from clipdex.errors import ConfigurationError

log = logging.getLogger(__name__)

PREFIX = "clipdex_"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_DAY_S = 86_400


@dataclass(frozen=True, slots=True)
class Token:
    """Hold what is known of a token.

    sha256: of the token, hex
    session_key: the public key of its sessions, hex
    created, expires: ISO 8601 in UTC; expires "" for never
    """

    name: str
    sha256: str
    session_key: str
    created: str
    expires: str = ""

    @property
    def expires_at(self) -> float:
        """Return when it ends [s since 1970], infinity for never."""
        return datetime.fromisoformat(self.expires).timestamp() if self.expires else float("inf")


def token_file(settings: Settings) -> Path:
    """Return the file of the tokens."""
    return Path(settings.serve.token_file) if settings.serve.token_file else settings.state / "tokens.json"


def create(path: Path, name: str, days: int | None = None, clock: Callable[[], float] = time.time) -> str:
    """Add a token and return it; it can never be read again.

    days: until it expires; None for never. Raises ConfigurationError if the name is wrong or taken, or for the file.
    """
    from clipdex.serve.sessions import public_key

    if not _NAME.fullmatch(name):
        raise ConfigurationError(
            f"{name!r} is not a name for a token: up to 64 letters, digits, dots, dashes and underscores"
        )
    secret, now = PREFIX + secrets.token_urlsafe(32), clock()
    expires = "" if days is None else _iso(now + days * _DAY_S)
    with _locked(path) as tokens:
        if any(token.name == name for token in tokens):
            raise ConfigurationError(f"there is a token {name}: revoke it first, or choose another name")
        _write(path, [*tokens, Token(name, _digest(secret), public_key(secret), _iso(now), expires)])
    return secret


def revoke(path: Path, name: str) -> None:
    """Remove a token, and so its sessions. Raises ConfigurationError if there is none of this name."""
    with _locked(path) as tokens:
        left = [token for token in tokens if token.name != name]
        if len(left) == len(tokens):
            known = ", ".join(token.name for token in tokens) or "there is none"
            raise ConfigurationError(f"there is no token {name}; the tokens: {known}")
        _write(path, left)


def read(path: Path) -> list[Token]:
    """Return the tokens of a file, none if it does not exist. Raises ConfigurationError."""
    try:
        with path.open("rb") as file:
            if os.fstat(file.fileno()).st_mode & (stat.S_IWGRP | stat.S_IWOTH):
                raise ConfigurationError(f"{path}: other users may write it and so add a token: chmod 600 {path}")
            return [_checked(Token(**one)) for one in json.load(file)["tokens"]]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise ConfigurationError(f"{path}: {error.strerror}: give this user access to the tokens") from None
    except (ValueError, KeyError, TypeError):
        raise ConfigurationError(
            f"{path} is not a file of tokens: restore it, or delete it and make new tokens"
        ) from None


class Tokens:
    """Read a file of tokens, again when it changes. Thread-safe: a reader replaces all it knows at once."""

    def __init__(self, path: Path, clock: Callable[[], float] = time.time) -> None:
        self.path, self.clock = path, clock
        self._known: tuple[tuple[int, ...], list[Token]] = (), []

    def find(self, secret: str) -> Token | None:
        """Return the valid token with this secret. Compares with each in constant time."""
        digest, found = _digest(secret), None
        for token in self.valid():
            if hmac.compare_digest(token.sha256, digest):
                found = token
        return found

    def named(self, name: str) -> Token | None:
        """Return the valid token of this name."""
        return next((token for token in self.valid() if token.name == name), None)

    def valid(self) -> list[Token]:
        """Return the tokens that have not expired; none if the file is unreadable, which is logged once."""
        now = self.clock()
        return [token for token in self._read() if token.expires_at > now]

    def _read(self) -> list[Token]:
        try:
            found = self.path.stat()
            version: tuple[int, ...] = found.st_mtime_ns, found.st_ino, found.st_size, found.st_mode
        except OSError:
            version = ()
        if version != self._known[0]:
            try:
                tokens = read(self.path)
            except ConfigurationError as error:
                log.error("no token is valid: %s", error)
                tokens = []
            self._known = version, tokens
        return self._known[1] if version else []


@contextmanager
def _locked(path: Path) -> Iterator[list[Token]]:
    """Yield the tokens while no other process changes them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield read(path)
    finally:
        os.close(folder)


def _write(path: Path, tokens: list[Token]) -> None:
    """Replace the file, which only its owner can read."""
    temporary = path.with_name(f".new-{path.name}")
    temporary.unlink(missing_ok=True)  # of a process that was killed
    with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:  # noqa: PTH123
        json.dump({"tokens": [asdict(token) for token in tokens]}, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def _checked(token: Token) -> Token:
    """Return the token. Raises ValueError or TypeError if a field cannot be used."""
    if not (_NAME.fullmatch(token.name) and len(bytes.fromhex(token.sha256)) == 32):
        raise ValueError
    if len(bytes.fromhex(token.session_key)) != 32 or not token.expires_at > 0:
        raise ValueError
    return token


def _digest(secret: str) -> str:
    return sha256(secret.encode()).hexdigest()


def _iso(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).isoformat(timespec="seconds")
