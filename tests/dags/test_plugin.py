"""The plugin in Airflow's own API server, over a real index and store: who may see what, and what a person sees."""

import itertools
import json
import re
import shutil
import sqlite3
import subprocess
import sys
import threading
from dataclasses import replace
from hashlib import sha256
from types import SimpleNamespace
from urllib.parse import quote

import pytest

from tests.dags.conftest import HOME, REPOSITORY, loaded_dag

DAY, RUN, CONTENT = "2026-11-03", "manual__2026-11-22T01-02-03-00-00.1", "ab" * 32
JPEG = b"\xff\xd8\xff\xe0 a poster"
MP4 = b"0000ftyp a playback"
PASSWORDS = {"vera": "viewer's word", "adam": "admin's word"}
HOSTILE = "<script>alert(1)</script>"


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    """Users and folders of this module's Airflow, before it is loaded."""
    home = tmp_path_factory.mktemp("clipdex")
    passwords = home / "passwords.json"
    passwords.write_text(json.dumps(PASSWORDS))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS", "vera:viewer,adam:admin")
        patch.setenv("AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE", str(passwords))
        patch.setenv("AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS", "False")
        patch.setenv("AIRFLOW__API_AUTH__JWT_SECRET", "of these tests alone, " * 4)
        patch.setenv("AIRFLOW__CORE__PLUGINS_FOLDER", str(REPOSITORY / "plugins"))
        patch.setenv("CLIPDEX_HOME", str(home))
        yield SimpleNamespace(home=home, patch=patch)


@pytest.fixture(scope="module")
def airflow(environment):
    """Airflow's API server, as it is served."""
    from airflow.utils.db import initdb

    initdb()
    from airflow.api_fastapi.main import app  # sets the process up as a server, as the command does
    from starlette.testclient import TestClient

    return lambda: TestClient(app, base_url="http://localhost", follow_redirects=False)


@pytest.fixture(scope="module")
def kept(environment):
    """What runs left behind: points of three clips, a poster, a batch with every kind of outcome."""
    from clipdex.config import Settings
    from clipdex.storage.artifacts import Store, playback_path, poster_path

    settings = Settings.load(home=environment.home)
    store = Store.open(settings)
    store.write(poster_path(CONTENT), JPEG)
    store.write(playback_path(CONTENT), MP4)
    write_points(settings)
    return SimpleNamespace(settings=settings, store=store, batch=write_batch(settings, store))


@pytest.fixture(scope="module")
def a_run(airflow, kept, environment):
    """A run of the DAG over one file, an empty one: no engine is asked. Its id."""
    archive = environment.home / "archive"
    folder = archive / "2026/11/07"
    folder.mkdir(parents=True)
    (folder / "empty.mp4").touch()
    environment.patch.setenv("CLIPDEX_SOURCE__URL", str(archive))
    return loaded_dag("ingest_clips").test(run_conf={"day": "2026-11-07"}).run_id


@pytest.fixture
def anonymous(airflow):
    return airflow()


@pytest.fixture(params=["vera", "adam"])
def person(request, airflow):
    return logged_in(airflow(), request.param)


@pytest.fixture
def viewer(airflow, kept):
    return logged_in(airflow(), "vera")


def logged_in(client, name):
    answer = client.post("/auth/token", json={"username": name, "password": PASSWORDS[name]})
    client.cookies.set("_token", answer.json()["access_token"])
    return client


def unguarded(settings):
    """The app by itself, for what does not depend on who asks."""
    from starlette.testclient import TestClient

    from clipdex.web.app import create_app

    return TestClient(create_app(lambda: settings, lambda: None, lambda request: "/login"))


def plugin_app():
    from airflow import plugins_manager

    (app,) = (entry["app"] for entry in plugins_manager.get_fastapi_plugins()[0] if entry["name"] == "clipdex")
    return app


