"""The tasks of the DAGs: connections, pools, retry policy, map index names.

The params source and engine may name other Connections than these. Their names begin with clipdex_, too, so that a user
who may trigger a run reaches no other Connection of this Airflow.

Connections (all optional; their fields override the CLIPDEX_* settings, as connections.py describes):
    clipdex_source  host: URL of the archive; login, password: key and secret; extra: fields of config.Source
    clipdex_store   host: URL of the artifact store; login, password; extra: fields of config.StoreSettings
    clipdex_engine  host: base URLs, comma-separated; password: API key; extra: fields of config.Engine (name, model, …)
    clipdex_index   host: URL of a Qdrant server; password: API key; extra: fields of config.Index
    clipdex_embedding  host: base URLs, comma-separated; password: API key; extra: fields of config.Embedding

An expected failure (ClipdexError, PermissionError) ends the task's log with one line: what failed and why, what is
stored, and the next try. Airflow logs a traceback for every exception but SystemExit, so these tasks raise
FailedForNow or FailedForGood. An unexpected exception keeps its traceback.
"""

import json
import logging
import math
import os
from collections.abc import Callable
from datetime import date, timedelta
from functools import wraps
from http import HTTPStatus
from typing import Any, ParamSpec, TypeVar

from airflow.sdk import (
    Asset,
    Connection,
    DagRunState,
    ExceptionRetryPolicy,
    Param,
    RetryAction,
    RetryRule,
    get_current_context,
)
from airflow.sdk.api.client import ServerResponseError
from airflow.sdk.exceptions import AirflowNotFoundException, AirflowRuntimeError, AirflowSkipException
from airflow.sdk.observability import stats

from clipdex import metrics
from clipdex.captions.captioner import Flaw
from clipdex.config import Settings, source_timezone
from clipdex.connections import ConnectionFields, engine_settings, index_settings, storage_settings
from clipdex.days import day_of
from clipdex.errors import ClipdexError, ConfigurationError, LeaseHeld, Reason
from clipdex.node_links import collection_url, metrics_url
from clipdex.pipeline import Pipeline
from clipdex.sanitize import escape_line

P = ParamSpec("P")
T = TypeVar("T")

log = logging.getLogger(__name__)
metrics.send_to(stats)

CAPTIONING, INDEXING = "captioning", "indexing"
"""Pools, made at deployment from docker/airflow/pools.json. A slot is a batch, with its requests in flight."""

CLIPS = Asset(name="clips", uri="clipdex://index/clips")
"""Updated once per run that wrote points."""

OUTCOMES = "clipdex_outcomes"
"""The XCom that names the batch of a task, RUN/DAY/BATCH: the target of the plugin's link."""

METRICS_LINK, COLLECTION_LINK = "clipdex_metrics_link", "clipdex_collection_link"
"""XComs with the URLs of the metrics of the nodes, and of the collection in Qdrant's dashboard."""

RETRY_POLICY = ExceptionRetryPolicy(
    rules=[
        RetryRule("clipdex.errors.ConfigurationError", RetryAction.FAIL, reason="a person must change something first"),
        RetryRule("clipdex.errors.RunIncomplete", RetryAction.FAIL, reason="another try does not change the outcome"),
        RetryRule("builtins.PermissionError", RetryAction.FAIL, reason="the store refuses its key, or the folder"),
        RetryRule(
            "clipdex.errors.Unavailable",
            RetryAction.RETRY,
            reason="engine, index, embedding server or lease: try again later",
        ),
        RetryRule("clipdex.airflow_tasks.FailedForGood", RetryAction.FAIL, reason="see the error above"),
    ]
)

MOST_CLIPS_IN_PARAMS = 500
"""More clips of a run are named by a list in the store: Airflow keeps the params of each run in its database."""

# The first retry comes soon, for a killed worker; all of them together outlast a node that loads its model.
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
    "batch_size": Param(None, type=["null", "integer"], minimum=1, maximum=512, description="Clips per batch"),
    "in_flight": Param(None, type=["null", "integer"], minimum=1, maximum=1024, description="Open requests per batch"),
    "recaption": Param(False, type="boolean", description="Caption again clips that have a caption"),
    "recaption_for": Param(
        [], type="array", items={"enum": [*Flaw]}, description="Replace captions that have one of these flaws"
    ),
    "retry_quarantined": Param(
        [], type="array", items={"enum": ["all", *Reason]}, description="Quarantined clips to try again, by reason"
    ),
    "clips": Param(
        [], type="array", items={"type": "string", "pattern": "^[0-9a-f]{32}$"}, maxItems=MOST_CLIPS_IN_PARAMS,
        description="Only these clips of the day, by clip_id, also from quarantine",
    ),
    "clip_list": Param(
        None, type=["null", "string"], pattern="^[0-9a-z-]{1,64}$",
        description="Name of a list of clips in the store, instead of clips; the page Quarantine writes it",
    ),
}  # fmt: skip


