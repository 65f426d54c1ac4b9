"""The demo as a user's session: make a model, upload data, pretrain, loop; all over HTTP but the model's making."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cli.client import Gateway
from cli.demo import banking77
from contracts.errors import TreadleError
from contracts.http import IterationView, TaskView
from contracts.tasks import TaskStatus

TINY_BASE = "trainer_worker.programs.tiny_base"
Follow = Callable[[TaskView], Awaitable[None]]
"""Shows a task until it ends."""


class DemoFailed(TreadleError):
    """A step of the demo ended otherwise than it should."""


@dataclass(frozen=True, slots=True)
class Demo:
    """What is to be shown, and where its files go."""

    arm: str
    seed: int
    folder: Path
    began: float = field(default_factory=time.monotonic)


@dataclass(frozen=True, slots=True)
class Prepared:
    """What needs no stack: the files to be uploaded, and the tiny model in the making."""

    demo: Demo
    files: banking77.Uploads
    base: asyncio.Task[Path]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of it. `parts` are those that it ran on: broker, database, object store."""

    demo: Demo
    task: TaskView
    parts: dict[str, str]
    seconds: float

    @property
    def iterations(self) -> tuple[IterationView, ...]:
        """The turns of the loop."""
        return self.task.iterations

    @property
    def best(self) -> IterationView:
        """The turn with the best dev score."""
        return next(turn for turn in self.iterations if turn.iteration == self.task.best_iteration)

    @property
    def test_gain(self) -> float:
        """The sealed test's score of the best-by-dev turn minus that of the first."""
        return round(_test(self.best) - _test(self.iterations[0]), 4)

    def as_json(self) -> str:
        """The one line that scripts read."""
        turns = [
            {"iteration": t.iteration, "rows": t.rows, "dev": round(t.dev.value, 4), "test": round(_test(t), 4)}
            for t in self.iterations
        ]
        line = {
            "demo": "banking77",
            "arm": self.demo.arm,
            "seed": self.demo.seed,
            "iterations": turns,
            "test_gain": self.test_gain,
            "seconds": round(self.seconds, 1),
            "broker": self.parts["broker"].split()[0],
            "database": self.parts["database"],
            "object_store": self.parts["object_store"],
        }
        return json.dumps(line, separators=(",", ":"))


@asynccontextmanager
async def prepared(demo: Demo) -> AsyncIterator[Prepared]:
    """Write the data, and begin to make the tiny model; it takes as long as a stack takes to start.

    Raises DemoFailed where the folder is not empty, before anything is written.
    """
    _require_empty(demo.folder)
    files = banking77.write(banking77.draw(demo.seed), demo.folder / "data")
    base = asyncio.create_task(make_base(demo.folder / "base", files.texts, demo.seed), name="tiny base")
    try:
        yield Prepared(demo, files, base)
    finally:
        base.cancel()
        await asyncio.gather(base, return_exceptions=True)


async def run(ready: Prepared, gateway: Gateway, parts: dict[str, str], follow: Follow) -> Outcome:
    """Run both tasks to their end. Raises DemoFailed with the reason where one does not complete."""
    demo = ready.demo
    ids = await upload(gateway, ready.files)
    base = await ready.base
    pretrained = await _completed(gateway, "standard", banking77.pretraining(base, ids, demo.seed), follow)
    model = f"task:{pretrained.task_id}"
    task = await _completed(gateway, "continuous", banking77.loop(model, ids, demo.arm, demo.seed), follow)
    return Outcome(demo, task, parts, time.monotonic() - demo.began)


async def make_base(folder: Path, texts: Path, seed: int) -> Path:
    """A tiny Llama with a vocabulary of these texts and random weights; the folder that holds it."""
    _write_spec(folder, {"texts": str(texts), "seed": seed})
    command = (sys.executable, "-P", "-m", "infra.child.program", TINY_BASE, str(folder))
    pipe = asyncio.subprocess.PIPE
    child = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.DEVNULL, stderr=pipe)
    try:
        _, said = await child.communicate()
    except asyncio.CancelledError:
        child.kill()
        await child.wait()
        raise
    if child.returncode:
        raise DemoFailed(f"the tiny model could not be made: {said.decode(errors='replace')[-2000:]}")
    return folder / "out"


def _require_empty(folder: Path) -> None:
    if folder.exists() and any(folder.iterdir()):
        raise DemoFailed(f"{folder} is not empty: choose another --folder, or leave it out for a fresh one")


def _write_spec(folder: Path, spec: dict[str, Any]) -> None:
    folder.mkdir(parents=True)
    (folder / "spec.json").write_text(json.dumps(spec))


async def upload(gateway: Gateway, files: banking77.Uploads) -> dict[str, str]:
    """Upload every file; dataset ids by their names in `files`."""
    return {
        name: (
            await gateway.upload(
                getattr(files, name),
                name=f"banking77 {name}",
                dataset_type=name,
                domain="banking",
                user_id=banking77.USER,
            )
        ).dataset_id
        for name in banking77.Uploads.__dataclass_fields__
    }


async def _completed(gateway: Gateway, mode: str, body: dict[str, Any], follow: Follow) -> TaskView:
    """Create a task that starts at once, follow it, and answer it as it is at the end."""
    created = await gateway.submit(mode, body)
    await follow(created)
    task = await gateway.task(created.task_id)
    if task.status is not TaskStatus.COMPLETED:
        raise DemoFailed(f"{task.task_name} is {task.status}: {task.reason}: {task.message}")
    return task


def _test(turn: IterationView) -> float:
    if turn.test is None:
        raise DemoFailed(f"iteration {turn.iteration} has no test score")
    return turn.test.value
