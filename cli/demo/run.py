"""The steps of the demo: create a model locally; then upload data, pretrain and run the loop over HTTP."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cli.client import GatewayClient
from cli.demo import banking77
from contracts.errors import TreadleError
from contracts.http import IterationView, TaskView
from contracts.tasks import TaskStatus
from contracts.waiting import TaskDetail
from control.telemetry.work import overhead
from infra.child.fork_server.client import ForkServer
from infra.child.process import ChildProcess

TINY_BASE = "trainer_worker.programs.tiny_base"
STOP_TIMEOUT = 3.0
"""Seconds for which the program that creates the model may take to stop if the demo is stopped."""
Follow = Callable[[TaskView], Awaitable[None]]
"""Shows the progress of a task until the task ends."""


class DemoFailed(TreadleError):
    """A step of the demo failed."""


@dataclass(frozen=True, slots=True)
class Demo:
    """The options of the demo; `started` is in seconds of the monotonic clock."""

    arm: str
    seed: int
    folder: Path
    started: float = field(default_factory=time.monotonic)


@dataclass(frozen=True, slots=True)
class Prepared:
    """What needs no services: the files to upload, and the task that creates the base model."""

    demo: Demo
    files: banking77.Uploads
    base: asyncio.Task[Path]


@dataclass(frozen=True, slots=True)
class DemoResult:
    """The result of the demo; `parts` describes its broker, database and object store."""

    demo: Demo
    task: TaskView
    parts: dict[str, str]
    seconds: float
    work_seconds: float = 0.0
    """Work of the pretraining and of the loop."""

    @property
    def overhead(self) -> float:
        """The share of `seconds` in which neither task worked, 0 to 1."""
        return overhead(self.seconds, self.work_seconds) or 0.0

    @property
    def iterations(self) -> tuple[IterationView, ...]:
        """The iterations of the loop."""
        return self.task.iterations

    @property
    def best(self) -> IterationView:
        """The iteration with the best dev score."""
        return next(result for result in self.iterations if result.iteration == self.task.best_iteration)

    @property
    def test_gain(self) -> float:
        """The test score of the best iteration by dev score minus that of the first iteration."""
        return round(_test(self.best) - _test(self.iterations[0]), 4)

    def as_json(self) -> str:
        """One line of JSON for scripts."""
        results = [
            {"iteration": i.iteration, "rows": i.rows, "dev": round(i.dev.value, 4), "test": round(_test(i), 4)}
            for i in self.iterations
        ]
        line = {
            "demo": "banking77",
            "arm": self.demo.arm,
            "seed": self.demo.seed,
            "iterations": results,
            "test_gain": self.test_gain,
            "seconds": round(self.seconds, 1),
            "overhead": round(self.overhead, 4),
            "broker": self.parts["broker"].split()[0],
            "database": self.parts["database"],
            "object_store": self.parts["object_store"],
        }
        return json.dumps(line, separators=(",", ":"))


@asynccontextmanager
async def prepared(demo: Demo, fork_server: ForkServer) -> AsyncIterator[Prepared]:
    """Write the data, and begin to create the tiny model while the services start.

    Raises DemoFailed if the folder is not empty, before anything is written.
    """
    _require_empty(demo.folder)
    files = banking77.write(banking77.draw(demo.seed), demo.folder / "data")
    base = asyncio.create_task(make_base(demo.folder / "base", files.texts, demo.seed, fork_server), name="tiny base")
    try:
        yield Prepared(demo, files, base)
    finally:
        base.cancel()
        await asyncio.gather(base, return_exceptions=True)


async def run(ready: Prepared, gateway: GatewayClient, parts: dict[str, str], follow: Follow) -> DemoResult:
    """Run both tasks to their end. Raises DemoFailed with the reason if one does not complete."""
    demo = ready.demo
    ids = await upload(gateway, ready.files)
    base = await ready.base
    pretrained = await _run_task(gateway, "standard", banking77.pretraining(base, ids, demo.seed), follow)
    model = f"task:{pretrained.task_id}"
    task = await _run_task(gateway, "continuous", banking77.loop(model, ids, demo.arm, demo.seed), follow)
    work = sum(each.work_seconds or 0.0 for each in (pretrained, task))
    return DemoResult(demo, task, parts, time.monotonic() - demo.started, work)


async def make_base(folder: Path, texts: Path, seed: int, fork_server: ForkServer) -> Path:
    """Create a tiny Llama with random weights and a vocabulary of `texts`; return its folder. Raises DemoFailed."""
    _write_spec(folder, {"texts": str(texts), "seed": seed})
    child = await ChildProcess.start(TINY_BASE, folder, STOP_TIMEOUT, fork_server=fork_server)
    end = await child.run(folder, lambda _: None)
    if end.failure is not None:
        raise DemoFailed(f"the tiny model could not be made: {end.failure.message}")
    return folder / "out"


def _require_empty(folder: Path) -> None:
    if folder.exists() and any(folder.iterdir()):
        raise DemoFailed(f"{folder} is not empty: choose another --folder, or leave out --folder for a new one")


def _write_spec(folder: Path, spec: dict[str, Any]) -> None:
    folder.mkdir(parents=True)
    (folder / "spec.json").write_text(json.dumps(spec))


async def upload(gateway: GatewayClient, files: banking77.Uploads) -> dict[str, str]:
    """Upload every file; returns the dataset ids by the fields of `files`."""
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


async def _run_task(gateway: GatewayClient, mode: str, body: dict[str, Any], follow: Follow) -> TaskDetail:
    """Create a task that starts at once, follow it, and return its final state."""
    created = await gateway.submit(mode, body)
    await follow(created)
    task = await gateway.task(created.task_id)
    if task.status is not TaskStatus.COMPLETED:
        raise DemoFailed(f"{task.task_name} is {task.status}: {task.reason}: {task.message}")
    return task


def _test(result: IterationView) -> float:
    if result.test is None:
        raise DemoFailed(f"iteration {result.iteration} has no test score")
    return result.test.value
