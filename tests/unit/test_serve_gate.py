"""clipdex serve: who is admitted. Its whole app in this process, with clocks of the tests."""

import itertools
import re
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from openapi_spec_validator import validate
from starlette.responses import PlainTextResponse
from starlette.routing import BaseRoute, Mount

from clipdex.config import Settings
from clipdex.serve import tokens
from clipdex.serve.gate import FAILURES_PER_MINUTE, MAX_BODY, MAX_HEADERS, MAX_QUERY, passed
from clipdex.serve.rate_limit import RateLimit
from clipdex.serve.server import create
from clipdex.serve.sessions import SESSION_S
from clipdex.web.app import create_app

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PURGE")
OPEN = {
    ("GET", "/health"), ("HEAD", "/health"), ("GET", "/login"), ("POST", "/login"),
    ("GET", "/static/style.css"), ("GET", "/static/theme.js"), ("GET", "/static/clips.svg"),
}  # fmt: skip
BROWSER = {"Accept": "text/html,*/*;q=0.8"}
ORIGIN = "http://localhost"
PAGE = "/nowhere"
"""A page that is 404 for whoever is admitted: it loads no model."""


class Clock:
    now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


class Server:
    """The app over a folder without an index. tick: of the rate limits; without one, they never limit."""

    def __init__(self, home: Any, tick: Any = None, **serve: Any) -> None:
        self.clock = Clock()
        self.settings = Settings.load(home=home, serve=serve)
        self.file = tokens.token_file(self.settings)
        self.app: FastAPI = create(self.settings, "127.0.0.1", self.clock, tick or itertools.count(0, 60).__next__)

    def token(self, name: str = "laptop", days: int | None = None) -> str:
        return tokens.create(self.file, name, days, self.clock)

    def client(self, secret: str = "", peer: str = "192.0.2.1", base_url: str = ORIGIN) -> TestClient:
        headers = {"Authorization": f"Bearer {secret}"} if secret else {}
        return TestClient(self.app, base_url, headers=headers, client=(peer, 4711), follow_redirects=False)

    def browser(self, secret: str) -> TestClient:
        """Return a browser that has exchanged its token."""
        browser = self.client()
        assert log_in(browser, secret).status_code == 303
        return browser


def log_in(browser: TestClient, secret: str, origin: str = ORIGIN, after: str = "/", **headers: str) -> Any:
    return browser.post("/login", data={"token": secret, "after": after}, headers={"Origin": origin, **headers})


@pytest.fixture
def server(tmp_path) -> Server:
    return Server(tmp_path)


def paths(routes: list[BaseRoute], prefix: str = "") -> Iterator[str]:
    """Yield a path of each route, also of what is mounted."""
    for route in routes:
        if isinstance(route, Mount):
            yield from paths(list(route.routes), prefix + route.path)
        else:
            yield prefix + re.sub(r"\{.*?\}", "x", route.path)  # type: ignore[attr-defined]


def test_every_route_but_the_named_ones_needs_a_valid_token(server):
    valid, revoked, expired = server.token(), server.token("revoked"), server.token("expired", days=1)
    tokens.revoke(server.file, "revoked")
    server.clock.now += 86_400
    server.app.mount("/mounted", FastAPI(routes=[]))
    server.app.add_route("/added/later", lambda request: PlainTextResponse("open"), methods=["GET"])
    wrong = {
        "revoked": [f"Bearer {revoked}"], "expired": [f"Bearer {expired}"], "empty": ["Bearer "],
        "cut": [f"Bearer {valid[:-1]}"], "no scheme": [valid], "basic": [f"Basic {valid}"],
        "two": [f"Bearer {valid}", "Bearer x"], "no text": ["Bearer \xff\xfe"], "hash": [f"Bearer {'0' * 64}"],
    }  # fmt: skip
    others = itertools.cycle(wrong.items())
    every = {*paths(server.app.routes), "/static/style.css", "/static/theme.js", "/static/clips.svg", "/nowhere", "//x"}
    assert {
        "/",
        "/api/search",
        "/clips/x",
        "/clips/x/player",
        "/api/clips/x/record",
        "/export.csv",
        "/export.json",
        "/api/clips/x",
        "/openapi.json",
        "/posters/x.jpg",
        "/playbacks/x.mp4",
        "/added/later",
    } <= every
    client, requests = server.client(), 0
    for path, method in itertools.product(sorted(every), METHODS):
        if (method, path) in OPEN:
            assert client.request(method, path, headers={"Origin": "x"}).status_code in (200, 403, 503), path
            continue
        for name, values in (("none", []), next(others)):
            headers = [("Authorization", value.encode("latin-1")) for value in values]
            answer = client.request(method, path, headers=headers)
            requests += 1
            assert answer.status_code == 401, (method, path, name)
            assert answer.headers["WWW-Authenticate"].startswith("Bearer"), (method, path, name)
            assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
    assert requests > 20 * len(wrong)
    assert server.client(valid).get("/added/later").text == "open"
    assert client.get("/api/search", headers={"Authorization": f"bearer {valid}"}).status_code == 422


