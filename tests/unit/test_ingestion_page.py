"""Test the page of ingestion and its JSON, over a real store: what an operator sees, and which days are offered."""

import html
import re
import time
from datetime import date, timedelta

import pytest
from fastapi.testclient import TestClient

from clipdex.config import Settings
from clipdex.runs.catalog import refresh
from clipdex.runs.outcomes import Outcome, add_to_ledger
from clipdex.storage.artifacts import Store
from clipdex.web.app import create_app
from clipdex.web.ingestion.overview import Overview
from clipdex.web.startup import read_ahead
from tests.unit.test_summaries import outcome

HOSTILE = "<script>alert(1)</script>"
DEADLINE_S = 60.0


class Recorded:
    """Operations that note what was started."""

    def __init__(self, may: bool = True) -> None:
        self.may, self.started = may, []

    def backfill_url(self, first, last):
        return "/dags/ingest_clips/backfills"

    def run_url(self, run):
        return f"/runs/{run}"

    async def may_write(self, request):
        return self.may

    async def backfill(self, request, first, last):
        self.started.append((first, last))
        return self.backfill_url(first, last)

    async def requeue(self, request, day, clips):
        raise NotImplementedError

    async def audit(self, request, action, detail):
        raise NotImplementedError


@pytest.fixture
def store(tmp_path):
    return Store.open(Settings.load(home=tmp_path))


@pytest.fixture
def client(tmp_path):
    return TestClient(create_app(lambda: Settings.load(home=tmp_path), lambda: None, lambda request: "/login"))


def airflow(tmp_path, operations):
    app = create_app(lambda: Settings.load(home=tmp_path), lambda: None, lambda request: "/login", operations)
    return TestClient(app, base_url="http://airflow.example", follow_redirects=False)


def ready(client, path="/ingestion"):
    """Return the page when its first values are read."""
    deadline = time.monotonic() + DEADLINE_S
    while client.get("/api/stats").json()["loading"]:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    answer = client.get(path)
    assert answer.status_code == 200, answer.text
    return answer.text


def put(store, day, *outcomes):
    add_to_ledger(store, day, [*outcomes] or [outcome(0, day=day)])
    refresh(store)


def cell(page, day):
    (found,) = re.findall(rf'<button type="button" class="cell (\w+)" data-day="{day}"[^>]*aria-label="([^"]+)"', page)
    return found


def test_before_the_first_run_the_page_says_what_to_do(client):
    page = ready(client)
    assert "No day is ingested yet" in page and "clipdex ingest FOLDER" in page
    assert "<canvas" not in page


def test_one_day_is_shown_with_its_figures(client, store):
    put(store, "2026-11-03", *(outcome(number) for number in range(3)))
    page = ready(client)
    assert cell(page, "2026-11-03") == ("done", "Tue 3 Nov 2026: done, 3 indexed")
    assert cell(page, "2026-11-02")[0] == "outside"
    assert "gpu-1:30000" in page and "0.50</b> GPU-seconds per clip" in page


def test_the_first_request_after_the_start_shows_the_days_without_waiting(client, store, tmp_path, monkeypatch):
    monkeypatch.setattr(Overview.state, "__defaults__", (0.0,))
    put(store, "2026-11-20")
    assert cell(client.get("/ingestion").text, "2026-11-20")[0] != "done"
    started = airflow(tmp_path, None)
    read_ahead(started.app)
    assert cell(started.get("/ingestion").text, "2026-11-20")[0] == "done"


def test_a_store_that_cannot_be_read_does_not_end_the_start(tmp_path, caplog):
    (tmp_path / ".clipdex").write_text("a file in place of the folder")
    read_ahead(airflow(tmp_path, None).app)
    assert "not read" in caplog.text


def test_the_calendar_tells_green_amber_red_and_gaps_apart(client, store):
    put(store, "2026-11-01")
    put(store, "2026-11-02", outcome(0), outcome(1, Outcome.QUARANTINED, reason="caption_looping"))
    put(store, "2026-11-03", outcome(0), outcome(1, Outcome.FAILED, reason="engine_failed"))
    put(store, "2026-11-05", outcome(0), outcome(1, Outcome.QUARANTINED, reason="not_a_video"))
    page = ready(client)
    assert [cell(page, f"2026-11-0{day}")[0] for day in range(1, 6)] == ["done", "partly", "failed", "gap", "done"]
    assert 'data-first="2026-11-04" data-last="2026-11-04"' in page
    assert 'href="/quarantine?reason=caption_looping"' in page


