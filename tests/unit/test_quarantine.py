"""The quarantine: what the page, the API and the command show of it, and what they let a person do with it."""

import csv
import io
import json
import re
import socket
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from fastapi import HTTPException, Request
from fastapi.testclient import TestClient

from clipdex import cli
from clipdex.config import Settings
from clipdex.runs.outcomes import ClipOutcome, Journal, Outcome, compact, ledger, whole_ledger
from clipdex.runs.planning import run_label
from clipdex.runs.quarantine import by_day, marks, requeues
from clipdex.runs.quarantine.catalog import Catalog, QuarantineFilter, days_without_index, write_missing
from clipdex.sanitize import safe_cell
from clipdex.storage.artifacts import Store
from clipdex.web.app import create_app
from tests.support.pipeline import DAY, Pipeline

HOSTILE = "<script>alert(1)</script>"
ORIGIN = "http://testserver"


class Operations:
    """What Airflow offers, over a store: runs are noted, and started by the test."""

    def __init__(self, role: str = "admin") -> None:
        self.role, self.started, self.audited = role, [], []  # type: ignore[var-annotated]
        self.failing: dict[str, HTTPException] = {}

    def run_url(self, run: str) -> str:
        return f"/dags/ingest_clips/runs/{run}"

    def log_url(self, job: str, task: str, map_index: int, try_number: int) -> str:
        return f"/dags/{json.loads(job)[0]}/{task}/{map_index}?try_number={try_number}"

    async def user(self, request: Request) -> str:
        return self.role

    async def may_write(self, request: Request) -> bool:
        return self.role == "admin"

    async def run_state(self, request: Request, run: str) -> str:
        return ""

    async def requeue(self, request: Request, day: str, clips: Sequence[str]) -> str:
        if day in self.failing:
            raise self.failing[day]
        self.started.append((day, list(clips)))
        return f"manual__{day}"

    async def audit(self, request: Request, action: str, detail: str) -> None:
        self.audited.append((action, json.loads(detail)))


class Site:
    """The pages over a pipeline, and a person who may do what `role` may."""

    def __init__(self, pipeline: Pipeline, role: str | None = "admin") -> None:
        self.pipeline, self.operations = pipeline, Operations(role) if role else None
        app = create_app(lambda: pipeline.settings, lambda: None, lambda request: "/login", self.operations)  # type: ignore[arg-type]
        self.client = TestClient(app, follow_redirects=False, raise_server_exceptions=False)

    def send(self, action: str, headers: dict[str, str] | None = None, **fields: Any) -> Any:
        """Send the form of the page as a browser does."""
        token = re.findall(r'name="form_token" value="([^"]+)"', self.client.get("/quarantine").text)
        given = {"form_token": token[0] if token else "", **fields}
        return self.client.post(
            f"/quarantine/{action}", data=given, headers={"Origin": ORIGIN, **({} if headers is None else headers)}
        )


@pytest.fixture
def pipeline(tmp_path, engine) -> Pipeline:
    return Pipeline(tmp_path, [engine.url])


def ids(pipeline: Pipeline, **wanted: Any) -> dict[str, str]:
    """Return the clips in quarantine: clip_id by name."""
    return {one.name: one.clip_id for one in pipeline.quarantine(QuarantineFilter(**wanted)).clips}


def put_bad(pipeline: Pipeline, count: int, day: str = DAY, good: int = 1) -> None:
    """Write good clips and files that are no video into a day."""
    folder = pipeline.put(good, day)[0].parent
    for number in range(count):
        (folder / f"bad-{number}.mp4").write_bytes(b"no video " * (100 + number))


def note(store: Store, day: str, clips: Sequence[ClipOutcome], run: str = "r.1") -> None:
    """Write outcomes as a run does."""
    journal = Journal(store, day, run, "b" * 12, "caption", 1)
    for one in clips:
        journal.add(replace(one, day=day))
    journal.flush()
    compact(store, day, run)


