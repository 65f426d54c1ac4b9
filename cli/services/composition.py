"""The composition root: starts control and workers in this process, as the settings configure them."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any

from pydantic import SecretStr

from contracts.roles import Role
from contracts.tasks import Phase
from infra.bus.connect import connect
from infra.bus.port import Bus
from infra.bus.traced import TracedBus
from infra.garbage_collection import tune_garbage_collection
from infra.objects import ObjectStore
from infra.settings import IN_PROCESS, Settings
from infra.telemetry import Tracing

if TYPE_CHECKING:
    from control.service import Control
    from control.store.port import Store
    from infra.child.fork_server.client import ForkServer
    from infra.worker.plan import PhaseWorker

CHECK_PROGRAM = "optimizer_worker.programs.check"
"""The program that checks rows without a task."""
OBJECT_CALL_TIMEOUT = 12.0
"""Seconds for a call of the gateway to the object store; shorter than the time for an answer over HTTP."""
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def phase_worker(phase: Phase) -> PhaseWorker[Any]:
    """The worker of a phase; importing it does not import torch."""
    from evaluator_worker.worker import WORKER as EVALUATOR
    from optimizer_worker.worker import WORKER as OPTIMIZER
    from trainer_worker.worker import WORKER as TRAINER

    return {worker.phase: worker for worker in (OPTIMIZER, TRAINER, EVALUATOR)}[phase]


@asynccontextmanager
async def started_fork_server(phases: Sequence[Phase], *more: str) -> AsyncIterator[ForkServer]:
    """A fork server for the programs of these phases and for `more` modules."""
    from infra.child.fork_server.client import ForkServer

    modules = [phase_worker(phase).module for phase in phases]
    server = ForkServer([*(module for module in modules if module is not None), *more])
    await server.start()
    try:
        yield server
    finally:
        await server.close()


class Composition:
    """Opens connections and starts services; `stack` closes all of them in reverse order.

    A role in `accounts` connects to the broker with its own URL, any other with that of the settings.
    """

    def __init__(
        self, settings: Settings, stack: AsyncExitStack, accounts: Mapping[Role, SecretStr] | None = None
    ) -> None:
        self._settings = settings
        self._stack = stack
        self._accounts = accounts or {}
        self._shared: Bus | None = None

    async def control(self) -> Control:
        """Start control."""
        from control.service import Control, ControlParts
        from control.store.postgres import PostgresStore

        settings, tracing = self._settings_of(Role.CONTROL), self._tracing("control")
        store = await PostgresStore.open(settings.database_url.get_secret_value(), settings.ttl)
        self._stack.push_async_callback(store.close)
        objects = await self._objects(call_timeout=OBJECT_CALL_TIMEOUT)
        bus = await self._bus(settings, tracing)
        control = Control(ControlParts(settings, bus, store, objects, tracing))
        self._stack.push_async_callback(control.stop)
        await control.start()
        return control

    async def gateway(self, control: Control) -> str:
        """Start the gateway of this control process; return its address."""
        from cli.services.http_server import serve
        from control.gateway.app import build_app
        from control.gateway.parts import GatewayParts
        from control.gateway.row_checks import RowChecks

        parts = control.parts
        app = build_app(
            GatewayParts(
                parts.store,
                control.submissions,
                parts.objects,
                control.progress_hub,
                control.gauges.scrape,
                RowChecks(parts.store, parts.objects, self._settings, CHECK_PROGRAM),
                control.readiness,
                allowed_hosts=self._settings.http_allowed_hosts,
                bound_host=self._settings.http_host,
            )
        )
        server = serve(app, self._settings.http_host, self._settings.http_port, control.progress_hub.close)
        return await self._stack.enter_async_context(server)

    async def fork_server(self, phases: Sequence[Phase]) -> ForkServer | None:
        """Start the fork server of this process for the workers of these phases, if the settings allow it."""
        if not self._settings.fork_programs or not phases:
            return None
        return await self._stack.enter_async_context(started_fork_server(phases))

    async def worker(self, phase: Phase, fork_server: ForkServer | None) -> None:
        """Start the worker of this phase; `fork_server` starts its programs."""
        from infra.worker.host import WorkerHost

        settings = self._settings_of(Role(phase.worker))
        bus = await self._bus(settings, self._tracing(phase.worker))
        host = WorkerHost(phase_worker(phase), bus, await self._objects(), settings, fork_server)
        await host.start()
        self._stack.push_async_callback(host.stop)

    def _settings_of(self, role: Role) -> Settings:
        url = self._accounts.get(role)
        return self._settings if url is None else self._settings.model_copy(update={"bus_url": url})

    async def _bus(self, settings: Settings, tracing: Tracing) -> Bus:
        """A new connection for each service, or one shared object if the bus is in-process; traced if tracing is on."""
        bus = self._shared or await self._connect(settings)
        if self._settings.bus_url.get_secret_value() == IN_PROCESS:
            self._shared = bus
        return TracedBus(bus, tracing) if tracing.on else bus

    async def _connect(self, settings: Settings) -> Bus:
        bus = connect(settings)
        await bus.start()
        self._stack.push_async_callback(bus.close)
        return bus

    def _tracing(self, service: str) -> Tracing:
        """Start the tracing of one service."""
        tracing = Tracing.connect(self._settings, service, self._settings.identity(service, os.getpid()))
        self._stack.push_async_callback(tracing.close)
        return tracing

    async def _objects(self, *, call_timeout: float | None = None) -> ObjectStore:
        """A new object store client for each service."""
        objects = ObjectStore(self._settings, call_timeout=call_timeout)
        self._stack.push_async_callback(objects.close)
        await objects.start()
        return objects


@asynccontextmanager
async def running(
    settings: Settings,
    phases: Sequence[Phase] = tuple(Phase),
    accounts: Mapping[Role, SecretStr] | None = None,
    fork_server: ForkServer | None = None,
) -> AsyncIterator[str]:
    """Run control, its gateway and these workers until exit; yields the address of the gateway.

    `accounts` has the URL of the broker for each role that has an account of its own. `fork_server` is a running fork
    server; None: start one. Raises OpenToOthers if other machines could reach the gateway and the settings do not allow
    it.
    """
    from cli.services.http_server import require_loopback

    if not settings.http_open:
        require_loopback(settings.http_host, settings.http_port)
    async with AsyncExitStack() as stack:
        composition = Composition(settings, stack, accounts)
        fork_server = fork_server or await composition.fork_server(phases)
        url = await composition.gateway(await composition.control())
        for phase in phases:
            await composition.worker(phase, fork_server)
        tune_garbage_collection()
        yield url


@asynccontextmanager
async def running_worker(settings: Settings, phase: Phase) -> AsyncIterator[None]:
    """Run one worker until exit."""
    async with AsyncExitStack() as stack:
        composition = Composition(settings, stack)
        await composition.worker(phase, await composition.fork_server([phase]))
        tune_garbage_collection()
        yield


@asynccontextmanager
async def stores() -> AsyncIterator[tuple[Store, ObjectStore]]:
    """The database and the object store of the TREADLE_… variables, for one command."""
    from cli.settings import read_settings
    from control.store.postgres import PostgresStore

    settings = read_settings()
    async with AsyncExitStack() as stack:
        store = await PostgresStore.open(settings.database_url.get_secret_value(), settings.ttl)
        stack.push_async_callback(store.close)
        objects = ObjectStore(settings)
        stack.push_async_callback(objects.close)
        await objects.ping()
        yield store, objects


async def stop_signal() -> None:
    """Wait for SIGINT or SIGTERM; then restore the default handlers, so that a second signal ends the process."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in STOP_SIGNALS:
        loop.add_signal_handler(number, stop.set)
    await stop.wait()
    for number in STOP_SIGNALS:
        loop.remove_signal_handler(number)
