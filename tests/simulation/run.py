"""One simulation from its seed to its end, in virtual time."""

from __future__ import annotations

import asyncio
import gc
import logging
import random
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ParamSpec, TypeVar
from unittest.mock import patch

import structlog
from structlog.typing import EventDict, WrappedLogger

from contracts.artifacts import dataset_prefix
from contracts.errors import TreadleError
from control.store.values import Dataset
from evaluator_worker.worker import WORKER as EVALUATOR
from infra.artifacts import upload
from optimizer_worker.worker import WORKER as OPTIMIZER
from tests.simulation.adversary import Adversary
from tests.simulation.checks import Checks
from tests.simulation.loop import SteadyTask, VirtualLoop
from tests.simulation.objects import SimulatedObjects
from tests.simulation.process import Process
from tests.simulation.programs import FakeChildren
from tests.simulation.services import ControlService, Service, SimulatedFolder, WorkerService, simulated_settings
from tests.simulation.users import DATASET, Users
from tests.simulation.world import EPOCH, World
from trainer_worker.worker import WORKER as TRAINER

P = ParamSpec("P")
T = TypeVar("T")
WORKERS = {"optimizer": (OPTIMIZER, 2, 2), "trainer": (TRAINER, 3, 2), "evaluator": (EVALUATOR, 2, 2)}
"""For each kind: the worker, the number of processes, and the slots of each process."""
STEPS = 9_000
"""Steps of one seed in `make test` before the faults end; the open work then takes about a thousand more."""
FINISH_TIMEOUT = 2000.0
"""Virtual seconds in which all work must be finished after the last fault."""
SHM = Path("/dev/shm")


@dataclass(frozen=True)
class Report:
    """The result of one simulation."""

    seed: int
    digest: str
    """A hash of all steps; the same in every run with this seed."""
    seconds: float
    """Virtual seconds."""
    tasks: int
    steps: Counter[str]
    crashes: Counter[str]
    """Crashes at each named point."""

    @property
    def total(self) -> int:
        """The number of steps of all kinds."""
        return self.steps.total()


def simulate(seed: int, steps: int = STEPS) -> Report:
    """Run at least `steps` steps with faults, then finish the open work without. Raises Violation."""
    loop = VirtualLoop()
    world = World(seed, loop)
    with ExitStack() as stack:
        folder = stack.enter_context(TemporaryDirectory(dir=SHM if SHM.is_dir() else None))
        stack.callback(loop.close)
        stack.enter_context(_patched(world, loop, seed))
        loop.run_until_complete(_run_until_violation(world, _simulation(world, folder, steps)))
    tasks = len(world.tables.tasks)
    return Report(seed, world.digest, world.seconds, tasks, world.steps, world.crashes)


async def _run_until_violation(world: World, work: Any) -> None:
    """Run `work` to its end. Raises the first violation and then cancels the work."""
    task = asyncio.ensure_future(work)
    await asyncio.wait({task, world.violation}, return_when=asyncio.FIRST_COMPLETED)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await asyncio.sleep(0)  # the tasks of killed processes end here
    if world.violation.done():
        world.violation.result()
    await task


async def _simulation(world: World, folder: str, steps: int) -> None:
    await _add_dataset(world, Path(folder))
    checks = Checks(world)
    controls = [ControlService(world, f"control-{n}", simulated_settings(folder), checks) for n in (1, 2)]
    services: list[Service] = [*controls, *_workers(world, folder)]
    adversary, users = Adversary(world, services), Users(world, checks, controls)
    users.start()
    adversary_task = asyncio.create_task(adversary.run())
    try:
        while world.steps.total() < steps:  # noqa: ASYNC110 - virtual seconds take no time
            await asyncio.sleep(1)
        adversary.stop()
        await _wait_until_finished(world, checks)
        checks.check_histories()
    finally:
        adversary_task.cancel()
        users.end()
        for service in services:
            service.process.kill()


async def _wait_until_finished(world: World, checks: Checks) -> None:
    end = world.seconds + FINISH_TIMEOUT
    while not checks.is_finished():
        world.check(
            world.seconds < end,
            f"{FINISH_TIMEOUT:g} s after the last fault, work is unfinished: {checks.unfinished_work()}",
        )
        await asyncio.sleep(1)


def _workers(world: World, folder: str) -> Iterator[WorkerService]:
    for name, (worker, processes, slots) in WORKERS.items():
        for number in range(1, processes + 1):
            settings = simulated_settings(folder, worker_id=f"{name}-{number}", worker_slots=slots)
            yield WorkerService(world, f"{name}-{number}", settings, worker)


async def _add_dataset(world: World, folder: Path) -> None:
    rows = folder / "rows"
    rows.mkdir()
    (rows / "train.jsonl").write_text("{}\n")
    prefix = dataset_prefix(1, DATASET)
    world.faults_off = True
    await upload(SimulatedObjects(world, Process("setup")), prefix, rows)  # type: ignore[arg-type]
    world.faults_off = False
    world.tables.datasets[DATASET] = Dataset(DATASET, "rows", prefix, 3, 1, "training", None, 1, False, None, EPOCH)


@contextmanager
def _patched(world: World, loop: VirtualLoop, seed: int) -> Iterator[None]:
    """Replace clocks, threads, randomness, child processes and logs; no garbage collection at arbitrary times."""
    random_state, log_config = random.getstate(), structlog.get_config()
    folders = SimulatedFolder.for_world(world)
    patches = {
        "time.monotonic": loop.time,
        "time.clock_gettime": lambda _: loop.time(),
        "os.urandom": world.rng.randbytes,
        "asyncio.to_thread": _run_in_loop,
        "infra.worker.folders.end_leftovers": lambda _: None,
        "infra.worker.folders.WorkerFolder": folders,
        "infra.worker.host.WorkerFolder": folders,
        "infra.worker.host.ChildPool": partial(FakeChildren, world),
        "infra.worker.disk.Disks.write_problem": lambda _: None,
        "infra.worker.gpus._nvml": lambda: None,
    }
    with ExitStack() as stack:
        for name, replacement in patches.items():
            stack.enter_context(patch(name, replacement))
        random.seed(seed)
        stack.callback(random.setstate, random_state)
        structlog.configure(
            wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR),
            processors=[partial(_on_logged_error, world)],
        )
        stack.callback(structlog.configure, **log_config)
        loop.set_exception_handler(lambda _, context: _on_loop_error(world, context))
        stack.callback(loop.set_exception_handler, lambda *_: None)
        gc.disable()
        stack.callback(gc.enable)
        yield


async def _run_in_loop(work: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
    """Replaces `asyncio.to_thread`: call `work` in the event loop."""
    await asyncio.sleep(0)
    return work(*arguments, **named)


def _on_loop_error(world: World, context: dict[str, Any]) -> None:
    """Fail for an error that was not awaited, unless its process was killed or an outage explains it."""
    task, error = context.get("future") or context.get("task"), context.get("exception")
    killed = isinstance(task, SteadyTask) and task.process is not None and not task.process.alive
    if not killed and not isinstance(error, TreadleError):
        world.fail(f"an error was not awaited: {context}", error)


def _on_logged_error(world: World, logger: WrappedLogger, name: str, event: EventDict) -> EventDict:
    """Fail for an error in a log: only unexpected exceptions are logged as errors."""
    error = event.get("exc_info")
    world.fail(f"an error was logged: {event!r}", error if isinstance(error, BaseException) else None)
    raise structlog.DropEvent
