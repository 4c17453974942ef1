"""The playbacks as a browser requests them: in ranges, in bounded pieces, behind the guard, and nothing else."""

import asyncio
import os

import pytest
from fastapi import HTTPException
from starlette.testclient import TestClient

from clipdex.config import Settings
from clipdex.storage.artifacts import Store, playback_path
from clipdex.web.app import create_app
from clipdex.web.backend import Backend
from clipdex.web.clips.media import PIECE, Span, Unsatisfiable, _pieces, parse_range

CONTENT = "ab" * 32
PATH = f"/playbacks/{CONTENT}.mp4"
DATA = os.urandom(2 * PIECE + 321)
SIZE = len(DATA)


@pytest.fixture
def store(root, tmp_path) -> Store:
    settings = Settings.load(home=tmp_path, store=root)
    opened = Store.open(settings)
    opened.write(playback_path(CONTENT), DATA)
    opened.write("captions/ab/secret.json", b"no stranger's business")
    return opened


@pytest.fixture
def browser(root, tmp_path, store):
    settings = Settings.load(home=tmp_path, store=root)
    with TestClient(create_app(lambda: settings, lambda: None, lambda request: "/login")) as client:
        yield client


def test_a_store_gives_sizes_and_ranges(store):
    key = playback_path(CONTENT)
    assert store.size(key) == SIZE
    assert store.read_range(key, 10, 20) == DATA[10:20]
    assert store.read_range(key, SIZE - 5, SIZE + 100) == DATA[-5:]
    assert store.existing([key, key, "playbacks/no"]) == {key}
    for read in (lambda: store.size("playbacks/no"), lambda: store.read_range("playbacks/no", 0, 1)):
        with pytest.raises(FileNotFoundError):
            read()


def test_the_whole_and_its_headers(browser):
    answer = browser.get(PATH)
    assert (answer.status_code, answer.content) == (200, DATA)
    assert answer.headers["Content-Type"] == "video/mp4" and answer.headers["Content-Length"] == str(SIZE)
    assert answer.headers["Accept-Ranges"] == "bytes" and "immutable" in answer.headers["Cache-Control"]
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert "media-src 'self'" in answer.headers["Content-Security-Policy"]
    assert browser.get(PATH, headers={"If-None-Match": answer.headers["ETag"]}).status_code == 304


@pytest.mark.parametrize(
    ("header", "start", "end"),
    [
        ("bytes=0-", 0, SIZE), ("bytes=0-0", 0, 1), ("bytes=100-199", 100, 200), ("Bytes = 5 - 9", 5, 10),
        (f"bytes={PIECE - 1}-{PIECE + 1}", PIECE - 1, PIECE + 2), ("bytes=-10", SIZE - 10, SIZE),
        (f"bytes=-{10 * SIZE}", 0, SIZE), (f"bytes={SIZE - 1}-{10**17}", SIZE - 1, SIZE),
    ],
)  # fmt: skip
def test_a_range_is_answered_alone(browser, header, start, end):
    answer = browser.get(PATH, headers={"Range": header})
    assert (answer.status_code, answer.content) == (206, DATA[start:end])
    assert answer.headers["Content-Range"] == f"bytes {start}-{end - 1}/{SIZE}"
    assert answer.headers["Content-Length"] == str(end - start)
    head = browser.head(PATH, headers={"Range": header})
    assert (head.status_code, head.content) == (206, b"")
    assert head.headers["Content-Range"] == answer.headers["Content-Range"]


@pytest.mark.parametrize(
    "header",
    [
        f"bytes={SIZE}-", f"bytes={SIZE + 5}-{SIZE + 9}", "bytes=-0", "bytes=9-5", "bytes=-", "bytes=", "bytes=a-b",
        "bytes=1-2-3", "bytes=-1-5", "bytes=0x1-2", "bytes=" + "9" * 150, "bytes=0-" + " " * 500 + "1", "bytes=1.5-3",
        "bytes=\u0661-", "bytes=" + "9" * 19 + "-",
    ],
)  # fmt: skip
@pytest.mark.parametrize("root", ["folder"], indirect=True)
def test_a_bad_range_is_416_with_the_size(browser, header):
    answer = browser.get(PATH, headers={"Range": header.encode()})
    assert (answer.status_code, answer.headers["Content-Range"]) == (416, f"bytes */{SIZE}")
    assert len(answer.content) < 10_000