def test_a_row_of_gaps_is_one_span(client, store):
    put(store, "2026-11-01")
    put(store, "2026-11-09")
    assert 'data-first="2026-11-02" data-last="2026-11-08"' in ready(client)
    stats = client.get("/api/stats?from=2026-11-01&to=2026-11-09").json()
    assert [one["state"] for one in stats["days"]] == ["done", *["gap"] * 7, "done"]
    assert (stats["known_first"], stats["known_last"]) == ("2026-11-01", "2026-11-09")


def test_clipdex_serve_shows_the_command_and_has_no_route_that_writes(client, store):
    put(store, "2026-11-01")
    put(store, "2026-11-03")
    page = ready(client)
    command = "airflow backfill create --dag-id ingest_clips --from-date 2026-11-02 --to-date 2026-11-02"
    assert command in page and "<button>Backfill" not in page
    assert client.post("/ingestion/backfill", data={"first": "2026-11-02"}).status_code in (404, 405)


SAME = {"Origin": "http://airflow.example", "Cookie": f"clipdex_form={'f' * 43}"}
TOKEN = {"form_token": "f" * 43}


def test_one_click_backfills_a_gap_as_the_user(tmp_path, store):
    put(store, "2026-11-01")
    put(store, "2026-11-03")
    operations = Recorded()
    client = airflow(tmp_path, operations)
    page = ready(client)
    assert "<button>Backfill" in page
    form = dict(re.findall(r'name="(first|last|form_token)" value="([^"]*)"', page))
    answer = client.post("/ingestion/backfill", data=form, headers={"Origin": "http://airflow.example"})
    assert (answer.status_code, operations.started) == (303, [("2026-11-02", "2026-11-02")])
    told = client.get(answer.headers["Location"]).text
    assert 'href="/dags/ingest_clips/backfills" target="_top"' in told


@pytest.mark.parametrize(
    "headers",
    [
        {}, {"Origin": "http://evil.example"}, {"Origin": "null"}, {"Origin": ""},
        {"Sec-Fetch-Site": "cross-site", "Origin": "http://airflow.example"},
        {"Sec-Fetch-Site": "same-site", "Origin": "http://airflow.example"},
        {"Sec-Fetch-Site": "none"},
    ],
)  # fmt: skip
def test_a_form_of_another_site_starts_nothing(tmp_path, headers):
    operations = Recorded()
    headers = {"Cookie": SAME["Cookie"], **headers}
    form = {"first": "2026-11-02", **TOKEN}
    answer = airflow(tmp_path, operations).post("/ingestion/backfill", data=form, headers=headers)
    assert (answer.status_code, operations.started) == (403, [])


@pytest.mark.parametrize(
    "form",
    [
        {}, {"first": "x"}, {"first": "2026-11-02", "last": "2026-11-01"}, {"first": "20261102"},
        {"first": "2020-01-01", "last": "2026-11-01"}, {"first": "2999-01-01"}, {"first": HOSTILE},
        {"first": "2026-11-02", "last": "2026-11-02'; DROP"},
    ],
)  # fmt: skip
def test_days_that_cannot_be_backfilled_are_refused_with_a_reason(tmp_path, form):
    operations = Recorded()
    answer = airflow(tmp_path, operations).post("/ingestion/backfill", data=form | TOKEN, headers=SAME)
    assert (answer.status_code, operations.started) == (422, [])
    assert HOSTILE not in answer.text


def test_a_form_of_any_size_is_bounded(tmp_path):
    operations = Recorded()
    answer = airflow(tmp_path, operations).post("/ingestion/backfill", data={"first": "x" * 1_000_001}, headers=SAME)
    assert (answer.status_code, operations.started) == (413, [])


