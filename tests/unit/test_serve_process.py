"""clipdex serve as a process, over a small real index: its API, its tokens, its log, its end, and examples/rag.py."""

import os
import re
import socket
import subprocess
import sys
import time
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx
import jsonschema
import pytest

from clipdex import cli
from clipdex.config import REPOSITORY, Settings
from clipdex.index import Collection, open_index
from clipdex.index.embeddings import open_embedder
from clipdex.serve import tokens
from clipdex.storage.artifacts import Store, playback_path, poster_path
from tests.support.engine import MODEL, StandIn
from tests.support.indexes import SCENES, fill
from tests.support.serving import Served, serving

CONTENT, JPEG, MP4 = "ab" * 32, b"\xff\xd8\xff\xe0 a poster", b"0000ftyp a playback"
READY_S = 120
QUESTION = "a red car turns left"


@pytest.fixture(scope="module")
def settings(tmp_path_factory) -> Settings:
    settings = Settings.load(home=tmp_path_factory.mktemp("served"))
    embedder = open_embedder(settings.embedding)
    with open_index(settings, Collection.of(settings, embedder)) as index:
        index.ensure()
        fill(index, embedder, SCENES)
    Store.open(settings).write(poster_path(CONTENT), JPEG)
    Store.open(settings).write(playback_path(CONTENT), MP4)
    return settings


@pytest.fixture(scope="module")
def secret(settings) -> str:
    return tokens.create(tokens.token_file(settings), "tests")


@pytest.fixture(scope="module")
def served(settings, secret) -> Any:
    with serving(settings.home, settings.home / "serve.log") as served:
        deadline = time.monotonic() + READY_S
        while (answer := httpx.get(f"{served.url}/health")).status_code != 200:
            assert answer.status_code == 503 and time.monotonic() < deadline, served.log.read_text()
        yield served


@pytest.fixture
def client(served, secret) -> Any:
    with httpx.Client(base_url=served.url, headers={"Authorization": f"Bearer {secret}"}) as client:
        yield client


PATHS = (
    f"/api/search?q={QUESTION}", "/api/search?like=car&diverse=true", "/api/similar?clip_id=car&related=true",
    "/api/facets?field=day", "/api/days?from=2026-11-01", "/api/clips/car",
    "/api/stats", "/api/ingestion",
)  # fmt: skip


@pytest.mark.slow
def test_the_api_answers_as_its_description_promises(client):
    described = client.get("/openapi.json").json()
    for path in PATHS:
        answer = client.get(path)
        assert answer.status_code == 200, answer.text
        template = re.sub("/car$", "/{clip_id}", path.partition("?")[0])
        schema = described["paths"][template]["get"]["responses"]["200"]["content"]["application/json"]["schema"]
        jsonschema.validate(answer.json(), {**schema, "components": described["components"]})
    found = client.get(PATHS[0]).json()
    assert (found["clips"][0]["clip_id"], found["q"]) == ("car", QUESTION)
    days = client.get("/api/days").json()
    assert (days["days"], days["more"]) == ([{"value": "2026-11-03", "clips": len(SCENES)}], False)
    clip = client.get("/api/clips/car").json()
    assert (clip["text"], clip["uri"], clip["poster_url"]) == (SCENES["car"], "car.mp4", "")
    assert client.get("/api/days?to=2026-11-01").json()["days"] == []
    assert client.get(f"/posters/{CONTENT}.jpg").content == JPEG
    played = client.get(f"/playbacks/{CONTENT}.mp4", headers={"Range": "bytes=2-5"})
    assert (played.status_code, played.content) == (206, MP4[2:6])
    for path, status in (("/api/clips/no", 404), ("/api/days?from=x", 422), ("/api/days?where=colour=red", 422)):
        answer = client.get(path)
        assert answer.status_code == status and isinstance(answer.json()["detail"], str)


def test_a_browser_logs_in_searches_and_logs_out(served, secret):
    with httpx.Client(base_url=served.url, headers={"Accept": "text/html", "Origin": served.url}) as browser:
        page = browser.get("/", params={"q": QUESTION})
        after = re.search('name="after" value="([^"]+)"', page.text)
        assert page.status_code == 401 and after
        for asset in re.findall('(?:src|href)="(/static/[^"]+)"', page.text):
            assert browser.get(asset).status_code == 200
        answer = browser.post("/login", data={"token": secret, "after": after[1]}, follow_redirects=True)
        assert answer.status_code == 200 and "car.mp4" in answer.text and "Log out" in answer.text
        assert browser.post("/logout").headers["Location"] == "/login"
        assert browser.get("/").status_code == 401


@pytest.mark.slow
def test_two_servers_share_tokens_that_change_while_they_run(served, settings, monkeypatch, capsys, tmp_path):
    monkeypatch.setenv("CLIPDEX_HOME", str(settings.home))
    with serving(settings.home, tmp_path / "other.log") as other:
        assert cli.main(["token", "create", "shared"]) == 0
        headers = {"Authorization": f"Bearer {capsys.readouterr().out.strip()}"}

        def statuses(**options: Any) -> list[int]:
            return [httpx.get(f"{one.url}/openapi.json", **options).status_code for one in (served, other)]

        assert statuses(headers=headers) == [200, 200]
        form = {"token": headers["Authorization"].split()[1]}
        answer = httpx.post(f"{served.url}/login", data=form, headers={"Origin": served.url})
        cookies = {"clipdex_session": answer.cookies["clipdex_session"]}
        assert statuses(cookies=cookies) == [200, 200]
        assert cli.main(["token", "revoke", "shared"]) == 0
        assert statuses(headers=headers) == statuses(cookies=cookies) == [401, 401]
        other.process.terminate()
        assert other.process.wait(READY_S) == 0, other.log.read_text()
        assert other.log.read_text().count("\n") == 4  # its requests, no traceback


