"""Run a complete Airflow on loopback in one folder: scheduler, API server, dag processor, triggerer.

    with LocalAirflow(home) as airflow:
        airflow.url, airflow.user, airflow.password

Each component has its own process group and ends with this process. The running processes are recorded in
home/local.json, so that stop_leftovers() can clean up after a crash.
"""

import ctypes
import io
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from configparser import ConfigParser
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx
import psutil
from cryptography.fernet import Fernet

REPOSITORY = Path(__file__).parents[1]
COMPONENTS = {
    "api-server": ["api-server"],
    "scheduler": ["scheduler", "--skip-serve-logs"],
    "dag-processor": ["dag-processor"],
    "triggerer": ["triggerer", "--skip-serve-logs"],
}
"""The API server reads logs from home/logs. Log servers are off: they would listen on every interface."""


WRITE_LOCK_S = 60
"""How long a writer waits for SQLite's write lock [s]. SQLite admits one writer at a time and is not fair: on a busy
machine, six writers waited up to 8 s. Python's default is 5 s; then the API returns 500 Database error."""


class AirflowFailed(Exception):
    """A component did not start, or ended; the message includes its last lines."""


class LocalAirflow:
    """Start on enter, stop on exit.

    home: AIRFLOW_HOME, reused on the next start
    environment: overrides for the components, such as CLIPDEX_* settings or AIRFLOW__* options
    """

    user = "admin"
    components: Mapping[str, list[str]] = COMPONENTS

    def __init__(self, home: Path, environment: Mapping[str, str] | None = None, port: int = 0) -> None:
        self.home = home
        self.port = port or free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._given = dict(environment or {})
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._sessions: list[int] = []
        self.password = ""

    def __enter__(self) -> Self:
        running = leftovers(self.home)
        if running:
            raise AirflowFailed(
                f"{self.home} is in use by process {running[0].pid} and {len(running) - 1} more: run make down"
            )
        self.home.mkdir(parents=True, exist_ok=True)
        self.password = _kept_secret(self.home / "password", lambda: secrets.token_urlsafe(12))
        self.environment = self._environment()
        try:
            self._prepare()
            for name in self.components:
                self.start(name)
            self.wait_until_healthy()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self, name: str) -> None:
        """Start a component, also again after kill()."""
        log = self._log(name)
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as output:
            self._processes[name] = subprocess.Popen(
                [*_AIRFLOW, *self.components[name]], env=self.environment | self._own_environment(name),
                stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, start_new_session=True,
                preexec_fn=die_with_parent, cwd=self.home,
            )  # fmt: skip
        self._sessions.append(self._processes[name].pid)
        state = {"url": self.url, "parent": os.getpid(), "pids": self.pids, "sessions": self._sessions}
        (self.home / "local.json").write_text(json.dumps(state))

    @property
    def pids(self) -> dict[str, int]:
        """Return the process ids of the running components by name."""
        return {name: process.pid for name, process in self._processes.items()}

    def kill(self, name: str) -> int:
        """Send SIGKILL to a component and all its descendants; return the number of processes."""
        process = self._processes.pop(name)
        family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
        for one in family:
            one.kill()
        process.wait()
        psutil.wait_procs(family, timeout=5)
        return len(family)

    def end(self, name: str, seconds: float, number: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal to the component only, as an init does; return its exit code. Raise TimeoutExpired."""
        process = self._processes[name]
        process.send_signal(number)
        code = process.wait(seconds)
        del self._processes[name]
        return code

    def supervise(self) -> None:
        """Restart ended components, as an init does."""
        for name in self.components:
            process = self._processes.get(name)
            if process is None or process.poll() is not None:
                self.start(name)

    def check(self) -> None:
        """Raise AirflowFailed if a component has ended."""
        for name, process in self._processes.items():
            if process.poll() is not None:
                raise AirflowFailed(f"airflow {name} ended with {process.returncode}:\n{self._tail(name)}")

    def wait_until_healthy(self, seconds: float = 180) -> None:
        """Wait until every component answers; raise AirflowFailed if one ends, or on a timeout."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            self.check()
            missing = self._unavailable()
            if not missing:
                return
            time.sleep(0.25)
        raise AirflowFailed(f"airflow is not healthy after {seconds:.0f} s: {missing}; see {self.home / 'logs'}")

    def stop(self) -> None:
        """Stop all components and tasks: SIGTERM first, then SIGKILL."""
        for process in self._processes.values():
            _signal_group(process.pid, signal.SIGTERM)
        _wait_all(list(self._processes.values()), 10)
        for process in self._processes.values():
            _signal_group(process.pid, signal.SIGKILL)
            process.wait()
        self._processes.clear()
        stop_leftovers(self.home)

    def airflow(self, *arguments: str) -> str:
        """Run an airflow command in this environment; return its output."""
        done = subprocess.run([*_AIRFLOW, *arguments], env=self.environment, capture_output=True, text=True)
        if done.returncode:
            raise AirflowFailed(f"airflow {' '.join(arguments)}: {done.stderr[-2000:]}")
        return done.stdout

    def _environment(self) -> dict[str, str]:
        home = self.home
        kept = {name: _kept_secret(home / name, make) for name, make in _SECRETS.items()}
        passwords = home / "passwords.json"
        _write_private(passwords, json.dumps({self.user: self.password}))
        options = {
            "AIRFLOW__CORE__DAGS_FOLDER": str(REPOSITORY / "dags"),
            "AIRFLOW__CORE__PLUGINS_FOLDER": str(REPOSITORY / "plugins"),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
            "AIRFLOW__CORE__PARALLELISM": "4",  # SQLite: with 32 the scheduler fails with "database is locked"
            "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
            "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{self.url}/execution/",
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": f"{self.user}:admin",
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(passwords),
            "AIRFLOW__CORE__FERNET_KEY": kept["fernet_key"],
            "AIRFLOW__API__SECRET_KEY": kept["secret_key"],
            "AIRFLOW__API_AUTH__JWT_SECRET": kept["jwt_secret"],
            "AIRFLOW__API__HOST": "127.0.0.1",
            "AIRFLOW__API__PORT": str(self.port),
            "AIRFLOW__API__BASE_URL": self.url,
            "AIRFLOW__API__WORKERS": "1",
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": database_url(home),
            "AIRFLOW__LOGGING__BASE_LOG_FOLDER": str(home / "logs"),
            "AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0.5",
            "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": "30",
            "AIRFLOW__TRIGGERER__JOB_HEARTBEAT_SEC": "2",
        }
        options |= self._options()
        options |= {name: value for name, value in self._given.items() if name.startswith("AIRFLOW__")}
        _write_private(home / "airflow.cfg", _as_file(options))
        return {
            **{name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")},
            _MARK: str(home),
            "AIRFLOW_HOME": str(home),
            "PYTHONUNBUFFERED": "1",
            **options,
            **self._given,
        }

    def _options(self) -> dict[str, str]:
        """Return option overrides of a subclass."""
        return {}

    def _prepare(self) -> None:
        """Create the database, pools, connections and DAGs before the first component starts."""
        connections = self.home / "connections.json"
        connections.write_text(json.dumps(_CONNECTIONS))
        pools = REPOSITORY / "docker/airflow/pools.json"
        done = subprocess.run(
            [sys.executable, "-c", _PREPARE, str(pools), str(connections)],
            env=self.environment, capture_output=True, text=True,
        )  # fmt: skip
        if done.returncode:
            raise AirflowFailed(f"preparing {self.home} failed:\n{(done.stdout + done.stderr)[-3000:]}")

    def _own_environment(self, name: str) -> dict[str, str]:
        """Return variables for a single component."""
        return {}

    def _unavailable(self) -> str:
        """Return the components that do not answer yet, or ""."""
        return _unhealthy(self.url)

    def _log(self, name: str) -> Path:
        return self.home / "logs" / "components" / f"{name}.log"

    def _tail(self, name: str) -> str:
        return self._log(name).read_text(errors="replace")[-3000:]


def database_url(home: Path) -> str:
    """Return Airflow's SQLAlchemy URL of a SQLite database in a folder."""
    return f"sqlite:///{home}/airflow.db?timeout={WRITE_LOCK_S}"


def leftovers(home: Path) -> list[psutil.Process]:
    """Return the processes of this home: components, and tasks that outlived them."""
    found = []
    sessions = _sessions(home)
    for process in psutil.process_iter():
        try:
            if process.pid != os.getpid() and (_is_marked(process, home) or _is_of_session(process, home, sessions)):
                found.append(process)
        except (psutil.Error, OSError):
            continue
    return found


def stop_leftovers(home: Path) -> int:
    """Kill the processes left by a crash; return their number."""
    killed: set[int] = set()
    while processes := leftovers(home):
        for process in processes:
            try:
                process.kill()
            except psutil.NoSuchProcess:
                continue
            killed.add(process.pid)
        psutil.wait_procs(processes, timeout=5)
    (home / "local.json").unlink(missing_ok=True)
    return len(killed)


_AIRFLOW = [sys.executable, "-m", "airflow"]

_MARK = "CLIPDEX_LOCAL_AIRFLOW"
"""Marks our processes. AIRFLOW_HOME is not enough: a user's shell may set it."""

_SECRETS = {
    "fernet_key": lambda: Fernet.generate_key().decode(),
    "secret_key": lambda: secrets.token_urlsafe(32),
    "jwt_secret": lambda: secrets.token_urlsafe(48),
}

_CONNECTIONS = {
    f"clipdex_{what}": {"conn_type": "generic", "description": description}
    for what, description in {
        "source": "The archive: host is its URL; empty for the sample clips. login, password: key and secret",
        "store": "The artifact store: host is its URL; empty for a folder. login, password: key and secret",
        "engine": 'Host: base URLs; password: API key; extra: {"name": "sglang", "model": …}. Empty: the detectors',
        "embedding": "Host: base URLs of embedding servers; password: API key. Empty: the model in this process",
        "index": "Host: URL of a Qdrant server; password: API key. Empty for Qdrant Edge in this machine",
    }.items()
}

_PREPARE = """
import sys
from airflow.cli.cli_parser import get_parser
for command in (
    ["db", "migrate"],
    ["pools", "import", sys.argv[1]],
    ["connections", "import", sys.argv[2]],
    ["dags", "reserialize"],
):
    arguments = get_parser().parse_args(command)
    arguments.func(arguments)
"""
"""Runs four commands in one process, because each start takes 4 s. Existing connections are kept."""


def _unhealthy(url: str) -> str:
    try:
        answer = httpx.get(f"{url}/api/v2/monitor/health", timeout=2).json()
    except (httpx.HTTPError, ValueError) as error:
        return f"api-server ({type(error).__name__})"
    states = {
        name: answer.get(name, {}).get("status") for name in ("metadatabase", "scheduler", "dag_processor", "triggerer")
    }
    return ", ".join(f"{name} {state}" for name, state in states.items() if state != "healthy")


def _sessions(home: Path) -> set[int]:
    """Return the sessions of all components, ended ones too: their child processes may still run."""
    try:
        return set(json.loads((home / "local.json").read_text())["sessions"])
    except FileNotFoundError:
        return set()


def _is_marked(process: psutil.Process, home: Path) -> bool:
    return process.environ().get(_MARK) == str(home)


def _is_of_session(process: psutil.Process, home: Path, sessions: set[int]) -> bool:
    """Match by session a process that changed its title, which clears its environment in /proc."""
    return os.getsid(process.pid) in sessions and Path(process.cwd()) == home.resolve()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _as_file(options: Mapping[str, str]) -> str:
    """Return the options as airflow.cfg, so that an airflow command in a terminal needs only AIRFLOW_HOME."""
    config = ConfigParser(interpolation=None)
    for name, value in options.items():
        section, option = name.removeprefix("AIRFLOW__").lower().split("__", 1)
        config.read_dict({section: {option: value.replace("%", "%%")}})
    text = io.StringIO()
    config.write(text)
    return text.getvalue()


def _kept_secret(path: Path, make) -> str:  # type: ignore[no-untyped-def]
    if not path.exists():
        _write_private(path, make())
    return path.read_text()


def _write_private(path: Path, text: str) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)


def die_with_parent() -> None:
    """Make the kernel send SIGTERM to this child process when its parent ends."""
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)


def _signal_group(pid: int, number: signal.Signals) -> None:
    try:
        os.killpg(pid, number)
    except ProcessLookupError:
        return


def _wait_all(processes: list[subprocess.Popen[bytes]], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    for process in processes:
        try:
            process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            return
