"""Derived fields of a payload: what filters need and a clip's record has in another form.

uri_folders: the folders that a clip is in, outermost first: s3://bucket, s3://bucket/2026, s3://bucket/2026/11
local_minute: minute of the local day at which it was recorded, 0 to 1439
"""

from datetime import datetime
from zoneinfo import ZoneInfo

FOLDERS, LOCAL_MINUTE = "uri_folders", "local_minute"
DEEPEST = 64
"""Number of folders that a point keeps. Deeper ones cannot be filtered by."""


def folders_of(uri: str) -> list[str]:
    """Return the folders of a URI or path, outermost first, without the file."""
    scheme, separator, path = uri.rpartition("://")
    names = path.split("/")
    root = "" if names[0] else "/"
    start = f"{scheme}{separator}{root}"
    return [start + "/".join(filter(None, names[:end])) for end in range(1, len(names)) if names[end - 1]][:DEEPEST]


def local_minute(recorded_at: str, timezone: str) -> int | None:
    """Return the minute of the local day of a moment, None if it is unknown. recorded_at: ISO 8601, or "" """
    try:
        local = datetime.fromisoformat(recorded_at).astimezone(ZoneInfo(timezone))
    except (ValueError, OverflowError):
        return None
    return 60 * local.hour + local.minute
