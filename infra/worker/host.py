"""The worker host, one for each worker process: consumes commands, runs attempts and publishes their events."""

from __future__ import annotations

import asyncio
import os
import socket
from functools import partial
from typing import Any

import structlog

from contracts.bounds import MAX_NAME, cut
from contracts.events import PhaseFailed, WorkerEvent
from contracts.leases import AttemptSignal, WorkerState
from contracts.tasks import FailureKind, Phase
from contracts.topology import PHASE_QUEUES, SIGNALS
from contracts.wire import decode
from infra.asyncio_tasks import cancel_and_wait, log_failure
from infra.bus.port import Bus, IncomingMessage, Subscription
from infra.child.fork_server.client import ForkServer
from infra.child.pool import ChildPool
from infra.child.process import start_problem
from infra.logs import bind
from infra.objects import ObjectStore
from infra.settings import Settings
from infra.worker.attempt import Attempt
from infra.worker.claim_handler import ClaimHandler
from infra.worker.command_consumer import CommandConsumer
from infra.worker.disk import Disks
from infra.worker.fitness import Fitness
from infra.worker.folders import WorkerFolder
from infra.worker.gpus import GpuReader
from infra.worker.health import HealthFile
from infra.worker.job import JobRunner
from infra.worker.lease_client import Lease, LeaseClient
from infra.worker.plan import PhaseWorker
from infra.worker.progress_reporter import ProgressReporter
from infra.worker.secrets import secret_values
from infra.worker.spool import SpoolUnreadable, publish_until_confirmed
from infra.worker.undecodable import UndecodableCommands

CLAIM_GRACE = 2.0
"""Seconds for which a stopping host waits for the answers to pending claims, if control is reachable."""
PUBLISHING_GRACE = 10.0
"""Seconds, after the grace time of the child processes, for attempts to publish their events when the host stops."""
HEALTH_FILE = "healthy"
MAYBE_UNFIT = frozenset({FailureKind.PROGRAM_CRASHED, FailureKind.STORE_UNAVAILABLE})
"""Failures after which the worker checks its machine; if it is unfit, that is the reason."""

log = structlog.get_logger(__name__)


