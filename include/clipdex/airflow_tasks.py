"""The bridge to Airflow: connections, pools, retry policy, map index names. Nothing else in clipdex imports Airflow.

A run may be told to take other Connections than these for source and engine; their names, too, begin with clipdex_, so
that who may trigger a run cannot send clips to, or read files by, what somebody else keeps in Airflow.

Connections (all optional; what they hold is laid over the CLIPDEX_* settings):
    clipdex_source  host: URL of the archive; login, password: key and secret; extra: fields of config.Source
    clipdex_store   host: URL of the artifact store; login, password; extra: fields of config.StoreSettings
    clipdex_engine  host: base URLs, comma-separated; password: API key; extra: fields of config.Engine (name, model, …)
    clipdex_index   host: URL of a Qdrant server; password: API key; extra: fields of config.Index
"""

import asyncio
import logging
from datetime import date, timedelta
from typing import Any

from airflow.sdk import Asset, Connection, ExceptionRetryPolicy, Param, RetryAction, RetryRule, get_current_context
from airflow.sdk.exceptions import AirflowNotFoundException, AirflowSkipException
from airflow.sdk.observability import stats

from clipdex import metrics
from clipdex.captions.caption import Flaw
from clipdex.config import Settings
from clipdex.errors import ConfigurationError, LeaseHeld, Reason

log = logging.getLogger(__name__)
metrics.send_to(stats)

CAPTIONING, INDEXING = "captioning", "indexing"
"""Pools, made at deployment from docker/airflow/pools.json. A slot is a batch, with its requests in flight."""

CLIPS = Asset(name="clips", uri="clipdex://index/clips")
"""Updated once a run that wrote points."""

OUTCOMES = "clipdex_outcomes"
"""The XCom in which a task says which batch it works on, RUN/DAY/BATCH: what the plugin links to."""

RETRY_POLICY = ExceptionRetryPolicy(
    rules=[
        RetryRule("clipdex.errors.ConfigurationError", RetryAction.FAIL, reason="a person must change something first"),
        RetryRule("clipdex.errors.RunIncomplete", RetryAction.FAIL, reason="asking again does not change the outcome"),
        RetryRule("builtins.PermissionError", RetryAction.FAIL, reason="the store refuses its key, or the folder"),
        RetryRule("clipdex.errors.Unavailable", RetryAction.RETRY, reason="engine, index or lease: try again later"),
    ]
)

# The first retry comes soon, for a worker that was killed; all of them together wait for a node that loads its model
# again, and longer than a lease lasts that nobody renews.
DEFAULTS = {
    "owner": "clipdex",
    "retries": 6,
    "retry_delay": timedelta(seconds=10),
    "retry_exponential_backoff": 2.0,
    "retry_policy": RETRY_POLICY,
}

PARAMS = {
    "day": Param(None, type=["null", "string"], format="date", description="The day to ingest when triggered by hand"),
    "prefix": Param(None, type=["null", "string"], description="Or a folder of the source, such as 2026/11/03/cam-7"),
    "source": Param("clipdex_source", type="string", pattern="^clipdex_", description="Connection of the archive"),
    "engine": Param("clipdex_engine", type="string", pattern="^clipdex_", description="Connection of the engine"),
    "batch_size": Param(None, type=["null", "integer"], minimum=1, maximum=512, description="Clips a batch"),
    "in_flight": Param(None, type=["null", "integer"], minimum=1, maximum=1024, description="Open requests a batch"),
    "recaption": Param(False, type="boolean", description="Ask again even for clips that have a caption"),
    "recaption_for": Param(
        [], type="array", items={"enum": [*Flaw]}, description="Ask again for captions with these flaws"
    ),
    "retry_quarantined": Param(
        [], type="array", items={"enum": ["all", *Reason]}, description="Quarantined clips to try again, by reason"
    ),
}  # fmt: skip


REINDEX_PARAMS = {
    "embedding_model": Param(None, type=["null", "string"], description="Instead of CLIPDEX_EMBEDDING__MODEL"),
    "chunk_tokens": Param(None, type=["null", "integer"], minimum=1, description="Instead of CLIPDEX_CHUNKING__TOKENS"),
    "chunk_overlap": Param(
        None, type=["null", "integer"], minimum=0, description="Instead of CLIPDEX_CHUNKING__OVERLAP"
    ),
}  # fmt: skip


