"""Ingest without Airflow: what the DAG's tasks do, one after the other, for one folder of a source."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

from clipdex.captions.engines import open_captioner
from clipdex.config import Settings
from clipdex.errors import BatchRejected, ClipdexError, Unavailable
from clipdex.index.embeddings import open_embedder
from clipdex.runs import leases
from clipdex.runs.outcomes import ClipOutcome, ledger
from clipdex.runs.planning import BatchRef, CompletionCriteria, Plan, plan_run, run_label, survey
from clipdex.runs.report import RunReport, report_run
from clipdex.stages.batch_state import CaptionTotals
from clipdex.stages.caption import caption_batch
from clipdex.stages.index import index_batch
from clipdex.storage.artifacts import Store
from clipdex.storage.source import Source


@dataclass(frozen=True, slots=True)
class Ingested:
    """What became of a folder: the report of this run, and the last word on each clip, of earlier runs too."""

    report: RunReport
    clips: tuple[ClipOutcome, ...]


def ingest(settings: Settings, what: CompletionCriteria, prefix: str = "") -> Iterator[Plan | CaptionTotals | Ingested]:
    """Yields the plan, each batch's totals, then what became of every clip; raises what stopped it after that."""
    store, source = Store.open(settings), Source(settings)
    run = run_label(f"ingest-{datetime.now(UTC):%Y%m%dT%H%M%S.%f}", 1)
    found = survey(store, source, [], what, prefix)
    with _leased(settings, store, run, list(found.to_do)):
        plan = plan_run(settings, store, source, run, found, what)
        yield plan
        stopped: ClipdexError | None = None
        for batch in plan.batches:
            try:
                yield asyncio.run(_caption(settings, store, source, batch))
            except (Unavailable, BatchRejected) as error:
                stopped = error
            index_batch(settings, store, open_embedder(settings.embedding), batch)
            if isinstance(stopped, Unavailable):
                break
        report = report_run(store, run)
        clips = [one for day in plan.days for one in ledger(store, day).values()]
        yield Ingested(report, tuple(clips))
    if stopped is not None:
        raise stopped


async def _caption(settings: Settings, store: Store, source: Source, batch: BatchRef) -> CaptionTotals:
    captioner = open_captioner(settings)
    try:
        return await caption_batch(settings, store, source, captioner, batch)
    finally:
        await captioner.aclose()


@contextmanager
def _leased(settings: Settings, store: Store, run: str, days: list[str]) -> Iterator[None]:
    held: list[str] = []
    try:
        for day in days:
            leases.acquire(store, day, run, settings.batches.lease_s)
            held.append(day)
        yield
    finally:
        for day in held:
            leases.release(store, day, run)
