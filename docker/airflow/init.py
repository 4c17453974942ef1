"""Prepare a deployment: its database, pools, connections and the admin's password. Runs at every start.

Pools that exist keep the slots that somebody gave them. The connections are written anew: the environment is the
truth about addresses and keys, so that a changed key needs a restart and no visit to the UI.
"""

import json
import os
import subprocess
import tempfile
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

POOLS = Path(__file__).with_name("pools.json")


def main() -> None:
    _airflow("db", "migrate")
    existing = {pool["pool"] for pool in json.loads(_airflow("pools", "list", "--output", "json"))}
    pools = json.loads(POOLS.read_text())
    _import("pools", {name: pool for name, pool in pools.items() if name not in existing})
    _import("connections", connections(os.environ), "--overwrite")
    write_password(Path(os.environ["AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE"]), os.environ)


def connections(environment: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """Airflow's connections by id: what the environment says of addresses and keys."""
    said = defaultdict(str, environment)
    engines = json.loads(said["CLIPDEX_ENGINE__BASE_URLS"] or "[]")
    return {
        "clipdex_source": _storage(said["CLIPDEX_SOURCE__URL"], said),
        "clipdex_store": _storage(said["CLIPDEX_STORE__URL"], said),
        "clipdex_engine": _connection(host=",".join(engines), password=said["CLIPDEX_ENGINE__API_KEY"]),
        "clipdex_index": _connection(host=said["CLIPDEX_INDEX__URL"], password=said["CLIPDEX_INDEX__API_KEY"]),
    }


def write_password(path: Path, environment: Mapping[str, str]) -> None:
    """The file from which Airflow's own simple login reads."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    part.touch(mode=0o600)
    part.write_text(json.dumps({"admin": environment["AIRFLOW_ADMIN_PASSWORD"]}))
    part.replace(path)


def _storage(url: str, said: Mapping[str, str]) -> dict[str, Any]:
    """Keys and endpoint belong to object storage alone."""
    if not url.startswith("s3://"):
        return _connection(host=url)
    endpoint = said["S3_ENDPOINT_URL"]
    options = json.dumps({"options": {"endpoint_url": endpoint}}) if endpoint else ""
    return _connection(host=url, login=said["S3_KEY"], password=said["S3_SECRET"], extra=options)


def _connection(**fields: str) -> dict[str, Any]:
    return {"conn_type": "generic", **{name: value for name, value in fields.items() if value}}


def _import(what: str, records: dict[str, Any], *options: str) -> None:
    if not records:
        return
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / f"{what}.json"
        file.touch(mode=0o600)
        file.write_text(json.dumps(records))
        print(_airflow(what, "import", *options, str(file)), end="")


def _airflow(*command: str) -> str:
    return subprocess.run(["airflow", *command], check=True, stdout=subprocess.PIPE, text=True).stdout


if __name__ == "__main__":
    main()
