"""Pages: escaped templates, and URLs relative to the mount path of the app."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fastapi import Request, Response
from fastapi.templating import Jinja2Templates


def page(
    request: Request, name: str, *, status: int = 200, headers: dict[str, str] | None = None, **context: Any
) -> Response:
    """Render pages/NAME. Templates can use url(route, …), status and submitted, the values of the search form."""
    return _TEMPLATES.TemplateResponse(
        request, name, {"status": status, **context}, status_code=status, headers=headers
    )


def url(request: Request, route: str, **parts: str) -> str:
    """Return the URL path of a route, including the mount path."""
    return f"{request.scope.get('root_path', '')}{request.app.router.url_path_for(route, **parts)}"


def route_path(request: Request) -> str:
    """Return the path of a request relative to the mount path."""
    path: str = request.scope["path"]
    return path.removeprefix(request.scope.get("root_path", "")) or "/"


def _context(request: Request) -> dict[str, Any]:
    return {
        "url": lambda route, **parts: url(request, route, **parts),
        "logout_url": getattr(request.state, "logout_url", ""),
        "submitted": {name: request.query_params.get(name, "") for name in ("q", "day", "from", "to")},
    }


def clock(seconds: float) -> str:
    """Format seconds as m:ss or h:mm:ss, such as 3.46 → 0:03."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def duration(seconds: float) -> str:
    """Format a length of time, such as 5400 → 1 h 30 min."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 90:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    days, hours = divmod(hours, 24)
    return f"{days} days {hours} h" if hours and days < 14 else f"{days} days"


def minute(moment: str) -> str:
    """Format an ISO 8601 time as YYYY-MM-DD HH:MM UTC; return what is none as it is."""
    try:
        return datetime.fromisoformat(moment).astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")
    except ValueError:
        return moment


def file_size(count: int) -> str:
    """Format a number of bytes, such as 1234567 → 1.2 MB."""
    size = float(count)
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 1000 or unit == "GB":
            break
        size /= 1000
    return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"


_TEMPLATES = Jinja2Templates(directory=Path(__file__).parent / "pages", context_processors=[_context])
_TEMPLATES.env.filters |= {
    "clock": clock,
    "duration": duration,
    "minute": minute,
    "bytes": file_size,
    "tojson_text": lambda value: json.dumps(value, indent=1, ensure_ascii=False),
}
