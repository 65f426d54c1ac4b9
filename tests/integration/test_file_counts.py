"""Limits on the number of the product's files that handle a request or an event."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from types import FrameType
from uuid import UUID, uuid4

import pytest

from contracts.artifacts import optimized_dataset_id
from contracts.commands import EvaluateModel
from contracts.events import DataOptimized, ModelTrained
from contracts.tasks import DatasetRef, ModelSource, Phase
from infra.bus.port import OutgoingMessage, PublishFailed
from infra.bus.rabbitmq import RabbitMQBus
from infra.objects import ObjectStore
from infra.settings import Settings
from infra.worker.plan import PhaseWorker, Plan
from tests.chaos.in_process import host_with
from tests.chaos.program import Spec, coroutine
from tests.chaos.worker import COROUTINE, WORKERS
from tests.integration.control_parts import BODY, PuppetWorker, Running, add_dataset, control_running

ROOT = Path(__file__).parents[2]
PACKAGES = ("cli", "contracts", "control", "evaluator_worker", "infra", "optimizer_worker", "trainer_worker")
REQUEST_TO_BROKER = 37  # of which 6 check the request before it is decoded
EVENT_TO_COMMAND = 53


class FileRecorder:
    """Records the product's files in which a function is called between `begin` and `end`, on this thread."""

    def __init__(self) -> None:
        self.files: set[str] = set()
        self._ended = asyncio.Event()

    def begin(self) -> None:
        sys.setprofile(self._call)

    def end(self) -> None:
        sys.setprofile(None)
        self._ended.set()

    async def recorded(self) -> set[str]:
        """Wait for `end` and return the files."""
        try:
            async with asyncio.timeout(15):
                await self._ended.wait()
        finally:
            sys.setprofile(None)
        return self.files

    def _call(self, frame: FrameType, event: str, _: object) -> None:
        path = Path(frame.f_code.co_filename)
        if event == "call" and path.is_relative_to(ROOT) and path.relative_to(ROOT).parts[0] in PACKAGES:
            self.files.add(str(path.relative_to(ROOT)))


class WatchedBus(RabbitMQBus):
    """Ends the recording when a message with this routing key is confirmed."""

    def __init__(self, url: str, recorder: FileRecorder, routing_key: str) -> None:
        super().__init__(url)
        self._recorder = recorder
        self._routing_key = routing_key
        self.watching = False

    async def publish_all(self, messages: Sequence[OutgoingMessage]) -> list[PublishFailed | None]:
        answers = await super().publish_all(messages)
        if self.watching and any(message.routing_key == self._routing_key for message in messages):
            self._recorder.end()
        return answers


@pytest.fixture
def settings(bus_url: str, database_url: str, s3_settings: dict[str, object], tmp_path: Path) -> Settings:
    quiet = {"reaper_tick": 600, "sweep_after": 600}  # no loop runs during the recording
    return Settings(bus_url=bus_url, database_url=database_url, work_dir=tmp_path / "work", **quiet, **s3_settings)


@pytest.fixture
def recorder() -> FileRecorder:
    return FileRecorder()


@pytest.fixture
async def bus(settings: Settings, recorder: FileRecorder) -> AsyncIterator[WatchedBus]:
    bus = WatchedBus(settings.bus_url.get_secret_value(), recorder, Phase.OPTIMIZE.value)
    await bus.start()
    yield bus
    await bus.close()


@pytest.fixture
async def running(settings: Settings, bus: WatchedBus) -> AsyncIterator[Running]:
    async with control_running(settings, bus) as running:
        await add_dataset(running.store)
        yield running


def shown(recorder: FileRecorder) -> str:
    return f"{len(recorder.files)} files:\n" + "\n".join(sorted(recorder.files))


async def test_a_request_for_a_task_reaches_the_broker_through_few_files(
    running: Running, bus: WatchedBus, recorder: FileRecorder
) -> None:
    (await running.http.post("/api/tasks/continuous", json={**BODY, "autoStart": False})).raise_for_status()
    bus.watching = True
    recorder.begin()
    (await running.http.post("/api/tasks/continuous", json=BODY)).raise_for_status()
    assert len(await recorder.recorded()) <= REQUEST_TO_BROKER, shown(recorder)


async def test_an_evaluation_becomes_the_next_command_through_few_files(
    running: Running, bus: WatchedBus, recorder: FileRecorder, settings: Settings
) -> None:
    def plan(command: EvaluateModel) -> Plan:
        return Plan(COROUTINE, Spec(key=command.key, seed=command.seed))

    async def program(folder: Path) -> None:
        await coroutine(folder)
        bus.watching = True
        recorder.begin()

    async with AsyncExitStack() as stack:
        objects = ObjectStore(settings)
        stack.push_async_callback(objects.close)
        await objects.start()
        worker = WORKERS[Phase.EVALUATE]
        evaluator = PhaseWorker(worker.phase, worker.command, plan, worker.conclude)
        host = host_with({COROUTINE: program}, evaluator, bus, objects, settings)
        await host.start()
        stack.push_async_callback(host.stop)
        body = {**BODY, "maxIterations": 2}
        answer = await running.http.post("/api/tasks/continuous", json=body)
        await complete_until_evaluation(running, UUID(answer.raise_for_status().json()["taskId"]))
        files = await recorder.recorded()
    assert len(files) <= EVENT_TO_COMMAND, shown(recorder)


async def complete_until_evaluation(running: Running, task_id: UUID) -> None:
    """Complete the two phases before the evaluation in the first iteration of a task."""
    for phase in (Phase.OPTIMIZE, Phase.TRAIN):
        puppet = PuppetWorker(running.bus, phase)
        await puppet.start()
        command, claim_id = await puppet.command(), uuid4()
        assert command.key.task_id == task_id
        await puppet.claim(command, claim_id)
        common = {"key": command.key, "claim_id": claim_id, "worker_id": "puppet"}
        if phase is Phase.OPTIMIZE:
            rows = DatasetRef(dataset_id=optimized_dataset_id(task_id, 1, 1), prefix=command.output)
            await puppet.report(DataOptimized(**common, dataset=rows, splits=command.output, rows=1))
        else:
            model = ModelSource(base=f"artifact:{command.output}")
            await puppet.report(ModelTrained(**common, model=model, steps=1))
