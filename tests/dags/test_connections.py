"""Test Airflow Connections, written as fields, as a URI and as JSON: every field counts, or is rejected by name."""

import json
import os
import subprocess
import sys

import pytest
from airflow.sdk import Connection

from clipdex.config import Settings
from clipdex.connections import engine_settings, index_settings, storage_settings
from clipdex.errors import ConfigurationError

SECRET = "a-secret-key"


def made(given: str | dict) -> Connection:
    """Return a Connection from a URI or from fields."""
    if isinstance(given, str):
        return Connection.from_uri(given, conn_id="clipdex_it")
    return Connection.from_json(json.dumps(given), conn_id="clipdex_it")


@pytest.mark.parametrize(
    ("given", "url"),
    [
        ("http://qdrant:7333", "http://qdrant:7333"),
        ("https://qdrant.example.com", "https://qdrant.example.com"),
        ("https://example.com:8443/qdrant/a", "https://example.com:8443/qdrant/a"),
        ("http://[::1]:7333", "http://[::1]:7333"),
        ("http://https://qdrant:7333", "https://qdrant:7333"),
        ("http://qdrant:7333/https", "https://qdrant:7333"),
        ("generic://qdrant:443", "https://qdrant:443"),
        ({"host": "qdrant", "port": 7333}, "http://qdrant:7333"),
        ({"conn_type": "http", "host": "qdrant", "port": "7333", "schema": "https"}, "https://qdrant:7333"),
        ({"conn_type": "http", "host": "https://qdrant:6333"}, "https://qdrant:6333"),
        ({"conn_type": "generic", "host": "https://qdrant", "port": 7333, "schema": "a"}, "https://qdrant:7333/a"),
        ({"conn_type": "qdrant", "host": "::1", "port": 7333}, "http://[::1]:7333"),
    ],
)
def test_an_index_is_where_all_fields_together_say(given, url):
    assert index_settings(made(given)) == {"url": url}


@pytest.mark.parametrize(
    ("given", "urls"),
    [
        ("http://gpu-1:30000/v1", ["http://gpu-1:30000/v1"]),
        ("https://gpu-1,gpu-2:30000", ["https://gpu-1:30000", "https://gpu-2:30000"]),
        ({"host": "http://gpu-1:1, http://gpu-2:2,"}, ["http://gpu-1:1", "http://gpu-2:2"]),
        ({"conn_type": "http", "host": "gpu-1,gpu-2", "port": 30000}, ["http://gpu-1:30000", "http://gpu-2:30000"]),
        ({"host": "http://gpu-1,gpu-2:443", "port": 443}, ["http://gpu-1:443", "https://gpu-2:443"]),
    ],
)
def test_each_engine_has_the_port_and_the_path(given, urls):
    assert engine_settings(made(given)) == {"base_urls": urls}


@pytest.mark.parametrize(
    ("given", "url"),
    [
        ("s3://bucket/some/prefix", "s3://bucket/some/prefix"),
        ("file:///data/clips", "/data/clips"),
        ("sftp://host:2222/archive", "sftp://host:2222/archive"),
        ("aws:///?url=s3%3A%2F%2Fbucket", "s3://bucket"),
        ({"host": "s3://bucket/a#b"}, "s3://bucket/a#b"),
        ({"conn_type": "s3", "host": "s3://bucket", "schema": "prefix"}, "s3://bucket/prefix"),
        ({"conn_type": "generic", "host": "/data", "schema": "clips"}, "/data/clips"),
        ({"conn_type": "generic", "host": "sftp://host/archive", "port": 2222}, "sftp://host:2222/archive"),
    ],
)
def test_a_storage_is_where_all_fields_together_say(given, url):
    assert storage_settings(made(given)) == {"url": url}


@pytest.mark.parametrize(
    "pattern", ["{year}/{month}/{day}", "{camera}/{year}-{month}-{day}", "[12]*/{year}{month}{day}"]
)
def test_a_day_pattern_in_extra_is_text(pattern):
    given = storage_settings(made({"extra": {"day_pattern": pattern, "metadata": '{"speed": "number"}'}}))
    source = Settings.load(source=given).source
    assert (source.day_pattern, source.metadata) == (pattern, {"speed": "number"})


def test_keys_and_extra_become_settings():
    given = storage_settings(made(f"s3://me:{SECRET}@bucket/a?day_pattern=&options=%7B%22anon%22%3A+false%7D"))
    assert given == {
        "url": "s3://bucket/a",
        "key": "me",
        "secret": SECRET,
        "day_pattern": "",
        "options": {"anon": False},
    }
    engine = engine_settings(made(f"http://:{SECRET}@gpu:1?name=sglang&model=m&server_sampling=%7B%22fps%22%3A2%7D"))
    settings = Settings.load(engine=engine).engine
    assert settings.api_key.get_secret_value() == SECRET and settings.server_sampling == {"fps": 2}


