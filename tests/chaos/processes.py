"""The services of a chaos run: operating-system processes that are restarted when they end, as by a supervisor."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import httpx
import psutil

from contracts.tasks import Phase
from contracts.topology import PHASE_QUEUES, Queue
from infra.settings import Settings
from infra.stack.ports import free_ports
from infra.stack.server_process import dies_with_parent
from tests.acceptance.processes import environment
from tests.eventually import eventually

CONTROLS, WORKERS = 2, 2
"""Control processes, and workers of each phase."""
CHECK_INTERVAL = 0.2
"""Seconds between two checks for services that have ended."""
READY_LINES = b"control answers at", b"worker_started"
"""What a service logs when it is ready; before that it may end by itself, because a server may be away."""
STOP_TIMEOUT = 10.0
"""Seconds from SIGTERM to SIGKILL at the end of a run."""
FORK_SERVER = "infra.child.fork_server.server"
OWN_LOGGERS = ("infra.", "control.", "tests.", "__main__", "asyncio")
"""Loggers of Treadle's own code, and of asyncio tasks whose error was not awaited."""


class Service:
    """One process, with the signals for its faults."""

    def __init__(self, name: str, arguments: list[str], environ: dict[str, str], folder: Path) -> None:
        self.name = name
        self.log = folder / f"{name}.log"
        self._arguments = arguments
        self._environ = environ
        self._process: subprocess.Popen[bytes] | None = None
        self._log_start = 0

    def start(self) -> None:
        """Start the process; its output is appended to the log."""
        with self.log.open("ab") as log:
            self._log_start = log.tell()
            command = [*dies_with_parent(signal.SIGKILL), *self._arguments]
            self._process = subprocess.Popen(command, env=self._environ, stdout=log, stderr=log)

    def kill(self) -> None:
        """Send SIGKILL and wait for the end."""
        self._signal(signal.SIGKILL)
        if self._process is not None:
            self._process.wait()

    def kill_fork_server(self) -> None:
        """Kill the process from which a worker starts its programs; none, if it has not started one yet."""
        if self._process is not None and self._process.poll() is None:
            for child in psutil.Process(self._process.pid).children():
                with suppress(psutil.NoSuchProcess):
                    if FORK_SERVER in child.cmdline():
                        child.kill()

    def freeze(self) -> None:
        """Send SIGSTOP: the process does not run, but its connections stay open."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Send SIGCONT."""
        self._signal(signal.SIGCONT)

    def end(self) -> None:
        """Send SIGTERM."""
        self._signal(signal.SIGTERM)

    def join(self) -> None:
        """Wait for the end; kill the process after STOP_TIMEOUT."""
        if self._process is not None:
            try:
                self._process.wait(STOP_TIMEOUT)
            except subprocess.TimeoutExpired:
                self.kill()

    @property
    def status(self) -> int | None:
        """The exit status; None while it runs."""
        return self._process.poll() if self._process is not None else None

    @property
    def was_ready(self) -> bool:
        """Whether it was ready since its last start."""
        output = self.log.read_bytes()[self._log_start :]
        return any(line in output for line in READY_LINES)

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None and self._process.poll() is None:
            os.kill(self._process.pid, number)


class Services:
    """Two control processes, and two workers of each phase."""

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
        """Services that ended by themselves after they had been ready."""
        self.kept_down: set[str] = set()
        """Names of services that a fault keeps down, which are not restarted."""

    @property
    def services(self) -> Iterator[Service]:
        """All services."""
        yield from (*self.controls, *self.workers)

    def consumers(self, queue: Queue) -> list[Service]:
        """The services that consume this queue."""
        phase = next((phase for phase, commands in PHASE_QUEUES.items() if commands is queue), None)
        return [service for service in self.workers if service.name.startswith(phase)] if phase else self.controls

    async def ready(self) -> None:
        """Wait until both control processes are ready."""
        async with httpx.AsyncClient(timeout=5) as client:

            async def all_ready() -> bool:
                try:
                    return all([(await client.get(f"{url}/readyz")).is_success for url in self.urls])
                except httpx.TransportError:
                    return False

            await eventually(all_ready, "both controls to be ready", 60)

    async def supervise(self) -> None:
        """Restart every service that ends by itself; runs until it is cancelled."""
        while True:
            for service in self.services:
                if service.status is not None and service.name not in self.kept_down:
                    if service.was_ready:
                        self.surprises.append(f"{service.name} ended by itself with status {service.status}")
                    service.start()
            await asyncio.sleep(CHECK_INTERVAL)

    def errors(self) -> Iterator[str]:
        """The errors in the logs of Treadle's own code; an outage is only logged as a warning."""
        for service in self.services:
            for line in service.log.read_text(errors="replace").splitlines():
                if '"level": "error"' in line and (entry := json.loads(line))["logger"].startswith(OWN_LOGGERS):
                    yield f"{service.name} logged {entry['event']}: {entry.get('exception', line)[-600:]}"


@asynccontextmanager
async def running_services(settings: Settings, folder: Path) -> AsyncIterator[Services]:
    """Start and supervise all services, and stop them at the end of the block."""
    group = Services(settings, folder)
    try:
        for service in group.services:
            service.start()
        await group.ready()
        supervisor = asyncio.create_task(group.supervise())
        try:
            yield group
        finally:
            supervisor.cancel()
    finally:
        for service in group.services:
            service.end()
        for service in group.services:
            await asyncio.to_thread(service.join)


def _service(name: str, module: list[str], settings: Settings, folder: Path, more: dict[str, object]) -> Service:
    return Service(name, [sys.executable, "-m", *module], environment(settings, **more), folder)
