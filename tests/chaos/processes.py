"""The services of a chaos run: operating-system processes, watched and started again as a supervisor would."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx

from contracts.tasks import Phase
from contracts.topology import PHASE_QUEUES, Queue
from infra.settings import Settings
from infra.stack.child import dies_with_parent
from infra.stack.ports import free_ports
from tests.acceptance.processes import environment
from tests.eventually import eventually

CONTROLS, WORKERS = 2, 2
"""Controls, and workers of each phase."""
WATCH = 0.2
SERVES = b"control answers at", b"worker_started"
"""What a service logs once it serves; before that it may end by itself, for a part that it needs may be away."""
LAST_GRACE = 10.0
OURS = ("infra.", "control.", "tests.", "__main__", "asyncio")
"""Loggers of Treadle's own code, and of tasks that ended unheard."""


class Service:
    """One process, and how it is broken."""

    def __init__(self, name: str, arguments: list[str], environ: dict[str, str], folder: Path) -> None:
        self.name = name
        self.log = folder / f"{name}.log"
        self._arguments = arguments
        self._environ = environ
        self._process: subprocess.Popen[bytes] | None = None
        self._said_before = 0

    def start(self) -> None:
        """Start it."""
        with self.log.open("ab") as log:
            self._said_before = log.tell()
            command = [*dies_with_parent(signal.SIGKILL), *self._arguments]
            self._process = subprocess.Popen(command, env=self._environ, stdout=log, stderr=log)

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        self._signal(signal.SIGKILL)
        if self._process is not None:
            self._process.wait()

    def freeze(self) -> None:
        """SIGSTOP: it neither works nor dies."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT: it goes on as if no time had passed."""
        self._signal(signal.SIGCONT)

    def end(self) -> None:
        """SIGTERM; it has a grace to end."""
        self._signal(signal.SIGTERM)

    def join(self) -> None:
        """Wait for its end, and make it after the grace."""
        if self._process is not None:
            try:
                self._process.wait(LAST_GRACE)
            except subprocess.TimeoutExpired:
                self.kill()

    @property
    def status(self) -> int | None:
        """The exit status; None while it runs."""
        return self._process.poll() if self._process is not None else None

    @property
    def served(self) -> bool:
        """Whether it served since its last start."""
        said = self.log.read_bytes()[self._said_before :]
        return any(word in said for word in SERVES)

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None and self._process.poll() is None:
            os.kill(self._process.pid, number)


class House:
    """Two controls, and two workers of each phase."""

    def __init__(self, settings: Settings, folder: Path) -> None:
        ports = free_ports(CONTROLS)
        self.urls = [f"http://127.0.0.1:{port}" for port in ports]
        self.controls = [
            _service(f"control-{number}", ["cli", "control"], settings, folder, {"http_port": port})
            for number, port in enumerate(ports, 1)
        ]
        self.workers = [
            _service(name, ["tests.chaos.worker", phase.value], settings, folder, {"worker_id": name})
            for phase in Phase
            for name in (f"{phase}-{number}" for number in range(1, WORKERS + 1))
        ]
        self.surprises: list[str] = []
        """Services that ended by themselves though they had served."""
        self.resting: set[str] = set()
        """Services that a fault keeps down."""

    @property
    def services(self) -> Iterator[Service]:
        """All of them."""
        yield from (*self.controls, *self.workers)

    def consumers(self, queue: Queue) -> list[Service]:
        """Who consumes this queue."""
        phase = next((phase for phase, commands in PHASE_QUEUES.items() if commands is queue), None)
        return [service for service in self.workers if service.name.startswith(phase)] if phase else self.controls

    async def ready(self) -> None:
        """Wait until both controls serve."""
        async with httpx.AsyncClient(timeout=5) as client:

            async def serve() -> bool:
                try:
                    return all([(await client.get(f"{url}/readyz")).is_success for url in self.urls])
                except httpx.TransportError:
                    return False

            await eventually(serve, "both controls to be ready", 60)

    async def supervise(self) -> None:
        """Start again whatever ended by itself."""
        while True:
            for service in self.services:
                if service.status is not None and service.name not in self.resting:
                    if service.served:
                        self.surprises.append(f"{service.name} ended by itself with status {service.status}")
                    service.start()
            await asyncio.sleep(WATCH)

    def errors(self) -> Iterator[str]:
        """What Treadle itself logged as an error: a fault from outside is a warning, so this is one of its own."""
        for service in self.services:
            for line in service.log.read_text(errors="replace").splitlines():
                if '"level": "error"' in line and (said := json.loads(line))["logger"].startswith(OURS):
                    yield f"{service.name} logged {said['event']}: {said.get('exception', line)[-600:]}"


@asynccontextmanager
async def house(settings: Settings, folder: Path) -> AsyncIterator[House]:
    """All services, running and supervised; ended on leaving."""
    made = House(settings, folder)
    try:
        for service in made.services:
            service.start()
        await made.ready()
        supervising = asyncio.create_task(made.supervise())
        try:
            yield made
        finally:
            supervising.cancel()
    finally:
        for service in made.services:
            service.end()
        for service in made.services:
            await asyncio.to_thread(service.join)


def _service(name: str, module: list[str], settings: Settings, folder: Path, more: dict[str, object]) -> Service:
    return Service(name, [sys.executable, "-m", *module], environment(settings, **more), folder)