def rejected(number: int, **fields: Any) -> ClipOutcome:
    given = {
        "reason": "caption_looping",
        "detail": "84% of the words repeat",
        "metadata": {"camera": "cam-1"},
        **fields,
    }
    return ClipOutcome(
        f"{number:032x}", f"file:///a/cam-1/{number}.mp4", DAY, "v1", Outcome.QUARANTINED, "b" * 12, **given
    )


# What is shown


def test_a_clip_in_quarantine_is_listed_with_reason_message_and_rejected_text(pipeline):
    note(pipeline.store, DAY, [rejected(1, text=HOSTILE, detail=HOSTILE)])
    page = Site(pipeline).client.get("/quarantine").text
    assert "caption looping" in page and "1.mp4" in page and "cam-1" in page
    assert HOSTILE not in page and page.count("&lt;script&gt;alert(1)&lt;/script&gt;") == 2
    [clip] = Site(pipeline).client.get("/api/quarantine").json()["clips"]
    assert (clip["reason"], clip["text"], clip["metadata"]) == ("caption_looping", HOSTILE, {"camera": "cam-1"})


def test_filters_narrow_by_reason_day_camera_folder_words_and_mark(pipeline):
    store = pipeline.store
    note(store, "2026-11-03", [rejected(1), rejected(2, reason="too_long", metadata={"camera": "cam-2"})])
    note(store, "2026-11-04", [replace(rejected(3), uri="file:///a/cam-3/x/3.mp4")])
    pipeline.mark_never([one for one in pipeline.quarantine().clips if one.name == "1.mp4"], "ann")
    client = Site(pipeline).client

    def shown(query: str) -> list[str]:
        return [one["uri"].rpartition("/")[2] for one in client.get(f"/api/quarantine?{query}").json()["clips"]]

    assert shown("") == ["3.mp4", "1.mp4", "2.mp4"]
    assert shown("reason=too_long") == ["2.mp4"]
    assert shown("reason=too_long&reason=caption_looping") == ["3.mp4", "1.mp4", "2.mp4"]
    assert shown("from=2026-11-04") == ["3.mp4"] and shown("to=2026-11-03") == ["1.mp4", "2.mp4"]
    assert shown("where=camera=cam-2") == ["2.mp4"]
    assert shown("folder=file:///a/cam-3") == ["3.mp4"] and shown("folder=file:///a/cam") == []
    assert shown("q=3.MP4") == ["3.mp4"]
    assert shown("never=yes") == ["1.mp4"] and shown("never=no") == ["3.mp4", "2.mp4"]
    assert client.get("/api/quarantine?reason=too_long").json()["reasons"] == {"caption_looping": 2, "too_long": 1}


def test_pages_hold_fifty_clips_each(pipeline):
    note(pipeline.store, DAY, [rejected(number) for number in range(120)])
    client = Site(pipeline).client
    sizes = [len(client.get(f"/api/quarantine?page={number}").json()["clips"]) for number in (1, 2, 3, 4)]
    assert sizes == [50, 50, 20, 0]
    page = client.get("/quarantine?page=2&reason=caption_looping").text
    assert "Page 2 of 3" in page and "reason=caption_looping&amp;page=3" in page


@pytest.mark.parametrize("query", ["from=3.11.2026", "page=0", "never=perhaps", "reason=<b>", "where=camera"])
def test_a_wrong_filter_is_an_error_that_says_what(pipeline, query):
    answer = Site(pipeline).client.get(f"/api/quarantine?{query}")
    assert answer.status_code == 422 and answer.json()["detail"]


