"""docker/compose.yaml: what a deployment relies on, checked without a Docker engine."""

import json
import os
import re
import runpy
import shlex
import subprocess
import sys
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml
from compose_spec import PyCompose
from cryptography.fernet import Fernet

from clipdex.config import EngineName, Settings

ROOT = Path(__file__).resolve().parents[2]
DOCKER = ROOT / "docker"
EXAMPLE = (DOCKER / ".env.example").read_text()
COMPOSE = yaml.safe_load((DOCKER / "compose.yaml").read_text())

VARIABLE = re.compile(r"\$\$|\$\{(?P<name>\w+)(?P<operator>:[-?])(?P<argument>[^}]*)\}")
SECRET = re.compile(r"PASSWORD$|SECRET$|_KEY$|TOKEN$")


@pytest.fixture(scope="module")
def filled(tmp_path_factory) -> dict[str, str]:
    """Create docker/.env with the command in .env.example and return its variables."""
    folder = tmp_path_factory.mktemp("repository")
    (folder / "docker").mkdir()
    (folder / "docker" / ".env.example").write_text(EXAMPLE)
    [command] = re.findall(r"^#\s+(awk .*)$", EXAMPLE, re.MULTILINE)
    subprocess.run(command, shell=True, cwd=folder, check=True)
    lines = (folder / "docker" / ".env").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


@pytest.fixture(scope="module")
def services(filled) -> dict[str, Any]:
    return interpolated(COMPOSE, filled)["services"]


@pytest.fixture(scope="module")
def airflow(services) -> dict[str, Any]:
    return {name: service for name, service in services.items() if name.startswith("airflow-")}


def test_the_file_follows_the_compose_specification(filled):
    PyCompose.from_yaml(yaml.safe_dump(interpolated(COMPOSE, filled))).validate()


def test_env_example_lists_every_variable_and_no_other():
    listed = set(re.findall(r"^(?:# )?([A-Z]\w+)=", EXAMPLE, re.MULTILINE))
    assert listed - {"COMPOSE_PROFILES"} == {name for name, _ in variables(COMPOSE)}


def test_compose_does_not_start_if_any_secret_is_missing():
    required = {name for name, operator in variables(COMPOSE) if operator == ":?"}
    optional = {name for name, operator in variables(COMPOSE) if operator == ":-"}
    assert required == set(re.findall(r"^([A-Z]\w+)=", EXAMPLE, re.MULTILINE))
    assert not required & optional


def test_the_command_in_env_example_generates_every_secret(filled):
    secrets = [value for name, value in filled.items() if SECRET.search(name)]
    assert len(secrets) == len(set(secrets)) == 7
    assert all(re.fullmatch(r"[\w=-]{44}", value) for value in secrets)
    Fernet(filled["AIRFLOW_FERNET_KEY"])


def test_compose_file_contains_no_secret():
    environments = [service.get("environment", {}) for service in COMPOSE["services"].values()]
    written = {
        (name, value) for e in environments for name, value in e.items() if SECRET.search(name) and "${" not in value
    }
    assert written == set()


def test_only_this_machine_reaches_a_published_port(services):
    ports = [port for service in services.values() for port in service.get("ports", [])]
    assert len(ports) == 2
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_third_party_images_are_pinned_to_a_version(services):
    images = [service["image"] for service in services.values() if "build" not in service]
    froms = [line.split()[1] for file in DOCKER.glob("*/Dockerfile") for line in lines(file, "FROM")]
    assert images
    assert all(re.search(r":(v?\d|\$\{SGLANG_VERSION\})", image) for image in images + froms)


def test_every_image_that_is_built_has_its_dockerfile_and_the_files_it_copies(services):
    for service in services.values():
        if "build" not in service:
            continue
        context = (DOCKER / service["build"]["context"]).resolve()
        dockerfile = context / service["build"].get("dockerfile", "Dockerfile")
        ignored = dockerfile.with_name("Dockerfile.dockerignore")
        sent = set(re.findall(r"^!(.+)$", ignored.read_text(), re.MULTILINE)) if ignored.exists() else {"."}
        for source in chain.from_iterable(line.split()[1:-1] for line in lines(dockerfile, "COPY")):
            assert (context / source).exists(), source
            assert sent & {".", source, *map(str, Path(source).parents)}, f"{source} is kept out of the build"


def test_the_airflow_image_installs_existing_extras_and_pinned_versions():
    dockerfile = (DOCKER / "airflow" / "Dockerfile").read_text()
    project = (ROOT / "pyproject.toml").read_text()
    [extras] = re.findall(r"-c constraints\.txt .*'\.\[([\w,-]+)\]'", dockerfile)
    assert all(f"\n{extra} = [" in project for extra in extras.split(","))
    drivers = re.sub(r"#.*\n", "", (DOCKER / "airflow" / "requirements.txt").read_text()).split()
    assert all(re.fullmatch(r"[\w\[\]]+==[\d.]+", driver) for driver in drivers)


