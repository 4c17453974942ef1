"""What a person does in Airflow's UI: backfill two days, look a run over, search the clips, read a batch's outcomes."""

import json
import re
import time

import pytest
from playwright.sync_api import Page, expect

from demo.airflow_api import AirflowApi, finished
from demo.samples import DAYS
from tests.browser.conftest import SECONDS
from tests.support.engine import StandIn

DAG = "ingest_clips"
FIRST, LAST = DAYS[:2]


@pytest.fixture(scope="module")
def api(airflow):
    with AirflowApi(airflow.url, airflow.user, airflow.password) as api:
        yield api


@pytest.fixture(scope="module")
def backfilled(page: Page, api, pictures):
    """The runs that the form made, by day."""
    page.goto(f"/dags/{DAG}")
    page.get_by_role("button", name="Trigger").first.click()
    form = page.get_by_role("dialog").filter(has_text="Single Run")
    form.locator("label").filter(has_text=re.compile("^Backfill")).click()
    fill_in(page, "From", FIRST)
    fill_in(page, "To", LAST)
    expect(form).to_contain_text("2 runs will be triggered")
    pictures(page, "backfill")
    form.get_by_role("button", name="Run Backfill").click()
    expect(form).to_be_hidden()
    runs = api.wait(DAG, lambda runs: len(done_days(runs)) == 2, 600)
    return done_days(runs)


def test_the_backfill_form_ingests_both_days(backfilled):
    assert {day: run["state"] for day, run in backfilled.items()} == {FIRST: "success", LAST: "success"}


def test_the_grid_shows_each_batch_by_its_first_clip(page: Page, backfilled, pictures):
    page.goto(f"/dags/{DAG}/runs/{backfilled[LAST]['dag_run_id']}")
    expect(page.get_by_role("link", name="2026/11/03/cam-a-0001.mp4 +7")).to_have_count(2)
    pictures(page, "grid")


def test_the_page_clips_finds_a_clip_by_its_words(page: Page, backfilled, pictures):
    page.goto("/")
    page.get_by_role("link", name="Clips", exact=True).click()
    clips = page.frame_locator("iframe")
    clips.get_by_label("Search the clips").fill("people riding bicycles")
    clips.get_by_role("button", name="Search").click()
    first = clips.get_by_role("article").first
    expect(first).to_contain_text("bicycle", timeout=240 * SECONDS)
    expect(first).to_contain_text("cam-a-0003.mp4")
    first.locator("img").evaluate("poster => poster.decode()")
    pictures(page, "search")


def test_outcomes_on_a_caption_task_tells_what_became_of_each_clip(page: Page, backfilled, pictures):
    page.goto(f"/dags/{DAG}/runs/{backfilled[FIRST]['dag_run_id']}/tasks/process.caption/mapped/0/details")
    page.get_by_role("link", name="Outcomes").click()
    batch = page.frame_locator("iframe")
    expect(batch.get_by_role("row").filter(has_text="cam-c-0001.mp4")).to_contain_text("empty file")
    expect(batch.get_by_role("row").filter(has_text="cam-a-0001.mp4")).to_contain_text("indexed")
    batch.locator("img").last.evaluate("poster => poster.decode()")
    pictures(page, "outcomes")


def test_the_log_of_a_failed_try_says_which_clips_got_no_answer(page: Page, api, pictures):
    run = retried(api, DAYS[2])
    page.goto(f"/dags/{DAG}/runs/{run}/tasks/process.caption/mapped/0?try_number=1")
    expect(page.get_by_text("503 The server is overloaded").first).to_be_visible()
    tries = page.get_by_role("button", name=re.compile("^[12]$"))
    expect(tries).to_have_count(2)
    page.get_by_text("no answer").first.scroll_into_view_if_needed()
    pictures(page, "tries")
    page.goto(f"/dags/{DAG}/runs/{run}/tasks/process.caption/mapped/0")
    page.locator("a[href$='/plugin/clips-of-task']").click()
    clips = page.frame_locator("iframe")
    expect(clips.get_by_role("listitem").filter(has_text="caption, try 1")).to_contain_text("left for the next try")
    expect(clips.get_by_role("listitem").filter(has_text="caption, try 2")).to_contain_text("done by earlier tries")
    pictures(page, "clips-of-task")
    clips.get_by_role("link", name="Log of this try").first.click()
    expect(page).to_have_url(re.compile(r"mapped/0\?try_number=1$"))


def test_a_stranger_is_sent_to_the_login(stranger: Page):
    stranger.goto("/plugin/clips")
    expect(stranger).to_have_url(re.compile("/auth/login"))


def test_a_stranger_sees_no_clip_beside_airflows_pages_either(stranger: Page):
    stranger.goto("/clipdex/?q=bicycles")
    stranger.get_by_role("link", name="Log in").click()
    expect(stranger).to_have_url(re.compile("/auth/login"))


def done_days(runs):
    """The finished runs of the days that were asked for; a first start also makes last night's run."""
    return {run["partition_key"]: run for run in runs if run["partition_key"] in (FIRST, LAST) and finished(run)}


def retried(api, day):
    """The run of a day whose engine goes away after the first captions, and is back for the second try."""
    with StandIn(latency_s=3.0, words=150) as engine:
        told = json.dumps({"name": "sglang", "model": engine.model, "tries": 2, "in_flight": 2})
        nodes = {"connection_id": "clipdex_gpu_nodes", "conn_type": "generic", "host": engine.url, "extra": told}
        api.call("POST", "/connections", json=nodes)
        run = api.trigger(DAG, day, {"engine": "clipdex_gpu_nodes"})
        wait_until(lambda: sum(request.status == 200 for request in engine.chats) >= 1, 600)
        engine.plan.set("503:1.0:say=The server is overloaded")
        wait_until(lambda: any(failed_once(task) for task in api.tasks(DAG, run)), 600)
        engine.plan.set("")
        wait_until(lambda: finished(api.run(DAG, run)), 600)
    return run


def failed_once(task):
    """Whether a try of a task has failed, also if the next one has begun."""
    return task["state"] == "up_for_retry" or task["try_number"] > 1


def wait_until(true, seconds):
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, f"not after {seconds} s"
        time.sleep(0.1)


def fill_in(page: Page, label: str, day: str) -> None:
    """A date of the form, at midnight."""
    field = (
        page.get_by_role("dialog")
        .filter(has_text="Single Run")
        .get_by_role("group")
        .filter(has_text=re.compile(f"^{label}"))
    )
    field.get_by_text("Select date and time").click()
    calendar = page.locator("[data-scope=popover][data-state=open]")
    for placeholder, value in (("YYYY/MM/DD", day.replace("-", "/")), ("HH:mm", "00:00")):
        box = calendar.get_by_placeholder(placeholder)
        box.fill(value)
        box.press("Enter")
    page.get_by_text("Date Range").click()  # closes the calendar
