"""The reference of the JSON API: its OpenAPI description, and the same as a page to read."""

from importlib.metadata import version
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.openapi.utils import get_openapi

from clipdex.web.rendering import page

router = APIRouter(include_in_schema=False)

ACCESS = "Read-only. Log in to Airflow, or send one of its tokens: Authorization: Bearer TOKEN."
"""Who may send requests, unless the host sets app.state.api_access."""


@router.get("/openapi.json", name="openapi")
async def openapi(request: Request) -> dict[str, Any]:
    """Return the OpenAPI description of the JSON API."""
    return describe(request)


@router.get("/reference", name="reference")
async def reference_page(request: Request) -> Response:
    described = describe(request)
    schemas = described.get("components", {}).get("schemas", {})
    calls = [
        _call(path, method, call, schemas)
        for path, methods in described["paths"].items()
        for method, call in methods.items()
    ]
    return page(
        request,
        "reference.html",
        access=described["info"]["description"],
        calls=calls,
        schemas=[(name, schema, _fields(schema)) for name, schema in sorted(schemas.items()) if "properties" in schema],
        enums=[(name, schema["enum"]) for name, schema in sorted(schemas.items()) if "enum" in schema],
    )


def describe(request: Request) -> dict[str, Any]:
    """Return the description of the routes of this app, as OpenAPI. It is made once per path prefix."""
    root, kept = request.scope.get("root_path", ""), request.app.state.descriptions
    if root not in kept:
        if len(kept) >= _MOST_ROOTS:
            kept.clear()
        kept[root] = _described(request, root)
    found: dict[str, Any] = kept[root]
    return found


def _described(request: Request, root: str) -> dict[str, Any]:
    described = get_openapi(
        title="clipdex",
        version=version("clipdex"),
        summary="Search an archive of video clips by their captions.",
        description=getattr(request.app.state, "api_access", ACCESS),
        routes=request.app.routes,
        servers=[{"url": root or "/"}],
    )
    described.setdefault("components", {})["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
    described["security"] = [{"token": []}]
    return described


def _call(path: str, method: str, call: dict[str, Any], schemas: dict[str, Any]) -> dict[str, Any]:
    content = call["responses"].get("200", {}).get("content", {})
    found: list[tuple[str, dict[str, Any]]] = list(content.items()) or [("", {})]
    media, body = found[0]
    return {
        "id": call["operationId"],
        "method": method.upper(),
        "path": path,
        "text": call.get("description") or call.get("summary", ""),
        "parameters": [
            {
                "name": one["name"],
                "where": one["in"],
                "required": one.get("required", False),
                "type": _type(one.get("schema", {})),
                "default": one.get("schema", {}).get("default"),
                "text": one.get("description") or one.get("schema", {}).get("description", ""),
            }
            for one in call.get("parameters", ())
        ],
        "result": _type(body["schema"]) if body.get("schema") else [(media or "nothing", "")],
        "errors": [
            (status, one["description"]) for status, one in call["responses"].items() if not status.startswith("2")
        ],
    }


def _fields(schema: dict[str, Any]) -> list[tuple[str, Any, str]]:
    """Return the name, the type and the description of each field."""
    return [(name, _type(one), one.get("description", "")) for name, one in schema.get("properties", {}).items()]


def _type(schema: dict[str, Any]) -> list[tuple[str, str]]:
    """Return a type as texts, each with the name of the schema that it links to, or ""."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return [(name, name)]
    for several in ("anyOf", "oneOf", "allOf"):
        if several in schema:
            texts: list[tuple[str, str]] = []
            for one in schema[several]:
                texts += [(" or ", "")] if texts else []
                texts += _type(one)
            return texts
    if schema.get("type") == "array":
        return [("list of ", ""), *_type(schema.get("items", {}))]
    if isinstance(schema.get("additionalProperties"), dict):
        return [("object of ", ""), *_type(schema["additionalProperties"])]
    bounds = [f"{word} {schema[key]}" for key, word in _BOUNDS.items() if key in schema]
    kind = schema.get("type") or ("one of " + ", ".join(map(str, schema["enum"])) if "enum" in schema else "any")
    return [(" ".join([str(kind), *([f"({', '.join(bounds)})"] if bounds else [])]), "")]


_MOST_ROOTS = 8
_BOUNDS = {"minimum": "from", "maximum": "to", "maxLength": "characters up to", "maxItems": "items up to"}
