"""Decides whether a worker's machine can run attempts: checks its disks and GPUs, and rests after repeated faults."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from uuid import UUID

import structlog

from contracts.events import PhaseFailed, PhasePaused, WorkerEvent
from contracts.leases import GpuState
from contracts.tasks import FailureKind
from infra.asyncio_tasks import cancel_and_wait, log_failure
from infra.worker.disk import Disks
from infra.worker.gpus import GpuReader

CHECK_INTERVAL = 5.0
"""Seconds between two checks."""
WRITE_INTERVAL = 30.0
"""Seconds between two test writes while the worker is fit; an unfit worker writes at every check."""
DISK_TIMEOUT = 10.0
"""Seconds for one check of the disks; a disk behind a network may not answer at all."""
FAULTS_BEFORE_REST, CRASHES_BEFORE_REST = 2, 5
"""Different tasks in a row whose attempts fail by the machine's fault, or crash, after which a worker rests."""
FIRST_REST, LONGEST_REST = 10.0, 300.0
"""Seconds; a rest is twice as long as the one before, until an attempt completes."""
MAX_REASON = 300

log = structlog.get_logger(__name__)
OnChange = Callable[[str | None], Awaitable[None]]
Probe = Callable[[], Awaitable[str | None]]
"""Starts the program without a job. Returns why that fails, as a predicate of the worker; None if it works."""


class Fitness:
    """The fitness of one worker; `on_change` is awaited when it becomes unfit, with the reason, or fit, with None."""

    def __init__(self, disks: Disks, gpus: GpuReader, probe: Probe, on_change: OnChange, *, needs_gpu: bool) -> None:
        self._disks = disks
        self._gpu_reader = gpus
        self._probe = probe
        self._on_change = on_change
        self._needs_gpu = needs_gpu
        self.free_disk: int | None = None
        self.gpus: tuple[GpuState, ...] = ()
        self.problem: str | None = None
        """What is wrong with the machine, as a predicate of the worker; None: nothing that a check has found."""
        self._program_problem: str | None = None
        self._announced = False
        self._refused = False
        """Whether a command was refused since the last check, so that the consumer is suspended."""
        self._checking = asyncio.Lock()
        self._check_needed = asyncio.Event()
        self._disk_check: asyncio.Task[str | None] | None = None
        self._written_at = float("-inf")
        self._suspected = False
        self._faulty: list[UUID] = []
        self._crashed: list[UUID] = []
        self._rest = FIRST_REST
        self._rest_until = 0.0
        self._rest_reason: str | None = None
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Check once, then regularly."""
        await self.check()
        self._task = asyncio.create_task(self._watch(), name="fitness")
        log_failure(self._task)

    async def stop(self) -> None:
        """Stop checking."""
        if self._task is not None:
            await cancel_and_wait(self._task)
        if self._disk_check is not None:
            self._disk_check.cancel()

    @property
    def unfit(self) -> str | None:
        """Why the worker takes no commands, as a predicate such as `has 5 MiB free in …`; None: it takes them."""
        return self.problem or self._rest_reason

    def may_claim(self) -> bool:
        """Whether the worker is fit and its disks have room at this moment; if not, a full check follows at once."""
        if self.unfit is None and self._disks.problem() is None:
            return True
        self._refused = True
        self._check_needed.set()
        return False

    async def check(self) -> str | None:
        """Check the machine now, and return what is wrong with it; None: nothing."""
        async with self._checking:
            if self._suspected or self._program_problem is not None:
                self._suspected = False
                self._program_problem = await self._probe()
            self.gpus = await self._gpu_reader.read()
            lost = self._gpu_reader.lost if self._needs_gpu else None
            self.problem = await self._disk_problem() or lost or self._program_problem
            self.free_disk = self._disks.free()
            if time.monotonic() >= self._rest_until:
                self._rest_reason = None
            await self._announce()
            return self.problem

    def record(self, event: WorkerEvent) -> None:
        """Take note of how an attempt ended; `verify` must follow before the next claim."""
        task, failure = event.key.task_id, event.failure if isinstance(event, PhaseFailed) else None
        if failure is FailureKind.WORKER_UNFIT:
            self._suspected = True
            self._count(self._faulty, task, FAULTS_BEFORE_REST, f"failed by the machine's fault: {_cause(event)}")
        elif failure is FailureKind.PROGRAM_CRASHED:
            self._count(self._crashed, task, CRASHES_BEFORE_REST, f"crashed: {_cause(event)}")
        elif failure is None and not isinstance(event, PhasePaused):
            self._faulty, self._crashed, self._rest = [], [], FIRST_REST

    async def verify(self) -> None:
        """Check the machine, and that a program can be started, if the last attempt raised a suspicion."""
        if self._suspected or self._rest_reason is not None:
            await self.check()

    def _count(self, tasks: list[UUID], task: UUID, limit: int, how: str) -> None:
        """Count an attempt that failed; a rest begins if enough different tasks have failed in a row."""
        if task not in tasks:
            tasks.append(task)
            del tasks[:-limit]
        if len(tasks) == limit:
            self._suspected = True
            self._rest_until = time.monotonic() + self._rest
            self._rest_reason = f"rests for {self._rest:g} s, because attempts of {limit} tasks in a row {how}"
            self._rest = min(2 * self._rest, LONGEST_REST)

    async def _watch(self) -> None:
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(CHECK_INTERVAL):
                    await self._check_needed.wait()
            self._check_needed.clear()
            try:
                await self.check()
            except Exception:  # otherwise the worker would stay fit, or unfit, for ever
                log.exception("machine_not_checked")

    async def _disk_problem(self) -> str | None:
        """Check in a thread; while a check hangs, no second one is started."""
        if self._disk_check is None or self._disk_check.done():
            now = time.monotonic()
            write = self.problem is not None or self._suspected or now - self._written_at >= WRITE_INTERVAL
            self._written_at = now if write else self._written_at
            was_full = self.problem is not None
            self._disk_check = asyncio.create_task(asyncio.to_thread(self._look_at_disks, write, was_full))
        try:
            return await asyncio.wait_for(asyncio.shield(self._disk_check), DISK_TIMEOUT)
        except TimeoutError:
            return f"gets no answer from the disk of {self._disks.folder} within {DISK_TIMEOUT:g} s"

    def _look_at_disks(self, write: bool, was_full: bool) -> str | None:
        return self._disks.problem(was_full=was_full) or (self._disks.write_problem() if write else None)

    async def _announce(self) -> None:
        """Log and report a change between fit and unfit once; the reason itself may change without a log line."""
        unfit, refused = self.unfit, self._refused
        if (unfit is not None) != self._announced:
            self._announced = unfit is not None
            log.warning("worker_unfit", reason=unfit) if unfit is not None else log.info("worker_fit_again")
        elif unfit is not None or not refused:
            return
        self._refused = False
        await self._on_change(unfit)


def _cause(event: WorkerEvent) -> str:
    return event.message[:MAX_REASON] if isinstance(event, PhaseFailed) else ""
