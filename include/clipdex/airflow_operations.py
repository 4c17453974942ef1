"""Operations on Airflow: the runs that its pages let users start, as the user who sent the request.

Requests go to Airflow's own REST API, in this process and with the credentials of the user, so that Airflow checks the
permission, and writes its audit log, as for a click in its own UI.
"""

import logging
from typing import Any
from urllib.parse import urlsplit

import httpx
from airflow.api_fastapi.app import cached_app, get_auth_manager
from airflow.configuration import conf
from fastapi import Request

from clipdex.sanitize import escape_line
from clipdex.web.problems import Refused

log = logging.getLogger(__name__)

DAG = "ingest_clips"
_CREDENTIALS = ("cookie", "authorization")


class AirflowOperations:
    """Start runs of ingest_clips. Implements clipdex.web.operations.Operations."""

    def backfill_url(self, first: str, last: str) -> str:
        """Return the URL of the backfills of the DAG. Airflow 3.3 has none that opens its form filled in."""
        return f"{_root()}/dags/{DAG}/backfills"

    def run_url(self, run: str) -> str:
        """Return the URL of a run. run: its id, of Airflow"""
        return f"{_root()}/dags/{DAG}/runs/{run}"

    async def backfill(self, request: Request, first: str, last: str) -> str:
        """Backfill all days from first to last, as the user of this request.

        Raises HTTPException, with Airflow's words: 403 without the permission, 409 while another backfill of the DAG
        runs, 404 if the DAG is not there, 503 while the database is locked.
        """
        await _send(
            request,
            "/api/v2/backfills",
            {
                "dag_id": DAG,
                "from_date": f"{first}T00:00:00Z",
                "to_date": f"{last}T00:00:00Z",
                "reprocess_behavior": "completed",  # also days whose run found nothing, or that was pruned
                "max_active_runs": 4,
            },
        )
        return self.backfill_url(first, last)

    async def may_write(self, request: Request) -> bool:
        """Return whether the user of this request may create runs of the DAG."""
        from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity, DagDetails
        from airflow.api_fastapi.core_api.security import get_user
        from starlette.concurrency import run_in_threadpool

        user = await get_user(request, None, None)
        return await run_in_threadpool(
            get_auth_manager().is_authorized_dag,
            method="POST",
            access_entity=DagAccessEntity.RUN,
            details=DagDetails(id=DAG),
            user=user,
        )


async def _send(request: Request, path: str, body: dict[str, Any]) -> dict[str, Any]:
    """POST to Airflow's REST API with the credentials of a request. Raises Refused."""
    headers = {name: value for name in _CREDENTIALS if (value := request.headers.get(name))}
    transport = httpx.ASGITransport(app=cached_app(), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost", timeout=60.0) as client:
        answer = await client.post(path, json=body, headers=headers)
    if answer.is_success:
        made: dict[str, Any] = answer.json()
        return made
    raise Refused(answer.status_code, _words(answer))


def _words(answer: httpx.Response) -> str:
    """Return Airflow's message in one line."""
    try:
        detail = answer.json().get("detail", "")
    except (ValueError, AttributeError):
        detail = ""
    if isinstance(detail, list):
        detail = "; ".join(str(one.get("msg", one)) if isinstance(one, dict) else str(one) for one in detail)
    return escape_line(f"Airflow refused it ({answer.status_code}): {detail or answer.reason_phrase}")[:500]


def _root() -> str:
    """Return the path prefix of Airflow behind a reverse proxy, or "" without one."""
    return urlsplit(conf.get("api", "base_url", fallback="")).path.rstrip("/")