def write_points(settings):
    from clipdex.index import Collection, Point, open_index, point_id, sparse_document
    from clipdex.index.embeddings import open_embedder

    said = {
        "street.mp4": f"Two people ride bicycles along a street. {HOSTILE}",
        "shape.mp4": "A red square moves to the right.",
        "sign.mp4": "A sign reads EXIT above a door.",
    }
    embedder = open_embedder(settings.embedding)
    points = [
        Point(
            id=point_id(name, "key", 0),
            dense=vector.tolist(),
            sparse=sparse_document(text),
            payload={
                "clip_id": name,
                "uri": f"/clips/2026/11/03/{name}",
                "day": DAY,
                "chunk_no": 0,
                "text": text,
                "start_s": 0.0,
                "end_s": 3.5,
                "duration_s": 3.5,
                "width": 640,
                "height": 360,
                "engine": "detectors",
                "model": "detectors",
                "caption_key": "key",
                "poster": f"posters/ab/{CONTENT}.jpg",
            },
        )
        for (name, text), vector in zip(said.items(), embedder.embed_documents(list(said.values())), strict=True)
    ]
    with open_index(settings, Collection.of(settings, embedder)) as index:
        index.ensure()
        index.upsert(points)


def write_batch(settings, store):
    from clipdex.runs.completion import CompletionCriteria
    from clipdex.runs.outcomes import ClipOutcome, Journal, Origin, Outcome
    from clipdex.runs.planning import manifest, plan_run
    from clipdex.runs.survey import survey
    from clipdex.storage.source import Source

    folder = settings.home / "clips/2026/11/03"
    folder.mkdir(parents=True)
    for name in ("a.mp4", "b.mp4", "c.mp4", "d.mp4"):
        (folder / name).write_bytes(name.encode())
    source = Source(
        settings.model_copy(update={"source": settings.source.model_copy(update={"url": str(folder.parents[2])})})
    )
    plan = plan_run(settings, store, source, RUN, survey(store, source, [DAY], CompletionCriteria("f", "c")))
    (batch,) = plan.batches
    a, b, c, _ = manifest(store, batch)
    journal = Journal(store, DAY, RUN, batch.batch, "caption", 1)
    indexed = ClipOutcome(
        a.clip_id, a.uri, DAY, a.version, Outcome.INDEXED, batch.batch, content=CONTENT, caption_key="k",
        origin=Origin.NEW, chunks=3, completion_tokens=120, prompt_tokens=1752, seconds=2.5, attempts=1,
    )  # fmt: skip
    journal.add(indexed)
    journal.add(
        ClipOutcome(
            b.clip_id,
            b.uri,
            DAY,
            b.version,
            Outcome.QUARANTINED,
            batch.batch,
            reason="caption_looping",
            detail=f"84% of the words repeat {HOSTILE}",
            text=HOSTILE,
        )
    )
    journal.add(replace(indexed, clip_id=c.clip_id, uri=c.uri, outcome=Outcome.FAILED, content="", caption_key=""))
    journal.flush()
    return batch


# Who may come in


def test_an_anonymous_visitor_gets_nothing_from_any_route(anonymous):
    routes = plugin_app().routes
    assert len(routes) >= 6
    assert {"/quarantine", "/quarantine/requeue", "/api/quarantine", "/api/runs/{run}"} <= {one.path for one in routes}
    for route in routes:
        filled = re.sub(r"\{.*?\}", "x", route.path)
        for path, method in itertools.product((filled, filled + "?limit=none"), route.methods):
            assert anonymous.request(method, f"/clipdex{path}").status_code == 401, (method, path)


def test_every_route_stands_behind_the_guard():
    from fastapi.routing import APIRoute

    app = plugin_app()
    (guard,) = app.router.dependencies
    for route in app.routes:
        assert isinstance(route, APIRoute), f"{route} would be served without asking who comes"
        assert guard.dependency in [known.call for known in route.dependant.dependencies], route.path
    assert guard.dependency.__module__ == "airflow.api_fastapi.core_api.security"


def test_an_anonymous_visitor_is_led_to_the_login_and_back(anonymous):
    answer = anonymous.get("/clipdex/?q=a+car")
    assert '<a href="/auth/login?next=http%3A%2F%2Flocalhost%2Fclipdex%2F%3Fq%3Da%2Bcar">' in answer.text


def test_a_forged_token_is_refused(anonymous):
    anonymous.cookies.set("_token", "not.a.token")
    assert anonymous.get("/clipdex/").status_code in (401, 403)


