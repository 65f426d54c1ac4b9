"""The README agrees with the repository."""

from __future__ import annotations

from pathlib import Path

from contracts.tasks import TaskStatus
from control.machine.diagram import edges, mermaid

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_diagram_is_that_of_the_machine() -> None:
    assert f"```mermaid\n{mermaid()}\n```" in README


def test_the_diagram_shows_every_status() -> None:
    assert {status for source, _, target in edges() for status in (source, target)} == set(TaskStatus)


def test_the_readme_lists_every_package() -> None:
    packages = {path.parent.name for path in ROOT.glob("*/__init__.py")} - {"tests"}
    assert {package for package in packages if f"`{package}/`" not in README} == set()


def test_it_is_short_enough_to_be_read() -> None:
    assert len(README.splitlines()) <= 200


def test_every_file_that_it_links_to_is_there() -> None:
    linked = [part.split(")")[0] for part in README.split("](")[1:]]
    assert [link for link in linked if not link.startswith("http") and not (ROOT / link).exists()] == []
