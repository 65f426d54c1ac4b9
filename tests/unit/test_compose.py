"""compose.yaml agrees with the code: its commands, settings, ports and files exist."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from cli.main import COMMANDS, app
from cli.topology.passwords import variable_of
from contracts.roles import Role
from contracts.tasks import Phase
from contracts.wire import MAX_BODY
from control.gateway import health
from infra.settings import Settings

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "compose.yaml").read_text()
COMPOSE: dict[str, Any] = yaml.safe_load(TEXT)
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
TREADLE_SERVICES = {
    name: service for name, service in SERVICES.items() if service.get("command", [""])[0] in {"control", "worker"}
}
WORKERS = {service["command"][1] for service in TREADLE_SERVICES.values() if service["command"][0] == "worker"}
DOCKERFILE = (ROOT / "infra/deploy/Dockerfile").read_text()
COLLECTOR: dict[str, Any] = yaml.safe_load((ROOT / "infra/deploy/collector.yaml").read_text())


def test_control_and_three_workers_run() -> None:
    assert {"control", "optimizer", "trainer", "evaluator"} <= set(TREADLE_SERVICES)


def test_each_worker_exists() -> None:
    assert {phase.worker for phase in Phase} == WORKERS


@pytest.mark.parametrize("name", TREADLE_SERVICES)
def test_each_command_exists(name: str) -> None:
    commands = {command.__name__ for commands in COMMANDS.values() for command in commands}

    assert TREADLE_SERVICES[name]["command"][0] in commands


@pytest.mark.parametrize("name", TREADLE_SERVICES)
def test_each_variable_is_a_setting(name: str) -> None:
    settings = {f"TREADLE_{field.upper()}" for field in Settings.model_fields}

    assert set(TREADLE_SERVICES[name]["environment"]) <= settings


def test_each_variable_of_the_image_is_a_setting() -> None:
    settings = {f"TREADLE_{field.upper()}" for field in Settings.model_fields}

    assert set(re.findall(r"TREADLE_[A-Z_]+", DOCKERFILE)) <= settings


@pytest.mark.parametrize("name", SERVICES)
def test_each_service_has_a_healthcheck(name: str) -> None:
    assert SERVICES[name]["healthcheck"]["test"]


def test_control_is_probed_where_it_answers() -> None:
    environment = TREADLE_SERVICES["control"]["environment"]
    probed = " ".join(TREADLE_SERVICES["control"]["healthcheck"]["test"])
    paths = {route.path for route in health.router.routes}  # type: ignore[attr-defined]
    port, path = re.findall(r"127\.0\.0\.1:(\d+)(/\w+)", probed)[0]

    assert port == environment["TREADLE_HTTP_PORT"]
    assert path in paths


def test_control_may_listen_on_all_addresses_of_its_container_because_its_port_is_published_on_loopback() -> None:
    control = TREADLE_SERVICES["control"]

    assert (control["environment"]["TREADLE_HTTP_HOST"], control["environment"]["TREADLE_HTTP_OPEN"]) == (
        "0.0.0.0",
        "yes",
    )
    assert all(port.startswith("127.0.0.1:") for port in control["ports"])


def test_a_worker_is_probed_with_options_that_exist() -> None:
    command = typer.main.get_command(app)
    probe = TREADLE_SERVICES["trainer"]["healthcheck"]["test"][1:]

    assert probe[0] == "treadle"
    doctor = command.get_command(None, probe[1])  # type: ignore[attr-defined]
    only = doctor.make_context("doctor", probe[2:]).params["only"]
    assert [part.value for part in only] == ["broker", "object-store"]


@pytest.mark.parametrize("name", SERVICES)
def test_ports_are_on_loopback(name: str) -> None:
    assert all(port.startswith("127.0.0.1:") for port in SERVICES[name].get("ports", []))


def test_the_addresses_in_variables_are_services_and_their_ports() -> None:
    ports = {"rabbitmq": "5672", "postgres": "5432", "silo": "9000", "collector": "4318"}
    values = " ".join(str(value) for value in TREADLE_SERVICES["control"]["environment"].values())
    named = dict(re.findall(r"[@/]([a-z]+):(\d+)", values))

    assert named == ports
    assert all(f"127.0.0.1:{port}:{port}" in SERVICES[name]["ports"] for name, port in ports.items())


def test_the_collector_listens_at_the_configured_port_and_sends_to_jaeger() -> None:
    http = COLLECTOR["receivers"]["otlp"]["protocols"]["http"]["endpoint"]
    probe = COLLECTOR["extensions"]["health_check"]["endpoint"].rpartition(":")[2]

    assert TREADLE_SERVICES["control"]["environment"]["TREADLE_OTLP_ENDPOINT"].endswith(http.rpartition(":")[2])
    assert f"127.0.0.1:{probe}/" in SERVICES["collector"]["healthcheck"]["test"][-1]
    assert COLLECTOR["exporters"]["otlp/jaeger"]["endpoint"].partition(":")[0] in SERVICES


def test_mounted_files_are_there() -> None:
    mounts = [str(volume) for service in SERVICES.values() for volume in service.get("volumes", [])]
    files = [mount.partition(":")[0] for mount in mounts if mount.startswith("./")]

    assert files
    assert all((ROOT / file).is_file() for file in files)


def test_named_volumes_are_declared() -> None:
    mounts = [str(volume) for service in SERVICES.values() for volume in service.get("volumes", [])]

    assert {mount.partition(":")[0] for mount in mounts if not mount.startswith("./")} == set(COMPOSE["volumes"])


@pytest.mark.parametrize("name", SERVICES)
def test_images_have_exact_versions(name: str) -> None:
    image, build = SERVICES[name]["image"], SERVICES[name].get("build")

    assert build or re.search(r":[A-Z]*[.]?\d+[.\-]\d+", image), image


def test_each_build_target_is_in_the_dockerfile() -> None:
    wanted = {service["build"]["target"] for service in SERVICES.values() if "build" in service}

    assert wanted <= set(re.findall(r"^FROM .+ AS (\w+)$", DOCKERFILE, re.MULTILINE))


def test_what_the_dockerfile_copies_is_there_and_not_ignored() -> None:
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    sources = [
        source
        for line in re.findall(r"^COPY (?!--from)(.+)$", DOCKERFILE, re.MULTILINE)
        for source in line.split()[:-1]
    ]

    assert all((ROOT / source).exists() for source in sources)
    assert {source.partition("/")[0] for source in sources} <= allowed


def test_every_secret_is_required_and_has_its_example() -> None:
    example = dict(
        line.split("=", 1)
        for line in (ROOT / ".env.example").read_text().splitlines()
        if "=" in line and line[0] != "#"
    )
    required = set(re.findall(r"\$\{(\w+):\?", TEXT))

    assert required == set(re.findall(r"\$\{(\w+)", TEXT))
    assert required | {"COMPOSE_PROFILES"} == set(example)


def test_one_trainer_runs_on_each_profile_and_the_gpu_one_reserves_a_gpu() -> None:
    devices = SERVICES["trainer-gpu"]["deploy"]["resources"]["reservations"]["devices"]

    assert (SERVICES["trainer"]["profiles"], SERVICES["trainer-gpu"]["profiles"]) == (["cpu"], ["gpu"])
    assert devices[0]["capabilities"] == ["gpu"]


def test_one_service_creates_an_account_for_each_role_with_the_password_that_the_roles_service_uses() -> None:
    created, used = SERVICES["accounts"]["environment"], {}
    for name, service in TREADLE_SERVICES.items():
        if found := re.match(r"amqp://(\w+):(\S+ \S+ \S+ \S+)@", service["environment"]["TREADLE_BUS_URL"]):
            used[name] = (found[1], found[2])
    clients = (Role.CLIENT.value, created[variable_of(Role.CLIENT)])

    assert SERVICES["accounts"]["command"] == ["topology", "users", "setup"]
    assert {*used.values(), clients} == {(role.value, created[variable_of(role)]) for role in Role}
    assert {name: account for name, (account, _) in used.items()} == {
        name: "trainer" if name == "trainer-gpu" else name for name in TREADLE_SERVICES
    }


@pytest.mark.parametrize("name", TREADLE_SERVICES)
def test_each_service_waits_until_its_account_exists(name: str) -> None:
    assert TREADLE_SERVICES[name]["depends_on"]["accounts"] == {"condition": "service_completed_successfully"}


def test_control_requires_accounts() -> None:
    assert Settings(bus_accounts=TREADLE_SERVICES["control"]["environment"]["TREADLE_BUS_ACCOUNTS"]).bus_accounts


def test_only_the_service_that_creates_accounts_has_the_administrators_password() -> None:
    assert [
        name for name, service in SERVICES.items() if "${RABBITMQ_PASSWORD" in str(service.get("environment", ""))
    ] == ["accounts", "rabbitmq"]


def test_the_broker_takes_no_message_that_no_service_decodes() -> None:
    assert f"max_message_size = {MAX_BODY}\n" in (ROOT / "infra/deploy/rabbitmq.conf").read_text()