def test_without_a_gate_no_route_answers(server):
    bare = create_app(lambda: server.settings, passed, lambda request: "/login")
    client = TestClient(bare, headers={"Authorization": f"Bearer {server.token()}"})
    assert {client.get(path).status_code for path in paths(bare.routes)} == {401}


def test_a_browser_gets_the_login_page_and_a_program_gets_json(server):
    page = server.client().get("/?q=a+car", headers=BROWSER)
    assert (page.status_code, page.headers["Content-Type"]) == (401, "text/html; charset=utf-8")
    assert 'name="after" value="/?q=a+car"' in page.text
    for path in ("/api/search?q=car", "/openapi.json"):
        assert server.client().get(path).json() == {"detail": "a token is needed: Authorization: Bearer TOKEN"}
    assert server.client().get("/api/search", headers=BROWSER).headers["Content-Type"] == "application/json"


def test_a_token_is_exchanged_for_a_cookie_that_a_logout_deletes(server):
    browser = server.client()
    answer = log_in(browser, server.token(), after="/?q=a+car")
    assert (answer.status_code, answer.headers["Location"]) == (303, "/?q=a+car")
    name, *parts = answer.headers["Set-Cookie"].split("; ")
    assert name.startswith("clipdex_session=") and '"' not in name
    assert {part.lower() for part in parts} == {"httponly", "path=/", "samesite=strict", f"max-age={SESSION_S}"}
    assert 'action="/logout"' in browser.get(PAGE).text
    assert browser.post("/logout", headers={"Origin": ORIGIN}).status_code == 303
    assert browser.get(PAGE).status_code == 401
    assert "logout" not in server.client(server.token("program")).get(PAGE).text


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "", "http://localhost.evil.example"])
def test_a_form_of_another_site_neither_logs_in_nor_out(server, origin):
    secret = server.token()
    browser = server.browser(secret)
    headers = {"Origin": origin} if origin else {}
    for answer in (browser.post("/logout", headers=headers), log_in(browser, secret, origin)):
        assert answer.status_code == 403 and "Set-Cookie" not in answer.headers
    assert browser.get(PAGE).status_code == 404


@pytest.mark.parametrize("after", ["//evil.example", "/\\evil.example", "https://evil.example", "", "/a\nb: c", "x"])
def test_the_login_leads_to_pages_of_this_server_alone(server, after):
    browser = server.client()
    assert log_in(browser, server.token(), after=after).headers["Location"] == "/"
    headers = {**BROWSER, "Cookie": "", "Sec-Fetch-Site": "cross-site"}
    page = browser.get(f"{ORIGIN}//evil.example/%0ax", headers=headers)
    assert 'href="/">continue' in page.text


def test_a_session_ends_with_its_token_or_after_twelve_hours(server):
    revoked = server.browser(server.token("a"))
    short = server.browser(server.token("b", days=1))
    assert [browser.get(PAGE).status_code for browser in (revoked, short)] == [404, 404]
    tokens.revoke(server.file, "a")
    assert revoked.get(PAGE).status_code == 401
    server.token("a")
    assert revoked.get(PAGE).status_code == 401  # another token of the same name
    server.clock.now += SESSION_S
    assert short.get(PAGE).status_code == 401
    server.clock.now += 11.5 * 3600
    answer = log_in(short, server.token("c"))
    assert f"Max-Age={SESSION_S}" in answer.headers["Set-Cookie"]
    server.clock.now += 3600
    assert short.get(PAGE).status_code == 404


def test_a_session_of_a_token_that_expires_soon_is_shorter(server):
    secret = server.token(days=1)
    server.clock.now += 86_400 - 600
    browser = server.client()
    assert "Max-Age=600" in log_in(browser, secret).headers["Set-Cookie"]
    server.clock.now += 600
    assert browser.get(PAGE).status_code == 401


