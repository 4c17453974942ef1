"""The preparation of a deployment, on a real Airflow database: what the first start makes, what the next one keeps."""

import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from cryptography.fernet import Fernet

ROOT = Path(__file__).resolve().parents[2]
INIT = ROOT / "docker" / "airflow" / "init.py"
FERNET_KEY = Fernet.generate_key().decode()


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    """A deployment that was started, changed in the UI, and started again with another key of the index."""
    home = tmp_path_factory.mktemp("airflow")
    start(home, CLIPDEX_INDEX__API_KEY="first-key")
    with sqlite3.connect(home / "airflow.db") as database:
        database.execute("UPDATE slot_pool SET slots = 9 WHERE pool = 'captioning'")
        columns = "conn_id, conn_type, host, is_encrypted, is_extra_encrypted"
        database.execute(f"INSERT INTO connection ({columns}) VALUES ('of_a_user', 'generic', 'there', 0, 0)")
    start(home, CLIPDEX_INDEX__API_KEY="second-key")
    return home


def test_every_pool_is_made_and_keeps_the_slots_it_was_given(home):
    pools = dict(rows(home, "SELECT pool, slots FROM slot_pool"))
    declared = {name: pool["slots"] for name, pool in json.loads(INIT.with_name("pools.json").read_text()).items()}
    assert pools == {"default_pool": 128, **declared, "captioning": 9}


def test_connections_follow_the_environment_and_leave_others_alone(home):
    hosts = dict(rows(home, "SELECT conn_id, host FROM connection"))
    assert hosts == {
        "clipdex_source": "/clips",
        "clipdex_store": "s3://artifacts/clipdex",
        "clipdex_engine": "http://gpu-1:30000,http://gpu-2:30000",
        "clipdex_embedding": None,
        "clipdex_index": "http://qdrant:6333",
        "of_a_user": "there",
    }


def test_a_changed_key_takes_effect_at_the_next_start_and_lies_encrypted(home):
    [(stored,)] = rows(home, "SELECT password FROM connection WHERE conn_id = 'clipdex_index'")
    assert Fernet(FERNET_KEY).decrypt(stored.encode()) == b"second-key"


def test_keys_of_object_storage_go_where_object_storage_is_used(home):
    logins = dict(rows(home, "SELECT conn_id, login FROM connection"))
    assert (logins["clipdex_store"], logins["clipdex_source"]) == ("s3-key", None)
    [(extra,)] = rows(home, "SELECT extra FROM connection WHERE conn_id = 'clipdex_store'")
    options = json.loads(Fernet(FERNET_KEY).decrypt(extra.encode()))
    assert options == {"options": {"endpoint_url": "http://objects:9000"}}


def test_the_admin_password_is_the_given_one_and_readable_by_its_owner_alone(home):
    file = home / "auth" / "passwords.json"
    assert json.loads(file.read_text()) == {"admin": "a-password"}
    assert file.stat().st_mode & 0o777 == 0o600


def start(home: Path, **changed: str) -> None:
    environment: Mapping[str, Any] = {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "HOME": str(home),
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__FERNET_KEY": FERNET_KEY,
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(home / "auth" / "passwords.json"),
        "AIRFLOW_ADMIN_PASSWORD": "a-password",
        "CLIPDEX_SOURCE__URL": "/clips",
        "CLIPDEX_STORE__URL": "s3://artifacts/clipdex",
        "CLIPDEX_ENGINE__BASE_URLS": '["http://gpu-1:30000", "http://gpu-2:30000"]',
        "CLIPDEX_INDEX__URL": "http://qdrant:6333",
        "S3_ENDPOINT_URL": "http://objects:9000",
        "S3_KEY": "s3-key",
        "S3_SECRET": "s3-secret",
        **changed,
    }
    subprocess.run([sys.executable, str(INIT)], env=environment, cwd=home, check=True, timeout=120)


def rows(home: Path, query: str) -> list[tuple[Any, ...]]:
    with sqlite3.connect(home / "airflow.db") as database:
        return database.execute(query).fetchall()
