"""Links between pages that not every host, or every version, of the pages has."""

from fastapi import Request
from starlette.routing import NoMatchFound

from clipdex.web.rendering import url


def clip_url(request: Request, clip_id: str) -> str:
    """Return the path of the page of a clip, "" if this server has no such page."""
    try:
        return url(request, "clip", clip_id=clip_id)
    except NoMatchFound:
        return ""
