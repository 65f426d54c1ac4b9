"""The composition root: control and workers in this process, on whatever parts the settings name."""

from __future__ import annotations

import asyncio
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


class Parts:
    """What services stand on, made as they ask and let go of in reverse order."""

    def __init__(self, settings: Settings, stack: AsyncExitStack) -> None:
        self._settings = settings
        self._stack = stack
        self._shared: Bus | None = None

    async def bus(self) -> Bus:
        """A connection of one's own; the one shared object where the bus is in process."""
        if self._shared is not None:
            return self._shared
        bus = connect(self._settings)
        await bus.start()
        self._stack.push_async_callback(bus.close)
        if self._settings.bus_url.get_secret_value() == IN_PROCESS:
            self._shared = bus
        return bus

    async def control(self) -> Control:
        """Control with its gateway, serving."""
        from control.service import Control

        control = Control(self._settings, await self.bus())
        await control.start()
        self._stack.push_async_callback(control.stop)
        return control

    async def worker(self, name: str) -> None:
        """The worker of this name, consuming."""
        from infra.worker.discover import load
        from infra.worker.host import WorkerHost

        objects = ObjectStore(self._settings)
        await objects.start()
        self._stack.push_async_callback(objects.close)
        host = WorkerHost(load(name), await self.bus(), objects, self._settings)
        await host.start()
        self._stack.push_async_callback(host.stop)


@asynccontextmanager
async def running(settings: Settings, workers: Sequence[str] = WORKERS) -> AsyncIterator[str]:
    """Control, its gateway and these workers; the gateway's address. All end, in reverse order, on leaving."""
    async with AsyncExitStack() as stack:
        parts = Parts(settings, stack)
        control = await parts.control()
        url = await control.serve_http()
        for name in workers:
            await parts.worker(name)
        yield url


@asynccontextmanager
async def worker(settings: Settings, name: str) -> AsyncIterator[None]:
    """One worker alone."""
    async with AsyncExitStack() as stack:
        await Parts(settings, stack).worker(name)
        yield


async def told_to_stop() -> None:
    """Wait for SIGINT or SIGTERM."""
    told = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, told.set)
    await told.wait()
