"""Ingestion: what runs now, how each day went, and how fast; as a page and as JSON. Days are backfilled from it."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Self
from urllib.parse import urlencode
from zoneinfo import ZoneInfo

from fastapi import APIRouter, HTTPException, Query, Request, Response
from fastapi.responses import RedirectResponse
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from clipdex.config import Quarantine, Settings
from clipdex.runs.progress import Running
from clipdex.storage.usage import Usage
from clipdex.web import assets, csrf
from clipdex.web.backend import TheBackend
from clipdex.web.ingestion.overview import IndexFacts, Overview, State
from clipdex.web.ingestion.statistics import DayFigures, DayState, Figures
from clipdex.web.ingestion.view import View, view_of
from clipdex.web.problems import ERRORS
from clipdex.web.rendering import page, url

router, writes = APIRouter(), APIRouter()

MOST_DAYS = 1100
_USUAL_DAYS, _MOST_SPANS, _MOST_ROWS, _MOST_YEARS = 365, 12, 92, 12


def _parse_date(given: str) -> str:
    try:
        return date.fromisoformat(given).isoformat() if given else ""
    except ValueError:
        raise ValueError(f"{given!r} is not a date such as 2026-11-03") from None


Day = Annotated[str, Field(max_length=10, description="YYYY-MM-DD"), AfterValidator(_parse_date)]


class SpanQuery(BaseModel):
    """Hold the first and the last day; without them, the year up to the last day with clips."""

    model_config = ConfigDict(populate_by_name=True)

    first: Annotated[Day, Field(alias="from")] = ""
    last: Annotated[Day, Field(alias="to")] = ""

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.first and self.last and not 0 <= _days_between(self.first, self.last) < MOST_DAYS:
            raise ValueError(f"from is the earlier day, and at most {MOST_DAYS} days are shown at once")
        return self

    def span(self, known: Sequence[str], today: date) -> tuple[date, date]:
        """Return the first and the last day. known: days with clips, in order"""
        end = date.fromisoformat(known[-1]) if known else today
        if self.first and not self.last:
            end = max(end, date.fromisoformat(self.first))
        last = date.fromisoformat(self.last) if self.last else end
        if self.first:
            first = date.fromisoformat(self.first)
            return max(first, last - timedelta(days=MOST_DAYS - 1)), last
        return last - timedelta(days=_USUAL_DAYS - 1), last


class PageQuery(SpanQuery):
    """Hold also the days of the form, and the days whose backfill was just started."""

    pick_first: Day = ""
    pick_last: Day = ""
    started: Annotated[str, Field(max_length=21)] = ""


@dataclass(frozen=True, slots=True)
class Stats:
    """Hold the figures of some days, together and per day.

    first, last: the days; known_first, known_last: of all that have clips, "" for none
    outdated: number of days of the store whose figures are missing or older than their outcomes; loading: whether more
        figures are being read, so that another request returns them
    """

    first: str
    last: str
    known_first: str
    known_last: str
    total: Figures
    days: list[DayFigures]
    outdated: int
    loading: bool


@dataclass(frozen=True, slots=True)
class Ingestion:
    """Hold what runs now, and the sizes of index and store.

    backlog: clips that are planned and not captioned; left_s: estimate of the time until all are [s], None if unknown
    index, store: None while they are read, or if they cannot be read; problems: why not
    """

    running: list[Running]
    backlog: int
    left_s: float | None
    clips_per_s: float | None
    index: IndexFacts | None
    store: Usage | None
    loading: bool
    problems: list[str]


@router.get("/ingestion", name="ingestion", include_in_schema=False)
async def ingestion_page(request: Request, backend: TheBackend, question: Annotated[PageQuery, Query()]) -> Response:
    state, view, zone = await backend.read(_seen, request, await backend.settings(), question)
    operations, started = request.app.state.operations, _started(question.started)
    first, last, root = view.first, view.last, request.scope.get("root_path", "")
    may_start = operations is not None and await operations.may_write(request)
    token = csrf.token_of(request) if may_start else ""
    response = page(
        request,
        "ingestion.html",
        headers={"Refresh": "1"} if state.empty else None,
        timezone=zone,
        today=_today(zone).isoformat(),
        first=first.isoformat(),
        last=last.isoformat(),
        view=view,
        years=_years(request, view),
        state=state,
        now=now_of(state),
        total=view.total,
        states={str(kind): view.count(kind) for kind in DayState},
        gaps=view.spans(DayState.GAP)[-_MOST_SPANS:],
        failed=view.spans(DayState.FAILED)[-_MOST_SPANS:],
        picked=_picked(question, view),
        plots=view.plots,
        has_charts=assets.chart_file() is not None,
        rows=[one for one in reversed(view.days) if one.figures.captioned or one.figures.total][:_MOST_ROWS],
        may_start=may_start,
        form_token=token,
        reads_only=operations is None,
        started=started,
        watch_url=operations.backfill_url(*started) if operations and started else "",
        quarantine_url=lambda reason: f"{root}/quarantine?{urlencode({'reason': reason})}",
        link=lambda **more: f"{url(request, 'ingestion')}?{urlencode({'from': first, 'to': last, **more})}",
    )
    if may_start:
        csrf.set_token(request, response, token)
    return response


@router.get("/api/stats", operation_id="get_stats", responses=ERRORS)
async def get_stats(request: Request, backend: TheBackend, question: Annotated[SpanQuery, Query()]) -> Stats:
    """Return clips by outcome, tokens, GPU time and latency, per day and together."""
    state, view, _ = await backend.read(_seen, request, await backend.settings(), question)
    return Stats(
        first=view.first.isoformat(),
        last=view.last.isoformat(),
        known_first=view.known[0] if view.known else "",
        known_last=view.known[-1] if view.known else "",
        total=view.total,
        days=view.days,
        outdated=state.days.value.missing if state.days.value else 0,
        loading=state.loading,
    )


@router.get("/api/ingestion", operation_id="get_ingestion", responses=ERRORS)
async def get_ingestion(request: Request, backend: TheBackend) -> Ingestion:
    """Return the runs that work now with their backlog, and the sizes of index and store."""
    return now_of(await backend.read(_overview(request).state))


@writes.post("/ingestion/backfill", name="backfill", include_in_schema=False)
async def start_backfill(request: Request, backend: TheBackend) -> Response:
    """Backfill the days of the form as the user who sent it, and show where it is watched."""
    settings = await backend.settings()
    today = _today(settings.source.timezone if settings else "UTC")
    operations, form = await csrf.writer_form(request)
    first, last = _form_days(form, today)
    await operations.backfill(request, first, last)
    return RedirectResponse(f"{url(request, 'ingestion')}?{urlencode({'started': f'{first}_{last}'})}", 303)


def now_of(state: State) -> Ingestion:
    """Return what runs now."""
    running = state.running.value or []
    backlog, rates = sum(one.backlog for one in running), [one.clips_per_s for one in running if one.clips_per_s]
    return Ingestion(
        running=running,
        backlog=backlog,
        left_s=round(backlog / sum(rates), 1) if rates else None,
        clips_per_s=round(sum(rates), 4) if rates else None,
        index=state.index.value,
        store=state.usage.value,
        loading=state.loading,
        problems=state.problems,
    )


def _overview(request: Request) -> Overview:
    overview: Overview = request.app.state.overview
    return overview


def _seen(request: Request, settings: Settings | None, question: SpanQuery) -> tuple[State, View, str]:
    """Return the state, the view of the days, and the time zone. Blocks."""
    state = _overview(request).state()
    rule, zone = (settings.quarantine, settings.source.timezone) if settings else (Quarantine(), "UTC")
    known, today = _dates(state), _today(zone)
    first, last = question.span(known, today)
    return state, view_of(state.days.value, state.busy, first, last, known, today, rule), zone


def _today(zone: str) -> date:
    return datetime.now(ZoneInfo(zone)).date()


def _dates(state: State) -> tuple[str, ...]:
    """Return the days with a summary. A name that is no date is none of this release's."""
    return tuple(day for day in state.known if _is_date(day))