REINDEX_PARAMS = {
    "source": PARAMS["source"],
    "embedding_model": Param(None, type=["null", "string"], description="Instead of CLIPDEX_EMBEDDING__MODEL"),
    "chunk_tokens": Param(None, type=["null", "integer"], minimum=1, description="Instead of CLIPDEX_CHUNKING__TOKENS"),
    "chunk_overlap": Param(
        None, type=["null", "integer"], minimum=0, description="Instead of CLIPDEX_CHUNKING__OVERLAP"
    ),
}  # fmt: skip


class FailedForNow(SystemExit):
    """End a task after an expected failure; Airflow retries it while it has tries left. error: the failure."""

    def __init__(self, error: Exception) -> None:
        super().__init__(str(error))
        self.error = error
        self.code = 1


class FailedForGood(FailedForNow):
    """End a task after an expected failure that another try does not change."""


def ends_plainly(kept: str) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Decorate a task: log an expected failure in one line, without a traceback.

    kept: what a failed try leaves, for the log. The task raises FailedForNow or FailedForGood.
    """

    def decorate(work: Callable[P, T]) -> Callable[P, T]:
        @wraps(work)
        def run(*args: P.args, **kwargs: P.kwargs) -> T:
            try:
                return work(*args, **kwargs)
            except (ClipdexError, PermissionError) as error:
                raise _failed(work.__name__, error, kept) from None

        return run

    return decorate


@ends_plainly("Nothing is planned, and no day stays leased.")
def discover() -> list[dict[str, Any]]:
    """Plan this run and return pointers to its batches, to expand over."""
    from clipdex.runs import leases
    from clipdex.runs.planning import run_label

    context = get_current_context()
    params, pipeline = context["params"], Pipeline.open(run_settings())
    *earlier, run = [run_label(context["run_id"], number) for number in range(1, context["ti"].try_number + 1)]
    job = json.dumps([context["dag_run"].dag_id, context["run_id"]])
    criteria = pipeline.criteria(
        recaption=params["recaption"],
        recaption_for=params["recaption_for"],
        retry_quarantined=params["retry_quarantined"],
    )
    _check_timezone(context, pipeline.settings.source.timezone)
    day, before = _days(context, pipeline.settings.source.lookback_days)
    only = _only(pipeline, params, day)
    with leases.Lease(pipeline.store, run, pipeline.settings.batches.lease_s, job, _is_active) as lease:

        def hold(one: str) -> None:
            if one not in lease.days:
                for label in earlier:  # tries of this run that were killed
                    leases.release(pipeline.store, one, label)
                lease.take(one)

        try:
            if day:
                hold(day)
                _hold_free_days(before, hold)
            found = pipeline.survey(
                lease.days, criteria, prefix=None if day else params["prefix"], hold=hold, only=only
            )
            lease.check()
            plan = pipeline.plan(run, found, job)
        except BaseException:
            lease.release()
            raise
    context["ti"].xcom_push(key="run", value=run)
    return [batch.to_json() for batch in plan.batches]


@ends_plainly("Captions and outcomes of this try are stored; the next one requests only the other clips.")
def caption(batch: dict[str, Any]) -> dict[str, Any]:
    """Caption one batch and return counts."""
    pipeline = Pipeline.open(run_settings())
    ref = _named(batch, pipeline.settings)
    return pipeline.caption(ref, get_current_context()["ti"].try_number).to_json()


@ends_plainly("Points that were written stay; the next try writes the others.")
def index(batch: dict[str, Any]) -> dict[str, Any]:
    """Index the captions of one batch and return counts."""
    pipeline = Pipeline.open(run_settings())
    ref = _named(batch, pipeline.settings)
    return pipeline.index(ref, get_current_context()["ti"].try_number).to_json()


@ends_plainly("Captions, points and outcomes of the run stay.")
def report() -> int:
    """Write the report of the run and return how many chunks it wrote. Raises where the run must not be green."""
    from clipdex.runs.report import check_report

    pipeline = Pipeline.open(run_settings())
    run = get_current_context()["ti"].xcom_pull(task_ids="discover", key="run")
    if not run:
        raise ConfigurationError("discover did not finish, so nothing was planned: read its log, then clear it")
    done = pipeline.report(run)
    check_report(done, pipeline.settings.quarantine)
    return done.total("chunks")


async def searchable_too_late(context: dict[str, Any]) -> None:
    """Log in the triggerer, where this runs, that a run has not ended by its deadline. Airflow counts it."""
    run, due = context["dag_run"], context["deadline"]["deadline_time"]
    nightly = run["run_type"] == "scheduled"
    log.log(
        logging.ERROR if nightly else logging.INFO,
        "%s of %s: not searchable by %s (%s now): look for tasks that are retried or wait for a slot of a pool; "
        "docs/observability.md explains each", run["dag_run_id"], run["partition_key"] or "no day", due,
        run["state"],
    )  # fmt: skip


def publish(chunks: int) -> None:
    """Emit one asset event for schedules on the asset, if points were written."""
    if not chunks:
        raise AirflowSkipException("no points were written, so there is no event")


@ends_plainly("What was deleted stays deleted; the next try deletes the rest.")
def prune() -> dict[str, Any]:
    """Delete what is older than the store's retention and return counts."""
    return Pipeline.open(server_settings()).prune().to_json()


