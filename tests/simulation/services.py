"""The real services, each in a simulated process, which is started again after each end."""

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
from control.service import Control, ControlParts
from infra.bus.port import Bus, OutgoingMessage
from infra.bus.traced import TracedBus
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

MIN_DOWNTIME, MAX_DOWNTIME = 0.2, 15.0
"""Seconds from the end of a process to the next start of its service."""
RETENTION = 60.0
"""Seconds after which retention deletes what nothing refers to."""
STOP_TIMEOUT = 60.0
"""Seconds from SIGTERM to SIGKILL in a restart."""
TRACING = Tracing("simulation", "simulation", None)


def simulated_settings(work_dir: str, **more: Any) -> Settings:
    """Settings with short leases and a short retention, so that both expire often."""
    return Settings(
        bus_url=SecretStr(IN_PROCESS),
        work_dir=work_dir,
        fork_programs=False,
        short_ttl=6.0,
        train_ttl=9.0,
        reaper_tick=1.0,
        sweep_after=5.0,
        stop_grace=5.0,
        retention_after=RETENTION / 86_400,
        **more,
    )


class Service(ABC):
    """One service of the installation, over all its processes."""

    def __init__(self, world: World, name: str, settings: Settings) -> None:
        self.world = world
        self.name = name
        self.settings = settings
        self.running = False
        """Whether the service has started and its process is alive."""
        self.start()

    def start(self) -> None:
        """Start the service in a new process."""
        self.process = Process(self.name)
        self.bus = SimulatedBus(self.world, self.process)
        self.traced_bus: Bus = TracedBus(self.bus, TRACING) if TRACING.on else self.bus
        self.process.on_exit.append(self._on_exit)
        self.process.spawn(self._boot())

    async def restart(self) -> None:
        """SIGTERM, as in a rolling upgrade, then SIGKILL if it does not stop in time."""
        process, self.running = self.process, False
        task = process.spawn(self._end())
        await asyncio.wait({task}, timeout=STOP_TIMEOUT)
        if task.done():
            task.result()
        process.kill()

    def freeze(self, seconds: float, *, dropped: bool) -> None:
        """SIGSTOP, then SIGCONT after `seconds`; `dropped`: meanwhile the broker drops the silent connection."""
        process, bus = self.process, self.bus

        def thaw() -> None:
            process.thaw()
            if dropped and process.alive:
                process.spawn(bus.disconnect(0.1))

        process.freeze()
        if dropped:
            bus.drop()
        self.world.later(seconds, thaw)

    def _on_exit(self) -> None:
        self.running = False
        downtime = self.world.rng.uniform(MIN_DOWNTIME, MAX_DOWNTIME)
        self.world.later(downtime, self.start)

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
        """Start as `treadle control` does, without HTTP."""
        store = SimulatedStore(self.world, self.process, self._checks, self.settings.ttl)
        objects = cast("ObjectStore", SimulatedObjects(self.world, self.process))
        self.control = Control(ControlParts(self.settings, self.traced_bus, store, objects, TRACING))
        await self.control.start()
        await SubmissionsInProcess(self.bus, self.control.submissions).start()

    async def down(self) -> None:
        """Stop control and close its store."""
        await self.control.stop()
        await self.control.parts.store.close()


class WorkerService(Service):
    """A worker process."""

    def __init__(self, world: World, name: str, settings: Settings, worker: PhaseWorker[Any]) -> None:
        self._worker = worker
        super().__init__(world, name, settings)

    async def up(self) -> None:
        """Start as `treadle worker` does."""
        objects = cast("ObjectStore", SimulatedObjects(self.world, self.process))
        self._host = WorkerHost(self._worker, self.traced_bus, objects, self.settings)
        await self._host.start()

    async def down(self) -> None:
        """Stop the worker host."""
        await self._host.stop()


class SimulatedFolder(WorkerFolder):
    """A worker folder whose lock is released when the simulated process ends, as a file lock is."""

    world: ClassVar[World]

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.spool = SimulatedSpool(self.world, folder / "spool.db")

    @classmethod
    def for_world(cls, world: World) -> type[SimulatedFolder]:
        """A subclass for one simulation, because the host creates its folder without a world."""
        return type("FolderInWorld", (cls,), {"world": world})

    def lock(self) -> bool:
        """Lock the folder; whether this process has the lock now."""
        locked, process = super().lock(), PROCESS.get()
        if locked and process is not None:
            process.on_exit.append(self.unlock)
        return locked


class SimulatedSpool(Spool):
    """A spool whose disk is full during an outage."""

    def __init__(self, world: World, path: Path) -> None:
        super().__init__(path)
        self._world = world

    def keep(self, event: WorkerEvent, headers: Mapping[str, str]) -> Spooled:
        """Write the event; if the disk is full, return it unwritten."""
        if "disk" not in self._world.unavailable:
            return super().keep(event, headers)
        message = OutgoingMessage(EVENTS.name, event.kind, encode(event), str(event.message_id), headers)
        return Spooled(self, message, None)
