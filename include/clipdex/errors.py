"""Errors, and who has to act on them.

ClipdexError
├── ConfigurationError    permanent until a person acts: wrong key, wrong model, mismatch; the task fails at once
│   └── InvalidFilter         a filter of a search has an unknown field or a wrong value
├── Unavailable           transient: the same call may succeed later; the task is retried
│   ├── EngineUnavailable   connect, 408/409/425/429, 5xx, timeout
│   ├── EmbeddingUnavailable  the same of the embedding server
│   ├── SourceUnavailable   the archive's disk, mount or bucket is away; nothing in it is missing for that
│   ├── IndexUnavailable    Qdrant does not answer, or another process holds the embedded index
│   └── LeaseHeld           another run works on the same day
│       └── LeaseLost         it took the day over, because this run was delayed for longer than its lease
├── NothingIndexed        there is no index yet: run an ingestion first
├── UnknownClip           the index has no such clip
├── BatchRejected         too many clips of one batch were rejected for one reason to be credible
├── RunIncomplete         a planned clip has no final outcome, or too many went to quarantine
└── ClipRejected          permanent for this clip version: a reason and a detail, then quarantine
"""

import errno
from enum import StrEnum

from clipdex.sanitize import escape_line


class Reason(StrEnum):
    """Name why a clip is in quarantine. Outcomes and reports show the value."""

    # found by the decoder
    EMPTY_FILE = "empty_file"
    NOT_A_VIDEO = "not_a_video"
    NO_VIDEO = "no_video"
    UNDECODABLE = "undecodable"
    TRUNCATED_FILE = "truncated_file"
    TOO_LONG = "too_long"
    TOO_LARGE = "too_large"
    DECODE_LIMIT = "decode_limit"
    MISSING = "missing"
    UNREADABLE = "unreadable"
    # reported by the engine and confirmed
    REJECTED_BY_ENGINE = "rejected_by_engine"
    ENGINE_FAILED = "engine_failed"
    # found by the quality gates
    CAPTION_EMPTY = "caption_empty"
    CAPTION_TOO_SHORT = "caption_too_short"
    CAPTION_TOO_LONG = "caption_too_long"
    CAPTION_TRUNCATED = "caption_truncated"
    CAPTION_LOOPING = "caption_looping"
    CAPTION_REFUSED = "caption_refused"
    CAPTION_LANGUAGE = "caption_language"
    CAPTION_REASONING = "caption_reasoning"
    CAPTION_MARKUP = "caption_markup"

    @property
    def seen_by_decoder(self) -> bool:
        return self in _SEEN_BY_DECODER

    @property
    def seen_by_source(self) -> bool:
        return self in _SEEN_BY_SOURCE

    @property
    def seen_before_engine(self) -> bool:
        return self.seen_by_decoder or self.seen_by_source

    @property
    def is_litter(self) -> bool:
        """Return whether the file's own bytes show that it is no film. No decoder and no engine decided it."""
        return self in _LITTER


_SEEN_BY_DECODER = {
    Reason.EMPTY_FILE, Reason.NOT_A_VIDEO, Reason.NO_VIDEO, Reason.UNDECODABLE, Reason.TRUNCATED_FILE, Reason.TOO_LONG,
    Reason.TOO_LARGE, Reason.DECODE_LIMIT,
}  # fmt: skip
_SEEN_BY_SOURCE = {Reason.MISSING, Reason.UNREADABLE}
_LITTER = {Reason.EMPTY_FILE, Reason.NOT_A_VIDEO}


class ClipdexError(Exception):
    """Signal any error that clipdex raises. The message is escaped to one line."""

    def __init__(self, message: str = "") -> None:
        super().__init__(escape_line(message))


class ConfigurationError(ClipdexError):
    """Signal a permanent error that a person must fix."""


class InvalidFilter(ConfigurationError):
    """Signal a filter of a search with an unknown field or a wrong value."""


class UnknownClip(ClipdexError):
    """Signal a clip that the index does not have."""


class Unavailable(ClipdexError):
    """Signal a transient error: the same call may succeed later.

    retry_after_s: wait requested by the server [s], or None
    """

    def __init__(self, message: str, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class EngineUnavailable(Unavailable):
    """Signal that the captioning engine did not respond or is overloaded."""


class EmbeddingUnavailable(Unavailable):
    """Signal that the embedding server did not respond or is overloaded."""


class SourceUnavailable(Unavailable):
    """Signal that the archive is away: its disk, mount or bucket, or a whole folder of it."""


class IndexUnavailable(Unavailable):
    """Signal that Qdrant did not respond, or that another process holds the embedded index."""


class LeaseHeld(Unavailable):
    """Signal that another run holds the lease on the day."""


class LeaseLost(LeaseHeld):
    """Signal that another run took the day over while this run was delayed for longer than its lease."""


class NothingIndexed(ClipdexError):
    """Signal that there is no index yet: run an ingestion first."""


class BatchRejected(ClipdexError):
    """Signal that one reason rejects so many clips of a batch that the engine or the settings are suspect."""


class RunIncomplete(ClipdexError):
    """Signal that a run ended with unfinished clips or too many in quarantine."""


class ClipRejected(ClipdexError):
    """Signal that this clip version cannot get a caption.

    reason: for counting
    detail: for a person
    text: the caption that failed a gate, or ""
    limit: the field of VideoLimits that the clip exceeds, or ""
    found: the clip's value, in the unit of that field
    """

    def __init__(self, reason: Reason, detail: str, text: str = "", *, limit: str = "", found: float = 0.0) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = escape_line(detail)
        self.text = text
        self.limit, self.found = limit, found


def describe_os_error(error: OSError) -> str:
    """Return what failed, why, and the next step."""
    if error.errno is None or not error.strerror:
        return str(error)
    where = f"{error.filename}: " if error.filename is not None else ""
    return f"{where}{error.strerror[:1].lower()}{error.strerror[1:]}; {_NEXT_STEPS.get(error.errno, _CHECK_PATHS)}"


def is_of_storage(error: Exception) -> bool:
    """Return whether a client of object storage raised this: the storage, or its settings, are wrong."""
    return type(error).__module__.partition(".")[0] in _STORAGE_CLIENTS


_STORAGE_CLIENTS = {"adlfs", "aiobotocore", "aiohttp", "azure", "botocore", "gcsfs", "google", "paramiko", "s3fs"}
_CHECK_PATHS = "check the arguments, CLIPDEX_HOME, CLIPDEX_SOURCE__URL and CLIPDEX_STORE__URL"
_NEXT_STEPS = {
    errno.EACCES: "give this user access, or use another path",
    errno.EPERM: "give this user access, or use another path",
    errno.EROFS: "use a path on a file system that can be written",
    errno.ENOSPC: "free some space, or use another disk",
    errno.EDQUOT: "free some space, or use another disk",
}
