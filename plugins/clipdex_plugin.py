"""Add clipdex to Airflow: the page Clips in the navigation, the button Outcomes on tasks that process a batch, and the
timetable of ingest_clips.

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


class OutcomesLink(BaseOperatorLink):
    """Link a task instance to the outcomes of its batch, embedded in an Airflow page."""

    name = "Outcomes"

    def get_link(self, operator, *, ti_key):
        batch = _batch_of(ti_key)
        return f"{_root()}/plugin/{PAGE}{_root()}{PREFIX}/batches/{quote(batch)}" if batch else ""


class ClipdexPlugin(AirflowPlugin):
    name = "clipdex"
    global_operator_extra_links = [OutcomesLink()]  # noqa: RUF012  # Airflow requires a list and does not modify it
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
    """Load the embedding model and open the index. A failure is logged: the first search reports it to its user."""
    _app().state.backend.try_load()


@cache
def _app():
    from airflow.api_fastapi.app import get_auth_manager
    from airflow.api_fastapi.core_api.security import requires_authenticated

    from clipdex.airflow_tasks import server_settings
    from clipdex.web.app import create_app

    return create_app(
        server_settings,
        requires_authenticated(),
        lambda request: get_auth_manager().get_url_login(next_url=str(request.url)),
    )


@cache
def _views():
    """Return the same list on every call: Airflow removes invalid views from it in place."""
    static = f"{_root()}{PREFIX}/static"
    return [
        {
            "name": "Clips",
            "href": f"{_root()}{PREFIX}/",
            "destination": "nav",
            "nav_top_level": True,
            "url_route": PAGE,
            "icon": f"{static}/clips.svg",
            "icon_dark_mode": f"{static}/clips-dark.svg",
        }
    ]


def _batch_of(ti_key) -> str:
    """Return RUN/DAY/BATCH from the task's XCom, or "" for a task without a batch."""
    from airflow.models.xcom import XComModel
    from airflow.utils.session import create_session

    from clipdex.airflow_tasks import OUTCOMES

    query = XComModel.get_many(
        key=OUTCOMES,
        run_id=ti_key.run_id,
        dag_ids=ti_key.dag_id,
        task_ids=ti_key.task_id,
        map_indexes=ti_key.map_index,
    )
    with create_session() as session:
        row = session.execute(query.with_only_columns(XComModel.value)).first()
    return XComModel.deserialize_value(row) if row else ""


def _root() -> str:
    """Return the path prefix of Airflow behind a reverse proxy, or "" without one."""
    return urlsplit(conf.get("api", "base_url", fallback="")).path.rstrip("/")