def _is_date(text: str) -> bool:
    try:
        return date.fromisoformat(text).isoformat() == text
    except ValueError:
        return False


def _days_between(first: str, last: str) -> int:
    return (date.fromisoformat(last) - date.fromisoformat(first)).days


def _years(request: Request, view: View) -> list[tuple[str, str, bool]]:
    """Return the name of each year with clips, its link, and whether it is shown."""
    known, home = view.known, url(request, "ingestion")
    years = range(int(known[0][:4]), int(known[-1][:4]) + 1) if known else range(0)
    spans_of = [(str(year), date(year, 1, 1), date(year, 12, 31)) for year in years][-_MOST_YEARS:]
    return [
        (name, f"{home}?{urlencode({'from': begin, 'to': end})}", (begin, end) == (view.first, view.last))
        for name, begin, end in spans_of
    ]


def _picked(question: PageQuery, view: View) -> tuple[str, str]:
    """Return the days of the form: those of the query, or the latest gap, or the latest failed days."""
    if question.pick_first:
        return question.pick_first, question.pick_last or question.pick_first
    found = view.spans(DayState.GAP) or view.spans(DayState.FAILED)
    return found[-1][:2] if found else ("", "")


def _started(text: str) -> tuple[str, str] | None:
    first, _, last = text.partition("_")
    return (first, last) if _is_date(first) and _is_date(last) else None


def _form_days(form: dict[str, list[str]], today: date) -> tuple[str, str]:
    """Return the days of a form. Raises 422."""
    first, last = (form.get(name, [""])[0] for name in ("first", "last"))
    last = last or first
    if not (_is_date(first) and _is_date(last)):
        raise HTTPException(422, f"first and last are days such as 2026-11-03, found {first!r:.20} and {last!r:.20}")
    if not 0 <= _days_between(first, last) < MOST_DAYS:
        raise HTTPException(422, f"first is the earlier day, and at most {MOST_DAYS} days are backfilled at once")
    if date.fromisoformat(last) > max(today, datetime.now(UTC).date()):
        raise HTTPException(422, f"{last} is not over yet: the last day to backfill is {today}")
    return first, last
