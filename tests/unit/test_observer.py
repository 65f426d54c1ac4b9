from __future__ import annotations

import asyncio

from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client import CollectorRegistry

from contracts.leases import Claim, Heartbeat, WorkerState
from contracts.tasks import Phase, TaskMode
from control.apply.applier import Applier
from control.apply.relay import Relay
from control.store.port import NewTask, StoreUnavailable
from control.telemetry.metrics import Metrics
from control.telemetry.observer import Observer
from infra.bus.inprocess import InProcessBus
from infra.settings import Settings
from infra.telemetry import Tracing
from tests.build import CLAIM, cancel, completed, failed, lost, new_task, start
from tests.memory_store import MemoryStore


class House:
    """The applier with an observer that listens."""

    def __init__(self) -> None:
        self.store = MemoryStore(Settings().ttl)
        self.applier = Applier(self.store, Relay(self.store, InProcessBus()), batch_size=8)
        self.exporter = InMemorySpanExporter()
        self.tracing = Tracing("control", "test", self.exporter)
        self.metrics = Metrics(CollectorRegistry())
        self.observer = Observer(self.store, self.metrics, self.tracing)
        self.applier.on_change(self.observer.heard)

    async def __aenter__(self) -> House:
        self.applier.start()
        self.observer.start()
        task = new_task(TaskMode.STANDARD)
        await self.store.create([NewTask(task, "digest", "me")])
        await self.applier.submit(start(task), actor="me")
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.observer.stop()
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
        """The names of the first `count` spans that leave."""
        async with asyncio.timeout(5):
            while len(self.exporter.get_finished_spans()) < count:
                await asyncio.to_thread(self.tracing.flush)
        return [span.name for span in self.exporter.get_finished_spans()]

    def value(self, name: str, **labels: str) -> float | None:
        return self.metrics.registry.get_sample_value(name, labels)


async def test_each_ended_attempt_leaves_a_span_and_the_iteration_its_root() -> None:
    async with House() as house:
        for _ in Phase:
            await house.complete()
        assert await house.spans(4) == ["phase optimize", "phase train", "phase evaluate", "iteration"]


async def test_accelerator_seconds_are_counted_by_how_the_attempt_ended() -> None:
    async with House() as house:
        await house.complete()
        await house.claim()
        task = (await house.store.task(new_task().task_id)).task
        await house.applier.submit(failed(task, gpu_seconds=7.0), actor="worker-1")
        assert house.value("treadle_gpu_seconds_total", phase="train", outcome="failed") == 7.0


async def test_accelerator_seconds_of_a_lost_attempt_are_counted_as_wasted() -> None:
    async with House() as house:
        await house.claim()
        gone = lost((await house.store.task(new_task().task_id)).task, gpu_seconds=5.0)
        await house.applier.submit(gone, actor="reaper")
        assert house.value("treadle_gpu_seconds_total", phase="optimize", outcome="lost") == 5.0


async def test_accelerator_seconds_of_a_cancelled_attempt_are_those_its_heartbeats_told() -> None:
    async with House() as house:
        await house.claim(gpu_seconds=3.0)
        await house.applier.submit(cancel(), actor="me")
        await house.spans(1)
        assert house.value("treadle_gpu_seconds_total", phase="optimize", outcome="cancelled") == 3.0


async def test_ended_attempts_are_timed() -> None:
    async with House() as house:
        await house.complete()
        await house.spans(1)
        assert house.value("treadle_phase_duration_seconds_count", phase="optimize", outcome="completed") == 1
        assert house.value("treadle_phase_schedule_to_start_seconds_count", phase="optimize") == 1


async def test_lost_leases_are_counted() -> None:
    async with House() as house:
        await house.claim()
        await house.applier.submit(lost((await house.store.task(new_task().task_id)).task), actor="reaper")
        assert house.value("treadle_leases_lost_total", phase="optimize") == 1


async def test_applied_events_are_counted() -> None:
    async with House() as house:
        await house.complete()
        assert house.value("treadle_events_total", outcome="applied") == 2


async def test_an_observer_whose_database_is_away_goes_on() -> None:
    async with House() as house:
        read, failures = house.store.runs, iter([True])

        async def once_away(*task_ids: object) -> object:
            if next(failures, False):
                raise StoreUnavailable("away")
            return await read(*task_ids)  # type: ignore[arg-type]

        house.store.runs = once_away  # type: ignore[method-assign, assignment]
        await house.complete()
        await house.complete()
        assert await house.spans(1) == ["phase train"]
