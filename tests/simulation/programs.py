"""Programs that take virtual time: they check what they are given, and write what the three rooms' programs write."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from random import Random

from contracts.artifacts import MANIFEST
from contracts.options import Metric
from contracts.report import Score
from contracts.tasks import FailureKind
from infra.child.outcome import Ended, Failure, Outcome
from infra.child.process import Step
from tests.simulation.process import PROCESS
from tests.simulation.world import World

LONGEST = 12.0
STEP = 2.0
"""Virtual seconds: of the longest program, and between two lines of progress."""
CHECKPOINTED = 0.5
"""Share of a training's steps after which there is a checkpoint."""
DRAWN = "it was drawn so"
"""What a program says that fails. No attempt fails for another reason: not for an input that is missing."""
FAILURES = (
    (0.03, FailureKind.OUT_OF_MEMORY),
    (0.05, FailureKind.PROGRAM_CRASHED),
    (0.01, FailureKind.OUT_OF_BUDGET),
)


class FakeChildren:
    """Stands in for `infra.child.process.Children`."""

    def __init__(self, world: World, folder: Path, grace: float, *, warm: bool) -> None:
        self._world = world

    async def take(self, module: str) -> FakeChild:
        """A child for one job."""
        return FakeChild(self._world, module)

    async def warm(self, module: str) -> None:
        """Nothing to import."""

    async def close(self) -> None:
        """Nothing to end."""


class FakeChild:
    """Stands in for `infra.child.process.Child`."""

    def __init__(self, world: World, module: str) -> None:
        self._world = world
        self._module = module
        self._stop = asyncio.Event()

    async def run(self, folder: Path, on_step: Callable[[Step], None]) -> Ended:
        """Do the job in `folder`."""
        chance = self._world.chance
        _check_checkpoint(folder)
        seconds = chance.uniform(0, LONGEST)
        steps = int(seconds / STEP)
        for step in range(steps):
            on_step(Step(stage="working", done=step, total=steps))
            await self._point("program-running")
            if chance.random() < CHECKPOINTED:
                await self._checkpoint(folder, step)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stop.wait(), STEP)
                return await self._stopped(folder, step)
        failure = self._failure()
        if failure is not None:
            return Ended(Outcome.FAILED, seconds, 1, Failure(failure=failure, message=DRAWN))
        _write_result(self._module, folder, chance)
        return Ended(Outcome.SUCCEEDED, seconds, 1)

    async def stop(self) -> None:
        """SIGTERM."""
        self._stop.set()

    async def _stopped(self, folder: Path, step: int) -> Ended:
        await self._checkpoint(folder, step + 1)
        return Ended(Outcome.STOPPED, step * STEP, 1)

    async def _checkpoint(self, folder: Path, step: int) -> None:
        """Only the trainer's program writes any."""
        if self._module.startswith("trainer_worker"):
            checkpoint = folder / "checkpoints" / f"step-{step}"
            _write(checkpoint / "state.json", _lineage(folder))
            await self._point("mid-checkpoint")
            (checkpoint / MANIFEST).touch()

    async def _point(self, name: str) -> None:
        process = PROCESS.get()
        assert process is not None, "a program runs in a worker"
        await self._world.point(name, process)

    def _failure(self) -> FailureKind | None:
        drawn = self._world.chance.random()
        for share, kind in FAILURES:
            if drawn < share:
                return kind
            drawn -= share
        return None


def _lineage(folder: Path) -> str:
    """Task, iteration and phase, from the name of a job's folder."""
    return folder.name.rpartition("-a")[0]


def _check_checkpoint(folder: Path) -> None:
    """A checkpoint is of an earlier attempt at this very phase."""
    state = folder / "input" / "checkpoint" / "state.json"
    if state.exists() and state.read_text() != _lineage(folder):
        raise ValueError(f"{folder.name} was given the checkpoint of {state.read_text()}")


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def _write_result(module: str, folder: Path, chance: Random) -> None:
    room = module.partition(".")[0]
    output, result = _OUTPUTS[room], _RESULTS[room]
    for name in output:
        _write(folder / "out" / name, f"{folder.name} {name}")
    _write(folder / "result.json", json.dumps(result(chance)))


def _score(chance: Random) -> Score:
    value = chance.random()
    return Score(metric=Metric.EXACT_MATCH, value=value, low=value * 0.9, high=min(1.0, value * 1.1), scored=100)


_OUTPUTS = {
    "optimizer_worker": ("train.jsonl", "splits/dev.jsonl", "splits/test.jsonl"),
    "trainer_worker": ("adapter.safetensors",),
    "evaluator_worker": ("dev_report.json", "test_report.json"),
}
_RESULTS: dict[str, Callable[[Random], dict[str, object]]] = {
    "optimizer_worker": lambda chance: {"rows": 100, "labels": 0, "actions": {}, "has_splits": True},
    "trainer_worker": lambda chance: {"steps": 10, "metrics": {}},
    "evaluator_worker": lambda chance: {"dev": _score(chance).model_dump(mode="json"), "test": None, "metrics": {}},
}
