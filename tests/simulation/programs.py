"""Programs that take virtual time: they check their input and write the same files as the programs of the workers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from random import Random

from contracts.artifacts import MANIFEST
from contracts.options import Metric
from contracts.report import Score
from contracts.tasks import FailureKind
from infra.child.outcome import ExitKind, Failure, ProgramExit
from infra.child.progress import ProgressLine
from tests.simulation.process import PROCESS
from tests.simulation.world import World

MAX_DURATION = 12.0
STEP = 2.0
"""Virtual seconds: the longest duration of a program, and the interval of its progress reports."""
CHECKPOINT_SHARE = 0.5
"""Share of the steps of a training that write a checkpoint."""
DRAWN_FAILURE = "a drawn failure"
"""The message of a program that fails; an attempt may fail for no other reason, such as a missing input."""
FAILURES = (
    (0.03, FailureKind.OUT_OF_MEMORY),
    (0.05, FailureKind.PROGRAM_CRASHED),
    (0.01, FailureKind.OUT_OF_BUDGET),
)


class FakeChildren:
    """Replaces `infra.child.pool.ChildPool`."""

    def __init__(self, world: World, folder: Path, grace: float, server: None) -> None:
        self._world = world

    async def start(self, module: str, variables: Mapping[str, str]) -> FakeChild:
        """A child process for one job."""
        return FakeChild(self._world, module)


class FakeChild:
    """Replaces `infra.child.process.ChildProcess`."""

    alive = False

    def __init__(self, world: World, module: str) -> None:
        self._world = world
        self._module = module
        self._stop = asyncio.Event()

    async def run(self, folder: Path, on_step: Callable[[ProgressLine], None]) -> ProgramExit:
        """Run the job in `folder`."""
        rng = self._world.rng
        _check_checkpoint(folder)
        seconds = rng.uniform(0, MAX_DURATION)
        steps = int(seconds / STEP)
        for step in range(steps):
            on_step(ProgressLine(stage="working", done=step, total=steps))
            await self._crash_point("program-running")
            if rng.random() < CHECKPOINT_SHARE:
                await self._checkpoint(folder, step)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stop.wait(), STEP)
                return await self._stopped(folder, step)
        failure = self._failure()
        if failure is not None:
            return ProgramExit(ExitKind.FAILED, seconds, 1, Failure(failure=failure, message=DRAWN_FAILURE))
        _write_result(self._module, folder, rng)
        return ProgramExit(ExitKind.SUCCEEDED, seconds, 1)

    def transferred(self) -> int:
        """No bytes are counted."""
        return 0

    async def stop(self) -> None:
        """Ask the program to stop, as SIGTERM does."""
        self._stop.set()

    async def _stopped(self, folder: Path, step: int) -> ProgramExit:
        await self._checkpoint(folder, step + 1)
        return ProgramExit(ExitKind.STOPPED, step * STEP, 1)

    async def _checkpoint(self, folder: Path, step: int) -> None:
        """Write a checkpoint, if this is the program of the trainer."""
        if self._module.startswith("trainer_worker"):
            checkpoint = folder / "checkpoints" / f"step-{step}"
            _write(checkpoint / "state.json", _lineage(folder))
            await self._crash_point("mid-checkpoint")
            (checkpoint / MANIFEST).touch()

    async def _crash_point(self, name: str) -> None:
        process = PROCESS.get()
        assert process is not None, "a program runs within a process"
        await self._world.crash_point(name, process)

    def _failure(self) -> FailureKind | None:
        drawn = self._world.rng.random()
        for share, kind in FAILURES:
            if drawn < share:
                return kind
            drawn -= share
        return None


def _lineage(folder: Path) -> str:
    """Task, iteration and phase, from the name of the folder of a job."""
    return folder.name.rpartition("-a")[0]


def _check_checkpoint(folder: Path) -> None:
    """Raise ValueError if the checkpoint is not of the same task, iteration and phase."""
    state = folder / "input" / "checkpoint" / "state.json"
    if state.exists() and state.read_text() != _lineage(folder):
        raise ValueError(f"{folder.name} has the checkpoint of {state.read_text()}")


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def _write_result(module: str, folder: Path, rng: Random) -> None:
    room = module.partition(".")[0]
    output, result = _OUTPUTS[room], _RESULTS[room]
    for name in output:
        _write(folder / "out" / name, f"{folder.name} {name}")
    _write(folder / "result.json", json.dumps(result(rng)))


def _score(rng: Random) -> Score:
    value = rng.random()
    return Score(metric=Metric.EXACT_MATCH, value=value, low=value * 0.9, high=min(1.0, value * 1.1), scored=100)


_OUTPUTS = {
    "optimizer_worker": ("train.jsonl", "splits/dev.jsonl", "splits/test.jsonl"),
    "trainer_worker": ("adapter.safetensors",),
    "evaluator_worker": ("dev_report.json", "test_report.json"),
}
_RESULTS: dict[str, Callable[[Random], dict[str, object]]] = {
    "optimizer_worker": lambda rng: {"rows": 100, "labels": 0, "actions": {}, "has_splits": True},
    "trainer_worker": lambda rng: {"steps": 10, "metrics": {}},
    "evaluator_worker": lambda rng: {"dev": _score(rng).model_dump(mode="json"), "test": None, "metrics": {}},
}