def discover() -> list[dict[str, Any]]:
    """Plan this run: the batches to expand over, as pointers."""
    from clipdex.runs import leases
    from clipdex.runs.planning import CompletionCriteria, plan_run, run_label, survey
    from clipdex.storage.artifacts import Store
    from clipdex.storage.source import Source

    context = get_current_context()
    params, settings = context["params"], run_settings()
    store, source = Store.open(settings), Source(settings)
    tries = [run_label(context["run_id"], number) for number in range(1, context["ti"].try_number + 1)]
    run, seconds = tries[-1], settings.batches.lease_s
    held: list[str] = []
    what = CompletionCriteria.under(
        settings, params["recaption"], tuple(params["recaption_for"]), tuple(params["retry_quarantined"])
    )
    day, before = _days(context, settings.source.lookback_days)
    try:
        if day:
            _hold(store, day, tries, seconds, held)
            _hold_what_is_free(store, before, tries, seconds, held)
        found = survey(store, source, held, what, prefix=None if day else params["prefix"])
        for one in found.to_do:
            _hold(store, one, tries, seconds, held)
        plan = plan_run(settings, store, source, run, found, what)
    except BaseException:
        for one in held:
            leases.release(store, one, run)
        raise
    context["ti"].xcom_push(key="run", value=run)
    return [batch.to_json() for batch in plan.batches]


def caption(batch: dict[str, Any]) -> dict[str, Any]:
    """Caption one batch; returns counts."""
    from clipdex.captions.engines import open_captioner
    from clipdex.stages.caption import caption_batch
    from clipdex.storage.artifacts import Store
    from clipdex.storage.source import Source

    ref, settings = _named(batch), run_settings()
    try_number = get_current_context()["ti"].try_number

    async def run() -> dict[str, Any]:
        captioner = open_captioner(settings)
        try:
            totals = await caption_batch(settings, Store.open(settings), Source(settings), captioner, ref, try_number)
        finally:
            await captioner.aclose()
        return totals.to_json()

    return asyncio.run(run())


def index(batch: dict[str, Any]) -> dict[str, Any]:
    """Make what is captioned of one batch searchable; returns counts."""
    from clipdex.index.embeddings import open_embedder
    from clipdex.stages.index import index_batch
    from clipdex.storage.artifacts import Store

    ref, settings = _named(batch), run_settings()
    try_number = get_current_context()["ti"].try_number
    return index_batch(settings, Store.open(settings), open_embedder(settings.embedding), ref, try_number).to_json()


def report() -> int:
    """Tell what the run did; returns how many chunks it wrote. Fails where the run must not look green."""
    from clipdex.runs.report import check_report, report_run
    from clipdex.storage.artifacts import Store

    settings = run_settings()
    run = get_current_context()["ti"].xcom_pull(task_ids="discover", key="run")
    if not run:
        raise ConfigurationError("discover did not finish, so nothing was planned: read its log, then clear it")
    told = report_run(Store.open(settings), run)
    check_report(told, settings.quarantine)
    return told.total("chunks")


async def searchable_too_late(context: dict[str, Any]) -> None:
    """A run has not ended by its deadline: say so in the log of the triggerer, where this runs. Airflow counts it."""
    run, due = context["dag_run"], context["deadline"]["deadline_time"]
    nightly = run["run_type"] == "scheduled"
    log.log(
        logging.ERROR if nightly else logging.INFO,
        "%s of %s: not searchable by %s (%s now): look for tasks that are retried or wait for a slot of a pool; "
        "docs/observability.md tells what each means", run["dag_run_id"], run["partition_key"] or "no day", due,
        run["state"],
    )  # fmt: skip


def publish(chunks: int) -> None:
    """One event for whoever schedules on the asset, if there is news."""
    if not chunks:
        raise AirflowSkipException("no points were written, so there is no event")


def prune() -> dict[str, Any]:
    """Delete from the store what is older than its retention; returns counts."""
    from clipdex.runs import retention
    from clipdex.storage.artifacts import Store

    settings = server_settings()
    return retention.prune(Store.open(settings), settings.store.retention_days).to_json()


