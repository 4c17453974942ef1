"""Filters as controls: the values of each field with their number of clips, and which of them are chosen."""

from collections.abc import Sequence
from dataclasses import dataclass

from clipdex.config import Settings
from clipdex.index.facets import Facet
from clipdex.index.where import Kind, Where, fields_of, to_word
from clipdex.web.backend import FACET_VALUES, Backend
from clipdex.web.search.narrowing import Narrowing

_MOST_RECOUNTED = 4
_FIRST = ("day", "camera")
_LAST = ("engine", "model", "source", "duration", "time")


@dataclass(frozen=True, slots=True)
class Choice:
    """Hold one value of a field. word: FIELD=VALUE, as the form sends it; clips: None if it was not counted"""

    label: str
    value: str
    word: str
    clips: int | None
    chosen: bool


@dataclass(frozen=True, slots=True)
class FilterGroup:
    """Hold the values of a field. without: number of clips that have none; more: whether there are further values"""

    field: str
    choices: tuple[Choice, ...]
    more: bool = False
    without: int = 0

    @property
    def chosen(self) -> int:
        return sum(one.chosen for one in self.choices)


@dataclass(frozen=True, slots=True)
class DayChoice:
    """Hold a day with clips, and the link to it alone."""

    day: str
    clips: int
    href: str


@dataclass(frozen=True, slots=True)
class FilterForm:
    """Hold the controls. words: filters that no control shows, as FIELD=VALUE; fields: that filters may name"""

    groups: tuple[FilterGroup, ...]
    words: tuple[str, ...]
    days: tuple[DayChoice, ...]
    fields: tuple[str, ...] = ()


async def filter_form(backend: Backend, narrowing: Narrowing, where: Where, settings: Settings | None) -> FilterForm:
    """Return the controls of a query. Raises NothingIndexed, InvalidFilter, Unavailable."""
    chosen, facets = narrowing.where, await backend.facets(where, limit=FACET_VALUES, at_once=False)
    if facets:
        facets = await _recounted(backend, facets, where, chosen)
    kinds = fields_of(settings) if settings else {}
    groups, days, shown = list[FilterGroup](), tuple[DayChoice, ...](), set[str]()
    for facet in sorted(facets, key=_order):
        if facet.field == "day":
            days = tuple(DayChoice(one.value, one.clips, narrowing.add("day", one.value)) for one in facet.values)
            continue
        kind = kinds[facet.field].kind if facet.field in kinds else Kind.TEXT
        group = _group(facet, kind, chosen.get(facet.field, []))
        if len(group.choices) > 1 or group.chosen:
            groups.append(group)
            shown.add(facet.field)
    words = tuple(to_word(name, *values) for name, values in chosen.items() if name not in shown)
    return FilterForm(tuple(groups), words, days, tuple(kinds))


async def _recounted(
    backend: Backend, facets: Sequence[Facet], where: Where, chosen: dict[str, list[str]]
) -> list[Facet]:
    """Return the facets, those of a field with a filter counted without it: further values can then be chosen."""
    counted = {facet.field: facet for facet in facets}
    for name in [name for name in ("day", *chosen) if name in counted and name in where][:_MOST_RECOUNTED]:
        rest = {field: value for field, value in where.items() if field != name}
        for facet in await backend.facets(rest, [name], FACET_VALUES, at_once=False):
            counted[facet.field] = facet
    return list(counted.values())


def _group(facet: Facet, kind: Kind, chosen: Sequence[str]) -> FilterGroup:
    known = {one.value: one.clips for one in facet.values}
    values = [*known, *(value for value in dict.fromkeys(chosen) if value not in known)]
    choices = (
        Choice(_label(value, kind), value, to_word(facet.field, value), known.get(value), value in chosen)
        for value in values
    )
    return FilterGroup(facet.field, tuple(choices), facet.more, facet.without)


def _label(value: str, kind: Kind) -> str:
    """Return a value as a person writes it; the value itself stays what a filter accepts."""
    low, dots, high = value.partition("..")
    if dots and kind is Kind.NUMBER:
        return f"{low} – {high.removeprefix('<')}" if low and high else f"from {low}" if low else f"up to {high}"
    if dots and kind is Kind.TIME_OF_DAY and low.endswith(":00") and high.endswith(":59") and low[:2] == high[:2]:
        return f"{low} – {int(low[:2]) + 1:02d}:00"
    if kind is Kind.FOLDER:
        return "…/" + "/".join(value.rstrip("/").split("/")[-2:])
    return value


def _order(facet: Facet) -> tuple[int, int]:
    if facet.field in _FIRST:
        return 0, _FIRST.index(facet.field)
    return (2, _LAST.index(facet.field)) if facet.field in _LAST else (1, 0)
