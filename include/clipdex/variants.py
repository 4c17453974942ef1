"""Variants: named sets of changed settings, written as NAME:key=value,key=value on a command line."""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Self

from clipdex.errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class Variant:
    """Name a set of changed settings. changes: values by group, such as {"engine": {"model": "..."}}."""

    name: str
    changes: Mapping[str, Mapping[str, Any]]

    @classmethod
    def parsed(cls, text: str, option: str = "--with", group: str = "engine") -> Self:
        """Parse NAME:key=value,key=value. Raises ConfigurationError.

        A key is GROUP.FIELD such as sampling.fps, or a field of the given group. engine=sglang sets engine.name.
        A list is written with commas or as JSON, a mapping as JSON.
        option: the argument that the text comes from. group: "" requires the group in each key
        """
        example = "strategy=frames-concat" if group else "search.mode=dense"
        name, _, rest = text.partition(":")
        changes: dict[str, dict[str, Any]] = {}
        for pair in filter(None, _NEXT_KEY.split(rest)):
            key, equals, value = pair.partition("=")
            given, _, field = key.strip().rpartition(".")
            if not equals or not field or not (given or group):
                raise ConfigurationError(f"{option} {text}: {pair!r} is not key=value, such as {example}")
            if key == group == "engine":
                field = "name"
            changes.setdefault(given or group, {})[field] = _value(option, field, value)
        if not name.strip() or "=" in name:
            raise ConfigurationError(f"{option} {text}: begin with a name of your choice, such as {option} base:{text}")
        return cls(name.strip(), changes)


def require_distinct(variants: Iterable[Variant], option: str) -> None:
    """Raise ConfigurationError if two variants have one name. option: the argument that they come from"""
    names = [variant.name for variant in variants]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ConfigurationError(f"two variants are called {twice[0]!r}: give each {option} a unique name")


# A comma ends a value only if a key follows, so that a list of URLs stays one value.
_NEXT_KEY = re.compile(r",(?=\s*[a-z_.]+=)")
_LISTS = ("base_urls",)


def _value(option: str, key: str, text: str) -> Any:
    if text[:1] in ("[", "{"):
        try:
            return json.loads(text)
        except ValueError as error:
            raise ConfigurationError(f"{option}: {key}={text}: invalid JSON ({error})") from None
    return text.split(",") if key in _LISTS else text
