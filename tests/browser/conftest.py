"""Airflow's own UI in Chromium, over the sample clips and the embedded defaults, in a home of the tests' own.

SCREENSHOTS=docs make browser      also writes the pictures and the recording that README shows
"""

import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from demo.local_airflow import LocalAirflow
from demo.samples import write_samples

SIZE = {"width": 1360, "height": 850}
SECONDS = 1000
"""Playwright counts in milliseconds."""

expect.set_options(timeout=60 * SECONDS)

Picture = Callable[..., None]


@pytest.fixture(scope="session")
def airflow() -> Iterator[LocalAirflow]:
    """As `make up` keeps it, in a home whose path the pictures may show."""
    with tempfile.TemporaryDirectory(prefix="clipdex-") as folder:
        home = Path(folder)
        write_samples(home / ".clipdex" / "samples")
        with LocalAirflow(home / ".airflow", {"CLIPDEX_HOME": folder}) as airflow:
            yield airflow


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if chromium is None:
        pytest.fail("no Chromium on the PATH; Debian: apt-get install chromium")
    as_root = ["--no-sandbox"] if os.geteuid() == 0 else []  # Chromium refuses to sandbox for root
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=as_root)
        yield browser
        browser.close()


@pytest.fixture
def stranger(airflow, browser) -> Iterator[Page]:
    """A page of somebody who has not logged in."""
    with browser.new_context(base_url=airflow.url, viewport=SIZE) as context:
        yield context.new_page()


@pytest.fixture(scope="session")
def page(airflow, browser) -> Iterator[Page]:
    """A page of the admin, who logged in by Airflow's own form."""
    with browser.new_context(base_url=airflow.url, viewport=SIZE, color_scheme="light") as context:
        context.set_default_timeout(180 * SECONDS)
        page = context.new_page()
        page.goto("/")
        page.get_by_label("Username").fill(airflow.user)
        page.get_by_label("Password").fill(airflow.password)
        page.get_by_role("button", name="Sign in").click()
        expect(page).to_have_url(re.compile(f"^{re.escape(airflow.url)}/$"))
        yield page


@pytest.fixture(scope="session")
def pictures() -> Picture:
    """Keeps what a page shows as NAME.png in the folder that SCREENSHOTS names; without that, does nothing."""
    folder = kept()

    def take(page: Page, name: str) -> None:
        if folder:
            page.screenshot(path=folder / f"{name}.png", animations="disabled")

    return take


@pytest.fixture(scope="session")
def recording() -> Path | None:
    """The folder that keeps the recording, or None."""
    return kept()


def kept() -> Path | None:
    folder = os.environ.get("SCREENSHOTS")
    return Path(folder) if folder else None