def test_neither_a_changed_cookie_nor_the_file_of_tokens_makes_a_session(server):
    browser = server.browser(server.token())
    cookie = browser.cookies["clipdex_session"]
    expires, signature, name = cookie.split(".")
    [known] = tokens.read(server.file)
    server.token("other")
    changed = [
        f"{int(expires) + 1}.{signature}.{name}", f"{expires}.{signature}.other",
        f"{expires}.AAAA{signature[4:]}.{name}",
        f"{expires}..{name}", f"{expires}.{signature}", "", "..", f"{expires}.{known.sha256}.{name}",
        f"{expires}.{known.session_key * 2}.{name}", "1e30." + cookie, "²." + cookie, "9" * 5000,
    ]  # fmt: skip
    for value in changed:
        headers = {"Cookie": f"clipdex_session={value}".encode()}
        assert server.client().get(PAGE, headers=headers).status_code == 401, value
    assert server.client().get(PAGE, headers={"Cookie": f"clipdex_session={cookie}"}).status_code == 404
    for secret in (known.sha256, known.session_key):
        assert server.client(secret).get(PAGE).status_code == 401
        assert log_in(server.client(), secret).status_code == 401


def test_a_token_has_a_limited_rate_and_others_are_not_affected(tmp_path):
    tick = Clock()
    server = Server(tmp_path, tick, requests_per_minute=3)
    busy, other = server.client(server.token("busy")), server.client(server.token("other"))
    statuses = [busy.get("/static/style.css").status_code for _ in range(9)]
    assert statuses == [200] * 9  # open
    answers = [busy.get("/openapi.json") for _ in range(4)]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
    assert answers[-1].headers["Retry-After"] == "20"
    assert other.get("/openapi.json").status_code == 200
    tick.now += 19
    assert busy.get("/openapi.json").status_code == 429
    tick.now += 1
    assert [busy.get("/openapi.json").status_code for _ in range(2)] == [200, 429]


def test_wrong_tokens_are_limited_by_address_and_a_right_one_is_accepted(tmp_path):
    tick = Clock()
    server = Server(tmp_path, tick)
    secret, guesses = server.token(), server.client("clipdex_guess")
    statuses = [guesses.get("/api/search").status_code for _ in range(FAILURES_PER_MINUTE)]
    assert statuses == [401] * FAILURES_PER_MINUTE
    answer = log_in(server.client(), "guess")
    assert answer.status_code == 429 and int(answer.headers["Retry-After"]) == 6
    assert log_in(server.client(), secret).status_code == 303
    assert server.client("clipdex_guess", "192.0.2.2").get("/api/search").status_code == 401
    for number in range(FAILURES_PER_MINUTE):
        assert server.client("x", f"2001:db8::{number:x}").get("/api/search").status_code == 401
    assert server.client("x", "2001:db8::ffff").get("/api/search").status_code == 429
    assert server.client("x", "2001:db8:0:1::1").get("/api/search").status_code == 401


def test_a_rate_limit_keeps_a_bounded_number_of_keys():
    limit = RateLimit(1, Clock())
    assert [limit.wait_s(str(number)) for number in range(20_000)] == [0.0] * 20_000
    assert len(limit._buckets) == 10_000
    assert limit.wait_s("19999") == 60.0


FORWARDED = {
    "X-Forwarded-For": "198.51.100.66, 203.0.113.9, 10.0.0.8",
    "X-Forwarded-Proto": "https",
    "X-Forwarded-Prefix": "/clips",
}


def test_forwarded_headers_count_from_configured_addresses_alone(tmp_path, caplog):
    caplog.set_level("INFO", "clipdex.serve")
    server = Server(tmp_path, trusted_proxies=["10.0.0.0/24", "2001:db8::7"])
    secret = server.token()
    for peer, trusted in (("192.0.2.1", False), ("10.0.0.7", True), ("2001:db8::7", True), ("::ffff:10.0.0.7", True)):
        caplog.clear()
        browser = server.client(peer=peer)
        page = browser.get("/?q=x", headers={**BROWSER, **FORWARDED}).text
        assert ('action="/clips/login"' in page, 'value="/clips/?q=x"' in page) == (trusted, trusted)
        answer = log_in(browser, secret, after="", **FORWARDED)
        assert answer.headers["Location"] == ("/clips/" if trusted else "/")
        cookie = answer.headers["Set-Cookie"]
        assert ("Secure" in cookie, "Path=/clips;" in cookie) == (trusted, trusted)
        client = "203.0.113.9" if trusted else peer
        lines = [line for line in caplog.records if line.name.startswith("clipdex.serve")]
        assert [line.getMessage().split()[1] for line in lines] == [client] * 2


