"""View: what the page of ingestion and /api/stats derive from the summaries of some days."""

from dataclasses import dataclass
from datetime import date
from functools import lru_cache

from clipdex.config import Quarantine
from clipdex.web.ingestion import calendar, plots
from clipdex.web.ingestion.overview import Days
from clipdex.web.ingestion.statistics import DayFigures, DayState, Figures, each_day, figures, spans


@dataclass(frozen=True, slots=True)
class View:
    """Hold the figures of the days from first to last.

    known: days with clips, of all; inside: the days between the first and the last of them
    """

    first: date
    last: date
    known: tuple[str, ...]
    days: list[DayFigures]
    inside: list[DayFigures]
    total: Figures
    calendars: list[calendar.Grid]
    plots: plots.Plots

    def count(self, state: DayState) -> int:
        return sum(one.state is state for one in self.inside)

    def spans(self, state: DayState) -> list[tuple[str, str, int]]:
        return spans(self.inside, state)


@lru_cache(maxsize=16)
def view_of(
    read: Days | None, busy: frozenset[str], first: date, last: date, known: tuple[str, ...], today: date,
    rule: Quarantine,
) -> View:  # fmt: skip
    """Return the view of these days, made once while the summaries stay the same.

    busy: days that a run works on; known: days with clips, in order
    """
    summaries = read.days if read else {}
    days = each_day(first, last, summaries, rule, busy, read.figures if read else {})
    return View(
        first=first,
        last=last,
        known=known,
        days=days,
        inside=[one for one in days if known and known[0] <= one.day <= known[-1]],
        total=figures(summaries[one.day] for one in days if one.day in summaries),
        calendars=calendar.calendars(days, known, today),
        plots=plots.plots(days, summaries),
    )
