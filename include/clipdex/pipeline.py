"""Pipeline: from clips to a search index, and searches, over settings that are opened in one place.

    import clipdex

    pipeline = clipdex.Pipeline.open()
    pipeline.ingest("s3://bucket/clips")
    for hit in pipeline.search("a red car turns left", limit=5):
        print(hit.uri, hit.start_s, hit.end_s, hit.text, hit.score)

The Airflow tasks, the command line, the web pages, the demo and the benchmarks use this class. It connects to and loads
nothing before it is needed: an engine and an index are open only while a call uses them, because the embedded index
admits one process at a time.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from clipdex.config import Settings
from clipdex.errors import BatchRejected, ClipdexError, InvalidFilter, LeaseHeld, Unavailable

if TYPE_CHECKING:  # imported where a call needs them, so that importing clipdex loads no framework
    from clipdex.captions.captioner import CaptionDraft, Captioner
    from clipdex.captions.preflight import NodeReport
    from clipdex.compare.comparison import Column, Comparison
    from clipdex.evaluation import Evaluation, Judgements, Progress
    from clipdex.index import Collection, Index
    from clipdex.index.clips import IndexedClip
    from clipdex.index.embeddings import Embedder
    from clipdex.index.facets import Facet
    from clipdex.index.search import ClipHit
    from clipdex.index.where import Where
    from clipdex.runs.catalog import Refreshed
    from clipdex.runs.completion import CompletionCriteria, DayCaptions
    from clipdex.runs.leases import Lease
    from clipdex.runs.outcomes import ClipOutcome
    from clipdex.runs.planning import BatchRef, Plan
    from clipdex.runs.quarantine.by_day import QuarantinedClip
    from clipdex.runs.quarantine.catalog import Quarantine, QuarantineFilter
    from clipdex.runs.regating import RefusedCaption
    from clipdex.runs.report import RunReport
    from clipdex.runs.retention import Pruned
    from clipdex.runs.survey import Survey
    from clipdex.stages.batch_state import CaptionTotals
    from clipdex.stages.index import IndexTotals
    from clipdex.stages.playbacks import PlaybackTotals
    from clipdex.stages.reindex import DayTotals, Served
    from clipdex.storage.artifacts import Store
    from clipdex.storage.source import Source
    from clipdex.variants import Variant


@dataclass(frozen=True, slots=True)
class Ingested:
    """The result of Pipeline.ingest: the report of the run, and the latest outcome of each clip, of any run."""

    report: RunReport
    clips: tuple[ClipOutcome, ...]


def resolved(folder: str | Path) -> str:
    """Return a URL as it is, and a folder as an absolute path, the name of its source. Raises FileNotFoundError."""
    if "://" in str(folder):
        return str(folder)
    path = Path(folder).resolve()
    if not path.is_dir():
        raise FileNotFoundError(f"{folder}: {'is a file; a folder expected' if path.exists() else 'no such folder'}")
    return str(path)


class Pipeline:
    """One archive, one artifact store, one engine and one index.

    settings: as given. store: an artifact store that is open already, to share it.
    """

    def __init__(self, settings: Settings, store: Store | None = None) -> None:
        self.settings = settings
        if store is not None:
            self.store = store

    @classmethod
    def open(cls, settings: Settings | None = None) -> Self:
        """Return a pipeline over these settings, or over the CLIPDEX_* variables. Raises ConfigurationError."""
        return cls(settings or Settings.load())

    @cached_property
    def store(self) -> Store:
        from clipdex.storage.artifacts import Store

        return Store.open(self.settings)

    @cached_property
    def source(self) -> Source:
        from clipdex.storage.source import Source

        return Source(self.settings)

    @cached_property
    def embedder(self) -> Embedder:
        from clipdex.index.embeddings import open_embedder

        return open_embedder(self.settings.embedding, self.settings.engine.language)

    @asynccontextmanager
    async def engine(self, keep: bool = True) -> AsyncIterator[Captioner]:
        """Open the engine, and close it at the end of the block. keep: the preflights of its nodes, in the store"""
        from clipdex.captions.engines import open_captioner

        captioner = open_captioner(self.settings, self.store if keep else None)
        try:
            yield captioner
        finally:
            await captioner.aclose()

    def open_index(self, collection: Collection | None = None) -> AbstractContextManager[Index]:
        """Open the index for a block: a collection for writing, or, without one, what the alias serves."""
        from clipdex.index import open_index

        return open_index(self.settings, collection)

    # A run, step by step

    def criteria(
        self, *, recaption: bool = False, recaption_for: Iterable[str] = (), retry_quarantined: Iterable[str] = ()
    ) -> CompletionCriteria:
        """Return when a clip counts as done under these settings."""
        from clipdex.runs.completion import CompletionCriteria

        return CompletionCriteria.under(self.settings, recaption, tuple(recaption_for), tuple(retry_quarantined))

    def survey(
        self,
        days: Iterable[str],
        criteria: CompletionCriteria,
        prefix: str | None = None,
        hold: Callable[[str], None] = lambda day: None,
        only: Sequence[str] | None = None,
    ) -> Survey:
        """List the days, or one prefix, and leave out what is done. Writes nothing.

        hold: called with each day that was listed before its outcomes are read, to take its lease. only: clip_ids: no
        other clip is processed, and these also if they are in quarantine.
        """
        from clipdex.runs.survey import survey

        return survey(self.store, self.source, days, criteria, prefix, hold, only)

    def plan(self, run: str, found: Survey, job: str = "") -> Plan:
        """Write the plan of a run and the manifests of its batches. job: see Plan.

        Raises ConfigurationError for an index that can never be reached, or a package that is not installed, before
        anything is captioned.
        """
        from clipdex.runs.planning import plan_run

        if self.settings.video.near_duplicates is not None:
            from clipdex.video.likeness import require_hashes

            require_hashes()
        if self.settings.index.url:
            from clipdex.index.server_version import require_usable

            require_usable(self.settings.index)
        return plan_run(self.settings, self.store, self.source, run, found, job)

    async def acaption(self, batch: BatchRef, try_number: int = 1) -> CaptionTotals:
        """Caption one batch. See clipdex.stages.caption.caption_batch for the errors."""
        from clipdex.runs.tries import recorded
        from clipdex.stages.caption import caption_batch

        with recorded(self.store, batch.day, batch.run, batch.batch, "caption", try_number):
            async with self.engine() as engine:
                return await caption_batch(self.settings, self.store, self.source, engine, batch, try_number)

    def caption(self, batch: BatchRef, try_number: int = 1) -> CaptionTotals:
        """Caption one batch, where no event loop runs."""
        return asyncio.run(self.acaption(batch, try_number))

    def index(self, batch: BatchRef, try_number: int = 1) -> IndexTotals:
        """Write the points of a batch's captions, and delete its stale ones. Raises IndexUnavailable, LeaseHeld."""
        from clipdex.runs.tries import recorded
        from clipdex.stages.index import index_batch

        with recorded(self.store, batch.day, batch.run, batch.batch, "index", try_number):
            return index_batch(self.settings, self.store, self.embedder, batch, try_number)

    def report(self, run: str) -> RunReport:
        """Compact the outcomes of a run into its report."""
        from clipdex.runs.report import report_run

        return report_run(self.store, run)

    # Everything at once

    def ingest(
        self,
        folder: str | Path | None = None,
        *,
        prefix: str = "",
        day: str | None = None,
        recaption: bool = False,
        recaption_for: Iterable[str] = (),
        retry_quarantined: Iterable[str] = (),
        on_progress: Callable[[Plan | CaptionTotals | Ingested], None] = lambda _: None,
    ) -> Ingested:
        """Caption and index a folder (the configured source without one), as the DAG does, and return the outcomes.

        folder: a folder or an fsspec URL. day: YYYY-MM-DD, instead of a prefix. on_progress: called with the plan, with
        the totals of each batch, and with the result, also where something stopped the run. Raises FileNotFoundError;
        without a result, LeaseHeld while another run works on one of the days, and LeaseLost if another run took one
        over; and, after the result, what stopped the run: EngineUnavailable or BatchRejected.
        """
        pipeline = self if folder is None else self.over(folder)
        criteria = pipeline.criteria(
            recaption=recaption, recaption_for=recaption_for, retry_quarantined=retry_quarantined
        )
        days, below = ([], prefix) if day is None else ([day], None)
        return pipeline._ingest(days, below, criteria, on_progress)

    def search(
        self,
        query: str,
        *,
        limit: int = 10,
        day: str | None = None,
        where: Where | None = None,
        diverse: bool | float = False,
        weak: bool = False,
    ) -> list[ClipHit]:
        """Return the best clips for a query, best first.

        day: YYYY-MM-DD; where: values by field, such as {"camera": "cam-7", "duration": "..30"} (docs/search.md);
        diverse: True, or 0 to 1, for clips that differ from each other, in the order of their choice; weak: include
        clips that are probably no match. Raises
        InvalidFilter, NothingIndexed, EmptyQuery, IndexUnavailable, and ConfigurationError if another embedding model
        made the index.
        """
        from clipdex.index.diversity import diversity_of
        from clipdex.index.search import search_once
        from clipdex.index.where import parse, with_days

        filters, diversity = parse(with_days(where, day), self.settings), diversity_of(diverse)
        return search_once(
            self.settings, self.embedder, query, limit=limit, filters=filters, diversity=diversity, weak=weak
        )

    async def asearch(
        self,
        query: str,
        *,
        limit: int = 10,
        day: str | None = None,
        where: Where | None = None,
        diverse: bool | float = False,
        weak: bool = False,
    ) -> list[ClipHit]:
        """Search from an event loop: the work runs in a thread."""
        return await asyncio.to_thread(
            self.search, query, limit=limit, day=day, where=where, diverse=diverse, weak=weak
        )

    def similar(
        self,
        clip_id: str,
        *,
        limit: int = 10,
        where: Where | None = None,
        related: bool = False,
        diverse: bool | float = False,
    ) -> list[ClipHit]:
        """Return the clips most similar to a clip, best first, without a model. Their score is a cosine.

        related: include exact copies of the clip, and parts of the same file. Raises UnknownClip, InvalidFilter,
        NothingIndexed, IndexUnavailable.
        """
        from clipdex.index.diversity import diversity_of
        from clipdex.index.similar import similar_once

        diversity = diversity_of(diverse)
        return similar_once(self.settings, clip_id, limit=limit, where=where, related=related, diversity=diversity)

    def facets(self, fields: Sequence[str] = (), *, where: Where | None = None, limit: int = 10) -> list[Facet]:
        """Return the values of fields with the number of clips that have each, under filters.

        fields: empty for day, source, engine, model, duration, time and the metadata. limit: values per field. Raises
        InvalidFilter, NothingIndexed, IndexUnavailable.
        """
        from clipdex.index.facets import facets_once

        return facets_once(self.settings, fields, where, limit)

    def clip(self, clip_id: str) -> IndexedClip:
        """Return a clip of the index with its whole caption. Raises UnknownClip, NothingIndexed, IndexUnavailable."""
        from clipdex.index.clips import clip_once

        return clip_once(self.settings, self.store, clip_id)

    def days(self, *, first: str = "", last: str = "", where: Where | None = None, limit: int = 31) -> Facet:
        """Return the days of the index with the number of clips of each, the last day first.

        first, last: YYYY-MM-DD, today or yesterday, inclusive; "" for no bound. limit: days; `more` of the result is
        whether there are earlier ones. Raises InvalidFilter, NothingIndexed, IndexUnavailable.
        """
        from clipdex.index.where import with_days

        [found] = self.facets(["day"], where=with_days(where, None, first, last), limit=limit)
        return found

    def outcome(self, clip_id: str, day: str) -> ClipOutcome | None:
        """Return the latest outcome of a clip, also of one that is not in the index; None if its day has none.

        day: YYYY-MM-DD, today or yesterday: all outcomes of that day are read. Raises InvalidFilter.
        """
        from clipdex.runs.outcomes import ledger

        return ledger(self.store, self.day(day)).get(clip_id)

    def day(self, given: str) -> str:
        """Return a day as YYYY-MM-DD, also of the words today and yesterday. Raises InvalidFilter."""
        from clipdex.days import parse_day

        try:
            return parse_day(given, self.settings.source.timezone).isoformat()
        except ValueError:
            raise InvalidFilter(f"day: {given[:64]!r} is not a date such as 2026-11-03, today or yesterday") from None

    def describe(self, file: Path) -> CaptionDraft:
        """Return a caption of one file; nothing is stored. Raises ClipRejected, EngineUnavailable."""
        from clipdex.captions.quality import caption_with_gates
        from clipdex.video.sandbox.pool import DecoderPool

        async def run() -> CaptionDraft:
            async with (
                self.engine(keep=False) as engine,
                DecoderPool(self.settings.video, self.settings.sampling, 1) as decoders,
            ):
                await engine.check()
                return await caption_with_gates(engine, await decoders.prepare(file))

        return asyncio.run(run())

    def check_engine(self) -> list[NodeReport]:
        """Check each node of the engine anew with known videos, and keep what was found in the store.

        Raises ConfigurationError if the engine has no nodes.
        """
        from clipdex.captions.engines import inspect_nodes

        return asyncio.run(inspect_nodes(self.settings, self.store))

    def captions(self) -> Iterator[DayCaptions]:
        """Yield how many clips of each day have a caption, by what it was made with."""
        from clipdex.runs.completion import count_captions

        return count_captions(self.store, self.criteria())

    @staticmethod
    def compare(
        files: Sequence[Path], variants: Sequence[Variant], on_column: Callable[[Column], None] = lambda _: None
    ) -> Comparison:
        """Caption the same files with several variants. Each changes the CLIPDEX_* settings, not a pipeline's."""
        from clipdex.compare import compare

        return compare(files, variants, on_column)

    def evaluate(
        self,
        judgements: Judgements | str | Path,
        variants: Sequence[Variant] = (),
        on_progress: Progress = lambda what, done, total: None,
    ) -> Evaluation:
        """Measure how well search answers queries, under these settings and under variants of them.

        judgements: or a file of JSON lines (docs/search.md). Raises OSError, ConfigurationError, IndexUnavailable, and
        NothingIndexed if the served index is to be judged.
        """
        from clipdex.evaluation import evaluate

        return evaluate(
            self.settings, Path(judgements) if isinstance(judgements, str) else judgements, variants, on_progress
        )

    # Quarantine

    def quarantine(self, wanted: QuarantineFilter | None = None) -> Quarantine:
        """Return the clips in quarantine that a filter leaves, the latest day first, with counts."""
        from clipdex.runs.quarantine.catalog import Catalog, QuarantineFilter

        return Catalog(self.store).find(wanted or QuarantineFilter())

    def index_quarantine(self) -> int:
        """Write what the page of the quarantine reads, for days of an earlier release; return their number."""
        from clipdex.runs.quarantine.catalog import write_missing

        return write_missing(self.store)

    def mark_never(self, clips: Iterable[QuarantinedClip], by: str, never: bool = True) -> int:
        """Exclude clips in quarantine from every further try, or allow tries again; return how many changed."""
        from clipdex.runs.quarantine.marks import set_marks

        return set_marks(self.store, clips, never, by)

    def requeue(
        self,
        clips: Iterable[QuarantinedClip],
        on_progress: Callable[[Plan | CaptionTotals | Ingested], None] = lambda _: None,
    ) -> list[Ingested]:
        """Try clips in quarantine again, here and now, one run per day; return the result of each. Raises as ingest().

        A clip that is marked "never again" stays in quarantine.
        """
        by_day: dict[str, list[str]] = {}
        for one in clips:
            by_day.setdefault(one.day, []).append(one.clip_id)
        return [self._ingest([day], None, self.criteria(), on_progress, by_day[day]) for day in sorted(by_day)]

    def refused_captions(
        self, reasons: Iterable[str] = (), first: str = "", last: str = ""
    ) -> Iterator[RefusedCaption]:
        """Yield the stored captions that the gates of these settings would refuse; see runs/regating.py."""
        from clipdex.captions.engines import open_captioner
        from clipdex.runs.regating import refused_captions

        gates = open_captioner(self.settings).gates
        return refused_captions(self.store, self.criteria(), gates, frozenset(reasons), first, last)

    def recaption(
        self,
        clips: Mapping[str, Sequence[str]],
        on_progress: Callable[[Plan | CaptionTotals | Ingested], None] = lambda _: None,
    ) -> list[Ingested]:
        """Replace the captions of clips, here and now, one run per day. clips: clip_ids by day. Raises as ingest()."""
        criteria = self.criteria(recaption=True)
        return [self._ingest([day], None, criteria, on_progress, list(clips[day])) for day in sorted(clips)]

    # Upkeep

    def days_to_reindex(self) -> list[str]:
        """Return the days with indexed clips. Raises NothingIndexed."""
        from clipdex.stages.reindex import days_to_reindex

        return days_to_reindex(self.store)

    def reindex_day(self, day: str, run: str, try_number: int = 1) -> DayTotals:
        """Write the stored captions of a day into the collection of these settings."""
        from clipdex.stages.reindex import reindex_day

        return reindex_day(self.settings, self.store, self.embedder, day, run, try_number)

    def serve(self, days: Sequence[DayTotals]) -> Served:
        """Switch searches to the collection of these settings, if every day is there."""
        from clipdex.stages.reindex import serve

        return serve(self.settings, self.embedder, days)

    def reindex(self, on_day: Callable[[DayTotals], None] = lambda _: None) -> Served:
        """Make a collection of these settings from the stored captions, then switch searches to it."""
        run = f"reindex-{datetime.now(UTC):%Y%m%dT%H%M%S.%f}"
        days = []
        for day in self.days_to_reindex():
            days.append(self.reindex_day(day, run))
            on_day(days[-1])
        return self.serve(days)

    def captioned_days(self, first: str = "", last: str = "") -> list[str]:
        """Return the days with outcomes, in order. first, last: YYYY-MM-DD, inclusive; "" for no bound."""
        from clipdex.runs.outcomes import ledger_days

        return [day for day in ledger_days(self.store) if first <= day and (not last or day <= last)]

    def make_playbacks(self, day: str, folder: str | Path | None = None, *, again: bool = False) -> PlaybackTotals:
        """Make what browsers play of the clips of a day that were captioned without it. Needs no engine.

        folder: where the clips are, without one the configured source; again: also those that are there. Raises
        ConfigurationError if CLIPDEX_STORE__PLAYBACK is off, SourceUnavailable, FileNotFoundError.
        """
        from clipdex.stages.playbacks import make_playbacks

        pipeline = self if folder is None else self.over(folder)
        return make_playbacks(pipeline.settings, self.store, pipeline.source, day, again)

    def prune(self) -> Pruned:
        """Delete the runs that are older than their retention."""
        from clipdex.runs.retention import prune

        return prune(self.store, self.settings.store.retention_days)

    def summarize(self, on_day: Callable[[str], None] = lambda day: None) -> Refreshed:
        """Write the summaries that are missing or outdated, and measure the store. prune() does the same."""
        from clipdex.runs.catalog import refresh
        from clipdex.storage.usage import measure_usage

        done = refresh(self.store, on_day=on_day)
        measure_usage(self.store)
        return done

    def over(self, folder: str | Path) -> Pipeline:
        """Return the same pipeline over another source, whose damaged files are quarantined however many they are."""
        url = resolved(folder)
        update: Mapping[str, Any] = {
            "source": self.settings.source.model_copy(update={"url": url, "name": url}),
            "quarantine": self.settings.quarantine.model_copy(update={"trust_decoder": True}),
        }
        return Pipeline(self.settings.model_copy(update=update), self.store)

    def _ingest(
        self,
        days: list[str],
        prefix: str | None,
        criteria: CompletionCriteria,
        on_progress: Callable[[Plan | CaptionTotals | Ingested], None],
        only: Sequence[str] | None = None,
    ) -> Ingested:
        from clipdex.runs.leases import Lease
        from clipdex.runs.planning import run_label

        run = run_label(f"ingest-{datetime.now(UTC):%Y%m%dT%H%M%S.%f}", 1)
        with Lease(self.store, run, self.settings.batches.lease_s) as lease:
            try:
                found = self.survey(days, criteria, prefix, lease.take, only)
                result, stopped = self._ingest_leased(run, found, lease, on_progress)
            finally:
                lease.release()
        on_progress(result)
        if stopped is not None:
            raise stopped
        return result

    def _ingest_leased(
        self, run: str, found: Survey, lease: Lease, on_progress: Callable[[Plan | CaptionTotals | Ingested], None]
    ) -> tuple[Ingested, ClipdexError | None]:
        """Return the result, and what stopped the run. Raises LeaseHeld."""
        from clipdex.runs.outcomes import ledger

        stopped: ClipdexError | None = None
        plan = self.plan(run, found)
        on_progress(plan)
        for batch in plan.batches:
            lease.confirm(batch.day)
            try:
                totals = self.caption(batch)
            except LeaseHeld:
                raise
            except (Unavailable, BatchRejected) as error:
                stopped = error
            else:
                on_progress(totals)
            lease.confirm(batch.day)
            self.index(batch)
            if isinstance(stopped, Unavailable):
                break
        report = self.report(run)
        clips = tuple(one for day in plan.days for one in ledger(self.store, day).values())
        return Ingested(report, clips), stopped
