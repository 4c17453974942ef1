"""Test the search page, the player, the page of a clip and the exports, over a small archive."""

import csv
import io
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from fastapi.testclient import TestClient

from clipdex.config import Settings
from clipdex.index import open_index
from clipdex.index.embeddings import open_embedder
from clipdex.index.points import Collection
from clipdex.runs.outcomes import ClipOutcome, Outcome, add_to_ledger
from clipdex.storage.artifacts import Store, playback_path, poster_path
from clipdex.storage.caption import Segment
from clipdex.web.app import create_app
from clipdex.web.search.export import as_cell
from tests.support.indexes import caption, clip_points, small_archive

HOSTILE = "<script>alert(1)</script>"
PLAYED = "ab" * 32
BROKEN_DAY = "2026-11-04"


def client(settings: Settings) -> TestClient:
    return TestClient(create_app(lambda: settings, lambda: None, lambda request: "/login"))


@pytest.fixture(scope="module")
def settings(tmp_path_factory) -> Settings:
    """small_archive() with a part of a long file, which has a playback, and a clip that is hostile in all it has."""
    settings = small_archive(tmp_path_factory.mktemp("home"))
    store, model = Store.open(settings), open_embedder(settings.embedding)
    part = replace(
        caption("", key="b" * 32), content=PLAYED, poster=poster_path(PLAYED), duration_s=10.0, start_s=600.0,
        text="A green lorry waits. A lorry turns.",
        segments=(Segment(600.0, 605.0, "A green lorry waits."), Segment(605.0, 610.0, "A lorry turns.")),
    )  # fmt: skip
    more = {"part_of": "film", "part_no": 3, "clip_start_s": 600.0}
    points = clip_points(model, "part3", part.text, [_chunk(part.text, 605.0, 608.0)])
    for one in points:
        one.payload.update(more, caption_key=part.key, poster=part.poster, uri="file:///mnt/films/film.mp4")
    hostile = clip_points(model, "hostile", f"A purple kite {HOSTILE}", [_chunk(f"A purple kite {HOSTILE}", 0.0, 2.0)])
    for one in hostile:
        one.payload.update(uri=f'file:///clips/{HOSTILE}"onload=.mp4', camera=f"=cmd|'{HOSTILE}'")
    with open_index(settings, Collection.of(settings, model)) as index:
        index.upsert([*points, *hostile])
    store.write_caption(part)
    store.write_caption(
        replace(part, key="d" * 32, text="An older caption.", segments=(), model="old", created_at="2026")
    )
    store.write_fingerprint(part.fingerprint, {"strategy": "video", "prompt": f"Describe {HOSTILE}", "sampling": {}})
    store.write(poster_path(PLAYED), b"\xff\xd8 a poster")
    store.write(playback_path(PLAYED), b"a video")
    rejected = ClipOutcome(
        "rejected", f"/clips/{HOSTILE}.mp4", BROKEN_DAY, "v", Outcome.QUARANTINED, "b1", "caption_looping", HOSTILE,
        HOSTILE, at="2026-11-04T13:00:00.000+00:00",
    )  # fmt: skip
    add_to_ledger(store, BROKEN_DAY, [rejected])
    return settings


@pytest.fixture(scope="module")
def web(settings) -> Iterator[TestClient]:
    with client(settings) as web:
        yield web


def _chunk(text: str, start_s: float, end_s: float) -> Any:
    from clipdex.index.chunking import Chunk

    return Chunk(no=0, text=text, start_s=start_s, end_s=end_s)


# The search page


def test_the_words_of_the_query_are_marked_in_the_hits(web):
    page = web.get("/?q=bicycle+roads").text
    assert "<mark>bicycles</mark>" in page and "<mark>road</mark>" in page


def test_a_hit_shows_its_relevance_and_links_to_its_page_at_its_times(web):
    page = web.get("/?q=bicycles").text
    assert re.search(r'<meter [^>]*value="0\.\d{3}" aria-label="Relevance"></meter> 0\.\d\d', page)
    assert 'href="/clips/bikes?q=bicycles&amp;hit=0.000-10.000"' in page
    assert 'data-spans="0.000-10.000"' in page


def test_weak_hits_are_folded_away_on_the_same_page_by_one_search(web, monkeypatch):
    backend, asked = web.app.state.backend, []  # type: ignore[attr-defined]
    query = backend.query

    async def watched(function: Any, *args: Any, **how: Any) -> Any:
        asked.append(function.__name__)
        return await query(function, *args, **how)

    monkeypatch.setattr(backend, "query", watched)
    good, _, weak = web.get("/?q=bicycles").text.partition('<details class="weak-hits">')
    assert "bikes.mp4" in good and "sea.mp4" not in good and "sea.mp4" in weak
    assert asked == ["search"]
    page = web.get("/?q=xylophone+quartet").text
    assert "No clip found" in page and '<details class="weak-hits" open>' in page


