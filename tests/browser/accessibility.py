"""What axe-core finds wrong on a page."""

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page


def serious_findings(page: Page) -> list[str]:
    """Return the rules that a page breaks seriously, each with the first elements."""
    found = Axe().run(page).response["violations"]
    return [
        f"{one['id']}: {', '.join(node['target'][0] for node in one['nodes'][:3])}"
        for one in found
        if one["impact"] in ("serious", "critical")
    ]
