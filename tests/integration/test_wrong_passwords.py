"""A wrong password at the broker, the database or the object store: the error names the setting, and no secret."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cli.main import app
from tests.servers import ObjectServer

WRONG = "wrong%2F4f1c"
"""It is escaped in an address, because parts of libraries show it decoded."""
BUS, DATABASE, KEY, SECRET = (
    "TREADLE_BUS_URL",
    "TREADLE_DATABASE_URL",
    "TREADLE_S3_ACCESS_KEY",
    "TREADLE_S3_SECRET_KEY",
)
CASES = {
    BUS: (["control"], ["worker", "trainer"], ["dlq", "list", "--format", "json"], ["topology", "apply"]),
    DATABASE: (["control"], ["dlq", "replay", "--all"], ["retention", "--dry-run"]),
    KEY: (["control"], ["worker", "trainer"], ["retention", "--dry-run"]),
    SECRET: (["control"], ["worker", "trainer"], ["retention", "--dry-run"]),
}
"""The commands that use each setting."""
COMPONENT = {BUS: "broker", DATABASE: "database", KEY: "object-store", SECRET: "object-store"}
PARAMETERS = [(name, command) for name, commands in CASES.items() for command in commands]


@pytest.fixture
def right(bus_url: str, database_url: str, s3: ObjectServer, tmp_path: Path) -> dict[str, str]:
    """The settings of running servers."""
    return {
        BUS: bus_url,
        DATABASE: database_url,
        "TREADLE_S3_ENDPOINT": s3.endpoint,
        KEY: s3.access_key,
        SECRET: s3.secret_key,
        "TREADLE_HTTP_PORT": "0",
        "TREADLE_WORK_DIR": str(tmp_path / "work"),
        "TREADLE_WORKER_ID": "w",
    }


def with_wrong(settings: dict[str, str], name: str) -> dict[str, str]:
    """The settings with one wrong password or key."""
    if "://" not in settings[name]:
        return settings | {name: WRONG}
    scheme, _, rest = settings[name].partition("://")
    login, _, place = rest.partition("@")
    return settings | {name: f"{scheme}://{login.partition(':')[0]}:{WRONG}@{place}"}


def secrets_of(settings: dict[str, str]) -> list[str]:
    passwords = [settings[name].partition("@")[0].rpartition(":")[2] for name in (BUS, DATABASE)]
    return [*passwords, settings[SECRET], WRONG, "wrong/4f1c"]


def run(settings: dict[str, str], command: Sequence[str]) -> tuple[int, str, str]:
    """The exit status, standard output and standard error of a command."""
    result = CliRunner().invoke(app, [*command], env=settings)
    return result.exit_code, result.stdout, result.stderr


@pytest.mark.parametrize(("name", "command"), PARAMETERS, ids=[f"{name}-{command[0]}" for name, command in PARAMETERS])
def test_a_command_names_the_setting_and_no_secret(right: dict[str, str], name: str, command: list[str]) -> None:
    status, out, err = run(with_wrong(right, name), command)
    assert (status, out) == (1, "")
    assert name in err
    assert "Traceback" not in err
    assert [secret for secret in secrets_of(right) if secret in err] == []


@pytest.mark.parametrize("name", CASES)
def test_doctor_names_the_setting_and_no_secret(right: dict[str, str], name: str) -> None:
    status, out, err = run(with_wrong(right, name), ["doctor", "--only", COMPONENT[name]])
    assert (status, name in out) == (1, True)
    assert [secret for secret in secrets_of(right) if secret in out + err] == []