def test_varied_hits_are_not_displaced_by_weak_ones(web):
    plain, varied = (
        web.get("/api/search", params={"q": "bicycles", "weak": True, "limit": 3, "diverse": diverse}).json()["clips"]
        for diverse in (0, 0.9)
    )
    assert [clip["clip_id"] for clip in varied if not clip["weak"]] == [
        clip["clip_id"] for clip in plain if not clip["weak"]
    ]
    assert [clip["weak"] for clip in varied] == sorted(clip["weak"] for clip in varied)


def test_values_are_offered_with_counts_and_stay_chosen(web):
    page = web.get("/").text
    assert re.search(r'name="where" value="camera=cam-7"> <span>cam-7</span> <small>1</small>', page)
    chosen = web.get("/", params={"q": "a car", "where": ["camera=cam-7", "duration=..30"]}).text
    assert re.search(r'value="camera=cam-7" checked', chosen)
    assert "cmd|" in chosen, "the values of a field with a filter are counted without it"
    assert 'name="where" value="duration=..30"' in chosen


def test_a_copied_link_means_the_same_tomorrow(web):
    page = web.get("/?q=a+car&day=today").text
    [link] = re.findall(r'data-copy-link="([^"]+)"', page)[:1] or [""]
    today = datetime.now(UTC).date().isoformat()
    assert link in ("", f"/?q=a+car&amp;day={today}")
    page = web.get("/?q=a+car&from=2026-11-01&where=camera%3Dcam-7").text
    assert 'data-copy-link="/?q=a+car&amp;from=2026-11-01&amp;where=camera%3Dcam-7"' in page


def test_more_like_this_can_be_narrowed_and_needs_no_words(web):
    page = web.get("/?like=bikes").text
    assert '<form id="narrow"' in page and 'name="like" value="bikes"' in page
    assert web.get("/?like=bikes&where=camera%3Dcam-7").status_code == 200


def test_an_error_says_what_to_do_next(web, tmp_path):
    answer = web.get("/?q=a+car&where=colour%3Dred")
    assert answer.status_code == 422 and '<a href="/?q=a%20car">Search without filters</a>' in answer.text
    empty = client(Settings.load(home=tmp_path)).get("/")
    assert empty.status_code == 200 and "Nothing is indexed yet: run the DAG ingest_clips" in empty.text


def test_a_page_loads_nothing_from_elsewhere_and_has_no_inline_code(web):
    for path in ("/", "/?q=a+lorry", "/clips/part3", "/clips/broken?day=2026-11-04"):
        page = web.get(path)
        assert not re.findall(r'(?:src|href)="(?:https?:)?//', page.text)
        assert not re.findall(r"<style|\sstyle=|\son\w+=\"|<script>", page.text)
    policy = web.get("/").headers["Content-Security-Policy"]
    assert "media-src 'self'" in policy and "connect-src 'self'" in policy and "unsafe" not in policy


# The player


def test_the_player_of_a_part_counts_from_the_start_of_the_part(web):
    found = web.get("/clips/part3/player", params={"q": "lorry", "hit": ["605-608"]}).text
    assert f'<video src="/playbacks/{PLAYED}.mp4"' in found and f'poster="/posters/{PLAYED}.jpg"' in found
    assert 'data-at="5.0"' in found
    assert '<rect class="span" x="5.0" y="0" width="3.0" height="1"/>' in found
    assert re.search(
        r'<p class="found" data-start="5.0" data-end="10.0">.*A <mark>lorry</mark> turns\.', found, re.DOTALL
    )
    assert '<p data-start="0.0" data-end="5.0">' in found
    assert 'data-copy="/mnt/films/film.mp4"' in found and "film.mp4" in found
    assert 'href="/mnt' not in found, "no link leads to an original"


def test_a_clip_without_a_playback_names_the_command_that_makes_it(web):
    found = web.get("/clips/street/player").text
    assert "<video" not in found
    assert 'data-copy="clipdex playback --day 2026-11-04"' in found


@pytest.mark.parametrize("wrong", ["5", "8-5", "a-b", "5-6-7", "-1-5", "1e3-5", "nan-1"])
def test_a_time_that_is_none_is_refused(web, wrong):
    answer = web.get("/clips/part3/player", params={"hit": wrong})
    assert answer.status_code == 422 and "is not START-END in seconds" in answer.text


def test_the_player_of_an_unknown_clip_is_not_found(web):
    assert web.get("/clips/nothing/player").status_code == 404
    assert web.get("/clips/part3/player", params={"hit": ["1-2"] * 17}).status_code == 422


# The page of a clip


