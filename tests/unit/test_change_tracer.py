from __future__ import annotations

import asyncio

from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client import CollectorRegistry

from contracts.leases import Claim, Heartbeat, WorkerState
from contracts.tasks import Phase, TaskMode
from control.apply.applier import Applier
from control.apply.relay import Relay
from control.store.port import StoreUnavailable
from control.store.values import NewTask
from control.telemetry.change_tracer import ChangeTracer
from control.telemetry.metrics import Metrics
from infra.bus.inprocess import InProcessBus
from infra.settings import Settings
from infra.telemetry import Tracing
from tests.build import CLAIM, cancel, completed, failed, lost, new_task, start
from tests.memory_store import MemoryStore


class ObservedApplier:
    """An applier with metrics and an observer, on a store in memory."""

    def __init__(self) -> None:
        self.store = MemoryStore(Settings().ttl)
        self.applier = Applier(self.store, Relay(self.store, InProcessBus()), batch_size=8)
        self.exporter = InMemorySpanExporter()
        self.tracing = Tracing("control", "test", self.exporter)
        self.metrics = Metrics(CollectorRegistry())
        self.change_tracer = ChangeTracer(self.store, self.tracing)
        self.applier.on_change(self.metrics.on_change)
        self.applier.on_change(self.change_tracer.on_change)

    async def __aenter__(self) -> ObservedApplier:
        self.applier.start()
        self.change_tracer.start()
        task = new_task(TaskMode.STANDARD)
        await self.store.create([NewTask(task, "digest", "me")])
        await self.applier.submit(start(task), actor="me")
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.change_tracer.stop()
        await self.applier.stop()
        await self.tracing.close()

    async def claim(self, gpu_seconds: float = 0.0) -> None:
        task = (await self.store.task(new_task().task_id)).task
        assert task.key is not None
        worker = WorkerState(worker_id="worker-1", phase=task.key.phase, host="here", slots=1, busy=1)
        beat = Heartbeat(key=task.key, claim_id=CLAIM, gpu_seconds=gpu_seconds)
        await self.store.lease(worker, [Claim(key=task.key, claim_id=CLAIM)], [beat])

    async def complete(self) -> None:
        await self.claim()
        task = (await self.store.task(new_task().task_id)).task
        await self.applier.submit(completed(task), actor="worker-1")

    async def spans(self, count: int) -> list[str]:
        """The names of the exported spans, as soon as there are `count` of them."""
        async with asyncio.timeout(5):
            while len(self.exporter.get_finished_spans()) < count:
                await asyncio.to_thread(self.tracing.flush)
        return [span.name for span in self.exporter.get_finished_spans()]

    def value(self, name: str, **labels: str) -> float | None:
        return self.metrics.registry.get_sample_value(name, labels)


async def test_each_ended_attempt_leaves_a_span_and_the_iteration_its_root() -> None:
    async with ObservedApplier() as observed:
        for _ in Phase:
            await observed.complete()
        assert await observed.spans(4) == ["phase optimize", "phase train", "phase evaluate", "iteration"]


async def test_accelerator_seconds_are_counted_by_how_the_attempt_ended() -> None:
    async with ObservedApplier() as observed:
        await observed.complete()
        await observed.claim()
        task = (await observed.store.task(new_task().task_id)).task
        await observed.applier.submit(failed(task, gpu_seconds=7.0), actor="worker-1")
        assert observed.value("treadle_gpu_seconds_total", phase="train", outcome="failed") == 7.0


async def test_accelerator_seconds_of_a_lost_attempt_are_counted_as_wasted() -> None:
    async with ObservedApplier() as observed:
        await observed.claim()
        event = lost((await observed.store.task(new_task().task_id)).task, gpu_seconds=5.0)
        await observed.applier.submit(event, actor="reaper")
        assert observed.value("treadle_gpu_seconds_total", phase="optimize", outcome="lost") == 5.0


async def test_accelerator_seconds_of_a_cancelled_attempt_are_those_that_its_heartbeats_reported() -> None:
    async with ObservedApplier() as observed:
        await observed.claim(gpu_seconds=3.0)
        await observed.applier.submit(cancel(), actor="me")
        await observed.spans(1)
        assert observed.value("treadle_gpu_seconds_total", phase="optimize", outcome="cancelled") == 3.0


async def test_work_seconds_are_counted_by_how_the_attempt_ended() -> None:
    async with ObservedApplier() as observed:
        await observed.claim()
        task = (await observed.store.task(new_task().task_id)).task
        await observed.applier.submit(completed(task, work_seconds=6.5), actor="worker-1")
        assert observed.value("treadle_work_seconds_total", phase="optimize", outcome="completed") == 6.5


async def test_ended_attempts_are_timed() -> None:
    async with ObservedApplier() as observed:
        await observed.complete()
        await observed.spans(1)
        assert observed.value("treadle_phase_duration_seconds_count", phase="optimize", outcome="completed") == 1
        assert observed.value("treadle_phase_schedule_to_start_seconds_count", phase="optimize") == 1


async def test_lost_leases_are_counted() -> None:
    async with ObservedApplier() as observed:
        await observed.claim()
        await observed.applier.submit(lost((await observed.store.task(new_task().task_id)).task), actor="reaper")
        assert observed.value("treadle_leases_lost_total", phase="optimize") == 1


async def test_applied_events_are_counted() -> None:
    async with ObservedApplier() as observed:
        await observed.complete()
        assert observed.value("treadle_events_total", outcome="applied") == 2


async def test_an_observer_whose_database_is_away_goes_on() -> None:
    async with ObservedApplier() as observed:
        read, failures = observed.store.attempts, iter([True])

        async def fail_once(*task_ids: object) -> object:
            if next(failures, False):
                raise StoreUnavailable("away")
            return await read(*task_ids)  # type: ignore[arg-type]

        observed.store.attempts = fail_once  # type: ignore[method-assign, assignment]
        await observed.complete()
        await observed.complete()
        assert await observed.spans(1) == ["phase train"]
