"""The worker host: command in, claim, run the program, event out. One for each worker process."""

from __future__ import annotations

import asyncio
import os
import socket
from contextlib import suppress
from functools import partial
from typing import Any

import structlog

from contracts.errors import UndecodableMessage
from contracts.events import PhaseFailed
from contracts.leases import AttemptSignal, WorkerState
from contracts.topology import PHASE_QUEUES, SIGNALS
from contracts.wire import decode
from infra.bus.port import Bus, Incoming, Subscription
from infra.child.process import Children
from infra.logs import bind
from infra.objects import ObjectStore
from infra.settings import Settings
from infra.tasks import end, say_if_broken
from infra.worker.admission import Admission
from infra.worker.attempt import Attempt
from infra.worker.claims import Lease, LeaseClient
from infra.worker.folders import WorkerFolder
from infra.worker.job import Jobs
from infra.worker.plan import PhaseWorker
from infra.worker.poison import Poison
from infra.worker.publishing import publish
from infra.worker.reporting import Reporter
from infra.worker.slots import Slots
from infra.worker.spool import SpoolUnreadable

CLAIM_GRACE = 2.0
"""Seconds for which a stopping host awaits the answers to claims that control has heard."""
PUBLISHING_GRACE = 10.0
"""Seconds, beyond the children's grace, that a stopping host gives its attempts to be given back."""

log = structlog.get_logger(__name__)


class WorkerHost:
    """Runs one phase's commands, as many at once as it has slots."""

    def __init__(self, worker: PhaseWorker[Any], bus: Bus, objects: ObjectStore, settings: Settings) -> None:
        self._worker = worker
        self._bus = bus
        self._settings = settings
        self.worker_id = settings.identity(worker.phase.value, os.getpid())
        self._folder = WorkerFolder.of(settings, worker.phase, self.worker_id)
        self._jobs = self._jobs_of(worker, objects)
        self._leases = LeaseClient(bus, self._state, settings.ttl(worker.phase))
        poison = Poison(bus, self._leases, self._folder.spool, worker.phase, self.worker_id)
        self._admission = Admission(worker.phase, worker.command, self._leases, poison)
        queue = PHASE_QUEUES[worker.phase].name
        self._slots = Slots(bus, queue, self._admission.admit, self._start, settings.worker_slots)
        self._attempts: list[Attempt] = []
        self._running: set[asyncio.Task[None]] = set()
        self._resending: set[asyncio.Task[None]] = set()
        self._signals: Subscription | None = None

    async def start(self) -> None:
        """Take the worker's folder, send what an earlier life left in the spool, and consume. Raises FolderInUse."""
        await self._folder.take()
        self._leases.start()
        self._signals = await self._bus.listen(SIGNALS.name, "", self._on_signal)
        self._keep(asyncio.create_task(self._resend(), name="resend"), self._resending)
        await self._jobs.start()
        self._slots.open()
        log.info(
            "worker_started", worker_id=self.worker_id, phase=self._worker.phase, slots=self._settings.worker_slots
        )

    async def stop(self) -> None:
        """Take no more; stop the programs and give their attempts back, with their checkpoints."""
        await self._slots.close(CLAIM_GRACE if self._leases.heard else 0.0)
        await end(*self._resending)
        for attempt in self._attempts:
            attempt.paused.set()
        if self._running:
            await asyncio.wait(self._running, timeout=self._grace)
        await end(*self._running, again=self._grace)
        if self._signals is not None:
            await self._signals.cancel()
        await self._leases.stop()
        await self._jobs.stop()
        self._folder.unlock()

    @property
    def ready(self) -> bool:
        """Whether it really consumes (or is full), and control answers it."""
        return self._slots.attached and self._leases.heard

    def _jobs_of(self, worker: PhaseWorker[Any], objects: ObjectStore) -> Jobs:
        children = Children(self._folder.path, self._settings.stop_grace, warm=self._settings.warm_children)
        return Jobs(worker, objects, self._folder, children, self.worker_id)

    def _state(self) -> WorkerState:
        return WorkerState(
            worker_id=self.worker_id,
            phase=self._worker.phase,
            host=socket.gethostname(),
            slots=self._settings.worker_slots,
            busy=self._slots.busy,
        )

    @property
    def _grace(self) -> float:
        return self._settings.stop_grace + PUBLISHING_GRACE

    def _start(self, attempt: Attempt) -> None:
        """Run a granted attempt, with heartbeats from now on until its event is confirmed."""
        self._attempts.append(attempt)
        self._leases.hold(Lease(attempt.claim_id, attempt.heartbeat, attempt.obey))
        self._keep(asyncio.create_task(self._run(attempt), name=f"attempt {attempt.key}"), self._running)

    async def _run(self, attempt: Attempt) -> None:
        bind(attempt.key)
        reporter = Reporter(self._bus, attempt, self.worker_id)
        failed = False
        try:
            failed = await attempt.see_through(partial(self._work, attempt, reporter))
        finally:
            self._leases.release(attempt.claim_id)
            self._attempts.remove(attempt)
            self._slots.free()
            await reporter.close()
            await self._jobs.tidy(attempt, failed=failed, active=list(self._attempts))

    async def _work(self, attempt: Attempt, reporter: Reporter) -> bool:
        """Work, spool the event, and publish it until the broker confirms; whether the attempt failed.

        Cancelled because the host ends, it leaves the event in the spool for the next life.
        """
        event = await self._jobs.event(attempt, reporter)
        spooled = self._folder.spool.keep(event, attempt.headers)
        try:
            await reporter.close()
            await publish(self._bus, spooled.message)
        except asyncio.CancelledError:
            if attempt.ended_by is not None:
                spooled.remove()
            raise
        spooled.remove()
        log.info("attempt_ended", kind=event.kind, seconds=round(event.seconds, 3))
        return isinstance(event, PhaseFailed)

    async def _resend(self) -> None:
        """Publish the events that earlier lives of this worker, and dead ones beside it, could not."""
        await self._resend_from(self._folder)
        async for orphan in self._folder.orphans():
            try:
                if await self._resend_from(orphan):
                    await asyncio.to_thread(self._folder.inherit, orphan)
            finally:
                orphan.unlock()

    async def _resend_from(self, folder: WorkerFolder) -> bool:
        """Publish all that a spool holds; whether it could be read."""
        try:
            entries = folder.spool.entries()
        except SpoolUnreadable as error:
            log.warning("spool_not_read", error=str(error))
            return False
        for spooled in entries:
            await publish(self._bus, spooled.message)
            spooled.remove()
        return True

    async def _on_signal(self, message: Incoming) -> None:
        """Obey at once what the next heartbeat would say too."""
        with suppress(UndecodableMessage):
            signal = decode(message.body, AttemptSignal)
            for attempt in (*self._admission.attempts, *self._attempts):
                if attempt.key == signal.key:
                    attempt.obey(signal.verdict)

    def _keep(self, task: asyncio.Task[None], tasks: set[asyncio.Task[None]]) -> None:
        tasks.add(task)
        task.add_done_callback(tasks.discard)
        say_if_broken(task)
