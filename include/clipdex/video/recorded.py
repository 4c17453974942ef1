"""The time at which a clip was recorded, as its container has it."""

from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime

from av.container import InputContainer
from av.video.stream import VideoStream

# The first is Apple's, with the zone of the place. The others are UTC by their formats.
_KEYS = ("com.apple.quicktime.creationdate", "creation_time")
_UNSET = {(1904, 1, 1), (1970, 1, 1)}  # clocks at the start of their epoch


def recorded_at(container: InputContainer, stream: VideoStream) -> str:
    """Return the time in ISO 8601 and UTC, or "" if the container has none or one that no clock shows."""
    for text in _values(container, stream):
        with suppress(ValueError, OverflowError):
            when = datetime.fromisoformat(text.strip())
            if when.tzinfo is not None:
                utc = when.astimezone(UTC)
                if (utc.year, utc.month, utc.day) not in _UNSET:
                    return utc.isoformat()
    return ""


def _values(container: InputContainer, stream: VideoStream) -> Iterator[str]:
    for key in _KEYS:
        for tags in (container.metadata, stream.metadata):
            if text := tags.get(key):
                yield text