@pytest.mark.parametrize("read", [storage_settings, engine_settings, index_settings])
def test_an_empty_connection_changes_nothing(read):
    assert read(made({})) == read(made({"conn_type": "generic", "description": "to be filled in"})) == {}


@pytest.mark.parametrize(
    ("read", "given", "field"),
    [
        (index_settings, f"postgres://me:{SECRET}@qdrant", "conn_type is postgres"),
        (index_settings, f"http://me:{SECRET}@qdrant", "login is not used"),
        (index_settings, {"port": 6333, "password": SECRET}, "port is set without a host"),
        (index_settings, {"schema": "https"}, "schema is set without a host"),
        (index_settings, {"host": "http://a,http://b"}, "host has several addresses"),
        (index_settings, {"host": "http://a:1", "port": 2}, "port is 2, and the host has port 1"),
        (index_settings, {"host": f"http://{SECRET}:port"}, "host is not an address"),
        (
            index_settings,
            {"conn_type": "https", "host": "http://a"},
            "conn_type is https, and the host begins with http",
        ),
        (
            index_settings,
            {"conn_type": "https", "host": "a", "schema": "http"},
            "schema is http, and conn_type is https",
        ),
        (engine_settings, {"host": "https://a", "schema": "http"}, "schema is http, and the host begins with https"),
        (engine_settings, {"host": "http://a/v1", "schema": "v2"}, "schema is the path v2"),
        (engine_settings, {"extra": "{" + SECRET}, "extra is not a JSON object"),
        (engine_settings, {"extra": "[1]"}, "extra is not a JSON object"),
        (engine_settings, {"extra": {"options": "{" + SECRET}}, "extra has invalid JSON in its field options"),
        (engine_settings, {"extra": {"api_key": "k"}, "password": SECRET}, "password and the field api_key of extra"),
        (storage_settings, "postgres://host/archive", "conn_type is postgres"),
        (storage_settings, "s3://bucket:9000/a", "port does not apply"),
        (storage_settings, {"host": "/data", "port": 1}, "port does not apply"),
        (storage_settings, {"host": "/data", "login": "me", "password": SECRET}, "login is the access key"),
        (storage_settings, f"sftp://me:{SECRET}@host/archive", "login is the access key"),
        (storage_settings, {"conn_type": "s3", "host": "/data"}, "conn_type is s3, and the host is a folder"),
        (storage_settings, {"conn_type": "gs", "host": "s3://bucket"}, "conn_type is gs, and the host begins with s3"),
    ],
)
def test_a_field_that_cannot_count_is_rejected_by_name(read, given, field):
    with pytest.raises(ConfigurationError) as raised:
        read(made(given))
    assert str(raised.value).startswith(f"connection clipdex_it: {field}") and SECRET not in str(raised.value)


@pytest.mark.parametrize("fields", [{"login": "me"}, {"password": SECRET}])
def test_half_of_a_key_is_rejected(fields):
    with pytest.raises(ConfigurationError, match=r"CLIPDEX_STORE: .*key and secret go together") as raised:
        Settings.load(store=storage_settings(made({"host": "s3://bucket", **fields})))
    assert SECRET not in str(raised.value)


def test_an_unknown_field_of_extra_is_rejected_by_name():
    with pytest.raises(ConfigurationError, match="CLIPDEX_INDEX__PATH"):
        Settings.load(index=index_settings(made({"host": "qdrant", "extra": {"path": "/a"}})))


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ("https://example.com:8443/qdrant", "https://example.com:8443/qdrant"),
        ('{"host": "qdrant", "port": 7333}', "http://qdrant:7333"),
        (f"http://:{SECRET}@qdrant-1:1,qdrant-2:2", "AIRFLOW_CONN_CLIPDEX_INDEX: Airflow cannot read it"),
        (f'{{"host": "qdrant", "key": "{SECRET}"}}', "AIRFLOW_CONN_CLIPDEX_INDEX: Airflow cannot read it"),
    ],
)
def test_a_variable_of_airflow_is_read_or_named(tmp_path, value, found):
    """Airflow skips a Connection that it cannot read, so that it would be as good as missing."""
    code = "from clipdex.airflow_tasks import server_settings; print(server_settings().index.url)"
    environment = {**os.environ, "AIRFLOW_HOME": str(tmp_path), "AIRFLOW_CONN_CLIPDEX_INDEX": value}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert found in (done.stdout + done.stderr).splitlines()[-1] and SECRET not in done.stdout + done.stderr
