"""The real services, each life of one in a simulated process, started again after each end."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, cast

from pydantic import SecretStr

from contracts.errors import TreadleError
from contracts.events import WorkerEvent
from contracts.topology import EVENTS
from contracts.wire import encode
from control.service import Control, Parts
from infra.bus.port import Outgoing
from infra.objects import ObjectStore
from infra.settings import IN_PROCESS, Settings
from infra.telemetry import Tracing
from infra.worker.folders import WorkerFolder
from infra.worker.host import WorkerHost
from infra.worker.plan import PhaseWorker
from infra.worker.spool import Spool, Spooled
from tests.simulation.bus import SimulatedBus
from tests.simulation.checks import Checks
from tests.simulation.objects import SimulatedObjects
from tests.simulation.process import PROCESS, Process
from tests.simulation.store import SimulatedStore
from tests.simulation.world import World
from tests.submissions import SubmissionsInProcess

SHORTEST_ABSENCE, LONGEST_ABSENCE = 0.2, 15.0
"""Seconds from a process's end to its next life."""
MEMORY = 60.0
"""Seconds after which what nothing refers to is deleted."""
STOPPING = 60.0
"""Seconds that a supervisor gives a service to stop by itself."""
TRACING = Tracing("simulation", "simulation", None)


def simulated_settings(work_dir: str, **more: Any) -> Settings:
    """Short leases and a short memory, so that much happens in little time."""
    return Settings(
        bus_url=SecretStr(IN_PROCESS),
        work_dir=work_dir,
        warm_children=False,
        short_ttl=6.0,
        train_ttl=9.0,
        reaper_tick=1.0,
        sweep_after=5.0,
        stop_grace=5.0,
        retention_after=MEMORY / 86_400,
        **more,
    )


class Service(ABC):
    """One service of the installation over all its lives."""

    def __init__(self, world: World, name: str, settings: Settings) -> None:
        self.world = world
        self.name = name
        self.settings = settings
        self.running = False
        """Whether it has started, and lives."""
        self.start()

    def start(self) -> None:
        """Begin a life."""
        self.process = Process(self.name)
        self.bus = SimulatedBus(self.world, self.process)
        self.process.at_death.append(self._gone)
        self.process.spawn(self._boot())

    async def restart(self) -> None:
        """SIGTERM, as in a rolling upgrade; SIGKILL for one that does not stop in time."""
        process, self.running = self.process, False
        stopping = process.spawn(self._end())
        await asyncio.wait({stopping}, timeout=STOPPING)
        if stopping.done():
            stopping.result()
        process.kill()

    def freeze(self, seconds: float, *, dropped: bool) -> None:
        """SIGSTOP, and SIGCONT later; meanwhile the broker may drop the connection that says nothing any more."""
        process, bus = self.process, self.bus

        def thaw() -> None:
            process.thaw()
            if dropped and process.alive:
                process.spawn(bus.blink(0.1))

        process.freeze()
        if dropped:
            bus.drop()
        self.world.later(seconds, thaw)

    def _gone(self) -> None:
        self.running = False
        absence = self.world.chance.uniform(SHORTEST_ABSENCE, LONGEST_ABSENCE)
        self.world.later(absence, self.start)

    async def _boot(self) -> None:
        try:
            await self.bus.start()
            await self.up()
            self.running = True
        except TreadleError as error:
            self.world.fault(f"{self.name} cannot start: {error}")
            self.process.kill()

    async def _end(self) -> None:
        await self.down()
        await self.bus.close()

    @abstractmethod
    async def up(self) -> None:
        """Start the real service."""

    @abstractmethod
    async def down(self) -> None:
        """Stop the real service."""


class ControlService(Service):
    """A control process."""

    def __init__(self, world: World, name: str, settings: Settings, checks: Checks) -> None:
        self._checks = checks
        super().__init__(world, name, settings)

    async def up(self) -> None:
        """As `treadle serve` does, without HTTP."""
        store = SimulatedStore(self.world, self.process, self._checks, self.settings.ttl)
        objects = cast("ObjectStore", SimulatedObjects(self.world, self.process))
        self.control = Control(Parts(self.settings, self.bus, store, objects, TRACING))
        await self.control.start()
        await SubmissionsInProcess(self.bus, self.control.submissions).start()

    async def down(self) -> None:
        """Stop."""
        await self.control.stop()
        await self.control.parts.store.close()


class WorkerService(Service):
    """A worker process."""

    def __init__(self, world: World, name: str, settings: Settings, worker: PhaseWorker[Any]) -> None:
        self._worker = worker
        super().__init__(world, name, settings)

    async def up(self) -> None:
        """As `treadle worker` does."""
        objects = cast("ObjectStore", SimulatedObjects(self.world, self.process))
        self._host = WorkerHost(self._worker, self.bus, objects, self.settings)
        await self._host.start()

    async def down(self) -> None:
        """Stop."""
        await self._host.stop()


class SimulatedFolder(WorkerFolder):
    """A worker's folder whose lock ends with the simulated process, as a real one does with the real process."""

    world: ClassVar[World]

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.spool = SimulatedSpool(self.world, folder / "spool.db")

    @classmethod
    def within(cls, world: World) -> type[SimulatedFolder]:
        """The class for one simulation: the host makes its folder itself."""
        return type("FolderWithin", (cls,), {"world": world})

    def lock(self) -> bool:
        """Whether it is ours now."""
        locked, process = super().lock(), PROCESS.get()
        if locked and process is not None:
            process.at_death.append(self.unlock)
        return locked


class SimulatedSpool(Spool):
    """A spool on a disk that is full at times."""

    def __init__(self, world: World, path: Path) -> None:
        super().__init__(path)
        self._world = world

    def keep(self, event: WorkerEvent, headers: Mapping[str, str]) -> Spooled:
        """Write the event, unless the disk is full."""
        if "disk" not in self._world.away:
            return super().keep(event, headers)
        message = Outgoing(EVENTS.name, event.kind, encode(event), str(event.message_id), headers)
        return Spooled(self, message, None)
