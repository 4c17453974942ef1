"""Prepare a deployment at every start: database, pools, connections and the admin's password.

Existing pools keep their slots. Connections are overwritten from the environment: a changed address or key needs a
restart and no change in the UI.
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
    made = pools(os.environ)
    _import("pools", {name: pool for name, pool in made.items() if name not in existing})
    _import("connections", connections(os.environ), "--overwrite")
    write_password(Path(os.environ["AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE"]), os.environ)


def pools(environment: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """Return the pools by name. With a Qdrant server, indexing gets what captioning leaves of a worker, less one."""
    found: dict[str, dict[str, Any]] = json.loads(POOLS.read_text())
    concurrency = int(environment.get("AIRFLOW__CELERY__WORKER_CONCURRENCY") or 0)
    if environment.get("CLIPDEX_INDEX__URL"):
        left = concurrency - found["captioning"]["slots"] - 1
        found["indexing"]["slots"] = max(left, found["indexing"]["slots"])
    return found


def connections(environment: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """Return Airflow's connections by id, with the addresses and keys from the environment."""
    values = defaultdict(str, environment)
    engines = json.loads(values["CLIPDEX_ENGINE__BASE_URLS"] or "[]")
    embedding = json.loads(values["CLIPDEX_EMBEDDING__BASE_URLS"] or "[]")
    return {
        "clipdex_source": _storage(values["CLIPDEX_SOURCE__URL"], values),
        "clipdex_store": _storage(values["CLIPDEX_STORE__URL"], values),
        "clipdex_engine": _connection(host=",".join(engines), password=values["CLIPDEX_ENGINE__API_KEY"]),
        "clipdex_embedding": _connection(host=",".join(embedding), password=values["CLIPDEX_EMBEDDING__API_KEY"]),
        "clipdex_index": _connection(host=values["CLIPDEX_INDEX__URL"], password=values["CLIPDEX_INDEX__API_KEY"]),
    }


def write_password(path: Path, environment: Mapping[str, str]) -> None:
    """Write the passwords file of Airflow's simple auth manager."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    part.touch(mode=0o600)
    part.write_text(json.dumps({"admin": environment["AIRFLOW_ADMIN_PASSWORD"]}))
    part.replace(path)


def _storage(url: str, values: Mapping[str, str]) -> dict[str, Any]:
    """Return the connection of a storage URL. Only s3:// URLs get keys and an endpoint."""
    if not url.startswith("s3://"):
        return _connection(host=url)
    endpoint = values["S3_ENDPOINT_URL"]
    options = json.dumps({"options": {"endpoint_url": endpoint}}) if endpoint else ""
    return _connection(host=url, login=values["S3_KEY"], password=values["S3_SECRET"], extra=options)


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
