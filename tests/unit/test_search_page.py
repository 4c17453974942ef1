"""Test the parts of the search page: the links that narrow it, its days, and its counts from several threads."""

import threading
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from fastapi import FastAPI, Request
from pydantic import ValidationError

from clipdex.config import Settings
from clipdex.index.where import parse
from clipdex.web.backend import Backend
from clipdex.web.search.narrowing import Narrowing
from clipdex.web.search.page import router
from clipdex.web.search.queries import SearchQuery

SETTINGS = Settings.load(source={"url": "s3://bucket/clips"})


def narrowing(settings: Settings | None = SETTINGS, **given: Any) -> Narrowing:
    app = FastAPI()
    app.include_router(router)
    question = SearchQuery.model_validate({"q": "a cat", **given})
    return Narrowing(Request({"type": "http", "app": app}), question, settings)


def followed(link: str) -> dict[str, list[str]]:
    """Return the parameters of a link without q; check that the page accepts them as filters."""
    given = parse_qs(urlsplit(link).query)
    question = {name: values if name == "where" else values[0] for name, values in given.items()}
    parse(SearchQuery.model_validate(question).filters, SETTINGS)
    return {name: values for name, values in given.items() if name != "q"}


def test_a_link_to_a_day_replaces_all_other_days():
    days = "day=2026-11-01..2026-11-05"
    links = narrowing(where=[days, "duration=..30"])
    assert followed(links.add("day", "2026-11-03")) == {"day": ["2026-11-03"], "where": ["duration=..30"]}
    assert followed(links.without("day")) == {"where": ["duration=..30"]}
    assert followed(narrowing(**{"from": "2026-11-01"}).add("day", "2026-11-03")) == {"day": ["2026-11-03"]}
    assert followed(narrowing(day="today").without("day")) == {}
    assert followed(narrowing(None, where=[days]).add("day", "2026-11-03")) == {"day": ["2026-11-03"]}


@pytest.mark.parametrize(
    ("former", "field", "value"),
    [
        ("source_folder=s3://bucket/clips", "source", "s3://bucket/clips/north"),
        ("duration_s=..30", "duration", "5..<10"),
        ("time_of_day=08:00..", "time", "09:00..09:59"),
        ("duration=..30", "duration_s", "5..<10"),
    ],
)
def test_a_link_replaces_the_same_field_under_its_other_name(former, field, value):
    links = narrowing(where=[former, "engine=sglang"])
    assert followed(links.add(field, value)) == {"where": ["engine=sglang", f"{field}={value}"]}
    assert followed(links.without(former.partition("=")[0])) == {"where": ["engine=sglang"]}


def test_declared_metadata_with_the_name_of_a_field_is_another_field():
    declared = Settings.load(source={"url": "s3://bucket/clips", "metadata": {"source": "string"}})
    links = narrowing(declared, where=["source_folder=s3://bucket/clips"])
    assert links.add("source", "north").endswith(
        "&where=source_folder%3Ds3%3A%2F%2Fbucket%2Fclips&where=source%3Dnorth"
    )


def test_an_invalid_filter_can_be_removed():
    links = narrowing(where=["colour=red", "duration=long", "engine=sglang"])
    assert parse_qs(urlsplit(links.without("colour")).query)["where"] == ["duration=long", "engine=sglang"]
    assert parse_qs(urlsplit(links.without("duration")).query)["where"] == ["colour=red", "engine=sglang"]


@pytest.mark.parametrize("word", ["today", "yesterday"])
def test_days_are_also_today_and_yesterday(word):
    for given, day in (({"day": word}, word), ({"from": word}, f"{word}.."), ({"to": word}, f"..{word}")):
        filters = SearchQuery.model_validate(given).filters
        assert filters == {"day": day}
        assert parse(filters, SETTINGS)


@pytest.mark.parametrize("wrong", ["tomorrow", "Today", "3.11.2026", "2026-13-1"])
def test_a_wrong_day_is_named_with_what_is_expected(wrong):
    for name in ("day", "from", "to"):
        with pytest.raises(ValidationError, match=f"'{wrong}' is not a date such as 2026-11-03, today or yesterday"):
            SearchQuery.model_validate({name: wrong})


class Expiry(float):
    """Call a function while the backend removes expired counts."""

    meanwhile: Any

    def __gt__(self, other: object) -> bool:
        self.meanwhile()
        return False


def test_counts_are_stored_while_another_thread_removes_expired_ones(monkeypatch):
    counting, counted = threading.Event(), threading.Event()

    def facets(fields: Any, *, where: Any, limit: int) -> list[str]:
        if where == {"camera": "slow"}:
            counting.set()
            assert counted.wait(10)
        return [where["camera"]]

    index = SimpleNamespace(count=lambda: 1)
    pipeline = SimpleNamespace(open_index=lambda: nullcontext(index), facets=facets)
    backend = Backend(lambda: SETTINGS)
    monkeypatch.setattr(backend, "_now", lambda: pipeline)
    slow: list[Any] = []
    thread = threading.Thread(target=lambda: slow.append(backend._counted({"camera": "slow"}, 8)))
    thread.start()
    assert counting.wait(10)

    def finish_the_other() -> None:
        counted.set()
        thread.join(0.5)  # waits for the lock, which this thread has

    expiry = Expiry(0)
    expiry.meanwhile = finish_the_other
    backend._facets["expired"] = expiry, []
    assert backend._counted({"camera": "fast"}, 8) == ["fast"]
    thread.join(10)
    assert slow == [["slow"]]
    assert "expired" not in backend._facets