def test_whoever_is_logged_in_may_search_and_read(person, kept):
    pages = ["/export.csv?q=bicycles", "/export.json?q=bicycles", "/clips/street.mp4", "/clips/street.mp4/player"]
    pages += [f"/api/clips/street.mp4/{part}" for part in ("record", "captions", "outcomes")]
    pages += ["/", "/?q=bicycles", "/api/search?q=bicycles", f"/posters/{CONTENT}.jpg", "/static/style.css"]
    pages.append(f"/playbacks/{CONTENT}.mp4")
    pages += [f"{api}/batches/{RUN}/{DAY}/{kept.batch.batch}" for api in ("", "/api")]
    assert {path: person.get(f"/clipdex{path}").status_code for path in pages} == dict.fromkeys(pages, 200)


# The search page


def test_clips_are_found_with_poster_and_text(viewer):
    page = viewer.get("/clipdex/?q=people+on+bicycles&weak=true").text
    assert page.index("street.mp4") < page.index("shape.mp4")
    assert "Two <mark>people</mark> ride <mark>bicycles</mark> along a street." in page
    assert f'<img src="/clipdex/posters/{CONTENT}.jpg"' in page


def test_weak_matches_are_folded_away_below_the_good_ones(viewer):
    good, _, weak = viewer.get("/clipdex/?q=people+on+bicycles").text.partition('<details class="weak-hits">')
    assert "street.mp4" in good and "shape.mp4" not in good
    assert "2 weak matches" in weak and "shape.mp4" in weak
    assert '<details class="weak-hits" open>' in viewer.get("/clipdex/?q=people+on+bicycles&weak=true").text


def test_the_same_as_json(viewer):
    found = viewer.get("/clipdex/api/search", params={"q": "exit", "limit": 1, "day": DAY}).json()
    assert [clip["uri"] for clip in found["clips"]] == ["/clips/2026/11/03/sign.mp4"]
    assert found["clips"][0]["poster_url"] == f"/clipdex/posters/{CONTENT}.jpg"
    assert found["clips"][0]["hits"][0]["end_s"] == 3.5


def test_the_search_page_names_the_time_zone_of_a_day(viewer):
    for page in ("/clipdex/", "/clipdex/?q=a+clip"):
        assert 'title="A day in UTC"' in viewer.get(page).text


def test_a_day_narrows_the_search_and_an_empty_field_does_not(viewer):
    for day, clips in ((DAY, 3), ("2026-11-04", 0), ("", 3)):
        assert (
            len(viewer.get("/clipdex/api/search", params={"q": "a clip", "day": day, "weak": True}).json()["clips"])
            == clips
        )
    assert "No clip found" in viewer.get("/clipdex/?q=a+clip&day=2026-11-04").text


def test_what_a_caption_says_is_text_and_never_markup(viewer):
    page = viewer.get("/clipdex/", params={"q": f"bicycles {HOSTILE}"}).text
    assert HOSTILE not in page
    assert page.count("&lt;script&gt;alert(1)&lt;/script&gt;") >= 2


def test_nothing_but_our_own_may_run_or_be_loaded(viewer):
    policy = viewer.get("/clipdex/?q=exit").headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none';")
    assert "unsafe" not in policy and "http" not in policy


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ("day=2026-13-01", "day: &#39;2026-13-01&#39; is not a date such as 2026-11-03"),
        ("limit=0", "limit: Input should be greater than or equal to 1"),
        ("limit=1000000", "limit: Input should be less than or equal to 60"),
    ],
)
def test_a_wrong_question_is_explained_beside_the_form(viewer, wrong, told):
    answer = viewer.get(f"/clipdex/?q=exit&{wrong}")
    assert answer.status_code == 422
    assert told in answer.text and 'value="exit"' in answer.text


def test_a_busy_index_is_told_and_not_waited_for_too_long(kept):
    from clipdex.index.edge import locked

    patient = kept.settings.model_copy(update={"index": kept.settings.index.model_copy(update={"lock_wait_s": 0.2})})
    client = unguarded(patient)
    with locked(kept.settings.edge_path, 1):
        answer = client.get("/?q=exit")
        program = client.get("/api/search?q=exit")
    assert (answer.status_code, program.status_code) == (503, 503)
    assert "Busy, try again in a moment" in answer.text
    assert int(program.headers["Retry-After"]) > 0 and "is held by process" in program.json()["detail"]
    assert client.get("/?q=exit").status_code == 200