@ends_plainly("Nothing is changed.")
def days_to_reindex() -> list[list[str]]:
    """Return what to expand over: one day each, or several where there are more days than mapped tasks may be."""
    pipeline = Pipeline.open(reindex_settings())
    days = pipeline.days_to_reindex()
    size = -(-len(days) // pipeline.settings.batches.max_batches)
    return [days[start : start + size] for start in range(0, len(days), size)]


@ends_plainly("Searches read the former collection; points that were written to the new one stay.")
def reindex(days: list[str]) -> list[dict[str, Any]]:
    """Write some days into the collection of these settings and return counts of each."""
    from clipdex.storage.artifacts import run_name

    context, pipeline = get_current_context(), Pipeline.open(reindex_settings())
    run, try_number = run_name(context["run_id"]), context["ti"].try_number
    return [pipeline.reindex_day(day, run, try_number).to_json() for day in days]


@ends_plainly("Searches read the former collection.")
def serve(reindexed: Any) -> dict[str, Any]:
    """Switch searches to what was reindexed."""
    from clipdex.stages.reindex import DayTotals

    days = [DayTotals(**day) for days in reindexed for day in days]
    return Pipeline.open(reindex_settings()).serve(days).to_json()


def reindex_settings() -> Settings:
    """Return the settings with the source and the index that this run's params describe."""
    params, kept = get_current_context()["params"], _kept()
    if params["embedding_model"]:
        kept["embedding"]["model"] = params["embedding_model"]
    chunking = {"tokens": params["chunk_tokens"], "overlap": params["chunk_overlap"]}
    return Settings.load(
        chunking={name: value for name, value in chunking.items() if value is not None},
        source=connection(params["source"], storage_settings),
        **kept,
    )


def run_settings() -> Settings:
    """Return the settings, overridden by this run's connections and params."""
    params = get_current_context()["params"]
    engine = connection(params["engine"], engine_settings)
    if params["in_flight"]:
        engine["in_flight"] = params["in_flight"]
    batches = {"size": params["batch_size"]} if params["batch_size"] else {}
    source = connection(params["source"], storage_settings)
    return Settings.load(source=source, engine=engine, batches=batches, **_kept())


def server_settings() -> Settings:
    """Return the settings of the web pages, outside of any run: source, store and index."""
    return Settings.load(source=connection("clipdex_source", storage_settings), **_kept())


def connection(conn_id: str, read: Callable[[ConnectionFields], dict[str, Any]]) -> dict[str, Any]:
    """Return the settings in a Connection, {} if it is optional and missing. Raises ConfigurationError."""
    try:
        found = Connection.get(conn_id)
    except AirflowNotFoundException:
        variable = f"AIRFLOW_CONN_{conn_id.upper()}"
        if os.environ.get(variable):  # Airflow skips a Connection that it cannot read
            raise ConfigurationError(
                f"{variable}: Airflow cannot read it: expected a URI such as http://gpu-1:30000, or JSON such as "
                '{"conn_type": "generic", "host": "http://gpu-1:30000,http://gpu-2:30000"}'
            ) from None
        if conn_id in _OPTIONAL:
            return {}
        raise ConfigurationError(
            f"no connection {conn_id}: make it under Admin → Connections, or name another"
        ) from None
    return read(found)


_OPTIONAL = {"clipdex_source", "clipdex_store", "clipdex_engine", "clipdex_index", "clipdex_embedding"}


def _kept() -> dict[str, Any]:
    """Return the connections of store, index and embedding servers, the same for every run."""
    return {
        "store": connection("clipdex_store", storage_settings),
        "index": connection("clipdex_index", index_settings),
        "embedding": connection("clipdex_embedding", engine_settings),
    }


def _days(context: Any, lookback: int) -> tuple[str | None, list[str]]:
    """Return the day of this run, and for a nightly run the days to look back at."""
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


def _only(pipeline: Pipeline, params: Any, day: str | None) -> list[str] | None:
    """Return the clips that this run tries again, by clip_id; None for all. Raises ConfigurationError."""
    from clipdex.runs.quarantine.requeues import read_list

    clips = list(params["clips"])
    if params["clip_list"]:
        clips += read_list(pipeline.store, params["clip_list"])
    if not clips:
        return None
    if day is None:
        raise ConfigurationError("clips are tried again by day: trigger with the day of these clips, not a prefix")
    return clips


def _check_timezone(context: Any, timezone: str) -> None:
    """Raise ConfigurationError if a scheduled run has days of another time zone than the schedule."""
    run, scheduled = context["dag_run"], source_timezone()
    if run.run_type != "scheduled":
        return
    if timezone != scheduled:
        raise ConfigurationError(
            f"the time zone of connection {context['params']['source']} is {timezone}, and ingest_clips is scheduled "
            f"for the days of {scheduled}: set CLIPDEX_SOURCE__TIMEZONE of every Airflow process to {timezone}, or "
            "remove timezone from the connection"
        )
    if run.partition_key and day_of(run.run_after, timezone) <= run.partition_key:
        raise ConfigurationError(
            f"{run.partition_key} is not over in {timezone}: this run was scheduled in another time zone; set "
            "CLIPDEX_SOURCE__TIMEZONE of the DAG processor and the workers to the same"
        )


def _hold_free_days(days: list[str], hold: Callable[[str], None]) -> None:
    """Acquire the leases of those days that are free."""
    for day in days:
        try:
            hold(day)
        except LeaseHeld as error:
            log.info("not looking back at %s: %s", day, error)


def _is_active(job: str) -> bool:
    """Return whether Airflow still works on the run that took a lease. False for a run that was deleted.

    Raises AirflowRuntimeError, in dag.test() ServerResponseError, if Airflow's API does not answer.
    """
    dag_id, run_id = json.loads(job)
    try:
        state = get_current_context()["ti"].get_dagrun_state(dag_id=dag_id, run_id=run_id)
    except AirflowRuntimeError as error:
        if (error.error.detail or {}).get("status_code") != HTTPStatus.NOT_FOUND:
            raise
        return False
    except ServerResponseError as error:
        if error.response.status_code != HTTPStatus.NOT_FOUND:
            raise
        return False
    return state in (DagRunState.QUEUED, DagRunState.RUNNING)


def _named(batch: dict[str, Any], settings: Settings) -> Any:
    """Return the batch; set the targets of the plugin's links."""
    from clipdex.runs.planning import BatchRef

    ref, context = BatchRef.from_json(batch), get_current_context()
    context["ti"].xcom_push(key=OUTCOMES, value=f"{ref.run}/{ref.day}/{ref.batch}")
    links = {METRICS_LINK: metrics_url(settings), COLLECTION_LINK: collection_url(settings)}
    for key, link in links.items():
        if link:
            context["ti"].xcom_push(key=key, value=link)
    return ref


def batch_label(batch: dict[str, Any]) -> str:
    """Return the map index of a task over a batch: its first clip and the number of the others."""
    from clipdex.runs.planning import BatchRef

    return BatchRef.from_json(batch).label


def days_label(days: list[str]) -> str:
    """Return the map index of a task over days."""
    return " … ".join(dict.fromkeys([days[0], days[-1]]))


LABELS = {"batch_label": batch_label, "days_label": days_label}
"""Macros of map_index_template. Airflow renders it before a task runs, and not again after SystemExit."""


def _failed(task: str, error: Exception, kept: str) -> FailedForNow:
    """Log the failure, what it leaves and the next try; return what the task raises."""
    context = get_current_context()
    ti = context["ti"]
    decision = RETRY_POLICY.evaluate(error, ti.try_number, ti.max_tries)
    kind = FailedForGood if decision.action is RetryAction.FAIL else FailedForNow
    if kind is FailedForGood:
        following = f"No retry: {decision.reason}. To run this task again, clear it."
    elif ti.try_number > ti.max_tries:
        following = f"No retry: this was try {ti.try_number} of {ti.max_tries + 1}. To run this task again, clear it."
    else:
        soonest_s, latest_s = _retry_delay_s(context["task"], ti.try_number)
        following = f"Try {ti.try_number + 1} of {ti.max_tries + 1} starts in {soonest_s} to {latest_s} s."
    log.error("%s failed: %s: %s. %s %s", task, type(error).__name__, escape_line(str(error)), kept, following)
    return kind(error)


def _retry_delay_s(task: Any, try_number: int) -> tuple[int, int]:
    """Return the shortest and the longest pause before the next try [s], as Airflow computes it."""
    base_s, factor = task.retry_delay.total_seconds(), task.retry_exponential_backoff or 1.0
    shortest_s = math.ceil(base_s * factor ** (try_number - 1))
    longest_s = 2 * shortest_s if factor != 1.0 else shortest_s
    limit_s = int(task.max_retry_delay.total_seconds()) if task.max_retry_delay else 24 * 3600
    return min(shortest_s, limit_s), min(longest_s, limit_s)