@pytest.mark.parametrize("prefix", ["//evil.example", "/a/../b", "/a?b", "clips", '/"x', "/", "/a//b"])
def test_a_malformed_prefix_is_ignored(tmp_path, prefix):
    server = Server(tmp_path, trusted_proxies=["10.0.0.7"])
    page = server.client(peer="10.0.0.7").get("/", headers={**BROWSER, "X-Forwarded-Prefix": prefix})
    assert page.status_code == 401 and 'action="/login"' in page.text


def test_an_untrusted_address_opens_nothing_by_a_prefix(server):
    for prefix in ("/health", "/login"):
        assert server.client().get(f"{prefix}/api/search", headers={"X-Forwarded-Prefix": prefix}).status_code == 401


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost:8088", 503), ("127.0.0.1", 503), ("[::1]:1", 503), ("Search.Example.com:443", 503),
        ("search.example.com.", 503), ("evil.example", 421), ("localhost.evil.example", 421), ("", 421),
        ("search.example.com@evil.example", 421), ("[::1", 421), ("10.9.8.7", 421),
    ],
)  # fmt: skip
def test_other_names_of_this_server_are_refused(tmp_path, host, status):
    server = Server(tmp_path, hosts=["search.example.com"])
    assert server.client().get("/health", headers={"Host": host}).status_code == status


def test_headers_queries_and_bodies_are_bounded(server):
    client = server.client(server.token())
    assert client.get("/api/search?q=" + "x" * MAX_QUERY).status_code == 414
    assert client.get("/api/search?q=" + "x" * 501).status_code == 422
    assert client.get("/health", headers={"X-Many": "x" * MAX_HEADERS}).status_code == 431
    assert client.post("/login", content=b"x" * (MAX_BODY + 1)).status_code == 413
    assert client.post("/login", content=iter([b"x"])).status_code == 411


def test_health_shows_whether_the_model_is_loaded_and_nothing_else(server):
    client = server.client()
    assert (client.get("/health").status_code, client.get("/health").json()) == (503, {"status": "starting"})
    server.app.state.ready.set()
    assert (client.get("/health").status_code, client.get("/health").json()) == (200, {"status": "ready"})


def test_the_description_is_valid_openapi_with_models_and_the_token(server):
    described = server.client(server.token()).get("/openapi.json").json()
    validate(described)
    operations = {path: operation["get"] for path, operation in described["paths"].items()}
    assert {operation["operationId"] for operation in operations.values()} == {
        "search_clips", "similar_clips", "count_facets", "list_days", "get_clip", "get_batch", "get_poster",
        "get_stats", "get_ingestion", "get_playback", "get_requeue", "get_run", "list_quarantine", "get_clip_record",
        "get_clip_captions", "get_clip_outcomes",
    }  # fmt: skip
    assert described["security"] == [{"token": []}]
    for path, operation in operations.items():
        content = operation["responses"]["200"]["content"]
        assert path.startswith(("/posters/", "/playbacks/")) or "$ref" in str(content["application/json"]), path
        assert {"401", "404", "422", "429", "503"} <= operation["responses"].keys()
    client = server.client(server.token("other"))
    for path in operations:
        empty = (200,) if path in ("/api/stats", "/api/ingestion", "/api/quarantine") else (404, 422)
        assert client.get(re.sub(r"\{.*?\}", "x", path)).status_code in empty, path


def test_a_wrong_network_is_named():
    from clipdex.errors import ConfigurationError

    with pytest.raises(ConfigurationError, match=r"CLIPDEX_SERVE__TRUSTED_PROXIES__0: .*'nginx' is not an address"):
        Settings.load(serve={"trusted_proxies": ["nginx"]})


@pytest.mark.parametrize("origin", ["http://[", "http://localhost.evil.example", "null", "://", "http://"])
def test_a_form_of_a_malformed_or_another_origin_is_refused(server, origin):
    assert log_in(server.client(), server.token(), origin).status_code == 403


def test_a_form_may_have_any_number_of_fields(server):
    form = {"token": server.token(), "after": "/", **{f"more{number}": "x" for number in range(20)}}
    assert server.client().post("/login", data=form, headers={"Origin": ORIGIN}).status_code == 303


def test_the_scope_of_a_forwarded_address_is_neither_logged_nor_counted(tmp_path, caplog):
    caplog.set_level("INFO", "clipdex.serve")
    server = Server(tmp_path, trusted_proxies=["10.0.0.7"])
    answers = [
        server.client(peer="10.0.0.7").get("/api/days", headers={"X-Forwarded-For": f"2001:db8::5%{number} x"})
        for number in range(30)
    ]
    assert {one.status_code for one in answers} == {401}
    lines = [line.getMessage() for line in caplog.records if line.name.startswith("clipdex.serve")]
    assert {line.split()[1] for line in lines} == {"2001:db8::5"}
