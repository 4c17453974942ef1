"""File names, captions and server responses are data: they cannot control a terminal, a log or a URI."""

import json
import logging
import os

import pytest

from clipdex import cli
from clipdex.errors import BatchRejected, ClipRejected
from clipdex.runs.outcomes import Outcome
from clipdex.runs.planning import run_label
from clipdex.storage.source import Source
from tests.support.engine import StandIn
from tests.support.pipeline import DAY, Pipeline

CLEAR, TITLE, C1 = "\x1b[2J", "\x1b]0;mine\x07", "\x9b31m"
FORGED = "a\n2026-11-03 ERROR forged: all clips were lost\x1b[31m\u202egpj"


@pytest.fixture
def clean():
    def check(text: str) -> str:
        assert not [found for found in text if found != "\n" and not found.isprintable() and found != "\t"], text
        return text

    return check


@pytest.fixture
def hostile(tmp_path):
    """Yield a pipeline with three good clips and one file that is no video; names forge a log line or are not UTF-8."""
    with StandIn(words=80) as engine:
        pipeline = Pipeline(tmp_path, [engine.url])
        clips = pipeline.put(2)
        clips[0].rename(clips[0].with_name(f"{FORGED}.mp4"))
        (clips[0].parent / f"{FORGED} bad.mp4").write_bytes(b"no video " * 100)
        (clips[0].parent / os.fsdecode(b"not utf-8 \xff\xfe.mp4")).write_bytes(clips[1].read_bytes())
        pipeline.stand_in = engine
        yield pipeline


def test_a_file_name_cannot_forge_a_log_line(hostile, caplog, clean):
    caplog.set_level(logging.INFO, logger="clipdex")
    report = hostile.run()
    assert (report.total("indexed"), report.total("quarantined")) == (3, 1)
    written = [record.getMessage() for record in caplog.records if record.name.startswith("clipdex")]
    assert any("forged" in line for line in written)
    assert [line for line in written if "\n" in line] == []
    clean("".join(written))


def test_a_uri_is_valid_whatever_the_file_name(hostile, clean):
    hostile.run()
    uris = {payload["uri"] for payload in hostile.points().values()}
    assert len(uris) == 3 and any(uri.endswith("not utf-8 %FF%FE.mp4") for uri in uris)
    assert any("a%0A2026-11-03 ERROR forged" in uri and "%1B[31m" in uri for uri in uris)
    clean("".join(uris))


def test_an_engine_response_cannot_put_control_characters_in_the_log(hostile, caplog):
    hostile.stand_in.plan.set(f"400:1.0:say=no{CLEAR} video")
    with pytest.raises(BatchRejected):
        hostile.run()
    assert "video)" in caplog.text and CLEAR not in caplog.text


@pytest.mark.parametrize("as_json", [False, True])
def test_text_in_an_index_cannot_control_the_terminal_that_shows_it(tmp_path, monkeypatch, capsys, clean, as_json):
    """Search an index that another program has written to."""
    from clipdex.config import Settings
    from clipdex.index import Collection, Point, open_index, sparse_document
    from clipdex.index.embeddings import open_embedder

    monkeypatch.setenv("CLIPDEX_HOME", str(tmp_path))
    settings = Settings.load()
    embedder = open_embedder(settings.embedding)
    text = f"a bicycle{CLEAR}{TITLE}{C1} in the rain"
    payload = {"clip_id": "c", "uri": f"/clips/{CLEAR}{C1}.mp4", "day": DAY, "chunk_no": 0, "text": text,
               "start_s": 0.0, "end_s": 2.0, "duration_s": 2.0, "poster": ""}  # fmt: skip
    vector = embedder.embed_documents([text])[0]
    with open_index(settings, Collection.of(settings, embedder)) as index:
        index.ensure()
        index.upsert([Point("6f1a2a86-7f3c-5b0e-9d0a-0123456789ab", vector, sparse_document(text), payload)])
    assert cli.main(["search", "bicycle", *(["--json"] if as_json else [])]) == 0
    shown = clean(capsys.readouterr().out)
    assert "a bicycle" in shown and "in the rain" in shown
    if as_json:
        assert json.loads(shown)[0]["hits"][0]["text"] == text


# Paths


def test_a_folder_that_is_a_link_out_of_the_source_is_skipped(hostile, tmp_path, caplog):
    outside = tmp_path / "outside"
    (hostile.clips / "2026/11/03").rename(outside)
    (hostile.clips / "2026/11/03").symlink_to(outside)
    source = Source(hostile.settings)
    assert list(source.day(DAY)) == [] == list(source.prefix("2026/11/03"))
    assert "a link that leaves" in caplog.text


def test_a_file_that_becomes_a_link_out_of_the_source_is_not_read(hostile, tmp_path):
    """Replace the file after discovery."""
    secret = tmp_path / "secret.mp4"
    victim = hostile.put(3)[2]
    batch = hostile.plan().batches[0]
    victim.rename(secret)
    victim.symlink_to(secret)
    secret_digest = hostile.proxy_digest(secret)
    hostile.caption(batch)
    outcome = hostile.outcomes()[victim.name]
    assert (outcome.outcome, outcome.reason) == (Outcome.QUARANTINED, "unreadable")
    assert secret_digest not in [request.digest for request in hostile.stand_in.chats]


@pytest.mark.parametrize("prefix", ["..", "2026/../..", "/etc", "2026/11/../../../outside"])
def test_a_prefix_cannot_leave_the_source(hostile, prefix):
    from clipdex.errors import ConfigurationError

    with pytest.raises(ConfigurationError, match="must be a folder below"):
        list(Source(hostile.settings).prefix(prefix))


# Requests to an engine


def test_an_engine_receives_bytes_and_never_a_path_or_a_uri(hostile):
    hostile.run()
    for request in hostile.stand_in.chats:
        body = json.dumps(request.body)
        parts = [part for part in request.body["messages"][-1]["content"] if part["type"] != "text"]
        assert [part[part["type"]]["url"].startswith("data:video/mp4") for part in parts] == [True]
        assert not [secret for secret in (str(hostile.home), "tiny-", "forged", "file:", "http") if secret in body]


def test_a_rejection_is_one_line_whatever_it_quotes():
    assert ClipRejected("undecodable", f"{FORGED}").detail.count("\n") == 0
    assert run_label("x\n../y", 1) == "x-..-y.1"
