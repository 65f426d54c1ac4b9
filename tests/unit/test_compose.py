"""compose.yaml agrees with the code: its commands, settings, ports and files exist."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from cli.main import COMMANDS
from cli.topology.passwords import variable_of
from contracts.roles import Role
from contracts.tasks import Phase
from contracts.wire import MAX_BODY
from control.gateway import health
from infra.child.environment import ALLOWED_VARIABLES
from infra.settings import Settings
from infra.worker import health as health_file
from infra.worker.host import CLAIM_GRACE, PUBLISHING_GRACE

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "compose.yaml").read_text()
COMPOSE: dict[str, Any] = yaml.safe_load(TEXT)
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
TREADLE_SERVICES = {
    name: service for name, service in SERVICES.items() if service.get("command", [""])[0] in {"control", "worker"}
}
WORKERS = {service["command"][1] for service in TREADLE_SERVICES.values() if service["command"][0] == "worker"}
DOCKERFILE = (ROOT / "infra/deploy/Dockerfile").read_text()
PROGRAM_VARIABLES = set(ALLOWED_VARIABLES)
"""Variables that no setting reads, but the programs of the workers."""
EXAMPLE = dict(
    line.split("=", 1) for line in (ROOT / ".env.example").read_text().splitlines() if "=" in line and line[0] != "#"
)
IGNORED = (ROOT / ".dockerignore").read_text().splitlines()
COLLECTOR: dict[str, Any] = yaml.safe_load((ROOT / "infra/deploy/collector.yaml").read_text())


def interpolated(text: str) -> str:
    """The text with the variables of .env.example, as compose does it."""
    return re.sub(
        r"\$\{(\w+)(?::[-?]([^}]*))?\}", lambda match: EXAMPLE.get(match[1]) or match[2] or "", text.replace("$$", "$")
    )


def seconds(duration: str) -> float:
    """A duration of compose, such as `150s`."""
    found = re.fullmatch(r"(\d+)s", interpolated(duration))
    assert found, duration
    return float(found[1])


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

    assert set(TREADLE_SERVICES[name]["environment"]) <= settings | PROGRAM_VARIABLES


@pytest.mark.parametrize("name", TREADLE_SERVICES)
def test_settings_can_be_read_from_the_environment_that_the_example_makes(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable, value in TREADLE_SERVICES[name]["environment"].items():
        monkeypatch.setenv(variable, interpolated(value))

    assert Settings().bus_url.get_secret_value().startswith("amqp://")


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


@pytest.mark.parametrize("name", [name for name in TREADLE_SERVICES if name != "control"])
def test_a_worker_is_probed_by_the_age_of_its_health_file(name: str) -> None:
    service = TREADLE_SERVICES[name]
    kind, probe = service["healthcheck"]["test"]

    assert kind == "CMD-SHELL"
    assert probe == f'test -n "$$(find {service["environment"]["TREADLE_HEALTH_FILE"]} -mmin -1)"'
    assert health_file.INTERVAL <= 6


@pytest.mark.parametrize("name", SERVICES)
def test_a_check_may_take_its_time_on_a_loaded_machine(name: str) -> None:
    check = SERVICES[name]["healthcheck"]

    assert check["test"] == ["NONE"] or (seconds(check["timeout"]) >= 20 and seconds(check["start_period"]) >= 30)


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
    assert COLLECTOR["exporters"]["otlp_grpc/jaeger"]["endpoint"].partition(":")[0] in SERVICES


def test_mounted_files_are_there() -> None:
    mounts = [str(volume) for service in SERVICES.values() for volume in service.get("volumes", [])]
    files = [mount.partition(":")[0] for mount in mounts if mount.startswith("./")]

    assert files
    assert all((ROOT / file).is_file() for file in files)


def test_named_volumes_are_declared() -> None:
    mounts = [str(volume) for service in SERVICES.values() for volume in service.get("volumes", [])]

    assert {mount.partition(":")[0] for mount in mounts if mount[0] not in ".$"} == set(COMPOSE["volumes"])


@pytest.mark.parametrize("name", SERVICES)
def test_images_have_exact_versions(name: str) -> None:
    image, build = SERVICES[name]["image"], SERVICES[name].get("build")

    assert build or re.search(r":[A-Z]*[.]?\d+[.\-]\d+", image), image


def test_each_build_target_is_in_the_dockerfile() -> None:
    wanted = {service["build"]["target"] for service in SERVICES.values() if "build" in service}

    assert wanted <= set(re.findall(r"^FROM .+ AS (\w+)$", DOCKERFILE, re.MULTILINE))


def test_what_the_dockerfile_copies_is_there_and_not_ignored() -> None:
    allowed = {line[1:] for line in IGNORED if line.startswith("!")}
    sources = [
        source
        for line in re.findall(r"^COPY (?!--from)(.+)$", DOCKERFILE, re.MULTILINE)
        for source in line.split()[:-1]
    ]

    assert all((ROOT / source).exists() for source in sources)
    assert {source.partition("/")[0] for source in sources} <= allowed


def test_every_variable_is_in_the_example_and_every_line_of_the_example_is_read() -> None:
    assert set(re.findall(r"\$\{(\w+)", TEXT)) | {"COMPOSE_PROFILES"} == set(EXAMPLE)


def test_every_secret_is_required_and_nothing_else_is() -> None:
    required = set(re.findall(r"\$\{(\w+):\?", TEXT))

    assert {name for name in EXAMPLE if name.endswith("PASSWORD") or name.startswith("S3_")} == required


def test_a_default_of_the_example_is_that_of_compose() -> None:
    defaults = dict(re.findall(r"\$\{(\w+):-([^}]*)\}", TEXT))

    assert {name: EXAMPLE[name] for name in defaults} == defaults


@pytest.mark.parametrize("phase", Phase)
def test_each_worker_runs_once_on_each_profile(phase: Phase) -> None:
    kind = phase.worker

    assert (SERVICES[kind]["profiles"], SERVICES[f"{kind}-gpu"]["profiles"]) == (["cpu"], ["gpu"])
    assert SERVICES[f"{kind}-gpu"]["environment"] == SERVICES[kind]["environment"]


@pytest.mark.parametrize("kind", ["trainer", "evaluator"])
def test_trainer_and_evaluator_reserve_a_gpu_on_the_profile_gpu_only(kind: str) -> None:
    devices = SERVICES[f"{kind}-gpu"]["deploy"]["resources"]["reservations"]["devices"]

    assert (devices[0]["driver"], devices[0]["capabilities"]) == ("nvidia", ["gpu"])
    assert "deploy" not in SERVICES[kind]


@pytest.mark.parametrize(("profile", "image"), [("cpu", "treadle-worker"), ("gpu", "treadle-worker-gpu")])
def test_each_profile_builds_one_image_of_workers(profile: str, image: str) -> None:
    built = [SERVICES[name] for name in TREADLE_SERVICES if SERVICES[name].get("profiles") == [profile]]

    assert {service["image"] for service in built} == {image}
    assert len({str(service["build"]) for service in built}) == 1


def test_one_service_creates_an_account_for_each_role_with_the_password_that_the_roles_service_uses() -> None:
    created, used = SERVICES["accounts"]["environment"], {}
    for name, service in TREADLE_SERVICES.items():
        if found := re.match(r"amqp://(\w+):(\S+ \S+ \S+ \S+)@", service["environment"]["TREADLE_BUS_URL"]):
            used[name] = (found[1], found[2])
    clients = (Role.CLIENT.value, created[variable_of(Role.CLIENT)])

    assert SERVICES["accounts"]["command"] == ["topology", "users", "setup"]
    assert {*used.values(), clients} == {(role.value, created[variable_of(role)]) for role in Role}
    assert {name: account for name, (account, _) in used.items()} == {
        name: name.removesuffix("-gpu") for name in TREADLE_SERVICES
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


@pytest.mark.parametrize("name", SERVICES)
def test_each_service_starts_again_after_a_crash_and_keeps_its_logs_small(name: str) -> None:
    service = SERVICES[name]

    assert service["restart"] == ("no" if name == "accounts" else "unless-stopped")
    assert service["logging"]["driver"] == "json-file"
    assert {"max-size", "max-file"} == set(service["logging"]["options"])


@pytest.mark.parametrize("name", SERVICES)
def test_each_service_has_few_rights_and_a_limit_of_memory_that_env_changes(name: str) -> None:
    service = SERVICES[name]

    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert re.fullmatch(r"\$\{[A-Z]+_MEMORY:-\d+[gm]\}", service["mem_limit"])


@pytest.mark.parametrize("name", SERVICES)
def test_only_the_servers_that_start_as_root_get_rights_back(name: str) -> None:
    assert ("cap_add" in SERVICES[name]) == (name in {"rabbitmq", "postgres"})


@pytest.mark.parametrize("name", ["accounts", *TREADLE_SERVICES])
def test_the_projects_containers_are_read_only_and_have_a_folder_for_temporary_files(name: str) -> None:
    assert SERVICES[name]["read_only"]
    assert any(folder.startswith("/tmp:") for folder in SERVICES[name]["tmpfs"])


@pytest.mark.parametrize("name", [name for name in TREADLE_SERVICES if name != "control"])
def test_a_worker_sees_the_models_and_the_cache_of_the_hub(name: str) -> None:
    volumes = [str(volume) for volume in SERVICES[name]["volumes"]]
    cache = re.findall(r"HF_HOME=(\S+)", DOCKERFILE)[0]

    assert "${TREADLE_MODELS_DIR:-./models}:/models:ro" in volumes
    assert f"hub-cache:{cache}" in volumes
    assert re.search(rf"install -d -o treadle .*{cache}( |$)", DOCKERFILE, re.MULTILINE)


@pytest.mark.parametrize("name", [name for name in TREADLE_SERVICES if name != "control"])
def test_a_worker_has_time_to_stop_its_programs_and_to_publish(name: str) -> None:
    service = SERVICES[name]
    grace = float(interpolated(service["environment"]["TREADLE_STOP_GRACE"]))

    assert seconds(service["stop_grace_period"]) > CLAIM_GRACE + 2 * (grace + PUBLISHING_GRACE)


def test_the_database_is_checked_over_tcp() -> None:
    assert "--host=127.0.0.1" in SERVICES["postgres"]["healthcheck"]["test"]


def test_the_image_installs_libraries_before_it_has_sources() -> None:
    for stage in ("control", "worker"):
        text = re.split(r"^FROM ", DOCKERFILE.partition(f"AS {stage}\n")[2], flags=re.MULTILINE)[0]
        assert "COPY" not in text
        assert text.index("requirements/control.txt") < text.index("--no-deps")


def test_no_layer_of_libraries_depends_on_the_files_of_the_deployment() -> None:
    assert "infra/deploy" in IGNORED
    assert "PIP_NO_CACHE_DIR" not in DOCKERFILE
    assert "# syntax" not in DOCKERFILE