def test_no_image_of_this_project_runs_as_root(services):
    for name in ("airflow", "gateway"):
        users = [line.split()[1] for line in lines(DOCKER / name / "Dockerfile", "USER")]
        assert users and users[-1] != "root", name


def test_every_long_running_service_has_a_health_check_and_restarts(services):
    long_running = {name: service for name, service in services.items() if name != "airflow-init"}
    assert [n for n, s in long_running.items() if not s.get("healthcheck", {}).get("test")] == []
    assert [n for n, s in long_running.items() if s.get("restart") != "unless-stopped"] == []


def test_airflow_init_runs_once(services):
    assert services["airflow-init"]["restart"] == "no"


def test_every_condition_that_a_service_waits_for_can_be_met(services):
    for name, service in services.items():
        for other, wait in service.get("depends_on", {}).items():
            healthy = "test" in services[other].get("healthcheck", {})
            expected = "service_healthy" if healthy else "service_completed_successfully"
            assert wait["condition"] == expected, f"{name} waits for {other}"
            always_there = set(services[other].get("profiles", [])) >= set(service.get("profiles", []))
            assert always_there or wait.get("required") is False, f"{other} is not there in every profile of {name}"


def test_data_are_kept_in_declared_volumes(services):
    mounts = [mount.split(":")[0] for service in services.values() for mount in service.get("volumes", [])]
    named = {mount for mount in mounts if not mount.startswith((".", "/"))}
    assert named == set(COMPOSE["volumes"])


def test_gpu_node_and_gateway_start_only_with_their_profile(services):
    profiles = {name: set(service["profiles"]) for name, service in services.items() if "profiles" in service}
    assert profiles == {"gateway": {"gateway"}, "sglang": {"gpu"}, "embedding": {"embedding"}}


def test_every_airflow_process_has_a_service_and_its_command_exists(airflow):
    commands = {tuple(service["command"]) for name, service in airflow.items() if name != "airflow-init"}
    assert {" ".join(command) for command in commands} == {
        "airflow api-server",
        "airflow scheduler",
        "airflow dag-processor",
        "airflow triggerer",
        "airflow celery worker",
    }
    checks = [service["healthcheck"].get("test", []) for service in airflow.values()]
    commands |= {tuple(test[1:]) for test in checks if test[1:2] == ["airflow"]}
    assert airflow_parser_errors(commands) == ""


def test_airflow_knows_every_option_that_is_set(airflow):
    from airflow.configuration import retrieve_configuration_description
    from airflow.providers.celery.get_provider_info import get_provider_info

    known = {**retrieve_configuration_description(include_providers=False), **get_provider_info()["config"]}
    names = {name for service in airflow.values() for name in service["environment"] if name.startswith("AIRFLOW__")}
    split = [name.lower().split("__")[1:] for name in names]
    assert [(section, option) for section, option in split if option not in known[section]["options"]] == []


def test_all_airflow_processes_share_secrets_database_and_broker(airflow):
    for option in (
        "AIRFLOW__CORE__FERNET_KEY",
        "AIRFLOW__API__SECRET_KEY",
        "AIRFLOW__API_AUTH__JWT_SECRET",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN",
        "AIRFLOW__CELERY__BROKER_URL",
    ):
        assert len({service["environment"][option] for service in airflow.values()}) == 1, option


def test_only_airflow_init_sees_the_secrets_of_connections(airflow, filled):
    hidden = {filled["AIRFLOW_ADMIN_PASSWORD"], filled["QDRANT_API_KEY"]}
    seeing = {name for name, service in airflow.items() if hidden & set(service["environment"].values())}
    assert seeing == {"airflow-init"}


def test_clipdex_reads_the_settings_that_compose_gives_it(services, monkeypatch):
    set_environment(monkeypatch, services["airflow-worker"])
    settings = Settings.load()
    assert settings.engine.name is EngineName.DETECTORS
    assert settings.source_url == "/clips"
    assert settings.index.url == "http://qdrant:6333"


def test_airflow_settings_and_gpu_node_agree_on_model_and_sampling(filled, monkeypatch):
    overrides = {**filled, "CLIPDEX_ENGINE__NAME": "sglang", "CLIPDEX_ENGINE__MODEL": "a/model", "VIDEO_FPS": "1"}
    services = interpolated(COMPOSE, overrides)["services"]
    set_environment(monkeypatch, services["airflow-worker"])
    settings = Settings.load()
    assert settings.engine.base_urls == ("http://sglang:30000",)
    assert settings.sampling.fps == settings.engine.server_sampling["fps"] == 1

    arguments = dict(pairwise(command_line(DOCKER / "sglang" / "Dockerfile", services["sglang"])))
    assert arguments["--model"] == settings.engine.model == "a/model"
    sampled = {"fps": float(arguments["--fps"]), "max_frames": int(arguments["--max-frames"])}
    assert sampled == settings.engine.server_sampling


