"""What can go wrong, and who has to act.

ClipdexError
├── ConfigurationError    a person must act: wrong key, wrong model, mismatch; the task fails at once
├── Unavailable           nobody must act: the same call may succeed later; the task is retried
│   ├── EngineUnavailable   connect, 408/409/425/429, 5xx, timeout
│   ├── IndexUnavailable    Qdrant does not answer, or another process holds the embedded index
│   └── LeaseHeld           another run works on the same day
├── NothingIndexed        there is no index yet to search or to change: run an ingestion first
├── BatchRejected         too many clips of one batch were refused for one reason to believe it
├── RunIncomplete         a planned clip has no final outcome, or too many went to quarantine
└── ClipRejected          never again for this clip as it is: a reason and a detail, then quarantine
"""

from enum import StrEnum

from clipdex.sanitize import escape_line


class Reason(StrEnum):
    """Why a clip is in quarantine. The value is what a person reads in outcomes and reports."""

    # seen by our own decoder
    EMPTY_FILE = "empty_file"
    NO_VIDEO = "no_video"
    UNDECODABLE = "undecodable"
    TRUNCATED_FILE = "truncated_file"
    TOO_LONG = "too_long"
    TOO_LARGE = "too_large"
    DECODE_LIMIT = "decode_limit"
    MISSING = "missing"
    UNREADABLE = "unreadable"
    # said by the engine, and confirmed
    REJECTED_BY_ENGINE = "rejected_by_engine"
    ENGINE_FAILED = "engine_failed"
    # the gates a caption must pass
    CAPTION_EMPTY = "caption_empty"
    CAPTION_TOO_SHORT = "caption_too_short"
    CAPTION_TOO_LONG = "caption_too_long"
    CAPTION_TRUNCATED = "caption_truncated"
    CAPTION_LOOPING = "caption_looping"
    CAPTION_REFUSED = "caption_refused"
    CAPTION_LANGUAGE = "caption_language"

    @property
    def seen_by_decoder(self) -> bool:
        return self in _SEEN_BY_DECODER


_SEEN_BY_DECODER = {
    Reason.EMPTY_FILE, Reason.NO_VIDEO, Reason.UNDECODABLE, Reason.TRUNCATED_FILE, Reason.TOO_LONG, Reason.TOO_LARGE,
    Reason.DECODE_LIMIT,
}  # fmt: skip


class ClipdexError(Exception):
    """Anything clipdex raises on purpose. What it says is one line, whatever file names and servers put into it."""

    def __init__(self, message: str = "") -> None:
        super().__init__(escape_line(message))


class ConfigurationError(ClipdexError):
    """A person must change something before it can work."""


class Unavailable(ClipdexError):
    """The same call may succeed later.

    retry_after_s: what the other side asked for, in seconds, where it said so.
    """

    def __init__(self, message: str, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class EngineUnavailable(Unavailable):
    """The captioning engine did not answer, or asked us to come back."""


class IndexUnavailable(Unavailable):
    """Qdrant did not answer, or another process holds the embedded index."""


class LeaseHeld(Unavailable):
    """Another run is working on the same day."""


class NothingIndexed(ClipdexError):
    """There is no index yet: run an ingestion first."""


class BatchRejected(ClipdexError):
    """One reason for so many clips of a batch that the fault is hardly theirs."""


class RunIncomplete(ClipdexError):
    """A run ended, and what it set out to do is not done."""


class ClipRejected(ClipdexError):
    """This clip, as it is, will never get a caption.

    reason: for counting; detail: for the person who looks at the clip; text: the caption that
    failed a gate, kept for that person.
    """

    def __init__(self, reason: Reason, detail: str, text: str = "") -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = escape_line(detail)
        self.text = text