def test_a_clip_shows_its_captions_side_by_side_with_what_made_them(web):
    page = web.get("/clips/part3").text
    assert "2 captions" in page and "An older caption." in page and "Describe &lt;script&gt;" in page
    assert page.index("A lorry turns.") < page.index("An older caption.")
    assert '<a href="/clips/film?day=2026-11-03">its file</a>, 10:00–10:10' in page
    assert page.count('<span class="state indexed">indexed</span>') == 2
    assert "1 chunk, as indexed" in page and f"posters/ab/{PLAYED}.jpg" in page


def test_a_clip_of_an_earlier_release_shows_the_indexed_caption_alone(web):
    record = web.get("/api/clips/bikes/record").json()
    assert [(one["indexed"], one["prompt"]) for one in record["captions"]] == [(True, "")]
    assert (record["state"], record["indexed"], record["outcomes"]) == ("indexed", True, [])
    assert web.get("/clips/bikes").status_code == 200


@pytest.mark.parametrize("asked", ["/clips/rejected?day=2026-11-04", "/clips/rejected"])
def test_a_clip_in_quarantine_shows_why_with_and_without_its_day(web, asked):
    page = web.get(asked)
    assert page.status_code == 200
    assert "quarantined: caption looping" in page.text and "Rejected caption" in page.text
    assert HOSTILE not in page.text and "<video" not in page.text


def test_a_file_that_is_cut_shows_its_parts(web):
    page = web.get("/clips/film").text
    assert "<h2>1 part</h2>" in page
    assert 'href="/clips/part3"' in page and "10:00–10:10" in page


def test_an_unknown_clip_says_where_was_looked_and_what_to_give(web):
    answer = web.get("/clips/nothing")
    assert answer.status_code == 404 and "nor in the outcomes from 2026-11-04 on; give the day" in answer.text
    assert "nor in the outcomes of 2026-11-03" in web.get("/clips/nothing?day=2026-11-03").text
    assert web.get("/clips/nothing?day=3.11.2026").status_code == 422
    assert web.get(f"/clips/{'x' * 65}").status_code == 422


def test_a_hostile_clip_is_text_everywhere(web):
    for path in ("/?q=purple+kite", "/clips/hostile", "/clips/hostile/player?q=kite", "/?q=" + HOSTILE):
        assert HOSTILE not in web.get(path).text, path


def test_a_clip_as_json_has_its_outcomes_and_captions(web):
    outcomes = web.get("/api/clips/rejected/outcomes", params={"day": BROKEN_DAY}).json()["outcomes"]
    assert [(one["outcome"], one["reason"], one["run"]) for one in outcomes] == [("quarantined", "caption_looping", "")]
    captions = web.get("/api/clips/part3/captions").json()["captions"]
    assert [(one["indexed"], one["model"], one["strategy"]) for one in captions] == [
        (True, "m", "video"), (False, "old", "video"),
    ]  # fmt: skip


# Exports


def test_hits_are_exported_as_csv_without_formulas(web):
    answer = web.get("/export.csv", params={"q": "purple kite"})
    assert answer.headers["Content-Disposition"] == 'attachment; filename="clips.csv"'
    [row] = [row for row in csv.DictReader(io.StringIO(answer.text)) if row["clip_id"] == "hostile"]
    assert row["camera"] == f"'=cmd|'{HOSTILE}'"
    assert (row["rank"], row["start_s"], row["page"]) == ("1", "0.0", "/clips/hostile")


@pytest.mark.parametrize("cell", ["=1+1", "+1", "-1", "@x", "\tx", "\rx", "  =x", "＝1", "|x", "%x", "\ufeff=x"])
def test_a_text_like_a_formula_is_written_as_text(cell):
    assert as_cell(cell) == f"'{cell}"
    assert (as_cell(-1.5), as_cell(None), as_cell("a=b")) == (-1.5, "", "a=b")


def test_an_export_has_what_the_search_finds_and_is_bounded(web):
    found = web.get("/api/search", params={"q": "a car turns", "limit": 60}).json()["clips"]
    exported = json.loads(web.get("/export.json", params={"q": "a car turns"}).text)
    assert [clip["clip_id"] for clip in exported["clips"]] == [clip["clip_id"] for clip in found]
    assert exported["limit"] == 500
    assert web.get("/export.json", params={"q": "a", "limit": 501}).status_code == 422
    assert web.get("/export.csv").status_code == 422


def test_the_description_of_the_api_has_types_for_a_clip(tmp_path):
    paths = _described(tmp_path)
    for part in ("record", "captions", "outcomes"):
        answer = paths[f"/api/clips/{{clip_id}}/{part}"]["get"]["responses"]["200"]["content"]["application/json"]
        assert "$ref" in json.dumps(answer["schema"])


def _described(home: Any) -> Any:
    from fastapi.openapi.utils import get_openapi

    from clipdex.serve.server import create

    return get_openapi(title="t", version="1", routes=create(Settings.load(home=home)).routes)["paths"]
