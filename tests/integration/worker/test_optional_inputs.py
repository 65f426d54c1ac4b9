"""An optional input is downloaded if it is complete, left out if it is damaged, and retried while the store is away."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from contracts.artifacts import MANIFEST
from contracts.events import PhaseFailed
from contracts.tasks import FailureKind
from infra.artifacts import upload
from infra.objects import ObjectStore, ObjectStoreUnavailable
from tests.fake_control import FakeControl, Script

PREFIX = "models/checkpoint-7"
Damage = Callable[[ObjectStore], Awaitable[object]]
DAMAGES: list[tuple[Damage, str]] = [
    (lambda store: store.delete([f"{PREFIX}/{MANIFEST}"]), "it has no manifest"),
    (lambda store: store.put(f"{PREFIX}/{MANIFEST}", b"{"), "its manifest cannot be read"),
    (lambda store: store.delete([f"{PREFIX}/weights"]), "is listed in its manifest but is missing"),
    (lambda store: store.put(f"{PREFIX}/weights", b"others"), "weights differs from its manifest"),
]


@pytest.fixture
async def checkpoint(objects: ObjectStore, script: Script, tmp_path: Path) -> str:
    """A checkpoint in the store, which is an optional input of the next command."""
    (tmp_path / "checkpoint").mkdir()
    for name in ("state", "weights"):
        (tmp_path / "checkpoint" / name).write_text(name)
    await upload(objects, PREFIX, tmp_path / "checkpoint")
    script.inputs, script.optional = {"checkpoint": PREFIX}, {"checkpoint"}
    return PREFIX


async def listed_inputs(control: FakeControl, script: Script, objects: ObjectStore) -> str:
    """Run a program and return the list of the files in its inputs."""
    command = script.command("list_inputs")
    await control.order(command)
    await control.until(lambda: control.events)
    assert control.events[0].kind == "model_trained", control.events[0]
    return (await objects.get(f"{command.output}/inputs.txt")).decode()


@pytest.mark.usefixtures("host", "checkpoint")
async def test_a_complete_optional_input_is_downloaded(
    control: FakeControl, script: Script, objects: ObjectStore
) -> None:
    assert await listed_inputs(control, script, objects) == "checkpoint/state checkpoint/weights"


@pytest.mark.parametrize(("damage", "why"), DAMAGES, ids=["absent", "unreadable", "a file missing", "a file changed"])
@pytest.mark.usefixtures("host")
async def test_a_damaged_optional_input_is_left_out_and_the_reason_is_logged(
    control: FakeControl, script: Script, objects: ObjectStore, checkpoint: str, damage: Damage, why: str
) -> None:
    await damage(objects)
    with capture_logs() as logs:
        assert await listed_inputs(control, script, objects) == ""
    (warning,) = [line for line in logs if line["event"] == "optional_input_skipped"]
    assert (warning["log_level"], warning["prefix"]) == ("warning", checkpoint)
    assert why in warning["error"]


@pytest.mark.usefixtures("host", "checkpoint")
async def test_a_damaged_input_beside_an_optional_one_is_bad_input(control: FakeControl, script: Script) -> None:
    script.inputs["rows"] = "optimized/missing"
    await control.order(script.command("write"))
    await control.until(lambda: control.events)
    event = control.events[0]
    assert isinstance(event, PhaseFailed)
    assert (event.failure, event.field) == (FailureKind.BAD_INPUT, "rows")


@pytest.mark.usefixtures("host", "checkpoint")
async def test_the_download_of_an_optional_input_is_retried_while_the_store_is_away(
    control: FakeControl, script: Script, objects: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    get_file, failing = objects.get_file, ["weights", "state", "weights"]

    async def fail_at_first(key: str, path: Path) -> None:
        if path.name in failing:
            failing.remove(path.name)
            raise ObjectStoreUnavailable("it is being restarted")
        await get_file(key, path)

    monkeypatch.setattr(objects, "get_file", fail_at_first)
    assert await listed_inputs(control, script, objects) == "checkpoint/state checkpoint/weights"
    assert failing == []