def test_the_csv_runs_no_formula(pipeline):
    store = pipeline.store
    note(
        store,
        DAY,
        [rejected(1, detail="=HYPERLINK(1)", text="+1", metadata={"camera": "-2"}), rejected(2, text=" @x\n")],
    )
    answer = Site(pipeline).client.get("/quarantine.csv")
    assert answer.headers["Content-Type"] == "text/csv; charset=utf-8"
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    assert [(row["detail"], row["text"]) for row in rows] == [
        ("'=HYPERLINK(1)", "'+1"), ("84% of the words repeat", "' @x\n"),
    ]  # fmt: skip
    assert [safe_cell(one) for one in ("\t=1", "＝1", "a=1", "")] == ["'\t=1", "'＝1", "a=1", ""]


def test_a_clip_that_got_a_caption_leaves_the_quarantine(pipeline):
    store = pipeline.store
    note(store, DAY, [rejected(1)], "r.1")
    catalog = Catalog(store)
    assert len(catalog.find(QuarantineFilter()).clips) == 1
    note(store, DAY, [replace(rejected(1), outcome=Outcome.INDEXED, reason="", detail="")], "r.2")
    assert catalog.find(QuarantineFilter()).clips == ()


def test_a_day_of_an_earlier_release_is_shown_and_gets_its_index(pipeline):
    store = pipeline.store
    note(store, DAY, [rejected(1)])
    store.delete([by_day.key_of(DAY)])
    assert days_without_index(store) == [DAY]
    assert len(pipeline.quarantine().clips) == 1
    assert not store.list("quarantine")  # a page writes nothing
    assert write_missing(store) == 1 and days_without_index(store) == []
    assert len(pipeline.quarantine().clips) == 1


