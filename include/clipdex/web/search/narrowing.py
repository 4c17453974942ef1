"""Narrowing: links of the search page that keep the query and add, or remove, one filter."""

from typing import Any
from urllib.parse import urlencode

from fastapi import Request

from clipdex.config import Settings
from clipdex.days import parse_day
from clipdex.errors import InvalidFilter
from clipdex.index.where import from_words, parse, to_word
from clipdex.web.rendering import url
from clipdex.web.search.queries import SearchQuery


class Narrowing:
    """Make the links of one page.

    settings: for fields with two names, such as source and source_folder; None if they are wrong
    """

    def __init__(self, request: Request, question: SearchQuery, settings: Settings | None) -> None:
        self._home, self._question, self._settings = url(request, "search"), question, settings
        self._request = request
        self._where = from_words(word for word in question.where if word.strip())

    def add(self, field: str, value: str) -> str:
        """Return the link with this value of a field alone."""
        rest = self._rest(field, [value])
        if field == "day":
            return self._link(day=value, first="", last="", where=rest)
        return self._link(where={**rest, field: [value]})

    def without(self, field: str) -> str:
        """Return the link without the filter of this field."""
        rest = self._rest(field, self._where.get(field, []))
        return self._link(day="", first="", last="", where=rest) if field == "day" else self._link(where=rest)

    def clear(self) -> str:
        """Return the link without any filter."""
        return self._link(day="", first="", last="", where={})

    def limit(self, limit: int) -> str:
        """Return the link to the same hits and more."""
        return self._link(limit=limit)

    def weak(self) -> str:
        """Return the link to the nearest clips, though they are probably no match."""
        return self._link(weak="true")

    def like(self, clip_id: str) -> str:
        """Return the link to the clips similar to this one, without filters."""
        return f"{self._home}?{urlencode({'like': clip_id})}"

    def export(self, kind: str) -> str:
        """Return the link to all hits as a file. kind: csv or json"""
        return self._link(_to=url(self._request, f"export_{kind}"), limit="")

    def permanent(self) -> str:
        """Return the link to this search that means the same later: without the words today and yesterday."""
        one = self._question
        days = {name: self._absolute(getattr(one, name)) for name in ("day", "first", "last")}
        return self._link(**days)

    def without_value(self, field: str, value: str) -> str:
        """Return the link without one of the values of a field."""
        rest = [one for one in self._where.get(field, []) if one != value]
        return self._link(where={**self._where, field: rest}) if rest else self.without(field)

    @property
    def first(self) -> str:
        """Return the first day for a field of the form: YYYY-MM-DD, or ""."""
        return self._absolute(self._question.day or self._question.first)

    @property
    def last(self) -> str:
        """Return the last day for a field of the form: YYYY-MM-DD, or ""."""
        return self._absolute(self._question.day or self._question.last)

    @property
    def where(self) -> dict[str, list[str]]:
        """Return the filters as they are written, without the days of the form."""
        return self._where

    @property
    def values(self) -> list[tuple[str, str, str]]:
        """Return each filter: its field, its text, and the link without it."""
        days = [(field, text, self.without(field)) for field, text in self.active if field == "day"]
        return [
            *(days if "day" not in self._where else []),
            *((name, one, self.without_value(name, one)) for name, values in self._where.items() for one in values),
        ]

    @property
    def active(self) -> list[tuple[str, str]]:
        """Return the fields with a filter, and its text."""
        one = self._question
        ranged = f"{one.first}..{one.last}" if one.first or one.last else ""
        days = [("day", one.day or ranged)] if one.day or ranged else []
        return [*days, *((name, ", ".join(values)) for name, values in self._where.items())]

    @property
    def words(self) -> list[str]:
        """Return the filters as FIELD=VALUE texts, for the fields of the form."""
        return _words(self._where)

    def _rest(self, field: str, values: list[str]) -> dict[str, list[str]]:
        """Return where without the filters of this field, under any of its names."""
        left_out = self._payload_field(field, values)
        return {name: given for name, given in self._where.items() if self._payload_field(name, given) != left_out}

    def _payload_field(self, name: str, values: list[str]) -> str:
        """Return the field of a payload that a filter reads, or its name if the filter is invalid."""
        if self._settings is None:
            return name
        try:
            return next(iter(parse({name: values}, self._settings)))
        except InvalidFilter:
            return name

    def _absolute(self, day: str) -> str:
        if self._settings is None or day not in ("today", "yesterday"):
            return day
        return parse_day(day, self._settings.source.timezone).isoformat()

    def _link(self, **changes: Any) -> str:
        one = self._question
        now: dict[str, Any] = {name: getattr(one, name) for name in ("q", "like", "day", "first", "last", "limit")}
        now |= {"diverse": f"{one.diverse:g}" if one.diverse else "", "weak": "true" if one.weak else "", **changes}
        where: dict[str, list[str]] = now.pop("where", self._where)
        to = now.pop("_to", self._home)
        names = {"first": "from", "last": "to"}
        default = {"limit": type(one).model_fields["limit"].default}
        pairs = [(names.get(name, name), value) for name, value in now.items() if value not in ("", default.get(name))]
        return f"{to}?{urlencode([*pairs, *(('where', word) for word in _words(where))])}"


def _words(where: dict[str, list[str]]) -> list[str]:
    return [to_word(name, *values) for name, values in where.items()]
