"""Calendar: days as grids of weeks, one grid for up to a year, or one per calendar year."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta

from clipdex.web.ingestion.statistics import DayFigures, DayState

WEEKDAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_YEAR = 366
_WORDS = {
    DayState.DONE: "done",
    DayState.PARTLY: "some clips in quarantine",
    DayState.FAILED: "failed",
    DayState.RUNNING: "running now",
    DayState.EMPTY: "no clips found",
    DayState.GAP: "gap, never ingested",
}


@dataclass(frozen=True, slots=True)
class Cell:
    """Hold a day of the grid. state: a DayState, or "" outside of the first and the last day with clips"""

    day: str
    state: str
    label: str


@dataclass(frozen=True, slots=True)
class Grid:
    """Hold weeks: rows of weekdays, and the months as headers over a number of weeks. title: the year, or the months"""

    title: str
    months: list[tuple[str, int]]
    rows: list[tuple[str, list[Cell | None]]]


def calendars(days: Sequence[DayFigures], known: Sequence[str], today: date) -> list[Grid]:
    """Return the grids, the latest first. known: days with clips, in order; days after today are left out"""
    shown = [one for one in days if date.fromisoformat(one.day) <= today]
    if not shown:
        return []
    if len(shown) <= _YEAR:
        first, last = (date.fromisoformat(one.day) for one in (shown[0], shown[-1]))
        title = f"{first.year}" if first.year == last.year else f"{first:%b %Y} to {last:%b %Y}"
        return [_grid(title, shown, known)]
    by_year: dict[str, list[DayFigures]] = {}
    for one in shown:
        by_year.setdefault(one.day[:4], []).append(one)
    return [_grid(year, of_year, known) for year, of_year in sorted(by_year.items(), reverse=True)]


def _grid(title: str, days: Sequence[DayFigures], known: Sequence[str]) -> Grid:
    cells = {date.fromisoformat(one.day): _cell(one, known) for one in days}
    first, last = min(cells), max(cells)
    monday = first - timedelta(days=first.weekday())
    weeks = (last - monday).days // 7 + 1
    rows = [
        (name, [cells.get(monday + timedelta(weeks=week, days=weekday)) for week in range(weeks)])
        for weekday, name in enumerate(WEEKDAYS)
    ]
    months: list[tuple[str, int]] = []
    for week in range(weeks):
        name = max(first, monday + timedelta(weeks=week)).strftime("%b")
        if months and months[-1][0] == name:
            months[-1] = (name, months[-1][1] + 1)
        else:
            months.append((name, 1))
    return Grid(title, months, rows)


def _cell(one: DayFigures, known: Sequence[str]) -> Cell:
    day, clips = date.fromisoformat(one.day), one.figures.clips
    inside = one.state is DayState.RUNNING or (bool(known) and known[0] <= one.day <= known[-1])
    counts = ", ".join(f"{count:,} {outcome}" for outcome, count in clips.items())
    words = _WORDS[one.state] if inside else "not ingested"
    label = f"{day:%a} {day.day} {day:%b %Y}: {words}" + (f", {counts}" if counts else "")
    return Cell(one.day, str(one.state) if inside else "", label)