def test_a_store_that_is_away_is_503_with_the_next_step(pipeline):
    pipeline.home.mkdir(exist_ok=True)
    site = Site(pipeline)
    note(pipeline.store, DAY, [rejected(1)])
    folder = pipeline.home / "quarantine"
    [folder] = list(pipeline.home.rglob("quarantine"))
    for path in sorted(folder.rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    folder.rmdir()
    folder.write_text("not a folder")
    for path in ("/quarantine", "/api/quarantine"):
        answer = site.client.get(path)
        assert answer.status_code == 503, answer.text
        assert "the artifact store does not answer" in answer.text and "CLIPDEX_STORE__URL" in answer.text


def test_object_storage_that_is_away_is_503_with_the_next_step(tmp_path):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{closed.getsockname()[1]}"
        options = {"endpoint_url": endpoint, "config_kwargs": {"retries": {"max_attempts": 1}, "connect_timeout": 1}}
        store = {"url": "s3://clips/store", "key": "test", "secret": "test", "options": options}
        settings = Settings.load(home=tmp_path, store=store)
        app = create_app(lambda: settings, lambda: None, lambda request: "/login")
        answer = TestClient(app).get("/api/quarantine")
    assert answer.status_code == 503, answer.text
    assert "the artifact store does not answer" in answer.text and endpoint in answer.text


# Who may write


def test_a_form_requeues_the_selected_clips_and_leads_to_their_state(pipeline):
    note(pipeline.store, "2026-11-03", [rejected(1), rejected(2)])
    note(pipeline.store, "2026-11-04", [rejected(3)])
    site = Site(pipeline)
    answer = site.send("requeue", clip=[f"{1:032x}", f"{3:032x}"])
    assert answer.status_code == 303, answer.text
    assert site.operations.started == [("2026-11-03", [f"{1:032x}"]), ("2026-11-04", [f"{3:032x}"])]
    page = site.client.get(answer.headers["Location"])
    assert "2 clips requeued" in page.text and "queued" in page.text and "3.mp4" in page.text
    [(action, detail)] = site.operations.audited
    assert action == "clipdex_requeue"
    assert (detail["clips"], detail["clip_ids"]) == (2, [f"{3:032x}", f"{1:032x}"])
    assert answer.headers["Location"] in site.client.get("/quarantine").text


def test_all_of_a_filter_are_requeued_and_no_other(pipeline):
    note(pipeline.store, DAY, [rejected(number) for number in range(60)] + [rejected(99, reason="too_long")])
    site = Site(pipeline)
    assert site.send("requeue", all="yes", reason="caption_looping").status_code == 303
    [(_, clips)] = site.operations.started
    assert len(clips) == 60


def test_a_viewer_sees_no_form_and_changes_nothing(pipeline):
    note(pipeline.store, DAY, [rejected(1)])
    site = Site(pipeline, role="viewer")
    site.client.cookies.set("clipdex_form", "f" * 40)
    page = site.client.get("/quarantine").text
    assert "form_token" not in page and "Your role may read" in page
    for action in ("requeue", "never", "allow"):
        answer = site.client.post(
            f"/quarantine/{action}", data={"form_token": "f" * 40, "all": "yes"}, headers={"Origin": ORIGIN}
        )
        assert answer.status_code == 403 and "may not trigger runs" in answer.text
    assert site.operations.started == [] and marks.marks(pipeline.store) == {}


def test_a_server_that_only_reads_has_no_such_route(pipeline):
    note(pipeline.store, DAY, [rejected(1)])
    site = Site(pipeline, role=None)
    assert "This server only reads" in site.client.get("/quarantine").text
    for action in ("requeue", "never", "allow"):
        assert site.send(action, all="yes").status_code in (404, 405)
    assert marks.marks(pipeline.store) == {}


@pytest.mark.parametrize(
    "headers",
    [{"Origin": "https://evil.example"}, {"Origin": "null"}, {"Origin": ""}, {"Origin": "http://testserver.evil.example"},
     {"Origin": ORIGIN, "Sec-Fetch-Site": "cross-site"}, {"Origin": ORIGIN, "Sec-Fetch-Site": "same-site"}],
)  # fmt: skip
def test_a_form_of_another_site_is_refused(pipeline, headers):
    note(pipeline.store, DAY, [rejected(1)])
    site = Site(pipeline)
    for action in ("requeue", "never", "allow"):
        answer = site.send(action, headers, all="yes")
        assert answer.status_code == 403 and "not from a page of this" in answer.text
    assert site.operations.started == [] and site.operations.audited == []


def test_a_form_without_the_token_of_the_session_is_refused(pipeline):
    note(pipeline.store, DAY, [rejected(1)])
    site = Site(pipeline)
    for token in ("", "x" * 43):
        assert site.send("requeue", all="yes", form_token=token).status_code == 403
    site.client.cookies.clear()
    answer = site.client.post("/quarantine/requeue", data={"all": "yes", "form_token": ""}, headers={"Origin": ORIGIN})
    assert answer.status_code == 403 and "does not belong to this session" in answer.text
    assert site.operations.started == []
    json_body = site.client.post("/quarantine/requeue", json={"all": "yes"}, headers={"Origin": ORIGIN})
    assert json_body.status_code == 415


def test_a_program_with_its_own_credentials_needs_no_form_token(pipeline):
    note(pipeline.store, DAY, [rejected(1)])
    site = Site(pipeline)
    answer = site.client.post("/quarantine/requeue", data={"all": "yes"}, headers={"Authorization": "Bearer t"})
    assert answer.status_code == 303


def test_the_cookie_of_the_forms_is_for_this_site_alone(pipeline):
    sent = Site(pipeline).client.get("/quarantine").headers["Set-Cookie"].lower()
    assert {"httponly", "samesite=strict"} <= set(sent.split("; "))


def test_a_run_that_does_not_start_is_named_with_its_reason(pipeline):
    note(pipeline.store, "2026-11-03", [rejected(1)])
    note(pipeline.store, "2026-11-04", [rejected(3)])
    site = Site(pipeline)
    site.operations.failing["2026-11-03"] = HTTPException(400, "has import errors")
    page = site.client.get(site.send("requeue", all="yes").headers["Location"]).text
    assert "did not start: has import errors" in page
    assert [day for day, _ in site.operations.started] == ["2026-11-04"]


def test_nothing_selected_is_said_and_too_many_days_are_refused(pipeline):
    for number in range(1, 29):
        note(pipeline.store, f"2026-10-{number:02d}", [rejected(number)])
        note(pipeline.store, f"2026-11-{number:02d}", [rejected(100 + number)])
    site = Site(pipeline)
    assert "no clip is selected" in site.send("requeue").text
    answer = site.send("requeue", all="yes")
    assert answer.status_code == 422 and "56 clips of 56 days" in answer.text and "at most 31 runs" in answer.text
    assert site.operations.started == []


# Never again


def test_never_again_is_shown_with_who_and_can_be_undone(pipeline):
    note(pipeline.store, DAY, [rejected(1), rejected(2)])
    site = Site(pipeline)
    answer = site.send("never", clip=f"{1:032x}", back="?reason=caption_looping")
    assert (answer.status_code, answer.headers["Location"]) == (303, "/quarantine?reason=caption_looping")
    assert "Never again, marked by admin" in site.client.get("/quarantine").text
    assert site.send("requeue", all="yes").status_code == 303
    assert site.operations.started == [(DAY, [f"{2:032x}"])]
    site.send("allow", clip=f"{1:032x}")
    assert "Never again, marked" not in site.client.get("/quarantine").text
    assert [action for action, _ in site.operations.audited] == [
        "clipdex_never_again", "clipdex_requeue", "clipdex_allow_again",
    ]  # fmt: skip


def test_the_way_back_leads_to_this_page_alone(pipeline):
    note(pipeline.store, DAY, [rejected(1)])
    answer = Site(pipeline).send("never", clip=f"{1:032x}", back="//evil.example/")
    assert answer.headers["Location"] == "/quarantine"


def test_marks_are_merged_and_the_latest_one_counts(pipeline):
    store = pipeline.store
    clip = by_day.QuarantinedClip.of(rejected(1))
    for number in range(21):
        marks.set_marks(store, [clip], never=number % 2 == 0, by=f"p{number}")
    assert marks.marks(store)[clip.clip_id].by == "p20"
    assert len(store.list(marks.FOLDER)) < 16
    assert marks.set_marks(store, [clip], never=True, by="again") == 0
    assert not marks.is_never(marks.marks(store), clip.clip_id, "v2")  # the file was replaced


def test_retry_quarantined_leaves_a_clip_that_is_never_tried_again(pipeline):
    put_bad(pipeline, 2)
    pipeline.run("r.1")
    known = ids(pipeline)
    pipeline.mark_never([one for one in pipeline.quarantine().clips if one.name == "bad-0.mp4"], "ann")

    def to_do(**wishes: Any) -> list[str]:
        found = pipeline.survey([DAY], pipeline.criteria(**wishes))
        return sorted(clip.path.rpartition("/")[2] for clip in found.to_do[DAY])

    assert sorted(known) == ["bad-0.mp4", "bad-1.mp4"]
    assert to_do(retry_quarantined=["all"]) == to_do(retry_quarantined=["not_a_video"]) == ["bad-1.mp4"]
    assert "bad-0.mp4" not in to_do(recaption=True)
    pipeline.mark_never(pipeline.quarantine().clips, "ann", never=False)
    assert to_do(retry_quarantined=["all"]) == ["bad-0.mp4", "bad-1.mp4"]


# The planner


def test_a_requeue_plans_its_clips_alone_and_shows_when_they_are_through(pipeline):
    put_bad(pipeline, 3)
    pipeline.run("r.1")
    known = ids(pipeline)
    pipeline.put(1, first=7)  # a new clip of the same day
    good = pipeline.clips / "2026/11/03/bad-1.mp4"
    good.write_bytes(pipeline.put(1, first=9)[0].read_bytes())  # a person repaired the file
    site = Site(pipeline)
    location = site.send("requeue", clip=[known["bad-0.mp4"], known["bad-1.mp4"]]).headers["Location"]
    [(day, clips)] = site.operations.started

    def states() -> dict[str, str]:
        view = site.client.get(f"/api{location}").json()
        return {one["uri"].rpartition("/")[2]: one["state"] for one in view["clips"]} | {"done": view["done"]}

    assert states() == {"bad-0.mp4": "queued", "bad-1.mp4": "queued", "done": False}
    run = run_label(f"manual__{day}", 1)
    found = pipeline.survey([day], pipeline.criteria(), only=clips)
    plan = clipdex_plan(pipeline, run, found)
    assert (plan.to_do, plan.discovered) == (2, {DAY: 6})
    assert states() == {"bad-0.mp4": "waiting", "bad-1.mp4": "waiting", "done": False}
    for batch in plan.batches:
        pipeline.caption(batch)
        pipeline.index(batch)
    assert states() == {"bad-0.mp4": "quarantined", "bad-1.mp4": "indexed", "done": True}
    pipeline.report(run)
    assert states() == {"bad-0.mp4": "quarantined", "bad-1.mp4": "indexed", "done": True}
    assert sorted(ids(pipeline)) == ["bad-0.mp4", "bad-2.mp4"]


def clipdex_plan(pipeline: Pipeline, run: str, found: Any) -> Any:
    """Plan what was surveyed."""
    from clipdex.runs.planning import plan_run

    return plan_run(pipeline.settings, pipeline.store, pipeline.source, run, found, '["ingest_clips", "manual__x"]')


def test_a_clip_that_left_the_archive_is_shown_as_left_out(pipeline):
    put_bad(pipeline, 1)
    pipeline.run("r.1")
    site = Site(pipeline)
    location = site.send("requeue", all="yes").headers["Location"]
    (pipeline.clips / "2026/11/03/bad-0.mp4").unlink()
    found = pipeline.survey([DAY], pipeline.criteria(), only=site.operations.started[0][1])
    clipdex_plan(pipeline, run_label(f"manual__{DAY}", 1), found)
    view = site.client.get(f"/api{location}").json()
    assert (view["counts"], view["done"]) == ({"left out": 1}, True)


def test_a_list_of_many_clips_is_read_by_its_name(pipeline):
    from clipdex.errors import ConfigurationError

    store = pipeline.store
    name = requeues.write_list(store, ["a", "b"])
    assert re.fullmatch("^[0-9a-z-]{1,64}$", name) and requeues.read_list(store, name) == ["a", "b"]
    assert requeues.latest(store, 5) == []
    with pytest.raises(ConfigurationError, match="requeue the clips again"):
        requeues.read_list(store, "none")


# The command


def test_the_command_lists_requeues_and_marks(pipeline, monkeypatch, capsys):
    for name, value in pipeline.environment().items():
        monkeypatch.setenv(name, value)
    put_bad(pipeline, 2)
    pipeline.run("r.1")
    known = ids(pipeline)

    def said(*words: str, code: int = 0) -> str:
        assert cli.main(["quarantine", *words]) == code
        return capsys.readouterr().out

    assert "2 clips in quarantine: not_a_video 2" in said("list")
    assert [one["clip_id"] for one in json.loads(said("list", "--json", known["bad-1.mp4"]))] == [known["bad-1.mp4"]]
    assert said("list", "--csv").startswith("day,uri,")
    assert "1 clips are never tried again" in said("never", known["bad-0.mp4"])
    (pipeline.clips / "2026/11/03/bad-1.mp4").write_bytes(pipeline.put(1, first=9)[0].read_bytes())
    assert json.loads(said("requeue", "--all", "--json")) == {
        "planned": 1, "indexed": 1, "quarantined": 0, "unfinished": 0,
    }  # fmt: skip
    assert sorted(ids(pipeline)) == ["bad-0.mp4"]
    assert "may be tried again" in said("allow", "--all")
    assert ledger(pipeline.store, DAY).keys() == whole_ledger(pipeline.store, DAY).keys()
    with pytest.raises(SystemExit):
        cli.main(["quarantine", "never"])
    assert "--all" in capsys.readouterr().err