@pytest.mark.parametrize("header", ["bytes=0-1,5-6", "bytes=" + "0-," * 60 + "0-", "lines=0-1", "nonsense", ""])
@pytest.mark.parametrize("root", ["folder"], indirect=True)
def test_several_ranges_and_other_units_are_answered_with_the_whole_once(browser, header):
    answer = browser.get(PATH, headers={"Range": header})
    assert (answer.status_code, len(answer.content)) == (200, SIZE)


def test_a_range_of_another_version_is_answered_with_the_whole(browser):
    tag = browser.head(PATH).headers["ETag"]
    assert browser.get(PATH, headers={"Range": "bytes=0-9", "If-Range": tag}).status_code == 206
    assert browser.get(PATH, headers={"Range": "bytes=0-9", "If-Range": '"other"'}).content == DATA


def test_head_tells_the_size_and_sends_nothing(browser):
    head = browser.head(PATH)
    assert (head.status_code, head.content, head.headers["Content-Length"]) == (200, b"", str(SIZE))


def test_a_missing_playback_names_the_command_and_is_not_cached(browser):
    answer = browser.get(f"/playbacks/{'0' * 64}.mp4")
    assert answer.status_code == 404 and "clipdex playback --day DAY" in answer.text
    assert answer.headers["Cache-Control"] == "private, no-store"


@pytest.mark.parametrize(
    "name",
    ["..%2f..%2fcaptions%2fab%2fsecret.json", "../captions/ab/secret.json", CONTENT.upper() + ".mp4", CONTENT,
     f"{CONTENT}.mp4%00", f"{CONTENT}.jpg", "x.mp4", f"{CONTENT[:-1]}g.mp4", f"{CONTENT}%0a.mp4"],
)  # fmt: skip
@pytest.mark.parametrize("root", ["folder"], indirect=True)
def test_nothing_else_of_the_store_is_served(browser, name):
    answer = browser.get(f"/playbacks/{name}")
    assert answer.status_code in (404, 422) and b"business" not in answer.content


class Watched(Store):
    """Note how much is read at once."""

    most = 0

    def read_range(self, key: str, start: int, end: int) -> bytes:
        data = super().read_range(key, start, end)
        self.most = max(self.most, len(data))
        return data


def test_a_playback_is_read_in_bounded_pieces(tmp_path):
    settings = Settings.load(home=tmp_path)
    watched = Watched.open(settings)
    assert isinstance(watched, Watched)
    watched.write(playback_path(CONTENT), DATA)

    async def read() -> bytes:
        pieces = _pieces(Backend(lambda: settings), watched, playback_path(CONTENT), Span(7, SIZE))
        return b"".join([piece async for piece in pieces])

    assert asyncio.run(read()) == DATA[7:] and watched.most == PIECE


def test_anonymous_visitors_get_nothing(tmp_path, store):
    def refuse() -> None:
        raise HTTPException(401, "log in")

    with TestClient(create_app(lambda: Settings.load(home=tmp_path), refuse, lambda request: "/login")) as client:
        for method in ("GET", "HEAD"):
            assert client.request(method, PATH, headers={"Range": "bytes=0-9"}).status_code == 401
        assert client.post(PATH).status_code in (401, 405)


def test_ranges_are_within_the_object_whatever_the_header():
    for header in ("bytes=0-", "bytes=5-5", "bytes=-3", f"bytes=3-{10**17}"):
        span = parse_range(header, 10)
        assert span is not None and 0 <= span.start < span.end <= 10
    assert parse_range("bytes=2-3", 10) == Span(2, 4) and parse_range("", 10) is None
    for header in ("bytes=0-", "bytes=-1"):
        with pytest.raises(Unsatisfiable):
            parse_range(header, 0)
