"""Local time: the moment of a time without a zone, and the day of a moment. Both are UTC."""

from datetime import UTC, datetime


def moment(naive: datetime) -> datetime:
    """Return the moment of a time that names no zone: in a path, in a sidecar, in a container."""
    return naive.replace(tzinfo=UTC)


def day_of(when: datetime) -> str:
    """Return the day (YYYY-MM-DD) of a moment."""
    return when.astimezone(UTC).date().isoformat()