class WorkerHost:
    """Runs the attempts of one phase, at most one per slot at a time."""

    def __init__(
        self,
        worker: PhaseWorker[Any],
        bus: Bus,
        objects: ObjectStore,
        settings: Settings,
        fork_server: ForkServer | None = None,
    ) -> None:
        self._worker = worker
        self._bus = bus
        self._settings = settings
        self.worker_id = settings.identity(worker.phase.value, os.getpid())
        self._folder = WorkerFolder.of(settings, worker.phase, self.worker_id)
        self._jobs = self._jobs_of(worker, objects, fork_server)
        self._leases = LeaseClient(bus, self._state, settings.ttl(worker.phase))
        undecodable = UndecodableCommands(bus, self._leases, self._folder.spool, worker.phase, self.worker_id)
        self._claim_handler = ClaimHandler(worker.phase, worker.command, self._leases, undecodable, bus.poison)
        queue = PHASE_QUEUES[worker.phase].name
        self._fitness = self._fitness_of(worker)
        self._commands = CommandConsumer(
            bus, queue, self._claim_handler.claim, self._start, settings.worker_slots, self._fitness.may_claim
        )
        self._attempts: list[Attempt] = []
        self._running: set[asyncio.Task[None]] = set()
        self._resending: set[asyncio.Task[None]] = set()
        self._signals: Subscription | None = None
        self._health = HealthFile(settings.health_file or self._folder.path / HEALTH_FILE, lambda: self.healthy)

    async def start(self) -> None:
        """Lock the worker's folder, publish the events left in the spool, and consume.

        Raises FolderInUse if another worker uses the folder.
        """
        await self._folder.take()
        self._leases.start()
        self._signals = await self._bus.listen(SIGNALS.name, "", self._on_signal)
        self._track(asyncio.create_task(self._resend(), name="resend"), self._resending)
        await self._fitness.start()
        self._commands.open()
        self._health.start()
        log.info(
            "worker_started", worker_id=self.worker_id, phase=self._worker.phase, slots=self._settings.worker_slots
        )

    async def stop(self) -> None:
        """Stop consuming, stop the programs, and report their attempts as paused, with their checkpoints."""
        await self._health.stop()
        await self._fitness.stop()
        await self._commands.close(CLAIM_GRACE if self._leases.answered else 0.0)
        await cancel_and_wait(*self._resending)
        for attempt in self._attempts:
            attempt.paused.set()
        if self._running:
            await asyncio.wait(self._running, timeout=self._grace)
        await cancel_and_wait(*self._running, again=self._grace)
        if self._signals is not None:
            await self._signals.cancel()
        await self._leases.stop()
        self._folder.unlock()

    @property
    def ready(self) -> bool:
        """Whether the host is consuming or full, and control answered its last request; an unfit one is not."""
        return self._commands.attached and self._leases.answered

    @property
    def healthy(self) -> bool:
        """Whether the host is consuming or has a running attempt, and control answered it lately."""
        return (self._commands.attached or self._commands.busy > 0) and self._leases.answered_lately

    def _jobs_of(self, worker: PhaseWorker[Any], objects: ObjectStore, fork_server: ForkServer | None) -> JobRunner:
        children = ChildPool(self._folder.path, self._settings.stop_grace, fork_server)
        hub_code, secrets = self._settings.allow_remote_code, secret_values(self._settings, os.environ)
        return JobRunner(worker, objects, self._folder, children, self.worker_id, hub_code=hub_code, secrets=secrets)

    def _fitness_of(self, worker: PhaseWorker[Any]) -> Fitness:
        disks = Disks(self._folder.path, self._settings.min_free_disk)

        async def probe() -> str | None:
            return None if worker.module is None else await start_problem(worker.module, self._folder.path)

        return Fitness(disks, GpuReader(), probe, self._on_fitness, needs_gpu=worker.phase is not Phase.OPTIMIZE)

    async def _on_fitness(self, unfit: str | None) -> None:
        """Stop consuming while the machine is unfit, and report the change to control at once."""
        self._leases.send_now()
        if unfit is None:
            self._commands.resume()
            return
        await self._commands.suspend()
        await self._jobs.make_room(list(self._attempts))

    def _state(self) -> WorkerState:
        return WorkerState(
            worker_id=self.worker_id,
            phase=self._worker.phase,
            host=cut(socket.gethostname(), MAX_NAME) or "?",
            slots=self._settings.worker_slots,
            busy=self._commands.busy,
            free_disk=self._fitness.free_disk,
            gpus=self._fitness.gpus,
            unfit=self._fitness.unfit,
        )

    @property
    def _grace(self) -> float:
        return self._settings.stop_grace + PUBLISHING_GRACE

    def _start(self, attempt: Attempt) -> None:
        """Run a granted attempt, with heartbeats until its event is confirmed."""
        self._attempts.append(attempt)
        self._leases.keep_alive(Lease(attempt.claim_id, attempt.heartbeat, attempt.on_verdict))
        self._track(asyncio.create_task(self._run(attempt), name=f"attempt {attempt.key}"), self._running)

    async def _run(self, attempt: Attempt) -> None:
        bind(attempt.key)
        reporter = ProgressReporter(self._bus, attempt, self.worker_id)
        failed = False
        try:
            failed = await attempt.run_until_ended(partial(self._work, attempt, reporter))
        finally:
            self._leases.release(attempt.claim_id)
            self._attempts.remove(attempt)
            try:
                await self._fitness.verify()
            finally:
                self._commands.free()
            await reporter.close()
            await self._jobs.tidy(attempt, failed=failed, active=list(self._attempts))

    async def _work(self, attempt: Attempt, reporter: ProgressReporter) -> bool:
        """Do the work, spool the event, and publish it until the broker confirms. Returns whether the attempt failed.

        If cancelled because the host stops, the event stays in the spool for the next process.
        """
        event = await self._judged(await self._jobs.event(attempt, reporter))
        spooled = self._folder.spool.keep(event, attempt.headers)
        try:
            await reporter.close()
            await publish_until_confirmed(self._bus, spooled.message)
        except asyncio.CancelledError:
            if attempt.ended_by is not None:
                spooled.remove()
            raise
        spooled.remove()
        self._fitness.record(event)
        log.info("attempt_ended", kind=event.kind, seconds=round(event.seconds, 3))
        return isinstance(event, PhaseFailed) and event.failure is not FailureKind.WORKER_UNFIT

    async def _judged(self, event: WorkerEvent) -> WorkerEvent:
        """The event; a failure becomes `worker_unfit` if a check of the machine finds a problem."""
        if not isinstance(event, PhaseFailed) or event.failure not in MAYBE_UNFIT:
            return event
        problem = await self._fitness.check()
        if problem is None:
            return event
        message = f"worker {self.worker_id} {problem}; the attempt ended with: {event.message}"
        return event.model_copy(update={"failure": FailureKind.WORKER_UNFIT, "message": cut(message)})

    async def _resend(self) -> None:
        """Publish the events left in the spools of earlier processes of this worker and of dead workers."""
        await self._resend_from(self._folder)
        async for orphan in self._folder.orphans():
            try:
                if await self._resend_from(orphan):
                    await asyncio.to_thread(self._folder.inherit, orphan)
            finally:
                orphan.unlock()

    async def _resend_from(self, folder: WorkerFolder) -> bool:
        """Publish all events of a spool. Returns whether the spool could be read."""
        try:
            entries = folder.spool.entries()
        except SpoolUnreadable as error:
            log.warning("spool_not_read", error=str(error))
            return False
        for spooled in entries:
            await publish_until_confirmed(self._bus, spooled.message)
            spooled.remove()
        return True

    async def _on_signal(self, message: IncomingMessage) -> None:
        """Ask control at once, because a signal can be forged; the answer to the heartbeat has the verdict."""
        key = decode(message.body, AttemptSignal).key
        for attempt in self._claim_handler.attempts:
            attempt.signalled = attempt.signalled or attempt.key == key
        if any(attempt.key == key for attempt in self._attempts):
            self._leases.heartbeat_soon()

    def _track(self, task: asyncio.Task[None], tasks: set[asyncio.Task[None]]) -> None:
        tasks.add(task)
        task.add_done_callback(tasks.discard)
        log_failure(task)