def test_before_the_first_ingestion_the_page_says_what_to_run(tmp_path):
    from clipdex.config import Settings

    client = unguarded(Settings.load(home=tmp_path))
    assert client.get("/").status_code == 200
    answer = client.get("/?q=exit")
    assert answer.status_code == 404
    assert "Nothing is indexed yet: run the DAG ingest_clips" in answer.text


def test_the_server_searches_where_the_connections_say(airflow):
    from airflow.models import Connection
    from airflow.utils.session import create_session

    from clipdex.airflow_tasks import server_settings

    with create_session() as session:
        session.add(Connection("clipdex_index", "generic", host="http://qdrant:6333", password="a key"))
    try:
        settings = server_settings()
        assert (settings.index.url, settings.index.api_key.get_secret_value()) == ("http://qdrant:6333", "a key")
    finally:
        with create_session() as session:
            session.query(Connection).filter_by(conn_id="clipdex_index").delete()
    assert server_settings().index.url == ""


def test_the_page_shows_the_zone_of_the_connection_of_the_source(viewer, kept, monkeypatch):
    from clipdex.airflow_tasks import server_settings

    monkeypatch.setenv("AIRFLOW_CONN_CLIPDEX_SOURCE", json.dumps({"extra": {"timezone": "Asia/Tokyo"}}))
    assert "Asia/Tokyo" in unguarded(server_settings()).get("/").text


def test_a_process_of_the_api_server_loads_the_model_after_its_start():
    """Not before: it would delay the start. Airflow gives a plugin's middleware the start of each process."""
    import asyncio

    from clipdex_plugin import AfterStart, ClipdexPlugin

    events, loaded = [], threading.Event()

    async def server(scope, receive, send):
        if scope["type"] == "lifespan":
            events.append("starting")
            await send({"type": "lifespan.startup.complete"})
        else:
            events.append("request")

    async def send(message):
        events.append(message["type"])

    def load():
        events.append("loaded")
        loaded.set()

    app = AfterStart(server, load)
    asyncio.run(app({"type": "http"}, None, send))
    assert not loaded.is_set()
    asyncio.run(app({"type": "lifespan"}, None, send))
    assert loaded.wait(30)
    assert events == ["request", "starting", "lifespan.startup.complete", "loaded"]
    assert [one["middleware"].__name__ for one in ClipdexPlugin().fastapi_root_middlewares] == ["AfterStart"]


def test_wrong_settings_are_logged_when_the_server_loads_and_shown_by_the_first_search(caplog):
    from clipdex.errors import ConfigurationError
    from clipdex.web.app import create_app

    def wrong():
        raise ConfigurationError("CLIPDEX_INDEX__URL: not a URL")

    app = create_app(wrong, lambda: None, lambda request: "/login")
    app.state.backend.try_load()
    assert "searches will load the embedding model: CLIPDEX_INDEX__URL: not a URL" in caplog.text
    from starlette.testclient import TestClient

    assert "CLIPDEX_INDEX__URL: not a URL" in TestClient(app).get("/?q=a").text


# Posters


def test_a_playback_is_served_in_ranges(viewer):
    answer = viewer.get(f"/clipdex/playbacks/{CONTENT}.mp4", headers={"Range": "bytes=4-7"})
    assert (answer.status_code, answer.content) == (206, b"ftyp")
    assert answer.headers["Content-Range"] == f"bytes 4-7/{len(MP4)}"


def test_a_poster_is_a_picture_that_a_browser_keeps(viewer):
    answer = viewer.get(f"/clipdex/posters/{CONTENT}.jpg")
    assert (answer.content, answer.headers["Content-Type"]) == (JPEG, "image/jpeg")
    assert "immutable" in answer.headers["Cache-Control"]


@pytest.mark.parametrize(
    "name",
    ["..%2f..%2fcaptions%2fab%2fabcd.json", "%2e%2e/%2e%2e/runs/r.json", CONTENT, CONTENT.upper() + ".jpg",
     CONTENT[:-1] + ".jpg", CONTENT + "%0a.jpg", CONTENT + "%00.jpg", "cd" * 32 + ".jpg"],
)  # fmt: skip
def test_nothing_else_of_the_store_is_given_out(viewer, name):
    assert viewer.get(f"/clipdex/posters/{name}").status_code in (404, 422)


