"""Failures: clips whose tries are used up while a batch is captioned, and when the batch stops trying.

A clip that fails while others succeed is tried once more at the end of its batch. When nothing succeeds any more, the
batch stops, and Airflow retries it.
"""

import logging
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from clipdex import metrics
from clipdex.errors import EngineUnavailable, Reason, SourceUnavailable, Unavailable
from clipdex.storage.clip import Clip

log = logging.getLogger(__name__)


class BatchStopped(Exception):
    """The rest of the batch is left: nothing succeeds any more, or too many clips are rejected."""


@dataclass(frozen=True, slots=True)
class Failure:
    """The error of one clip, or of a part of it, and its reason if it goes to quarantine.

    clip: the one that failed
    others_succeeded: whether the engine responded for other clips meanwhile
    """

    clip: Clip
    error: Unavailable
    reason: Reason
    others_succeeded: bool


class Failures:
    """Count responses and failures of one try at a batch.

    limit: consecutive failures after which the batch stops
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._by_clip: dict[str, dict[str, Failure]] = defaultdict(dict)
        self._consecutive = 0
        self.responses = 0
        self.away: SourceUnavailable | None = None
        """The source is away: no other clip can be read."""

    def start_round(self) -> None:
        self._consecutive = 0

    def record_response(self) -> None:
        self.responses += 1
        self._consecutive = 0

    def record(self, clip: Clip, error: Unavailable, reason: Reason, responses_before: int) -> None:
        """Keep a clip's failure. Raises BatchStopped when it is one of too many in a row."""
        if isinstance(error, SourceUnavailable):
            self.away = error
            log.warning("%s: not read (%s)", clip.uri, error)
            return
        failure = Failure(clip, error, reason, self.responses > responses_before)
        self._by_clip[clip.part_of or clip.clip_id][clip.clip_id] = failure
        self._consecutive += 1
        metrics.count("unanswered")
        log.warning("%s: no answer (%s)", clip.name, error)
        if self._consecutive >= self._limit:
            raise BatchStopped from error

    def of(self, clip: Clip) -> Failure | None:
        """Return the latest failure of a clip, or of a part of it."""
        return next(reversed(self.all_of(clip)), None)

    def all_of(self, clip: Clip) -> list[Failure]:
        """Return the failures of a clip and of its parts."""
        return list(self._by_clip.get(clip.clip_id, {}).values())

    def unfinished(self, left: Iterable[Clip], clips: int) -> Unavailable:
        """Return the error of a batch with clips left, as the failure of one of them. clips: of the whole batch."""
        left = list(left)
        failure = next(filter(None, map(self.of, left)), None)
        text = f"{len(left)} of {clips} clips are left for the next try"
        if self.away:
            return SourceUnavailable(f"{text}: {self.away}")
        if failure is None:
            return EngineUnavailable(text)
        return type(failure.error)(f"{text}: {failure.error}", failure.error.retry_after_s)
