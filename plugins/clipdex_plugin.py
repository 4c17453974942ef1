"""Add clipdex to Airflow: the page Clips in the navigation; tabs of task instances, runs and DAGs; links from a task to
the outcomes of its batch, to the metrics of the nodes and to the collection; and the timetable of ingest_clips.

Every Airflow process imports this file. The web app is created only on first use, by the API server. Each of its
workers loads the embedding model after it has started, so that the first search does not wait for it.
"""

from functools import cache
from threading import Thread
from urllib.parse import quote, urlsplit

from airflow.configuration import conf
from airflow.plugins_manager import AirflowPlugin
from airflow.sdk import BaseOperatorLink

from clipdex.airflow_timetable import DayTimetable

PREFIX, PAGE = "/clipdex", "clips"

OUTCOMES, METRICS_LINK, COLLECTION_LINK = "clipdex_outcomes", "clipdex_metrics_link", "clipdex_collection_link"
"""As in clipdex.airflow_tasks, which is not imported here: every Airflow process imports this file."""


class OutcomesLink(BaseOperatorLink):
    """Link a task instance to the outcomes of its batch, embedded in an Airflow page."""

    name = "Outcomes"

    def get_link(self, operator, *, ti_key):
        batch = _from_xcom(self, operator, ti_key, OUTCOMES)
        return f"{_root()}/plugin/{PAGE}{_root()}{PREFIX}/batches/{quote(batch)}" if batch else ""


class MetricsLink(BaseOperatorLink):
    """Link a task instance to the metrics of the engine that it used, if the settings name their page."""

    name = "Metrics of the nodes"

    def get_link(self, operator, *, ti_key):
        return _from_xcom(self, operator, ti_key, METRICS_LINK)


class CollectionLink(BaseOperatorLink):
    """Link a task instance to the collection in Qdrant's dashboard, if the index is on a server."""

    name = "Qdrant collection"

    def get_link(self, operator, *, ti_key):
        return _from_xcom(self, operator, ti_key, COLLECTION_LINK)


class ClipdexPlugin(AirflowPlugin):
    name = "clipdex"
    global_operator_extra_links = [OutcomesLink(), MetricsLink(), CollectionLink()]  # noqa: RUF012  # Airflow requires a list and does not modify it
    timetables = [DayTimetable]  # noqa: RUF012

    @property
    def external_views(self):
        return _views()

    @property
    def fastapi_root_middlewares(self):
        return [{"middleware": AfterStart, "kwargs": {"load": _load}, "name": "clipdex"}]

    @property
    def fastapi_apps(self):
        return [{"app": _app(), "url_prefix": PREFIX, "name": "clipdex"}]


class AfterStart:
    """Call load() in a thread when a process of the API server has started. Middleware, because it sees the start.

    An app that a plugin mounts sees none. A process that is forked later starts by itself.
    """

    def __init__(self, app, load):
        self._app, self._load = app, load

    async def __call__(self, scope, receive, send):
        if scope["type"] != "lifespan":
            return await self._app(scope, receive, send)

        async def watched(message):
            await send(message)
            if message["type"] == "lifespan.startup.complete":
                Thread(target=self._load, name="clipdex-load", daemon=True).start()

        return await self._app(scope, receive, watched)


def _load():
    """Load the embedding model, open the index and read ahead. A failure is logged: the first request reports it."""
    from clipdex.web.startup import read_ahead

    _app().state.backend.try_load()
    read_ahead(_app())


@cache
def _app():
    from airflow.api_fastapi.app import get_auth_manager
    from airflow.api_fastapi.core_api.security import requires_authenticated

    from clipdex.airflow_operations import AirflowOperations
    from clipdex.airflow_tasks import server_settings
    from clipdex.web.app import create_app

    return create_app(
        server_settings,
        requires_authenticated(),
        lambda request: get_auth_manager().get_url_login(next_url=str(request.url)),
        AirflowOperations(),
    )


@cache
def _views():
    """Return the same list on every call: Airflow removes invalid views from it in place."""
    home, static = f"{_root()}{PREFIX}", f"{_root()}{PREFIX}/static"
    icons = {"icon": f"{static}/clips.svg", "icon_dark_mode": f"{static}/clips-dark.svg"}
    return [
        {
            "name": "Clips",
            "href": f"{home}/",
            "destination": "nav",
            "nav_top_level": True,
            "url_route": PAGE,
            **icons,
        },
        {
            "name": "Clips",
            "href": f"{home}/tasks/{{DAG_ID}}/{{RUN_ID}}/{{TASK_ID}}/{{MAP_INDEX}}",
            "destination": "task_instance",
            "url_route": "clips-of-task",
            **icons,
        },
        {
            "name": "Clips",
            "href": f"{home}/dag-runs/{{DAG_ID}}/{{RUN_ID}}",
            "destination": "dag_run",
            "url_route": "clips-of-run",
            **icons,
        },
        {
            "name": "Quarantine",
            "href": f"{home}/dags/{{DAG_ID}}",
            "destination": "dag",
            "url_route": "clips-quarantine",
            **icons,
        },
    ]


def _from_xcom(link, operator, ti_key, key) -> str:
    """Return the text that a task pushed under a key, "" if it did not. Airflow reads it, as for links of operators."""
    from airflow.serialization.definitions.operatorlink import XComOperatorLink

    return XComOperatorLink(name=link.name, xcom_key=key).get_link(operator, ti_key=ti_key)


def _root() -> str:
    """Return the path prefix of Airflow behind a reverse proxy, or "" without one."""
    return urlsplit(conf.get("api", "base_url", fallback="")).path.rstrip("/")