def test_the_gpu_node_starts_with_an_existing_profile_and_extra_flags(filled):
    node = interpolated(COMPOSE, {**filled, "SGLANG_FLAGS": "--quantization awq"})["services"]["sglang"]
    arguments = command_line(DOCKER / "sglang" / "Dockerfile", node)
    assert (DOCKER / "sglang" / "profiles" / f"{arguments[arguments.index('--profile') + 1]}.toml").exists()
    assert arguments[-2:] == ["--quantization", "awq"]


def test_airflow_and_the_embedding_node_agree_on_the_model(filled, monkeypatch):
    [example] = re.findall(
        r"^# (CLIPDEX_EMBEDDING__MODEL=.*\n)# (CLIPDEX_EMBEDDING__BASE_URLS=.*)$", EXAMPLE, re.MULTILINE
    )
    overrides = dict(line.strip().split("=", 1) for line in example)
    services = interpolated(COMPOSE, filled | overrides)["services"]
    set_environment(monkeypatch, services["airflow-worker"])
    settings = Settings.load().embedding
    assert settings.base_urls == ("http://embedding:30000",)
    arguments = command_line(DOCKER / "sglang" / "Dockerfile", services["embedding"])
    assert arguments[arguments.index("--model") + 1] == settings.model
    assert (DOCKER / "sglang" / "profiles" / f"{arguments[arguments.index('--profile') + 1]}.toml").exists()


def test_indexing_gets_what_captioning_leaves_of_a_worker_where_a_server_has_the_index(services):
    init = runpy.run_path(str(DOCKER / "airflow" / "init.py"))
    environment = services["airflow-init"]["environment"]
    slots = {name: pool["slots"] for name, pool in init["pools"](environment).items()}
    assert slots["indexing"] > 1
    assert sum(slots.values()) + 1 == int(environment["AIRFLOW__CELERY__WORKER_CONCURRENCY"])
    embedded = {name: value for name, value in environment.items() if name != "CLIPDEX_INDEX__URL"}
    assert init["pools"](embedded)["indexing"]["slots"] == 1


def test_the_gateway_gets_all_nodes(filled):
    nodes = "http://gpu-1:30000 http://gpu-2:30000"
    gateway = interpolated(COMPOSE, {**filled, "SGLANG_NODES": nodes})["services"]["gateway"]
    assert command_line(DOCKER / "gateway" / "Dockerfile", gateway)[-2:] == nodes.split()


def test_other_containers_reach_gateway_and_gpu_node(filled):
    for name, folder in {"gateway": "gateway", "sglang": "sglang", "embedding": "sglang"}.items():
        arguments = command_line(DOCKER / folder / "Dockerfile", interpolated(COMPOSE, filled)["services"][name])
        assert arguments[arguments.index("--host") + 1] == "0.0.0.0"


def interpolated(node: Any, environment: dict[str, str]) -> Any:
    """Replace variables as Compose does: ${NAME:-default}, ${NAME:?message} and $$."""
    if isinstance(node, dict):
        return {key: interpolated(value, environment) for key, value in node.items()}
    if isinstance(node, list):
        return [interpolated(value, environment) for value in node]
    return VARIABLE.sub(lambda found: _value(found, environment), node) if isinstance(node, str) else node


def _value(found: re.Match[str], environment: dict[str, str]) -> str:
    if found[0] == "$$":
        return "$"
    value = environment.get(found["name"], "")
    assert value or found["operator"] == ":-", f"{found['name']}: {found['argument']}"
    return value or found["argument"]


def variables(node: Any) -> set[tuple[str, str]]:
    found = VARIABLE.finditer(json.dumps(node))
    return {(match["name"], match["operator"]) for match in found if match["name"]}


def lines(dockerfile: Path, instruction: str) -> list[str]:
    return re.findall(rf"^{instruction} .*$", dockerfile.read_text(), re.MULTILINE)


def set_environment(monkeypatch: pytest.MonkeyPatch, service: dict[str, Any]) -> None:
    """Set the CLIPDEX_ variables of a service and unset those of this shell."""
    for name in [name for name in os.environ if name.startswith("CLIPDEX_")]:
        monkeypatch.delenv(name)
    for name, value in service["environment"].items():
        if name.startswith("CLIPDEX_"):
            monkeypatch.setenv(name, value)


def command_line(dockerfile: Path, service: dict[str, Any]) -> list[str]:
    """Return the command line: the entry point of the image and the command of the service."""
    [entry] = lines(dockerfile, "ENTRYPOINT")
    command: list[str] = json.loads(entry.removeprefix("ENTRYPOINT"))
    assert Path(command[1]).name == "serve" and os.access(dockerfile.with_name("serve"), os.X_OK)
    return command + shlex.split(service["command"])


def airflow_parser_errors(commands: set[tuple[str, ...]]) -> str:
    """Return the errors of Airflow's own parser for these commands. Run it in a subprocess, because it may exit."""
    script = (
        "import sys, json; from airflow.cli.cli_parser import get_parser\n"
        "for command in json.loads(sys.argv[1]): get_parser().parse_args(command[1:])"
    )
    done = subprocess.run([sys.executable, "-c", script, json.dumps(sorted(commands))], capture_output=True, text=True)
    return done.stderr if done.returncode else ""
