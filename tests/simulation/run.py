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
from control.store.port import Dataset
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
"""The three kinds: the worker, how many processes, and slots of each."""
STEPS = 9_000
"""Steps of one seed in `make test` before the faults end; until all is at rest there are a thousand more or so."""
REST = 2000.0
"""Virtual seconds in which all must come to rest once nothing goes wrong any more."""
SHM = Path("/dev/shm")


@dataclass(frozen=True)
class Report:
    """What one simulation was."""

    seed: int
    digest: str
    """The same for two runs of one seed."""
    seconds: float
    """Virtual ones."""
    tasks: int
    steps: Counter[str]
    crashes: Counter[str]
    """Deaths at each named point."""

    @property
    def total(self) -> int:
        """All steps."""
        return self.steps.total()


def simulate(seed: int, steps: int = STEPS) -> Report:
    """Run for at least `steps` steps, then let all come to rest. Raises Violation."""
    loop = VirtualLoop()
    world = World(seed, loop)
    with ExitStack() as stack:
        folder = stack.enter_context(TemporaryDirectory(dir=SHM if SHM.is_dir() else None))
        stack.callback(loop.close)
        stack.enter_context(_without_the_real_world(world, loop, seed))
        loop.run_until_complete(_until_done(world, _simulation(world, folder, steps)))
    tasks = len(world.tables.tasks)
    return Report(seed, world.digest, world.seconds, tasks, world.steps, world.crashes)


async def _until_done(world: World, work: Any) -> None:
    """The end of `work`, or the first violation."""
    working = asyncio.ensure_future(work)
    await asyncio.wait({working, world.broken}, return_when=asyncio.FIRST_COMPLETED)
    working.cancel()
    await asyncio.gather(working, return_exceptions=True)
    await asyncio.sleep(0)  # the killed are buried
    if world.broken.done():
        world.broken.result()
    await working


async def _simulation(world: World, folder: str, steps: int) -> None:
    await _give_dataset(world, Path(folder))
    checks = Checks(world)
    controls = [ControlService(world, f"control-{n}", simulated_settings(folder), checks) for n in (1, 2)]
    services: list[Service] = [*controls, *_workers(world, folder)]
    adversary, users = Adversary(world, services), Users(world, checks, controls)
    users.start()
    raging = asyncio.create_task(adversary.rage())
    try:
        while world.steps.total() < steps:  # noqa: ASYNC110  # virtual seconds cost nothing
            await asyncio.sleep(1)
        adversary.relent()
        await _rest(world, checks)
        checks.at_the_end()
    finally:
        raging.cancel()
        users.end()
        for service in services:
            service.process.kill()


async def _rest(world: World, checks: Checks) -> None:
    end = world.seconds + REST
    while not checks.at_rest():
        world.demand(world.seconds < end, f"after {REST:g} s without a fault there is no rest: {checks.restless()}")
        await asyncio.sleep(1)


def _workers(world: World, folder: str) -> Iterator[WorkerService]:
    for name, (worker, processes, slots) in WORKERS.items():
        for number in range(1, processes + 1):
            settings = simulated_settings(folder, worker_id=f"{name}-{number}", worker_slots=slots)
            yield WorkerService(world, f"{name}-{number}", settings, worker)


async def _give_dataset(world: World, folder: Path) -> None:
    rows = folder / "rows"
    rows.mkdir()
    (rows / "train.jsonl").write_text("{}\n")
    prefix = dataset_prefix(1, DATASET)
    world.calm = True
    await upload(SimulatedObjects(world, Process("nobody")), prefix, rows)  # type: ignore[arg-type]
    world.calm = False
    world.tables.datasets[DATASET] = Dataset(DATASET, "rows", prefix, 3, 1, "training", None, 1, False, None, EPOCH)


@contextmanager
def _without_the_real_world(world: World, loop: VirtualLoop, seed: int) -> Iterator[None]:
    """Clocks, threads, chance, children and logs are the simulation's; the collector would free at random times."""
    drawn, logging_as = random.getstate(), structlog.get_config()
    folders = SimulatedFolder.within(world)
    patches = {
        "time.monotonic": loop.time,
        "time.clock_gettime": lambda _: loop.time(),
        "os.urandom": world.chance.randbytes,
        "asyncio.to_thread": _at_once,
        "infra.worker.folders.end_leftovers": lambda _: None,
        "infra.worker.folders.WorkerFolder": folders,
        "infra.worker.host.WorkerFolder": folders,
        "infra.worker.host.Children": partial(FakeChildren, world),
    }
    with ExitStack() as stack:
        for name, stand_in in patches.items():
            stack.enter_context(patch(name, stand_in))
        random.seed(seed)
        stack.callback(random.setstate, drawn)
        structlog.configure(
            wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR), processors=[partial(_complain, world)]
        )
        stack.callback(structlog.configure, **logging_as)
        loop.set_exception_handler(lambda _, context: _lost(world, context))
        stack.callback(loop.set_exception_handler, lambda *_: None)
        gc.disable()
        stack.callback(gc.enable)
        yield


async def _at_once(work: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
    """Stands in for `asyncio.to_thread`."""
    await asyncio.sleep(0)
    return work(*arguments, **named)


def _lost(world: World, context: dict[str, Any]) -> None:
    """An error that nobody awaited. Those who awaited it may have died, and outages are expected."""
    task, error = context.get("future") or context.get("task"), context.get("exception")
    died = isinstance(task, SteadyTask) and task.process is not None and not task.process.alive
    if not died and not isinstance(error, TreadleError):
        world.break_off(f"an error was lost: {context}", error)


def _complain(world: World, logger: WrappedLogger, name: str, event: EventDict) -> EventDict:
    """An error in a log is one that a boundary caught: nobody foresaw it."""
    error = event.get("exc_info")
    world.break_off(f"an error was logged: {event!r}", error if isinstance(error, BaseException) else None)
    raise structlog.DropEvent
