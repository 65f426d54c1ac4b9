"""What the README says is so."""

from __future__ import annotations

from pathlib import Path

from contracts.tasks import TaskStatus
from control.machine.diagram import edges, mermaid

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_diagram_is_the_machines() -> None:
    assert f"```mermaid\n{mermaid()}\n```" in README


def test_the_diagram_shows_every_status() -> None:
    assert {status for source, _, target in edges() for status in (source, target)} == set(TaskStatus)


def test_every_room_is_on_the_map() -> None:
    rooms = {path.parent.name for path in ROOT.glob("*/__init__.py")} - {"tests"}
    assert {room for room in rooms if f"`{room}/`" not in README} == set()


def test_it_is_short_enough_to_be_read() -> None:
    assert len(README.splitlines()) <= 200


def test_every_file_that_it_links_to_is_there() -> None:
    linked = [part.split(")")[0] for part in README.split("](")[1:]]
    assert [link for link in linked if not link.startswith("http") and not (ROOT / link).exists()] == []
