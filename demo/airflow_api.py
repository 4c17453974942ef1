"""Call Airflow's public REST API for the demo and the live tests."""

import time
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

import httpx

TIMEOUT_S = 90.0
"""Longer than a writer waits for SQLite (local_airflow.py, WRITE_LOCK_S)."""


class ApiError(Exception):
    """The API returned an error; the message includes its response."""


class AirflowApi:
    """Log in with a password, and again when the token expires."""

    def __init__(self, url: str, user: str, password: str) -> None:
        self._user, self._password = user, password
        self._client = httpx.Client(base_url=url, timeout=TIMEOUT_S)
        self._token = ""

    def __enter__(self) -> "AirflowApi":
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def call(self, method: str, path: str, **arguments: Any) -> Any:
        """Send a request below /api/v2; return the JSON of the response."""
        answer = self._request(method, f"/api/v2{path}", **arguments)
        if answer.status_code == 401:
            self._token = ""
            answer = self._request(method, f"/api/v2{path}", **arguments)
        if answer.is_error:
            raise ApiError(f"{method} {path}: {answer.status_code} {answer.text[:500]}")
        return answer.json() if answer.content else None

    def page(self, path: str, **params: Any) -> str:
        """Return a page of the UI as this user sees it."""
        answer = self._request("GET", path, params=params)
        if answer.is_error:
            raise ApiError(f"GET {path}: {answer.status_code} {answer.text[:500]}")
        return answer.text

    def pages(self, path: str, key: str, **params: Any) -> Iterator[dict[str, Any]]:
        """Yield every row of a listing."""
        offset = 0
        while True:
            page = self.call("GET", path, params={**params, "limit": 100, "offset": offset})
            yield from page[key]
            offset += len(page[key])
            if not page[key] or offset >= page["total_entries"]:
                return

    def backfill(
        self,
        dag: str,
        first: str,
        last: str,
        reprocess: str = "none",
        conf: dict[str, Any] | None = None,
        runs: int = 1,
    ) -> int:
        """Create a backfill of days first to last; return its id. reprocess: none, failed or completed."""
        body = {
            "dag_id": dag, "from_date": f"{first}T00:00:00Z", "to_date": f"{last}T00:00:00Z",
            "reprocess_behavior": reprocess, "max_active_runs": runs, "dag_run_conf": conf or {},
        }  # fmt: skip
        return int(self.call("POST", "/backfills", json=body)["id"])

    def close_backfills(self, dag: str) -> None:
        """Cancel open backfills of earlier sessions: Airflow allows one backfill per DAG at a time."""
        for backfill in self._open_backfills(dag):
            self.call("PUT", f"/backfills/{backfill['id']}/cancel")

    def trigger(self, dag: str, day: str | None = None, conf: dict[str, Any] | None = None) -> str:
        """Trigger a run; return its id."""
        body: dict[str, Any] = {"logical_date": None, "conf": conf or {}}
        if day:
            body["partition_key"] = day
        return str(self.call("POST", f"/dags/{dag}/dagRuns", json=body)["dag_run_id"])

    def runs(self, dag: str) -> list[dict[str, Any]]:
        return list(self.pages(f"/dags/{dag}/dagRuns", "dag_runs"))

    def run(self, dag: str, run: str) -> dict[str, Any]:
        found: dict[str, Any] = self.call("GET", f"/dags/{dag}/dagRuns/{run}")
        return found

    def tasks(self, dag: str, run: str) -> list[dict[str, Any]]:
        return list(self.pages(f"/dags/{dag}/dagRuns/{run}/taskInstances", "task_instances"))

    def tries(self, dag: str, run: str, task: str, map_index: int = -1) -> list[dict[str, Any]]:
        where = f"{task}/{map_index}" if map_index >= 0 else task
        found: list[dict[str, Any]] = self.call("GET", f"/dags/{dag}/dagRuns/{run}/taskInstances/{where}/tries")[
            "task_instances"
        ]
        return found

    def log(self, dag: str, run: str, task: str, try_number: int, map_index: int = -1) -> str:
        """Return the log of a try, one line per event; exceptions as type and message."""
        path = f"/dags/{dag}/dagRuns/{run}/taskInstances/{task}/logs/{try_number}"
        content = self.call("GET", path, params={"map_index": map_index, "full_content": True})["content"]
        return "\n".join(line if isinstance(line, str) else _format_event(line) for line in content)

    def wait(self, dag: str, runs: Callable[[list[dict[str, Any]]], bool], seconds: float) -> list[dict[str, Any]]:
        """Wait until a condition on the DAG's runs is true; return the runs. Raise TimeoutError with their states."""
        deadline = time.monotonic() + seconds
        while True:
            found = self.runs(dag)
            if runs(found):
                return found
            if time.monotonic() > deadline:
                states = {run["dag_run_id"]: run["state"] for run in found}
                raise TimeoutError(f"{dag} after {seconds:.0f} s: {states}")
            time.sleep(0.5)

    def _open_backfills(self, dag: str) -> list[dict[str, Any]]:
        backfills = self.pages("/backfills", "backfills", dag_id=dag)
        return [backfill for backfill in backfills if backfill["completed_at"] is None]

    def _request(self, method: str, path: str, **arguments: Any) -> httpx.Response:
        if not self._token:
            answer = self._client.post("/auth/token", json={"username": self._user, "password": self._password})
            if answer.is_error:
                raise ApiError(f"login as {self._user}: {answer.status_code} {answer.text[:300]}")
            self._token = answer.json()["access_token"]
        return self._client.request(method, path, headers={"Authorization": f"Bearer {self._token}"}, **arguments)


def _format_event(line: dict[str, Any]) -> str:
    raised = [f"{error['exc_type']}: {error['exc_value']}" for error in line.get("error_detail") or []]
    return ": ".join([str(line.get("event", "")), *raised])


def finished(run: dict[str, Any]) -> bool:
    return run["state"] in ("success", "failed")


def seconds_of(run: dict[str, Any]) -> float:
    """Return the duration of a run from start to end [s]."""
    started, ended = (datetime.fromisoformat(run[name]) for name in ("start_date", "end_date"))
    return (ended - started).total_seconds()