def days_to_reindex() -> list[list[str]]:
    """What to expand over: a day each, or some where there are more days than mapped tasks may be."""
    from clipdex.stages import reindex
    from clipdex.storage.artifacts import Store

    settings = reindex_settings()
    days = reindex.days_to_reindex(Store.open(settings))
    size = -(-len(days) // settings.batches.max_batches)
    return [days[start : start + size] for start in range(0, len(days), size)]


def reindex(days: list[str]) -> list[dict[str, Any]]:
    """Put some days into the collection of these settings; returns counts of each."""
    from clipdex.index.embeddings import open_embedder
    from clipdex.stages.reindex import reindex_day
    from clipdex.storage.artifacts import Store, run_name

    context, settings = get_current_context(), reindex_settings()
    context["days"] = " … ".join(dict.fromkeys([days[0], days[-1]]))  # type: ignore[typeddict-unknown-key]
    store, embedder = Store.open(settings), open_embedder(settings.embedding)
    run, try_number = run_name(context["run_id"]), context["ti"].try_number
    return [reindex_day(settings, store, embedder, day, run, try_number).to_json() for day in days]


def serve(reindexed: Any) -> dict[str, Any]:
    """Let searches read what was reindexed."""
    from clipdex.index.embeddings import open_embedder
    from clipdex.stages import reindex

    settings = reindex_settings()
    days = [reindex.DayTotals(**day) for days in reindexed for day in days]
    return reindex.serve(settings, open_embedder(settings.embedding), days).to_json()


def reindex_settings() -> Settings:
    """The settings with the index of this run's params."""
    params = get_current_context()["params"]
    chunking = {"tokens": params["chunk_tokens"], "overlap": params["chunk_overlap"]}
    return Settings.load(
        embedding={"model": params["embedding_model"]} if params["embedding_model"] else {},
        chunking={name: value for name, value in chunking.items() if value is not None},
        **_kept(),
    )


def run_settings() -> Settings:
    """The settings with this run's connections and params laid over them."""
    params = get_current_context()["params"]
    engine = connection(params["engine"], many="base_urls", secret="api_key")
    if params["in_flight"]:
        engine["in_flight"] = params["in_flight"]
    batches = {"size": params["batch_size"]} if params["batch_size"] else {}
    return Settings.load(
        source=connection(params["source"], user="key", secret="secret"), engine=engine, batches=batches, **_kept()
    )


def server_settings() -> Settings:
    """What a server needs that shows what runs have done: store and index, outside of any run."""
    return Settings.load(**_kept())


def connection(conn_id: str, *, many: str = "", user: str = "", secret: str) -> dict[str, Any]:
    """The settings that a Connection holds: its extra, its host as url (or as many addresses), login and password."""
    try:
        found = Connection.get(conn_id)
    except AirflowNotFoundException:
        if conn_id in ("clipdex_source", "clipdex_store", "clipdex_engine", "clipdex_index"):
            return {}
        raise ConfigurationError(
            f"no connection {conn_id}: make it under Admin → Connections, or name another"
        ) from None
    given = dict(found.extra_dejson)
    if found.host and many:
        given[many] = [address.strip() for address in found.host.split(",")]
    elif found.host:
        given["url"] = found.host
    if found.login and user:
        given[user] = found.login
    if found.password:
        given[secret] = found.password
    return given


def _kept() -> dict[str, Any]:
    """Where what runs make is kept: the same for every run, whoever reads it."""
    return {
        "store": connection("clipdex_store", user="key", secret="secret"),
        "index": connection("clipdex_index", secret="api_key"),
    }


def _days(context: Any, lookback: int) -> tuple[str | None, list[str]]:
    """The day of this run, and for a nightly run the days before it that are looked at once more."""
    params = context["params"]
    key = context["dag_run"].partition_key or params["day"]
    if key is None and not params["prefix"]:
        raise ConfigurationError("nothing to ingest: trigger with a day (2026-11-03) or a prefix, or make a backfill")
    if key is None:
        return None, []
    try:
        day = date.fromisoformat(key)
    except ValueError:
        raise ConfigurationError(f"day {key!r} is not a date such as 2026-11-03") from None
    nightly = context["dag_run"].run_type == "scheduled"
    before = [(day - timedelta(days=back)).isoformat() for back in range(1, lookback + 1)] if nightly else []
    return day.isoformat(), before


def _hold(store: Any, day: str, tries: list[str], seconds: float, held: list[str]) -> None:
    """Take the lease of a day, also from a try of this run that was killed. tries: the last one is now."""
    from clipdex.runs import leases

    if day in held:
        return
    for earlier in tries[:-1]:
        leases.release(store, day, earlier)
    leases.acquire(store, day, tries[-1], seconds)
    held.append(day)


def _hold_what_is_free(store: Any, days: list[str], tries: list[str], seconds: float, held: list[str]) -> None:
    """The leases of the days looked back at that nobody works on."""
    for day in days:
        try:
            _hold(store, day, tries, seconds, held)
        except LeaseHeld as error:
            log.info("not looking back at %s: %s", day, error)


def _named(batch: dict[str, Any]) -> Any:
    """The pointer, its label shown as the map index, its outcomes linked."""
    from clipdex.runs.planning import BatchRef

    ref, context = BatchRef.from_json(batch), get_current_context()
    context["batch_label"] = ref.label  # type: ignore[typeddict-unknown-key]
    context["ti"].xcom_push(key=OUTCOMES, value=f"{ref.run}/{ref.day}/{ref.batch}")
    return ref
