"""Service: what differs between the servers of captions and those of embeddings."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from pydantic import SecretStr

from clipdex.errors import ClipdexError, Unavailable


class Access(Protocol):
    """Settings of a group of nodes. Times in seconds; config.Engine explains them."""

    @property
    def base_urls(self) -> tuple[str, ...]: ...

    @property
    def api_key(self) -> SecretStr: ...

    @property
    def ca_file(self) -> str: ...

    @property
    def tries(self) -> int: ...

    @property
    def connect_timeout_s(self) -> float: ...

    @property
    def request_timeout_s(self) -> float: ...

    @property
    def deadline_s(self) -> float: ...


@dataclass(frozen=True, slots=True)
class Service:
    """Name a kind of server in messages, and its errors.

    name: as in "the engine's API key"
    settings: prefix of its variables, such as CLIPDEX_ENGINE; connection: of Airflow
    unavailable: class of its transient errors
    refused: make the error of a request that two servers refused, from their message
    """

    name: str
    settings: str
    connection: str
    unavailable: type[Unavailable]
    refused: Callable[[str], ClipdexError]

    @property
    def ca_file(self) -> str:
        return f"{self.settings}__CA_FILE"

    @property
    def key(self) -> str:
        """Return where its key is set."""
        return f"{self.settings}__API_KEY or the password of the connection {self.connection}"
