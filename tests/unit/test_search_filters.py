"""Test filters, facets, similar and diverse hits as a user has them: command line, page, JSON and Python."""

import html
import json
import re

import pytest
from starlette.testclient import TestClient

import clipdex
from clipdex import cli
from clipdex.config import Settings
from clipdex.index import Collection, open_index
from clipdex.index.chunking import Chunk
from clipdex.index.embeddings import open_embedder
from clipdex.index.points import make_points
from clipdex.web.app import create_app
from tests.support.indexes import caption

HOSTILE = '"><script>alert(1)</script>, [red]x\x1b[2J'
SCENES = [
    ("a1", "cam-7", "2026-11-01", "08:00", 5.0, "A red car turns left at a crossing."),
    ("a2", "cam-7", "2026-11-02", "23:10", 15.0, "A red car turns left at the crossing again."),
    ("b1", "cam-8", "2026-11-03", "02:30", 25.0, "A red car stops in the rain, people wait."),
    ("c1", HOSTILE, "2026-11-04", "12:00", 35.0, "A cat sleeps on a sofa."),
]


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    home = tmp_path_factory.mktemp("home")
    source = {"url": str(home / "clips"), "metadata": {"camera": "string"}}
    settings = Settings.load(home=home, source=source, index={"lock_wait_s": 5})
    embedder = open_embedder(settings.embedding)
    with open_index(settings, Collection.of(settings, embedder)) as index:
        index.ensure()
        for clip_id, camera, day, at, duration_s, text in SCENES:
            hours, minutes = map(int, at.split(":"))
            more = {"camera": camera, "local_minute": 60 * hours + minutes, "recorded_at": f"{day}T{at}:00+00:00"}
            uri = f"file://{home}/clips/{day.replace('-', '/')}/{clip_id}.mp4"
            stored = caption(text, key=f"k-{clip_id}", duration_s=duration_s)
            chunks = [Chunk(0, text, 0.0, duration_s), Chunk(1, f"Then: {text}", 0.0, duration_s)]
            vectors = embedder.embed_documents([chunk.text for chunk in chunks])
            index.upsert(make_points(clip_id, uri, day, stored, chunks, vectors, more))
    return settings


@pytest.fixture
def run(settings, monkeypatch, capsys):
    """Run the command; return its exit code, standard output and standard error."""
    monkeypatch.setenv("CLIPDEX_HOME", str(settings.home))
    monkeypatch.setenv("CLIPDEX_SOURCE__URL", settings.source.url)
    monkeypatch.setenv("CLIPDEX_SOURCE__METADATA", json.dumps({"camera": "string"}))

    def run(*arguments: str) -> tuple[int, str, str]:
        try:
            code = cli.main(list(arguments))
        except SystemExit as exit_:
            code = int(str(exit_.code))
        output = capsys.readouterr()
        return code, output.out, output.err

    return run


@pytest.fixture(scope="module")
def client(settings):
    with TestClient(create_app(lambda: settings, lambda: None, lambda request: "/login")) as client:
        yield client


FILTERS = [
    ({"where": ["camera=cam-7"]}, ["a1", "a2"]),
    ({"where": ["camera=cam-7,cam-8", "duration=10.."]}, ["a2", "b1"]),
    ({"from": "2026-11-02", "to": "2026-11-03"}, ["a2", "b1"]),
    ({"from": "2026-11-03"}, ["b1", "c1"]),
    ({"day": "2026-11-04"}, ["c1"]),
    ({"where": ["time=22:00..04:00"]}, ["a2", "b1"]),
    ({"where": ["source=2026/11/02"]}, ["a2"]),
    ({"where": ["source=ROOT/2026"]}, ["a1", "a2", "b1", "c1"]),
    ({"where": ["engine=detectors", "model=m"], "to": "2026-11-01"}, ["a1"]),
]


@pytest.mark.parametrize(("given", "clips"), FILTERS)
def test_the_same_words_filter_everywhere(settings, run, client, given, clips):
    given = {name: value if isinstance(value, str) else [word.replace("ROOT", settings.source.url) for word in value]
             for name, value in given.items()}  # fmt: skip
    options = [part for word in given.get("where", []) for part in ("--where", word)]
    options += [part for name in ("day", "from", "to") if name in given for part in (f"--{name}", given[name])]
    code, out, _ = run("search", "a red car", "--limit", "9", "--weak", "--json", *options)
    assert (code, sorted(hit["clip_id"] for hit in json.loads(out))) == (0, clips)
    answer = client.get("/api/search", params={"q": "a red car", "weak": True, **given}).json()
    assert sorted(clip["clip_id"] for clip in answer["clips"]) == clips
    page = client.get("/", params={"q": "a red car", "weak": True, **given})
    assert page.status_code == 200
    assert sorted(re.findall(r'data-clip="(\w+)"', page.text)) == clips


