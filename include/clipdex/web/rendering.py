"""Pages: templates with every text escaped, and addresses that hold wherever the app is mounted."""

from pathlib import Path
from typing import Any

from fastapi import Request, Response
from fastapi.templating import Jinja2Templates


def page(
    request: Request, name: str, *, status: int = 200, headers: dict[str, str] | None = None, **context: Any
) -> Response:
    """A page from pages/NAME. Templates have url(route, …), and asked: what the search form was sent with."""
    return _TEMPLATES.TemplateResponse(request, name, context, status_code=status, headers=headers)


def url(request: Request, route: str, **parts: str) -> str:
    """The path of a route, as a browser asks for it."""
    return f"{request.scope.get('root_path', '')}{request.app.router.url_path_for(route, **parts)}"


def route_path(request: Request) -> str:
    """The path of a request below this app, wherever that is mounted."""
    path: str = request.scope["path"]
    return path.removeprefix(request.scope.get("root_path", "")) or "/"


def _context(request: Request) -> dict[str, Any]:
    return {
        "url": lambda route, **parts: url(request, route, **parts),
        "asked": {name: request.query_params.get(name, "") for name in ("q", "day")},
    }


def _clock(seconds: float) -> str:
    """3.46 → 0:03."""
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes}:{rest:02d}"


_TEMPLATES = Jinja2Templates(directory=Path(__file__).parent / "pages", context_processors=[_context])
_TEMPLATES.env.filters["clock"] = _clock