# A batch


def test_a_batch_shows_each_clip_those_first_that_need_a_person(viewer, kept):
    view = viewer.get(f"/clipdex/api/batches/{RUN}/{DAY}/{kept.batch.batch}").json()
    assert [(row["path"][-5:], row["outcome"]) for row in view["rows"]] == [
        ("c.mp4", "failed"), ("b.mp4", "quarantined"), ("d.mp4", "waiting"), ("a.mp4", "indexed"),
    ]  # fmt: skip
    page = viewer.get(f"/clipdex/batches/{RUN}/{DAY}/{kept.batch.batch}").text
    assert "caption looping" in page and "1752 + 120" in page
    assert HOSTILE not in page


def test_the_report_takes_no_batch_out_of_sight(viewer, kept):
    from clipdex.runs.outcomes import compact

    address = f"/clipdex/api/batches/{RUN}/{DAY}/{kept.batch.batch}"
    before = viewer.get(address).json()
    compact(kept.store, DAY, RUN)
    assert viewer.get(address).json() == before


def test_a_batch_shows_the_posters_that_its_captions_have(pipeline):
    from clipdex.storage.caption import Caption

    client = unguarded(pipeline.settings)

    def posters(run, day):
        (batch,) = pipeline.plan(run, (day,)).batches
        pipeline.caption(batch)
        page = client.get(f"/batches/{run}/{day}/{batch.batch}").text
        shown = re.findall('<img src="([^"]+)"', page)
        return [client.get(address).status_code for address in shown]

    clips = pipeline.put(2)
    assert posters("r.1", DAY) == [200, 200]
    stored = map(pipeline.store.read_json, pipeline.store.list("captions"))
    of_first = next(one for one in stored if one["content"] == sha256(clips[0].read_bytes()).hexdigest())
    pipeline.store.delete([of_first["poster"]])
    pipeline.store.write_caption(Caption.from_json({**of_first, "poster": ""}))
    shutil.copytree(clips[0].parent, clips[0].parents[1] / "04")
    assert posters("r.2", "2026-11-04") == [200]


@pytest.mark.parametrize(
    ("address", "status"),
    [
        (f"{RUN}/{DAY}/000000000000", 404),
        (f"another.1/{DAY}/000000000000", 404),
        (f"{RUN}/{DAY}/..", 404),
        (f"{RUN}/2026-11-3/000000000000", 422),
        (f"..%2f..%2f{RUN}/{DAY}/000000000000", 404),
        (f".hidden/{DAY}/000000000000", 422),
        (f"{RUN}/{DAY}/00000000000g", 422),
    ],
)
def test_what_is_no_batch_is_not_looked_for(viewer, address, status):
    assert viewer.get(f"/clipdex/batches/{address}").status_code == status


# Backfills from the page of ingestion


DAYS = {"first": "2026-11-05", "last": "2026-11-06"}
SAME_SITE = {"Origin": "http://localhost"}


def backfill_form(client):
    found = re.search('name="form_token" value="([^"]+)"', client.get("/clipdex/ingestion").text)
    return DAYS | ({"form_token": found[1]} if found else {})


def backfills(client):
    return client.get("/api/v2/backfills", params={"dag_id": "ingest_clips"}).json()["backfills"]


def test_a_viewer_is_offered_no_backfill_and_gets_none(viewer, a_run):
    assert "you need the permission" in viewer.get("/clipdex/ingestion").text
    viewer.cookies.set("clipdex_form", "f" * 40, path="/")
    form = DAYS | {"form_token": "f" * 40}
    answer = viewer.post("/clipdex/ingestion/backfill", data=form, headers=SAME_SITE)
    assert answer.status_code == 403 and "your role may not" in answer.text
    assert backfills(viewer) == []


