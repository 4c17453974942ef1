"""What a person does on the search page: play a hit from its second, go on by keys, filter, open the clip's page."""

import re
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.conftest import SECONDS, SIZE, Picture
from tests.browser.site import Site, served

PHONE = {"width": 360, "height": 740}
Opener = Callable[..., Page]


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with tempfile.TemporaryDirectory(prefix="clipdex-") as folder, served(Path(folder)) as site:
        yield site


@pytest.fixture
def visit(site: Site, browser: Browser) -> Iterator[Opener]:
    """Open pages, and fail at the end if the browser complained."""
    complaints: list[str] = []
    contexts = []

    def opened(path: str, size: Any = SIZE, **how: Any) -> Page:
        context = browser.new_context(base_url=site.url, viewport=size, **how)
        context.set_default_timeout(30 * SECONDS)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(path)
        return page

    yield opened
    for context in contexts:
        context.close()
    assert complaints == []


def position(page: Page) -> float:
    seconds: float = page.locator("video").evaluate("video => video.currentTime")
    return seconds


def until_ready(page: Page) -> None:
    """Wait until the picture at the position is there."""
    page.wait_for_function(
        "() => { const v = document.querySelector('video'); return v && v.readyState > 1 && !v.seeking }"
    )


def test_a_click_plays_a_hit_from_its_second(visit: Opener, pictures: Picture):
    page = visit("/?q=green+lorry+turns+left")
    page.locator(".hit .open").first.click()
    until_ready(page)
    assert 4.0 <= position(page) < 7.0
    page.wait_for_function("() => document.querySelector('video').currentTime > 4.2")
    assert page.locator("video").evaluate("video => video.error") is None
    marks = page.locator(".marks .span").evaluate_all(
        "all => all.map(one => [+one.getAttribute('x'), +one.getAttribute('width')])"
    )
    assert [4.0, 4.0] in marks
    expect(page.locator(".script .found mark").first).to_have_text("green")
    pictures(page, "player")


def test_keys_pause_seek_and_go_to_the_next_hit(visit: Opener):
    page = visit("/?q=lorry")
    first, second = page.locator(".hit").nth(0), page.locator(".hit").nth(1)
    first.locator(".open").focus()
    page.keyboard.press("Enter")
    until_ready(page)
    page.keyboard.press("Escape")
    expect(page.locator(".stage")).to_be_hidden()
    page.keyboard.press("j")
    until_ready(page)
    page.locator(".stage h2").click()
    page.keyboard.press(" ")
    page.wait_for_function("() => document.querySelector('video').paused")
    before = position(page)
    page.keyboard.press("ArrowRight")
    until_ready(page)
    assert position(page) == pytest.approx(min(before + 1, 10), abs=0.15)
    page.keyboard.press("ArrowLeft")
    until_ready(page)
    assert position(page) == pytest.approx(before, abs=0.15)
    current = page.locator(".hit.current")
    name = current.get_attribute("data-clip")
    page.keyboard.press("j")
    expect(page.locator(".hit.current")).not_to_have_attribute("data-clip", name or "")
    page.keyboard.press("k")
    expect(page.locator(".hit.current")).to_have_attribute("data-clip", name or "")
    page.keyboard.press("/")
    expect(page.get_by_label("Search the clips")).to_be_focused()
    assert first.is_visible() and second.is_visible()


def test_a_paragraph_of_the_caption_is_a_place_in_the_video(visit: Opener):
    page = visit("/?q=green+lorry+turns+left")
    page.locator(".hit .open").first.click()
    until_ready(page)
    page.locator(".script p").last.click()
    page.wait_for_function("() => document.querySelector('video').currentTime >= 8")
    expect(page.locator(".script p").last).to_have_class(re.compile(r"\bnow\b"))


def test_a_clip_without_a_playback_shows_its_poster_and_what_makes_one(visit: Opener):
    page = visit("/?q=a+lorry+stands+in+the+dark")
    page.locator(".hit .open").first.click()
    expect(page.locator(".stage")).to_contain_text("clipdex playback --day 2026-11-03")
    expect(page.locator(".stage img")).to_be_visible()
    expect(page.locator("video")).to_have_count(0)


def test_a_reload_opens_the_same_hit_again(visit: Opener):
    page = visit("/?q=lorry")
    page.locator(".hit .open").nth(1).click()
    until_ready(page)
    name = page.locator(".stage h2").text_content()
    page.reload()
    expect(page.locator(".stage h2")).to_have_text(name or "")


def test_a_chosen_value_narrows_the_hits_when_its_menu_closes(visit: Opener, pictures: Picture):
    page = visit("/?q=lorry")
    page.locator(".menu summary").filter(has_text="camera").click()
    page.get_by_label("cam-1").check()
    pictures(page, "filters")
    page.locator(".sum").click()
    page.wait_for_url("**where=camera%3Dcam-1*")
    expect(page.get_by_role("link", name="camera: cam-1")).to_be_visible()
    names = page.locator(".hits").first.locator("h2").all_text_contents()
    assert names and set(names) <= {"lorries.mp4", "unplayed.mp4"}


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_works_on_a_phone(visit: Opener, pictures: Picture, scheme: str):
    page = visit("/?q=lorry", PHONE, color_scheme=scheme, has_touch=True, is_mobile=True)
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    pictures(page, f"phone-{scheme}")
    page.locator(".hit .poster").first.tap()
    until_ready(page)
    assert page.locator(".stage").evaluate("stage => stage.matches(':modal') && stage.clientWidth === innerWidth")
    pictures(page, f"phone-player-{scheme}")
    page.get_by_label("Close").tap()
    expect(page.locator(".stage")).to_be_hidden()


def test_the_page_of_a_clip_plays_from_a_second_and_shows_its_record(visit: Opener, pictures: Picture):
    page = visit("/clips/lorry?q=lorry&t=8.5", color_scheme="dark")
    until_ready(page)
    assert position(page) == pytest.approx(8.5, abs=0.15)
    expect(page.get_by_role("heading", name="1 caption")).to_be_visible()
    pictures(page, "clip")
    page.goto("/clips/broken")
    expect(page.get_by_role("heading", name="quarantined: not a video")).to_be_visible()
    assert page.locator("main img").count() == 0


def test_the_path_of_the_original_is_copied_and_is_no_link(visit: Opener, browser: Browser, site: Site):
    page = visit("/clips/lorry", permissions=["clipboard-read", "clipboard-write"])
    button = page.locator(".original .copy")
    button.click()
    expect(button).to_have_attribute("data-copied", "Copied")
    assert page.evaluate("navigator.clipboard.readText()") == "/archive/lorry.mp4"
