"""The composition root: control and workers in this process, on whatever parts the settings name."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING

from infra.bus.connect import connect
from infra.bus.port import Bus
from infra.objects import ObjectStore
from infra.settings import IN_PROCESS, Settings

if TYPE_CHECKING:
    from control.service import Control

WORKERS = ("optimizer", "trainer", "evaluator")
STOPPING = (signal.SIGINT, signal.SIGTERM)


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
        from infra.telemetry import Tracing

        settings = self._settings
        tracing = Tracing.connect(settings, "control", settings.identity("control", os.getpid()))
        self._stack.push_async_callback(tracing.close)
        store = await PostgresStore.open(settings.database_url.get_secret_value(), settings.ttl)
        self._stack.push_async_callback(store.close)
        control = Control(Parts(settings, await self._bus(), store, await self._objects(), tracing))
        await control.start()
        self._stack.push_async_callback(control.stop)
        return control

    async def gateway(self, control: Control) -> str:
        """The gateway of this control process, serving; its address."""
        from control.cli.http_server import served
        from control.gateway.app import build_app
        from control.gateway.parts import GatewayParts

        parts = control.parts
        app = build_app(
            GatewayParts(
                parts.store, control.submissions, parts.objects, control.live, control.metrics, control.readiness
            )
        )
        server = served(app, self._settings.http_host, self._settings.http_port, control.live.close)
        return await self._stack.enter_async_context(server)

    async def worker(self, name: str) -> None:
        """The worker of this name, consuming."""
        from infra.worker.discover import load
        from infra.worker.host import WorkerHost

        host = WorkerHost(load(name), await self._bus(), await self._objects(), self._settings)
        await host.start()
        self._stack.push_async_callback(host.stop)

    async def _bus(self) -> Bus:
        """A connection of one's own; the one shared object where the bus is in process."""
        if self._shared is not None:
            return self._shared
        bus = connect(self._settings)
        await bus.start()
        self._stack.push_async_callback(bus.close)
        if self._settings.bus_url.get_secret_value() == IN_PROCESS:
            self._shared = bus
        return bus

    async def _objects(self) -> ObjectStore:
        """An object store of one's own."""
        objects = ObjectStore(self._settings)
        self._stack.push_async_callback(objects.close)
        await objects.start()
        return objects


@asynccontextmanager
async def running(settings: Settings, workers: Sequence[str] = WORKERS) -> AsyncIterator[str]:
    """Control, its gateway and these workers; the gateway's address. All end, in reverse order, on leaving."""
    async with AsyncExitStack() as stack:
        assembly = Assembly(settings, stack)
        url = await assembly.gateway(await assembly.control())
        for name in workers:
            await assembly.worker(name)
        yield url


@asynccontextmanager
async def running_worker(settings: Settings, name: str) -> AsyncIterator[None]:
    """One worker alone."""
    async with AsyncExitStack() as stack:
        await Assembly(settings, stack).worker(name)
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
