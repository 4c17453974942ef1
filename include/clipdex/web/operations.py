"""Operations: what the host of the pages lets its users start. Airflow offers them; `clipdex serve` offers none."""

from collections.abc import Sequence
from typing import Protocol

from fastapi import Request


class Operations(Protocol):
    """Start runs for the pages. Implemented on Airflow, in airflow_operations.py."""

    def backfill_url(self, first: str, last: str) -> str:
        """Return the URL of Airflow's page from which these days are backfilled."""

    def run_url(self, run: str) -> str:
        """Return the URL of a run."""

    def log_url(self, job: str, task: str, map_index: int, try_number: int) -> str:
        """Return the URL of the log of a try, "" if it is unknown. job: as in Plan; task: caption or index"""

    async def run_state(self, request: Request, run: str) -> str:
        """Return the state of a run, such as queued, running, success, failed; "" if it is unknown."""

    async def user(self, request: Request) -> str:
        """Return the name of the user of this request."""

    async def may_write(self, request: Request) -> bool:
        """Return whether the user of this request may trigger runs of ingest_clips."""

    async def backfill(self, request: Request, first: str, last: str) -> str:
        """Backfill days as the user of this request; return the URL where it is watched. Raises HTTPException."""

    async def requeue(self, request: Request, day: str, clips: Sequence[str]) -> str:
        """Trigger a run for clips of a day, by their clip_id; return its run id. Raises HTTPException."""

    async def audit(self, request: Request, action: str, detail: str) -> None:
        """Record who did what in Airflow's audit log."""
