"""Operations on Airflow: what the pages let its users start, as those users.

Runs are triggered by a request to Airflow's own REST API, in this process, with the credentials of the user's request.
So Airflow checks the permission and the params, and writes the audit entry of the trigger, as for its own UI. What
Airflow does not know of, such as "never again", is written to its audit log by the dependency that its routes use.
"""

import asyncio
import json
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote, urlsplit

from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity
from airflow.api_fastapi.core_api.security import get_user, requires_access_dag
from airflow.configuration import conf
from fastapi import HTTPException, Request
from fastapi.security import HTTPBearer
from httpx import ASGITransport, AsyncClient, Response

from clipdex.airflow_tasks import MOST_CLIPS_IN_PARAMS, server_settings
from clipdex.pipeline import Pipeline
from clipdex.runs.quarantine.requeues import write_list
from clipdex.sanitize import escape_line

DAG = "ingest_clips"
_PASSED_ON = ("authorization", "cookie", "referer")
_TIMEOUT_S = 60.0


class AirflowOperations:
    """Start runs of ingest_clips for the pages. See web/operations.py"""

    def backfill_url(self, first: str, last: str) -> str:
        """Return the URL of the backfills of the DAG. Airflow 3.3 has none that opens its form filled in."""
        return f"{_root()}/dags/{DAG}/backfills"

    def run_url(self, run: str) -> str:
        return f"{_root()}/dags/{DAG}/runs/{quote(run, safe='')}"

    def log_url(self, job: str, task: str, map_index: int, try_number: int) -> str:
        dag_id, run_id = json.loads(job)
        path = f"dags/{quote(dag_id, safe='')}/runs/{quote(run_id, safe='')}/tasks/process.{quote(task, safe='')}"
        return f"{_root()}/{path}/mapped/{map_index}?try_number={try_number}"

    async def user(self, request: Request) -> str:
        return str((await _user(request)).get_name())

    async def may_write(self, request: Request) -> bool:
        user = await _user(request)
        check: Any = requires_access_dag("POST", DagAccessEntity.RUN, DAG)
        try:
            await asyncio.to_thread(check, request, user)
        except HTTPException as error:
            if error.status_code == 403:
                return False
            raise
        return True

    async def run_state(self, request: Request, run: str) -> str:
        answer = await _ask(request, "GET", f"/dags/{DAG}/dagRuns/{quote(run, safe='')}")
        return str(answer.json()["state"]) if answer.status_code == 200 else ""

    async def backfill(self, request: Request, first: str, last: str) -> str:
        """Backfill all days from first to last.

        Raises HTTPException with Airflow's message: 403 without the permission, 409 while another backfill of the DAG
        runs, 404 if the DAG is not there, 503 while the database is locked.
        """
        body = {
            "dag_id": DAG,
            "from_date": f"{first}T00:00:00Z",
            "to_date": f"{last}T00:00:00Z",
            "reprocess_behavior": "completed",  # also days whose run found nothing, or that was pruned
            "max_active_runs": 4,
        }
        answer = await _ask(request, "POST", "/backfills", json=body)
        if not answer.is_success:
            raise HTTPException(answer.status_code, f"Airflow did not start the backfill: {_detail(answer)}")
        return self.backfill_url(first, last)

    async def requeue(self, request: Request, day: str, clips: Sequence[str]) -> str:
        conf_of_run: dict[str, Any] = {"day": day, "clips": list(clips)}
        if len(clips) > MOST_CLIPS_IN_PARAMS:
            name = await asyncio.to_thread(lambda: write_list(Pipeline.open(server_settings()).store, clips))
            conf_of_run = {"day": day, "clip_list": name}
        body = {"logical_date": None, "conf": conf_of_run, "note": f"{len(clips)} clips requeued from quarantine"}
        answer = await _ask(request, "POST", f"/dags/{DAG}/dagRuns", json=body)
        if answer.status_code != 200:
            raise HTTPException(answer.status_code, f"Airflow did not start the run of {day}: {_detail(answer)}")
        return str(answer.json()["dag_run_id"])

    async def audit(self, request: Request, action: str, detail: str) -> None:
        from airflow.api_fastapi.logging.decorators import action_logging
        from airflow.utils.session import create_session

        user = await _user(request)
        fields = {"dag_id": DAG, "detail": detail}
        entry = Request(
            {"type": "http", "method": "POST", "headers": [], "query_string": b"", "path": request.scope["path"],
             "path_params": fields},
        )  # fmt: skip
        with create_session() as session:
            await action_logging(action)(entry, session, user)


async def _user(request: Request) -> Any:
    return await get_user(request, None, await HTTPBearer(auto_error=False)(request))


async def _ask(request: Request, method: str, path: str, **arguments: Any) -> Response:
    """Send a request to Airflow's REST API as the user of this request."""
    from airflow.api_fastapi.app import cached_app

    headers = {name: value for name in _PASSED_ON if (value := request.headers.get(name))}
    base = f"{request.url.scheme}://{request.headers.get('host', 'localhost')}"
    transport = ASGITransport(cached_app(), raise_app_exceptions=False)
    async with AsyncClient(transport=transport, base_url=base, timeout=_TIMEOUT_S) as client:
        return await client.request(method, f"/api/v2{path}", headers=headers, **arguments)


def _detail(answer: Response) -> str:
    try:
        detail = answer.json()["detail"]
    except (ValueError, KeyError, TypeError):
        detail = answer.text
    if isinstance(detail, list):
        detail = "; ".join(str(one.get("msg", one)) if isinstance(one, dict) else str(one) for one in detail)
    return escape_line(str(detail))[:500] or f"status {answer.status_code}"


def _root() -> str:
    """Return the path prefix of Airflow behind a reverse proxy, or "" without one."""
    return urlsplit(conf.get("api", "base_url", fallback="")).path.rstrip("/")