def test_a_form_of_another_site_backfills_nothing(airflow, kept, a_run):
    admin = logged_in(airflow(), "adam")
    for headers in ({}, {"Origin": "http://evil.example"}, {"Sec-Fetch-Site": "cross-site", **SAME_SITE}):
        assert admin.post("/clipdex/ingestion/backfill", data=backfill_form(admin), headers=headers).status_code == 403
    assert backfills(admin) == []


def test_an_admin_backfills_exactly_the_days_and_airflow_notes_who_did(airflow, kept, a_run):
    admin = logged_in(airflow(), "adam")
    assert "<button>Backfill" in admin.get("/clipdex/ingestion").text
    answer = admin.post("/clipdex/ingestion/backfill", data=backfill_form(admin), headers=SAME_SITE)
    assert (answer.status_code, answer.headers.get("Location")) == (
        303, "/clipdex/ingestion?started=2026-11-05_2026-11-06",
    ), answer.text  # fmt: skip
    (made,) = backfills(admin)
    runs = admin.get("/api/v2/dags/ingest_clips/dagRuns", params={"run_type": "backfill"}).json()["dag_runs"]
    assert sorted(run["partition_key"] for run in runs) == ["2026-11-05", "2026-11-06"]
    logs = admin.get("/api/v2/eventLogs", params={"event": "create_backfill"}).json()["event_logs"]
    assert "adam" in {entry["owner"] for entry in logs if entry["dag_id"] == "ingest_clips"}
    again = admin.post("/clipdex/ingestion/backfill", data=backfill_form(admin), headers=SAME_SITE)
    assert again.status_code == 409 and "already a running backfill" in again.text
    assert admin.put(f"/api/v2/backfills/{made['id']}/cancel").status_code == 200


# In Airflow's UI


def test_the_page_is_in_the_navigation(person):
    plugins = person.get("/api/v2/plugins").json()["plugins"]
    views = [view for plugin in plugins for view in plugin["external_views"] if view["href"].startswith("/clipdex/")]
    (view,) = [view for view in views if view["destination"] == "nav"]
    assert (view["href"], view["destination"], view["nav_top_level"]) == ("/clipdex/", "nav", True)
    assert person.get(view["icon"]).headers["Content-Type"] == "image/svg+xml"
    assert person.get(view["icon_dark_mode"]).status_code == 200


def test_a_task_that_works_on_a_batch_links_to_its_outcomes_and_no_other_does(viewer, a_run):
    def links(task, map_index=-1):
        address = f"/api/v2/dags/ingest_clips/dagRuns/{a_run}/taskInstances/{task}/links"
        return viewer.get(address, params={"map_index": map_index}).json()["extra_links"]

    (link,) = {links(f"process.{task}", 0)["Outcomes"] for task in ("caption", "index")}
    shown = re.fullmatch(r"/plugin/clips(/clipdex/batches/.+)", link)
    assert "empty file" in viewer.get(shown[1]).text
    assert set(links("discover").values()) == set(links("report").values()) == {None}


def test_a_task_links_to_the_metrics_of_its_node_and_to_the_collection():
    from clipdex.config import Settings
    from clipdex.node_links import collection_url, metrics_url

    engine = {"name": "sglang", "model": "m", "base_urls": ["http://gpu-1:30000/v1"]}
    settings = Settings.load(engine=engine, index={"url": "https://qdrant:6333", "api_key": "a key"})
    assert metrics_url(settings) == "http://gpu-1:30000/metrics"
    assert collection_url(settings) == "https://qdrant:6333/dashboard#/collections/clips"
    secret = Settings.load(engine={**engine, "base_urls": ["http://me:word@gpu-1:30000"]}, index={"url": ""})
    assert metrics_url(secret) == collection_url(secret) == ""


def test_a_task_instance_a_run_and_the_dag_have_a_tab_with_their_clips(viewer, a_run):
    plugins = viewer.get("/api/v2/plugins").json()["plugins"]
    views = [view for plugin in plugins for view in plugin["external_views"] if view["href"].startswith("/clipdex/")]
    hrefs = {view["destination"]: view["href"] for view in views}
    assert len({view["url_route"] for view in views}) == len(views) == 4
    fields = {"DAG_ID": "ingest_clips", "RUN_ID": a_run, "TASK_ID": "process.caption", "MAP_INDEX": "0"}

    def opened(destination):
        href = hrefs[destination]
        for name, value in fields.items():
            href = href.replace(f"{{{name}}}", quote(value, safe=""))
        return viewer.get(href)

    assert "empty file" in opened("task_instance").text and "Batch " in opened("task_instance").text
    assert "Quarantined by this run" in opened("dag_run").text
    assert opened("dag").headers["Location"] == "/clipdex/quarantine"


