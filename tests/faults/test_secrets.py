"""No secret leaves a Connection: runs of ingest_clips with secrets that are looked for afterwards, everywhere."""

import json
import logging
import threading
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto.server import ThreadedMotoServer

from clipdex.config import Settings
from tests.dags.conftest import HOME, loaded_dag
from tests.support.engine import MODEL, StandIn
from tests.support.pipeline import DAY, Pipeline

SECRETS = {name: f"canary0{name}0c0ffee" for name in ("source", "store", "engine", "index", "token")}


class Refusing(BaseHTTPRequestHandler):
    """Refuses, and repeats all that it was sent: what a proxy does that somebody debugs."""

    status = 401

    def _refuse(self) -> None:
        told = " ".join(f"{name}: {value}" for name, value in self.headers.items())
        body = told.encode()
        if self.status == 403:
            body = (
                f"<Error><Code>AccessDenied</Code><Message>Access Denied</Message><Sent>{told}</Sent></Error>".encode()
            )
        self.send_response(self.status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_GET = do_PUT = do_POST = do_HEAD = _refuse

    def log_message(self, *_: object) -> None:
        pass


class Forbidding(Refusing):
    status = 403


def serving(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


unauthorized = pytest.fixture(lambda: (yield from serving(Refusing)))
forbidden = pytest.fixture(lambda: (yield from serving(Forbidding)))


@pytest.fixture
def s3() -> Iterator[str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@dataclass
class World:
    """Everything behind Connections with secrets: clips and artifacts on S3, an engine, an index."""

    home: Path
    s3: str
    bucket: str
    engine: StandIn
    capture: Any
    records: pytest.LogCaptureFixture

    def run(self, **changed: dict[str, Any]) -> str:
        """One day ingested; how it ended. changed: fields of a Connection, by its name without clipdex_."""
        from airflow.models import Connection
        from airflow.utils.session import create_session

        options = {"endpoint_url": self.s3, "client_kwargs": {"region_name": "us-east-1"}}
        given: dict[str, dict[str, Any]] = {
            "source": {"host": f"s3://{self.bucket}/clips", "login": "someone", "extra": {"options": options}},
            "store": {"host": f"s3://{self.bucket}/store", "login": "someone",
                      "extra": {"options": {**options, "config_kwargs": {"user_agent_extra": SECRETS["token"]}}}},
            "engine": {"host": self.engine.url, "extra": {"name": "sglang", "model": MODEL, "tries": 2}},
            "index": {},
        }  # fmt: skip
        with create_session() as session:
            for name, fields in given.items():
                fields = fields | changed.get(name, {})
                extra = fields.pop("extra", {}) | changed.get(name, {}).get("extra", {})
                session.query(Connection).filter_by(conn_id=f"clipdex_{name}").delete()
                session.add(
                    Connection(f"clipdex_{name}", "generic", password=SECRETS[name], extra=json.dumps(extra), **fields)
                )
        return str(loaded_dag("ingest_clips").test(run_conf={"day": DAY}).state)

    def written(self) -> dict[str, str]:
        """All that can be read afterwards, but for the Connections themselves, by where it stands."""
        from airflow import settings
        from sqlalchemy import MetaData

        found = {"log": "".join(self.capture.readouterr()) + self.records.text}
        tables = MetaData()
        with settings.engine.connect() as database:
            tables.reflect(database)
            for table in tables.sorted_tables:
                if table.name != "connection":
                    found[f"table {table.name}"] = repr(database.execute(table.select()).all())
        for folder in (HOME, self.home):
            for path in folder.rglob("*"):
                if path.is_file() and not path.name.startswith(("airflow.cfg", "airflow.db")):
                    found[str(path)] = path.read_bytes().decode(errors="replace")
        client = boto3.client("s3", endpoint_url=self.s3, aws_access_key_id="a", aws_secret_access_key="b")
        for item in client.list_objects_v2(Bucket=self.bucket).get("Contents", []):
            if not item["Key"].endswith((".mp4", ".jpg")):
                found[item["Key"]] = client.get_object(Bucket=self.bucket, Key=item["Key"])["Body"].read().decode()
        return found


@pytest.fixture
def world(tmp_path, s3, monkeypatch, capfd, caplog) -> Iterator[World]:
    from airflow.models import Connection
    from airflow.utils.db import initdb
    from airflow.utils.session import create_session

    initdb()
    caplog.set_level(logging.INFO, logger="clipdex")
    monkeypatch.setenv("CLIPDEX_HOME", str(tmp_path / "home"))
    client = boto3.client("s3", endpoint_url=s3, aws_access_key_id="a", aws_secret_access_key="b")
    bucket = f"bucket-{uuid.uuid4().hex}"
    client.create_bucket(Bucket=bucket)
    for clip in Pipeline(tmp_path / "made", [s3]).put(3):
        client.upload_file(str(clip), bucket, f"clips/{DAY.replace('-', '/')}/{clip.name}")
    client.put_object(Bucket=bucket, Key=f"clips/{DAY.replace('-', '/')}/empty.mp4", Body=b"")
    with StandIn(words=80, api_key=SECRETS["engine"]) as engine:
        yield World(tmp_path / "home", s3, bucket, engine, capfd, caplog)
    with create_session() as session:
        session.query(Connection).filter(Connection.conn_id.in_([f"clipdex_{name}" for name in SECRETS])).delete()


def leaked(written: dict[str, str]) -> dict[str, list[str]]:
    return {
        where: told
        for where, text in written.items()
        if (told := [name for name, secret in SECRETS.items() if secret in text])
    }


def test_a_run_that_needs_every_secret_shows_none(world):
    assert world.run() == "success"
    assert {request.authorization for request in world.engine.chats} == {f"Bearer {SECRETS['engine']}"}
    written = world.written()
    assert any(key.startswith("store/reports/") for key in written) and "captioned 3 clips" in written["log"]
    assert leaked(written) == {}


@pytest.mark.slow
def test_an_engine_that_repeats_the_key_it_refuses_does_not_get_it_into_a_log(world):
    world.engine.plan.set(f"401:1.0:at=models:say=invalid key {SECRETS['engine']}")
    assert world.run() == "failed"
    written = world.written()
    assert "check the key: CLIPDEX_ENGINE__API_KEY" in written["log"]
    assert leaked(written) == {}


@pytest.mark.slow
def test_a_qdrant_that_repeats_the_key_it_refuses_does_not_either(world, unauthorized):
    assert world.run(index={"host": unauthorized}) == "failed"
    written = world.written()
    assert "Qdrant refused the key (401" in written["log"]
    assert leaked(written) == {}


@pytest.mark.parametrize("which", ["source", "store"])
@pytest.mark.slow
def test_a_store_of_objects_that_refuses_the_key_does_not_either(world, forbidden, which):
    options = {"endpoint_url": forbidden, "client_kwargs": {"region_name": "us-east-1"}}
    assert world.run(**{which: {"extra": {"options": options}}}) == "failed"
    written = world.written()
    assert "Access Denied" in written["log"] or "Forbidden" in written["log"]
    assert leaked(written) == {}


def test_settings_that_cannot_be_are_told_without_what_they_are(world):
    extra = {"name": "sglang", "model": MODEL, "tries": SECRETS["token"], SECRETS["token"][:3]: SECRETS["engine"]}
    assert world.run(engine={"extra": extra}) == "failed"
    written = world.written()
    assert "CLIPDEX_ENGINE__TRIES: Input should be a valid integer" in written["log"]
    assert leaked(written) == {}


def test_settings_print_no_secret():
    given = {"key": SECRETS["source"], "secret": SECRETS["source"], "options": {"token": SECRETS["token"]}}
    settings = Settings.load(source=given, store=given, index={"api_key": SECRETS["index"]})
    assert leaked({"repr": repr(settings), "str": str(settings), "group": repr(settings.source)}) == {}
