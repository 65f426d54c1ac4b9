"""Builds the wheel, and installs it alone into new environments."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from collections.abc import Iterator
from email.parser import HeaderParser
from importlib.metadata import Distribution, distribution
from pathlib import Path
from zipfile import ZipFile

from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
TIMEOUT = 300
"""Seconds for one command."""


class Environment:
    """A virtual environment without the packages of the one that runs the tests."""

    def __init__(self, folder: Path) -> None:
        venv.create(folder, symlinks=True)
        self.bin = folder / "bin"
        (self.packages,) = folder.glob("lib/python*/site-packages")

    def run(self, program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run one of its programs in an empty folder, with its programs alone on the path."""
        (empty := self.bin.parent / "empty").mkdir(exist_ok=True)
        return subprocess.run(
            [str(self.bin / program), *arguments],
            cwd=empty,
            env=self.variables(),
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
        )

    def variables(self) -> dict[str, str]:
        """The environment variables of its programs."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("TREADLE_", "PYTHON"))}
        return kept | {"PATH": str(self.bin)}


def build(folder: Path) -> Path:
    """Build the wheel in `folder`, with the build backend that is installed."""
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=TIMEOUT)
    (wheel,) = folder.glob("*.whl")
    return wheel


def install_from_here(wheel: Path, environment: Environment) -> None:
    """Install the wheel, and link the distributions that it requires without extras from the running environment."""
    _pip(environment, "--no-index", "--no-deps", str(wheel))
    for found in _required(_requirements(wheel)):
        for entry in {file.parts[0] for file in found.files or () if file.parts[0] not in {"..", "__pycache__"}}:
            link = environment.packages / entry
            if not link.exists():
                link.symlink_to(str(found.locate_file(entry)))


def install_from_registry(wheel: Path, environment: Environment) -> None:
    """Install the wheel and what it requires as a user does."""
    _pip(environment, str(wheel))


def _pip(environment: Environment, *arguments: str) -> None:
    target = ["--python", str(environment.bin / "python")]
    command = [sys.executable, "-m", "pip", *target, "install", "-q", "--disable-pip-version-check", *arguments]
    subprocess.run(command, check=True, timeout=TIMEOUT)


def _requirements(wheel: Path) -> list[str]:
    with ZipFile(wheel) as files:
        (name,) = (name for name in files.namelist() if name.endswith(".dist-info/METADATA"))
        return HeaderParser().parsestr(files.read(name).decode()).get_all("Requires-Dist", [])


def _required(lines: list[str]) -> Iterator[Distribution]:
    """The distributions that these requirements need, and what those need."""
    seen: set[tuple[str, str]] = set()
    waiting = [(line, "") for line in lines]
    while waiting:
        line, extra = waiting.pop()
        wanted = Requirement(line)
        if wanted.marker is not None and not wanted.marker.evaluate({"extra": extra}):
            continue
        for chosen in ("", *wanted.extras):
            if (wanted.name, chosen) not in seen:
                seen.add((wanted.name, chosen))
                found = distribution(wanted.name)
                waiting += [(more, chosen) for more in found.requires or ()]
                yield found