def test_where_of_python_is_the_same(settings):
    pipeline = clipdex.Pipeline.open(settings)

    def found(**how):
        return sorted(hit.clip_id for hit in pipeline.search("a red car", weak=True, **how))

    assert found(where={"camera": ["cam-7", "cam-8"], "duration": "10.."}) == ["a2", "b1"]
    assert found(day="2026-11-04") == found(where={"day": "2026-11-04"}) == ["c1"]
    assert found(day="yesterday") == []
    assert found(where={"camera": HOSTILE}) == ["c1"]
    with pytest.raises(clipdex.InvalidFilter, match="there is no field colour"):
        found(where={"colour": "red"})
    with pytest.raises(clipdex.InvalidFilter, match="given twice"):
        found(where={"day": "2026-11-04"}, day="2026-11-04")


WRONG = [
    ("camera", "camera is not FIELD=VALUE"),
    ("colour=red", "there is no field colour; the fields are day, source"),
    ("duration=long", "duration: long is not a number or a range"),
    ("duration=20..10", "duration: '20' is after '10'; give the lower end first"),
    ("camera=", "camera: a value is empty; give one, or leave the filter out"),
    ("time=25:00..", "time: '25:00..' is not a range of the day"),
    ("camera=" + "x" * 1100, "camera: 1100 characters; a value has at most 1,000"),
    ("\x1b[2J=x", "there is no field '\\x1b[2J'"),
    ("<script>=x", "there is no field '<script>'"),
]


@pytest.mark.parametrize(("word", "message"), WRONG)
def test_a_wrong_filter_is_one_line_everywhere(run, client, word, message):
    for command in (["search", "x"], ["facets"]):
        code, out, err = run(*command, "--where", word)
        assert (code, out) == (2, "")
        assert err.startswith(f"clipdex {command[0]}: {message}") and err.count("\n") == 1
    for path in ("/api/search", "/api/facets"):
        answer = client.get(path, params={"q": "x", "where": word} if "search" in path else {"where": word})
        assert answer.status_code == 422 and answer.json()["detail"].startswith(message)
    page = client.get("/", params={"q": "x", "where": word})
    assert page.status_code == 422 and message in html.unescape(page.text)
    assert "<script>=" not in page.text and "\x1b" not in page.text


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--from", "2026-11-05", "--to", "2026-11-01"], "day: '2026-11-05' is after '2026-11-01'"),
        (["--day", "2026-11-05", "--to", "2026-11-01"], "day: given twice"),
        (["--from", "november"], "argument --from: 'november' is not a date"),
        (["--like", "a1"], "argument --like: not allowed with a query"),
        (["--diversity", "2"], "argument --diversity: '2' is not a number from 0 to 1"),
    ],
)
def test_a_wrong_option_is_one_line(run, options, message):
    code, out, err = run("search", "x", *options)
    assert (code, out) == (2, "")
    assert err.startswith(f"clipdex search: {message}") and err.count("\n") == 1


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"q": "x", "from": "2026-11-05", "to": "2026-11-01"}, "day: '2026-11-05' is after '2026-11-01'"),
        ({"q": "x", "from": "5.11."}, "from: '5.11.' is not a date"),
        ({"q": "x", "like": "a1"}, "give q, words, or like, a clip_id, not both"),
        ({"q": "x", "diverse": "2"}, "diverse:"),
        ({"q": "x", "diverse": "nan"}, "diverse:"),
        ({"q": "x", "where": ["camera=x"] * 40}, "where:"),
        ({"q": "x", "where": "x" * 1300}, "0:"),
    ],
)
def test_a_wrong_parameter_is_an_invalid_query(client, params, message):
    answer = client.get("/api/search", params=params)
    assert answer.status_code == 422 and message in answer.json()["detail"]
    assert client.get("/", params=params).status_code == 422


def test_no_hit_under_filters_names_the_next_step(run, client):
    assert run("search", "a red car", "--where", "camera=cam-9")[1] == (
        "no clip matches well; try other words, or fewer filters; --weak shows the nearest clips\n"
    )
    page = client.get("/", params={"q": "a red car", "where": "camera=cam-9", "day": "2026-11-04"}).text
    assert "No clip with day 2026-11-04, camera cam-9 matches “a red car” well." in page
    assert 'href="/?q=a+red+car">search all clips</a>' in page


def test_facets_of_the_command_line(run):
    code, out, _ = run("facets", "camera", "day", "--to", "2026-11-03", "--json")
    assert code == 0
    camera, day = json.loads(out)
    assert camera == {
        "field": "camera", "values": [{"value": "cam-7", "clips": 2}, {"value": "cam-8", "clips": 1}], "clips": 3,
        "without": 0, "more": False,
    }  # fmt: skip
    assert [one["value"] for one in day["values"]] == ["2026-11-03", "2026-11-02", "2026-11-01"]
    code, out, _ = run("facets")
    assert code == 0 and "cam-7" in out and "23:00..23:59" in out and "[red]x\\u001b[2J" in out
    assert run("facets", "colour")[2].startswith("clipdex facets: 'colour' is not a field; values are counted of day")