# Repair


ORIGIN = {"Origin": "http://localhost"}


def form_of(client):
    found = re.search('name="form_token" value="([^"]+)"', client.get("/clipdex/quarantine").text)
    return {"form_token": found[1], "all": "yes"} if found else None


def test_an_admin_requeues_a_clip_in_a_run_of_its_own_with_an_audit_entry(airflow, a_run):
    admin = logged_in(airflow(), "adam")
    answer = admin.post("/clipdex/quarantine/requeue", data=form_of(admin) | {"from": "2026-11-07"}, headers=ORIGIN)
    assert answer.status_code == 303, answer.text
    view = admin.get(answer.headers["Location"].replace("/clipdex/", "/clipdex/api/")).json()
    [run] = view["runs"]
    started = admin.get(f"/api/v2/dags/ingest_clips/dagRuns/{run['run']}").json()
    assert (started["conf"]["day"], len(started["conf"]["clips"])) == ("2026-11-07", 1)
    assert (started["state"], started["triggering_user_name"]) == (run["state"], "adam")
    assert run["url"] == f"/dags/ingest_clips/runs/{quote(run['run'], safe='')}"
    events = {one["event"]: one for one in admin.get("/api/v2/eventLogs?limit=100").json()["event_logs"]}
    assert events["clipdex_requeue"]["owner"] == events["trigger_dag_run"]["owner"] == "adam"
    assert view["name"] in events["clipdex_requeue"]["extra"]


def test_a_viewer_cannot_write_and_a_form_of_another_site_is_refused(airflow, a_run):
    viewer, admin = logged_in(airflow(), "vera"), logged_in(airflow(), "adam")
    assert form_of(viewer) is None and "Your role may read" in viewer.get("/clipdex/quarantine").text
    runs = viewer.get("/api/v2/dags/ingest_clips/dagRuns").json()["total_entries"]
    viewer.cookies.set("clipdex_form", "f" * 40, path="/")
    for action in ("requeue", "never", "allow"):
        given = {"form_token": "f" * 40, "all": "yes"}
        refused = viewer.post(f"/clipdex/quarantine/{action}", data=given, headers=ORIGIN)
        assert refused.status_code == 403 and "may not trigger runs" in refused.text, refused.text
        other = admin.post(f"/clipdex/quarantine/{action}", data=form_of(admin), headers={"Origin": "http://evil"})
        assert other.status_code == 403 and "not from a page of this" in other.text
    assert viewer.get("/api/v2/dags/ingest_clips/dagRuns").json()["total_entries"] == runs


def test_importing_the_plugin_costs_milliseconds_and_loads_no_web_app():
    """Every Airflow process imports it."""
    program = f"""
import sys, time
import airflow.sdk, airflow.configuration, airflow.plugins_manager
sys.path.insert(0, {str(REPOSITORY / "plugins")!r})
before = set(sys.modules)
started = time.process_time()
import clipdex_plugin
clipdex_plugin.ClipdexPlugin().external_views
print(time.process_time() - started)
print(sorted({{"torch", "fastapi", "clipdex.config", "numpy", "qdrant_edge"}} & (set(sys.modules) - before)))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    seconds, heavy = done.stdout.strip().splitlines()[-2:]
    assert heavy == "[]"
    assert float(seconds) < 0.3


# The database of the demo and of these tests


def test_a_request_waits_until_another_process_has_written(airflow):
    """Six seconds: longer than Python's sqlite3 waits by default, and less than six writers of a busy machine."""
    person = logged_in(airflow(), "adam")
    other = sqlite3.connect(HOME / "airflow.db", isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    writing = threading.Timer(6.0, lambda: other.execute("COMMIT"))
    writing.start()
    answer = person.post("/api/v2/pools", json={"name": "beside-another-writer", "slots": 1})
    writing.join()
    assert answer.status_code == 201, answer.text