def test_a_viewer_sees_no_button(tmp_path, store):
    put(store, "2026-11-01")
    page = ready(airflow(tmp_path, Recorded(may=False)))
    assert "<button>Backfill" not in page and "you need the permission" in page


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ("from=2026-13-01", "is not a date such as 2026-11-03"),
        ("from=2026-11-05&to=2026-11-01", "from is the earlier day"),
        ("from=2000-01-01&to=2026-11-01", "at most 1100 days"),
        (f"from={HOSTILE}", "at most 10 characters"),
    ],
)
def test_a_wrong_span_is_explained(client, query, told):
    for path in ("/ingestion", "/api/stats"):
        answer = client.get(f"{path}?{query}")
        assert answer.status_code == 422 and told in html.unescape(answer.text) and HOSTILE not in answer.text


def test_years_of_days_are_bounded_and_linked(client, store):
    put(store, "2024-02-29")
    put(store, "2026-11-03")
    page = ready(client)
    assert [name for name in ("2024", "2025", "2026") if f">{name}</a>" in page] == ["2024", "2025", "2026"]
    assert page.count('class="cell gap" data-day') < 370
    whole = client.get("/ingestion?from=2024-02-29&to=2026-11-03").text
    assert cell(whole, "2025-06-01") == ("gap", "Sun 1 Jun 2025: gap, never ingested")
    assert client.get("/ingestion?from=0001-01-01").status_code == 200


def test_text_from_outside_is_text(client, store):
    hostile = outcome(0, Outcome.QUARANTINED, reason=HOSTILE, node="")
    put(store, "2026-11-03", hostile, outcome(1, node=f'"{HOSTILE}'))
    page = ready(client)
    assert HOSTILE not in page and page.count("&lt;script&gt;") >= 2


def test_the_page_shows_a_store_of_an_earlier_release_bit_by_bit(client, store):
    add_to_ledger(store, "2026-11-03", [outcome(0)])
    deadline = time.monotonic() + DEADLINE_S
    while "figures" not in (page := client.get("/ingestion").text) or cell(page, "2026-11-03")[0] != "done":
        assert time.monotonic() < deadline
        time.sleep(0.2)
    assert not store.list("summaries")


def test_a_running_day_is_shown_with_its_progress(client, store):
    from clipdex.runs import leases
    from clipdex.runs.planning import BatchRef, Plan

    day = (date(2026, 11, 3) + timedelta(days=1)).isoformat()
    batch = BatchRef("r.1", day, "b1", "manifests/run=r.1/b1.jsonl", 10, "c0.mp4")
    store.write_json("runs/r.1.json", Plan("r.1", (day,), {day: 10}, 0, 0, (batch,)).to_json())
    leases.acquire(store, day, "r.1", 900)
    put(store, "2026-11-03")
    page = ready(client, "/ingestion?from=2026-11-01&to=2026-11-10")
    assert cell(page, day)[0] == "running" and '<progress max="10" value="0"' in page
    now = client.get("/api/ingestion").json()
    assert (now["backlog"], now["left_s"], now["running"][0]["run"]) == (10, None, "r.1")


def test_the_plots_need_nothing_that_the_policy_forbids(client, store):
    put(store, "2026-11-03")
    page = ready(client)
    assert "<style" not in page and "style=" not in page and " onclick" not in page
    assert not re.findall(r"<script(?![^>]*\bsrc=)", page)
    script = client.get("/static/chart.js", headers={"Accept-Encoding": "gzip"})
    assert script.headers["Content-Encoding"] == "gzip" and "Chart.js v4" in script.text[:200]
    assert client.get("/static/chart.js", headers={"Accept-Encoding": "identity"}).text == script.text


def test_every_call_of_the_api_is_on_the_page_of_its_reference(client):
    page, described = client.get("/reference").text, client.get("/openapi.json").json()
    assert {"/api/search", "/api/clips/{clip_id}", "/api/stats", "/api/ingestion"} <= set(described["paths"])
    for path, methods in described["paths"].items():
        assert f"<code>{path}</code>" in page
        for call in methods.values():
            assert f'id="{call["operationId"]}"' in page
    for name in re.findall(r'href="#(schema-\w+)"', page):
        assert f'id="{name}"' in page
    assert "http" not in re.sub(r"https?://", "", "".join(re.findall(r'(?:src|href)="([^"]+)"', page)))