def test_facets_of_the_api(client, settings):
    answer = client.get("/api/facets", params={"field": ["camera", "source"], "where": "duration=..20"}).json()
    camera, source = answer["facets"]
    assert camera["values"] == [{"value": "cam-7", "clips": 2}]
    assert [one["clips"] for one in source["values"]] == [1, 1]
    assert source["values"][0]["value"] == f"file://{settings.source.url}/2026/11/01"
    assert client.get("/api/facets", params={"field": "colour"}).status_code == 422


def links(page: str) -> dict[str, str]:
    found = re.findall(r'<a [^>]*?href="([^"]*)"[^>]*>(.*?)</a>', page, re.S)
    return {html.unescape(re.sub("<.*?>", "", text)).strip(): html.unescape(link) for link, text in found}


def choices(page: str) -> dict[str, bool]:
    """Return the filters that the page offers, and whether each is chosen."""
    found = re.findall(r'type="checkbox"[^>]*name="where" value="([^"]*)"( checked)?', page)
    return {html.unescape(word): bool(checked) for word, checked in found}


def test_a_facet_of_the_page_narrows_the_hits_and_can_be_removed(client):
    page = client.get("/", params={"q": "a red car", "limit": 2, "where": "duration=..30"}).text
    assert choices(page)["camera=cam-8"] is False
    both = {"q": "a red car", "where": ["duration=..30", "camera=cam-8"], "weak": True}
    narrowed = client.get("/", params=both).text
    assert choices(narrowed)["camera=cam-8"] is True
    assert "<h2" in narrowed and "b1.mp4" in narrowed and "a1.mp4" not in narrowed
    assert links(narrowed).keys() >= {"camera: cam-8 ×", "duration: ..30 ×"}
    without = client.get(links(narrowed)["camera: cam-8 ×"]).text
    assert "a1.mp4" in without and links(without).keys() >= {"duration: ..30 ×"}
    assert "camera: cam-8 ×" not in links(without) and 'name="where" value="duration=..30"' in without


def test_every_link_of_the_page_works_and_no_value_becomes_markup(client):
    page = client.get("/", params={"q": "a cat", "from": "2026-11-01", "diverse": "on"}).text
    assert HOSTILE not in page and "<script>alert" not in page
    assert re.search('name="diverse"[^>]* checked', page)
    (word,) = (one for one in choices(page) if HOSTILE in one)
    hostile = client.get("/", params={"q": "a cat", "where": word})
    assert hostile.status_code == 200 and "<script>alert" not in hostile.text
    assert "c1.mp4" in hostile.text and "a1.mp4" not in hostile.text
    for link in (*links(page).values(), *links(hostile.text).values()):
        assert client.get(link).status_code == 200, link


def test_more_like_a_clip(run, client):
    code, out, _ = run("search", "--like", "a1", "--json", "--limit", "2")
    hits = json.loads(out)
    assert (code, [hit["clip_id"] for hit in hits]) == (0, ["a2", "b1"])
    assert 0 < hits[1]["score"] < hits[0]["score"] <= 1
    page = client.get("/", params={"q": "turns left", "limit": 1}).text
    like = re.findall(r'href="([^"]*like=[^"]*)"', page)[0]  # of the best hit
    assert like in ("/?like=a1", "/?like=a2")
    shown = client.get(like).text
    assert "clips like" in shown and f"{like[-2:]}.mp4" not in shown and "b1.mp4" in shown
    answer = client.get("/api/search", params={"like": "a1", "where": "camera=cam-8"}).json()
    assert [clip["clip_id"] for clip in answer["clips"]] == ["b1"]


def test_an_unknown_clip_is_not_found(run, client):
    code, out, err = run("search", "--like", "nobody")
    assert (code, out) == (2, "") and err.startswith("clipdex search: the index has no clip 'nobody'")
    assert client.get("/api/search", params={"like": "nobody"}).status_code == 404
    page = client.get("/", params={"like": "<b>x</b>"})
    assert page.status_code == 404 and "<b>x</b>" not in page.text


def test_diverse_hits(run, client, settings):
    def first_two(*options: str) -> list[str]:
        out = run("search", "a red car turns left", "--limit", "2", "--weak", "--json", *options)[1]
        return [hit["clip_id"] for hit in json.loads(out)]

    assert sorted(first_two()) == ["a1", "a2"]
    assert sorted(first_two("--diversity", "0")) == ["a1", "a2"]
    assert set(first_two("--diverse")) & {"b1", "c1"} and first_two("--diverse")[0] in ("a1", "a2")
    answer = client.get(
        "/api/search", params={"q": "a red car turns left", "limit": 2, "diverse": 0.5, "weak": True}
    ).json()
    assert [clip["clip_id"] for clip in answer["clips"]] == first_two("--diverse")
    hits = clipdex.Pipeline.open(settings).search("a red car turns left", limit=2, diverse=True, weak=True)
    assert [hit.clip_id for hit in hits] == first_two("--diverse")
