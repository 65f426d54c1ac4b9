"""The composition root: control and workers in this process, on whatever parts the settings name."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any

from contracts.tasks import Phase
from infra.bus.connect import connect
from infra.bus.port import Bus
from infra.bus.traced import TracedBus
from infra.garbage_collection import settle
from infra.objects import ObjectStore
from infra.settings import IN_PROCESS, Settings
from infra.telemetry import Tracing

if TYPE_CHECKING:
    from control.service import Control
    from infra.worker.plan import PhaseWorker

STOPPING = (signal.SIGINT, signal.SIGTERM)


def phase_worker(phase: Phase) -> PhaseWorker[Any]:
    """The worker of a phase; importing it does not import torch."""
    from evaluator_worker.worker import WORKER as EVALUATOR
    from optimizer_worker.worker import WORKER as OPTIMIZER
    from trainer_worker.worker import WORKER as TRAINER

    return {worker.phase: worker for worker in (OPTIMIZER, TRAINER, EVALUATOR)}[phase]


class Assembly:
    """Opens what services stand on and starts them; `stack` ends all of it, in reverse order."""

    def __init__(self, settings: Settings, stack: AsyncExitStack) -> None:
        self._settings = settings
        self._stack = stack
        self._shared: Bus | None = None

    async def control(self) -> Control:
        """Control, consuming."""
        from control.service import Control, Parts
        from control.store.postgres import PostgresStore

        settings, tracing = self._settings, self._tracing("control")
        store = await PostgresStore.open(settings.database_url.get_secret_value(), settings.ttl)
        self._stack.push_async_callback(store.close)
        control = Control(Parts(settings, await self._bus(tracing), store, await self._objects(), tracing))
        self._stack.push_async_callback(control.stop)
        await control.start()
        return control

    async def gateway(self, control: Control) -> str:
        """The gateway of this control process, serving; its address."""
        from cli.services.http_server import served
        from control.gateway.app import build_app
        from control.gateway.parts import GatewayParts

        parts = control.parts
        app = build_app(
            GatewayParts(
                parts.store,
                control.submissions,
                parts.objects,
                control.live,
                control.gauges.scrape,
                control.readiness,
            )
        )
        server = served(app, self._settings.http_host, self._settings.http_port, control.live.close)
        return await self._stack.enter_async_context(server)

    async def worker(self, phase: Phase) -> None:
        """The worker of this phase, consuming."""
        from infra.worker.host import WorkerHost

        bus = await self._bus(self._tracing(phase.worker))
        host = WorkerHost(phase_worker(phase), bus, await self._objects(), self._settings)
        await host.start()
        self._stack.push_async_callback(host.stop)

    async def _bus(self, tracing: Tracing) -> Bus:
        """A connection of one's own; the one shared object where the bus is in process. Its messages are traced."""
        bus = self._shared or await self._connected()
        if self._settings.bus_url.get_secret_value() == IN_PROCESS:
            self._shared = bus
        return TracedBus(bus, tracing) if tracing.on else bus

    async def _connected(self) -> Bus:
        bus = connect(self._settings)
        await bus.start()
        self._stack.push_async_callback(bus.close)
        return bus

    def _tracing(self, service: str) -> Tracing:
        """The traces of one service."""
        tracing = Tracing.connect(self._settings, service, self._settings.identity(service, os.getpid()))
        self._stack.push_async_callback(tracing.close)
        return tracing

    async def _objects(self) -> ObjectStore:
        """An object store of one's own."""
        objects = ObjectStore(self._settings)
        self._stack.push_async_callback(objects.close)
        await objects.start()
        return objects


@asynccontextmanager
async def running(settings: Settings, phases: Sequence[Phase] = tuple(Phase)) -> AsyncIterator[str]:
    """Control, its gateway and these workers; the gateway's address. All end, in reverse order, on leaving."""
    async with AsyncExitStack() as stack:
        assembly = Assembly(settings, stack)
        url = await assembly.gateway(await assembly.control())
        for phase in phases:
            await assembly.worker(phase)
        settle()
        yield url


@asynccontextmanager
async def running_worker(settings: Settings, phase: Phase) -> AsyncIterator[None]:
    """One worker alone."""
    async with AsyncExitStack() as stack:
        await Assembly(settings, stack).worker(phase)
        settle()
        yield


async def told_to_stop() -> None:
    """Wait for SIGINT or SIGTERM. A second one does what it does anywhere: a person may lose patience."""
    told = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in STOPPING:
        loop.add_signal_handler(number, told.set)
    await told.wait()
    for number in STOPPING:
        loop.remove_signal_handler(number)
