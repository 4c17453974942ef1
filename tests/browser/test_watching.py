"""What an operator does in Airflow: fill a gap of the calendar, try a clip again, see what each try did."""

import re
import shutil
from pathlib import Path

import av
import pytest
from playwright.sync_api import FrameLocator, Page, expect

from demo.airflow_api import AirflowApi, finished
from tests.browser.accessibility import serious_findings
from tests.browser.conftest import SECONDS
from tests.browser.recording import recorded

DAG = "ingest_clips"
BEFORE, GAP, AFTER = "2026-10-05", "2026-10-06", "2026-10-07"
EMPTY = "cam-x-0009.mp4"


@pytest.fixture(scope="module")
def api(airflow):
    with AirflowApi(airflow.url, airflow.user, airflow.password) as api:
        yield api


@pytest.fixture(scope="module")
def archive(airflow) -> Path:
    """Three days of October, of clips of the first sample day, and an empty file on the last."""
    samples = airflow.home.parent / ".clipdex" / "samples"
    clips = sorted((samples / "2026/11/02").glob("cam-a-*.mp4"))[:2]
    for day in (BEFORE, GAP, AFTER):
        folder = samples / day.replace("-", "/")
        folder.mkdir(parents=True, exist_ok=True)
        for clip in clips:
            shutil.copy(clip, folder / clip.name)
    (samples / AFTER.replace("-", "/") / EMPTY).touch()
    return samples


@pytest.fixture(scope="module")
def around(api, archive):
    """The days before and after the gap are ingested."""
    for day in (BEFORE, AFTER):
        done(api, api.trigger(DAG, day))


@pytest.fixture
def complaints(page: Page):
    """What the browser complains about on the pages of clipdex."""
    found: list[str] = []

    def hear(message) -> None:
        if message.type == "error" and "/clipdex/" in message.location.get("url", ""):
            found.append(message.text)

    page.on("console", hear)
    yield found
    page.remove_listener("console", hear)
    assert found == []


def test_a_gap_of_the_calendar_is_backfilled_and_turns_green(page: Page, api, around, pictures, complaints):
    frame = opened(page, "Ingestion")
    until(page, lambda: expect(cell(frame, GAP)).to_have_class(re.compile(r"\bgap\b"), timeout=SECONDS))
    cell(frame, GAP).click()
    expect(frame.get_by_label("First day")).to_have_value(GAP)
    pictures(page, "ingestion")
    frame.get_by_role("button", name="Backfill").click()
    expect(frame.get_by_role("status").first).to_contain_text("is started")
    runs = api.wait(DAG, lambda runs: any(of(one, GAP) for one in runs), 600)
    assert [one["state"] for one in runs if of(one, GAP)] == ["success"]
    until(page, lambda: expect(cell(frame, GAP)).to_have_class(re.compile(r"\bdone\b"), timeout=SECONDS))


def test_a_clip_in_quarantine_is_requeued_and_gets_through(page: Page, api, archive, around, pictures, complaints):
    frame = opened(page, "Quarantine")
    case = frame.locator(".case").filter(has_text=EMPTY)
    expect(case).to_contain_text("empty file")
    pictures(page, "quarantine")
    mended = archive / AFTER.replace("-", "/") / EMPTY
    shutil.copy(next(archive.glob("2026/11/*/cam-a-0003.mp4")), mended)
    case.get_by_role("checkbox").check()
    frame.get_by_role("button", name="Requeue selected").click()
    expect(frame.get_by_role("status").first).to_contain_text("Finished: 1 of 1 through", timeout=600 * SECONDS)
    expect(frame.locator("#counts")).to_contain_text("1 indexed")
    pictures(page, "requeue")


@pytest.mark.parametrize("path", ["", "?q=bicycle", "ingestion", "quarantine", "reference"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_page_has_a_serious_finding_of_axe(page: Page, around, path, scheme):
    page.emulate_media(color_scheme=scheme)
    page.goto(f"/clipdex/{path}")
    assert serious_findings(page) == []
    page.emulate_media(color_scheme="light")


def test_a_recording_shows_search_player_and_calendar(page: Page, around, tmp_path, pictures, recording):
    page.set_viewport_size({"width": 1360, "height": 850})
    path = (recording or tmp_path) / "pages.webm"
    page.goto("/plugin/clips")
    frame = page.frame_locator("iframe")
    frame.get_by_label("Search the clips").wait_for()
    with recorded(page, path):
        frame.get_by_label("Search the clips").press_sequentially("people riding bicycles", delay=60)
        frame.get_by_role("button", name="Search").click()
        frame.locator(".hit .open").first.wait_for()
        page.wait_for_timeout(1500)
        frame.locator(".hit .open").first.click()
        page.wait_for_timeout(2000)
        pictures(page, "watch")
        page.wait_for_timeout(2500)
        page.keyboard.press("j")
        page.wait_for_timeout(3500)
        page.keyboard.press("Escape")
        frame.get_by_role("link", name="Ingestion").click()
        page.wait_for_timeout(3500)
        frame.get_by_role("link", name="Quarantine").click()
        page.wait_for_timeout(2500)
    with av.open(path) as film:
        assert sum(1 for _ in film.decode(video=0)) > 10
        assert 15 < film.duration / av.time_base < 60
    assert path.stat().st_size < 2_000_000


def opened(page: Page, name: str) -> FrameLocator:
    """Open a page of clipdex inside Airflow's UI, by its links."""
    page.goto("/")
    page.get_by_role("link", name="Clips", exact=True).click()
    frame = page.frame_locator("iframe")
    frame.get_by_role("link", name=name, exact=True).click()
    expect(frame.get_by_role("heading", name=re.compile(f"^{name}"))).to_be_visible()
    return frame


def cell(frame: FrameLocator, day: str):
    return frame.locator(f"button.cell[data-day='{day}']")


def until(page: Page, check) -> None:
    """Load the frame again until it shows what a check expects: figures are read beside the request."""
    for _ in range(60):
        try:
            return check()
        except AssertionError:
            page.frames[-1].evaluate("location.reload()")
            page.wait_for_timeout(SECONDS)
    check()


def done(api, run) -> None:
    api.wait(DAG, lambda runs: any(one["dag_run_id"] == run and finished(one) for one in runs), 600)


def of(run, day: str) -> bool:
    return run["partition_key"] == day and finished(run)
