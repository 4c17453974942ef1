"""Check requests and answers against an OpenAPI 3.0 description that its project publishes.

The folder CLIPDEX_CHECK_SOURCES holds descriptions, which are not part of this repository:

    qdrant/openapi.json             docs/redoc/master/openapi.json of https://github.com/qdrant/qdrant
    qdrant/v1.16.x/openapi.json     docs/redoc/v1.16.x/openapi.json, and those of 1.15, 1.17, 1.18 and 1.19

An object may have only the properties that are described, although OpenAPI allows others: a server ignores a field
that it does not know, so a misspelled one would do nothing.
"""

import functools
import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import jsonschema

VARIABLE = "CLIPDEX_CHECK_SOURCES"


@dataclass(frozen=True, slots=True)
class Exchange:
    """Hold a request as it was on the wire, and its answer. body, answer: parsed JSON, None if there is none"""

    method: str
    path: str
    query: str
    body: Any
    status: int
    answer: Any


class Description:
    """Hold a description, converted to JSON Schema."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        self._components = _converted(document.get("components", {}))
        self._paths = {template: _converted(operations) for template, operations in document["paths"].items()}

    def problems(self, exchange: Exchange) -> list[str]:
        """Return what differs from the description."""
        template = self.template(exchange.path)
        operation = self._paths.get(template, {}).get(exchange.method.lower())
        if operation is None:
            return [f"{exchange.method} {exchange.path}: there is no such operation"]
        found = [*self._parameters(operation, exchange.query), *self._body(operation, exchange.body)]
        found += self._answer(operation, exchange)
        return [f"{exchange.method} {template}: {problem}" for problem in found]

    def template(self, path: str) -> str:
        """Return the template of a path with the fewest parameters; the path itself if there is none."""
        fitting = [one for one in self._paths if re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", one), path)]
        return min(fitting, key=lambda one: one.count("{"), default=path)

    def _parameters(self, operation: Mapping[str, Any], query: str) -> Iterator[str]:
        known = {one["name"]: one for one in operation.get("parameters", ()) if one["in"] == "query"}
        given = dict(parse_qsl(query, keep_blank_values=True))
        for name, parameter in known.items():
            if parameter.get("required") and name not in given:
                yield f"query parameter {name} is missing"
        for name, text in given.items():
            if name not in known:
                yield f"there is no query parameter {name}"
            elif wrong := [self._wrong(known[name]["schema"], value) for value in _readings(text)]:
                yield from [f"query parameter {name}: {wrong[0]}"] if all(wrong) else []

    def _body(self, operation: Mapping[str, Any], body: Any) -> Iterator[str]:
        described = operation.get("requestBody")
        if described is None:
            if body is not None:
                yield "a body, where none is described"
        elif problem := self._wrong(described["content"]["application/json"]["schema"], body):
            yield f"body {problem}"

    def _answer(self, operation: Mapping[str, Any], exchange: Exchange) -> Iterator[str]:
        status, described = str(exchange.status), operation["responses"]
        one = described.get(status) or described.get(f"{status[0]}XX") or described.get("default")
        if one is None:
            yield f"answer {status} is not described"
        elif (content := one.get("content")) and (
            problem := self._wrong(content["application/json"]["schema"], exchange.answer)
        ):
            yield f"answer {status} {problem}"

    def _wrong(self, schema: Mapping[str, Any], value: Any) -> str:
        """Return how a value differs from a schema, "" if it does not."""
        whole = {"components": self._components, "allOf": [schema]}
        error = jsonschema.exceptions.best_match(jsonschema.Draft202012Validator(whole).iter_errors(value))
        return f"{error.json_path}: {error.message[:300]}" if error else ""


@functools.cache
def qdrant(version: str = "") -> Description | None:
    """Return Qdrant's newest description, or that of a version; None if the variable is unset.

    Fails if the folder does not have it.
    """
    folder = os.environ.get(VARIABLE)
    if not folder:
        return None
    path = Path(folder, "qdrant", f"v{version}.x" if version else "", "openapi.json")
    return Description(json.loads(path.read_text()))


def _readings(text: str) -> list[Any]:
    """Return a query parameter as each type that its text may be."""
    try:
        return [text, json.loads(text)]
    except ValueError:
        return [text]


def _converted(node: Any) -> Any:
    """Return the part of a description with its schemas as JSON Schema: null is a type, objects are closed."""
    if isinstance(node, list):
        return [_converted(one) for one in node]
    if not isinstance(node, dict):
        return node
    found = {key: _converted(value) for key, value in node.items() if key not in ("nullable", "example", "default")}
    if node.get("type") == "object" and "properties" in node and "additionalProperties" not in node:
        found["additionalProperties"] = False
    if node.get("nullable") is True:
        rest = {key: value for key, value in found.items() if key != "description"}
        return {"anyOf": [rest, {"type": "null"}]} if rest else {"type": "null"}
    return found