def snapshot(folder: Path) -> dict[str, str]:
    """Return the digest of each file, but not of those that lock the embedded index."""
    found = {str(path.relative_to(folder)): path for path in folder.rglob("*") if path.is_file()}
    locks = {".clipdex/index/lock", ".clipdex/index/waiting", "serve.log"}
    return {name: sha256(path.read_bytes()).hexdigest() for name, path in found.items() if name not in locks}


def test_the_server_writes_nothing(client, settings, secret, served):
    client.get(PATHS[0])  # opens the index: Qdrant Edge takes over what its last writer had left in journals
    before = snapshot(settings.home)
    assert len(before) > 20 and ".clipdex/tokens.json" in before
    for path in (*PATHS, "/", "/?q=cat&weak=true", f"/posters/{CONTENT}.jpg", "/openapi.json", "/api/clips/no",
                 f"/playbacks/{CONTENT}.mp4", "/clips/no", "/clips/no/player", "/export.csv?q=cat", "/ingestion",
                 "/quarantine", "/reference", "/batches/r.1/2026-11-03/000000000000", "/nowhere",
                 "/api/search?q="):  # fmt: skip
        assert client.get(path).status_code in (200, 404, 422), path
    for method in ("POST", "PUT", "DELETE"):
        assert client.request(method, "/api/clips/car").status_code == 405
    headers = {"Origin": served.url}
    assert httpx.post(f"{served.url}/login", data={"token": secret}, headers=headers).status_code == 303
    assert httpx.get(f"{served.url}/", headers={"Authorization": "Bearer wrong"}).status_code == 401
    assert snapshot(settings.home) == before


def test_the_log_has_neither_tokens_nor_cookies_nor_queries(client, served, secret):
    answer = httpx.post(f"{served.url}/login", data={"token": secret}, headers={"Origin": served.url})
    cookie = answer.cookies["clipdex_session"]
    httpx.get(f"{served.url}/?q=unheard+words", cookies={"clipdex_session": cookie})
    httpx.get(f"{served.url}/api/%1b%5b31m%0aforged", headers={"Authorization": "Bearer clipdex_a-wrong-one"})
    client.get("/api/search?q=unheard+words")
    log = served.log.read_text()
    assert re.search(r"Z 127\.0\.0\.1 tests GET /api/search 200 \d+ ms\n", log)
    assert " - GET /api/\\u001b[31m\\u000aforged 401 " in log
    for kept_out in (secret, secret[8:20], cookie, cookie.split(".")[1], "unheard", "a-wrong-one", "\x1b", "/health"):
        assert kept_out not in log


def test_a_server_without_tokens_or_on_a_used_port_does_not_start(served, settings, monkeypatch, capsys, tmp_path):
    port = served.url.rpartition(":")[2]
    for home, message in (
        (tmp_path, "has no valid token, so the server would refuse every request: clipdex token create NAME makes one"),
        (settings.home, f"cannot listen on 127.0.0.1 port {port}: "),
    ):
        monkeypatch.setenv("CLIPDEX_HOME", str(home))
        assert cli.main(["serve", "--port", port]) == 2
        [line] = capsys.readouterr().err.splitlines()
        assert line.startswith("clipdex serve: ") and message in line


def test_it_listens_on_loopback_alone(served):
    port = int(served.url.rpartition(":")[2])
    assert served.url.startswith("http://127.0.0.1:")
    others = {info[4][0] for info in socket.getaddrinfo(socket.gethostname(), port, socket.AF_INET)} - {"127.0.0.1"}
    for address in others:
        with pytest.raises(OSError):
            socket.create_connection((address, port), timeout=5).close()


def rag(served: Served, secret: str, engine: StandIn, question: str) -> subprocess.CompletedProcess[str]:
    environment = {"CLIPDEX_URL": served.url, "CLIPDEX_TOKEN": secret, "OPENAI_BASE_URL": f"{engine.url}/v1",
                   "OPENAI_MODEL": MODEL}  # fmt: skip
    command = [sys.executable, str(REPOSITORY / "examples/rag.py"), question]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, **environment})


def test_the_example_answers_with_citations_of_clips_that_were_found(served, secret, engine):
    question = "where does the car turn?"
    done = rag(served, secret, engine, question)
    assert done.returncode == 0, done.stderr
    assert re.findall(r"\[(.+?)\]", done.stdout) == ["car.mp4@0.0", "bikes.mp4@0.0"]
    [chat] = engine.chats
    assert SCENES["car"] in str(chat.body) and question in str(chat.body)
    readme = (REPOSITORY / "README.md").read_text()
    assert f'$ python examples/rag.py "{question}"\n{done.stdout}```' in readme
    assert rag(served, secret, engine, "zebra").stderr == "no clip matches the question\n"
    assert "401" in rag(served, "wrong", engine, QUESTION).stderr
