"""The documents match the code: settings with their defaults, and the make targets, files and links that pages name."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, SecretStr

from clipdex.config import REPOSITORY, Settings
from clipdex.errors import Reason

PAGES = sorted([*REPOSITORY.glob("*.md"), *(REPOSITORY / "docs").glob("*.md")])
OPERATIONS = (REPOSITORY / "docs/operations.md").read_text()
ROW = re.compile(r"^\| `(CLIPDEX_\w+)`[^|]*\| (?:`([^`]*)`)?", re.MULTILINE)
MADE = (".venv", ".clipdex", ".airflow", "docker/.env", "OUT")
"""Prefixes of paths that a command creates."""

pages = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


def settings(group: type[BaseModel], prefix: str = "CLIPDEX_") -> Iterator[tuple[str, Any]]:
    """Yield every variable with its default."""
    for name, field in group.model_fields.items():
        variable, default = f"{prefix}{name.upper()}", field.get_default(call_default_factory=True)
        if isinstance(default, BaseModel):
            yield from settings(type(default), f"{variable}__")
        else:
            yield variable, default


def as_variable(default: Any) -> str:
    """Return the default as the value of an environment variable."""
    match default:
        case SecretStr() | "" | None:
            return ""
        case Enum():
            return str(default.value)
        case str():
            return default
        case tuple():
            return json.dumps(list(default))
        case _:
            return json.dumps(default)


def test_every_setting_is_documented_and_no_other():
    listed = set(re.findall(r"`(CLIPDEX_\w+)`", "\n".join(line for line in OPERATIONS.splitlines() if line[:1] == "|")))
    assert listed == {variable for variable, _ in settings(Settings)}


def test_documented_defaults_match_the_settings():
    by_place = {"CLIPDEX_HOME", "CLIPDEX_SOURCE__URL", "CLIPDEX_STORE__URL"}  # folders, described in words
    listed = {variable: default for variable, default in ROW.findall(OPERATIONS) if variable not in by_place}
    assert listed == {variable: as_variable(default) for variable, default in settings(Settings) if variable in listed}


def test_every_reason_for_quarantine_is_documented():
    assert {reason for reason in Reason if f"`{reason}`" not in OPERATIONS} == set()


@pages
def test_every_link_of_a_page_resolves(page):
    links = re.findall(r"\]\(([^)\s]+)\)", page.read_text())
    assert [link for link in links if not link_resolves(page, link)] == []


@pages
def test_every_make_target_that_a_page_names_exists(page):
    targets = set(re.findall(r"^([a-z-]+):", (REPOSITORY / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"(?:`|^)make ([a-z-]+)", page.read_text(), re.MULTILINE)) <= targets


@pages
def test_every_file_that_a_page_names_exists(page):
    named = re.findall(r"(?:^|[\s`(])((?:benchmarks|dags|demo|docker|docs|include|plugins|tests)/[\w./-]*\w)",
                       page.read_text())  # fmt: skip
    assert [path for path in named if not path.startswith(MADE) and not (REPOSITORY / path).exists()] == []


def test_the_layout_names_every_module():
    layout = (REPOSITORY / "docs/architecture.md").read_text().partition("## Layout")[2].partition("\n## ")[0]
    library = REPOSITORY / "include/clipdex"
    modules = {path.relative_to(library) for path in library.rglob("*.py") if path.name != "__init__.py"}
    listed_as_folders = ("index", "web", "captions/detectors")
    assert {
        str(path) for path in modules if not str(path).startswith(listed_as_folders) and path.name not in layout
    } == set()
    assert {name for name in listed_as_folders if f"{name.rpartition('/')[2]}/" not in layout} == set()


def test_the_diagram_matches_the_code_and_no_folders_import_each_other():
    done = subprocess.run([sys.executable, REPOSITORY / "docs/diagram.py", "--check"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr or "run: make diagram"


def link_resolves(page: Path, link: str) -> bool:
    if link.startswith(("https://", "http://")):
        return True
    path, _, anchor = link.partition("#")
    target = (page.parent / path) if path else page
    return target.exists() and (not anchor or anchor in anchors(target))


def anchors(page: Path) -> set[str]:
    """Return the anchors that GitHub creates from the headings of a page."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
