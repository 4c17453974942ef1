"""Views: what the page of ingestion and /api/stats derive from summaries, kept while the summaries stay the same."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

from clipdex.config import Quarantine
from clipdex.web.ingestion import calendar, plots
from clipdex.web.ingestion.overview import State
from clipdex.web.ingestion.statistics import DayFigures, DayState, Figures, each_day, figures, spans

_MOST = 16


@dataclass(frozen=True, slots=True)
class View:
    """Hold the figures of the days from first to last.

    known: days with clips, of all; inside: the days between the first and the last of them
    """

    first: date
    last: date
    known: list[str]
    days: list[DayFigures]
    inside: list[DayFigures]
    total: Figures
    calendars: list[calendar.Grid]
    plots: plots.Plots

    def count(self, state: DayState) -> int:
        return sum(one.state is state for one in self.inside)

    def spans(self, state: DayState) -> list[tuple[str, str, int]]:
        return spans(self.inside, state)


class Views:
    """Keep the views of one app that were requested last. Thread-safe: the worst case is that one is made twice."""

    def __init__(self) -> None:
        self._kept: dict[object, tuple[object, View]] = {}

    def get(self, state: State, first: date, last: date, known: Sequence[str], today: date, rule: Quarantine) -> View:
        """Return the view of these days. known: days with clips, in order"""
        key, source = (first, last, today, rule.model_dump_json(), state.busy), state.days.value
        kept = self._kept.get(key)
        if kept is not None and kept[0] is source:
            return kept[1]
        view = _view(state, first, last, known, today, rule)
        while len(self._kept) >= _MOST:
            self._kept.pop(next(iter(self._kept), None), None)
        self._kept[key] = source, view
        return view


def _view(state: State, first: date, last: date, known: Sequence[str], today: date, rule: Quarantine) -> View:
    days = each_day(first, last, state.known, rule, state.busy, state.days.value.figures if state.days.value else {})
    return View(
        first=first,
        last=last,
        known=list(known),
        days=days,
        inside=[one for one in days if known and known[0] <= one.day <= known[-1]],
        total=figures(state.known[one.day] for one in days if one.day in state.known),
        calendars=calendar.calendars(days, known, today),
        plots=plots.plots(days, state.known),
    )
