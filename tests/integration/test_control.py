"""Control on a real broker, database and object store, with a worker that the test controls."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from uuid import UUID, uuid4

import pytest
import pytest_asyncio

from contracts.artifacts import attempt_prefix, checkpoint_prefix, optimized_dataset_id
from contracts.commands import TrainModel
from contracts.events import DataOptimized
from contracts.http import StandardTaskRequest
from contracts.leases import AttemptSignal, LeaseVerdict
from contracts.message import Message
from contracts.submissions import CancelTask, CreateTask
from contracts.tasks import AttemptKey, DatasetRef, FailureKind, Phase
from contracts.topology import CONTROL_QUEUE, DEAD_QUEUE, EVENTS, SIGNALS, TASKS
from contracts.wire import decode
from infra.artifacts import upload
from infra.bus.dead_letter import REASON
from infra.bus.port import IncomingMessage, OutgoingMessage
from infra.settings import Settings
from tests.conformance.stores import change_of
from tests.eventually import eventually
from tests.integration.control_parts import PuppetWorker, Running, add_dataset, control_running, publish

QUICK = {"short_ttl": 1.0, "train_ttl": 1.0, "reaper_tick": 0.2, "sweep_after": 1.0}


@pytest_asyncio.fixture
async def running(settings: Settings) -> AsyncIterator[Running]:
    """Control with leases of one second."""
    async with control_running(settings.model_copy(update=QUICK)) as running:
        yield running


async def start_task(running: Running) -> UUID:
    dataset = await add_dataset(running.store)
    body = StandardTaskRequest(task_name="t", model_name="/m", dataset_id=dataset, user_id=1, auto_start=True)
    return (await running.control.submissions.create(CreateTask(task=body))).task.task_id


async def start_worker(running: Running, phase: Phase = Phase.OPTIMIZE) -> PuppetWorker:
    worker = PuppetWorker(running.bus, phase)
    await worker.start()
    return worker


async def dead_letters(running: Running) -> list[IncomingMessage]:
    letters: list[IncomingMessage] = []

    async def take(message: IncomingMessage) -> None:
        letters.append(message)
        await message.ack()

    await running.bus.consume(DEAD_QUEUE.name, take, prefetch=10)
    return letters


def optimized(command: Message, claim_id: UUID) -> DataOptimized:
    key: AttemptKey = command.key  # type: ignore[attr-defined]  # a command has a key
    own = attempt_prefix(key)
    return DataOptimized(
        key=key,
        claim_id=claim_id,
        worker_id="puppet",
        dataset=DatasetRef(dataset_id=optimized_dataset_id(key.task_id, key.iteration, key.attempt), prefix=own),
        splits=own,
        rows=10,
    )


async def test_a_completed_phase_is_followed_by_the_command_of_the_next(running: Running) -> None:
    optimizer, trainer = await start_worker(running), await start_worker(running, Phase.TRAIN)
    task = await start_task(running)
    command = await optimizer.command()
    claim_id = uuid4()
    assert (await optimizer.claim(command, claim_id)).verdict is LeaseVerdict.GRANTED
    await optimizer.report(optimized(command, claim_id))
    assert (await trainer.command()).key.task_id == task


async def test_an_attempt_without_heartbeats_is_lost_and_the_next_one_is_issued(running: Running) -> None:
    worker = await start_worker(running)
    await start_task(running)
    await worker.claim(await worker.command())
    assert (await worker.command(2)).key.attempt == 2


async def test_the_attempt_after_a_lost_training_continues_from_the_checkpoint_that_a_heartbeat_named(
    running: Running,
) -> None:
    optimizer, trainer = await start_worker(running), await start_worker(running, Phase.TRAIN)
    await start_task(running)
    first, claim_id = await optimizer.command(), uuid4()
    await optimizer.claim(first, claim_id)
    await optimizer.report(optimized(first, claim_id))
    training, claim_id = await trainer.command(), uuid4()
    await trainer.claim(training, claim_id)
    checkpoint = checkpoint_prefix(training.key, 5)
    await trainer.heartbeat(training, claim_id, checkpoint)
    again = await trainer.command(2)
    assert isinstance(again, TrainModel)
    assert (again.key.attempt, again.resume_from) == (2, checkpoint)


async def test_a_worker_that_sends_heartbeats_keeps_its_attempt(running: Running) -> None:
    worker = await start_worker(running)
    await start_task(running)
    command, claim_id = await worker.command(), uuid4()
    await worker.claim(command, claim_id)
    began = await running.store.now()

    async def renewed_for_three_leases() -> bool:
        assert (await worker.heartbeat(command, claim_id)).verdict is LeaseVerdict.GRANTED
        return (await running.store.now() - began).total_seconds() > 3 * QUICK["short_ttl"]

    await eventually(renewed_for_three_leases, "three lease times to pass")
    assert len(worker.commands) == 1


async def test_a_complete_result_of_a_lost_attempt_is_adopted(running: Running, tmp_path: Path) -> None:
    worker = await start_worker(running)
    task = await start_task(running)
    command, claim_id = await worker.command(), uuid4()
    await worker.claim(command, claim_id)
    (tmp_path / "train.jsonl").write_text("{}\n")
    await upload(running.objects, command.output, tmp_path, optimized(command, claim_id))
    await running.until(task, "TRAINING")
    assert len(worker.commands) == 1


async def test_a_lost_attempt_whose_manifest_is_of_another_attempt_has_a_bad_result(
    running: Running, tmp_path: Path
) -> None:
    worker = await start_worker(running)
    task = await start_task(running)
    command, claim_id = await worker.command(), uuid4()
    await worker.claim(command, claim_id)
    (tmp_path / "train.jsonl").write_text("{}\n")
    event = optimized(command, claim_id)
    other = event.model_copy(update={"key": event.key.model_copy(update={"attempt": 7})})
    await upload(running.objects, command.output, tmp_path, other)

    async def failed() -> bool:
        attempts = await running.store.attempts(task)
        return (attempts[0].event or {}).get("failure") == FailureKind.BAD_RESULT

    await eventually(failed, "the attempt to fail with a bad result")


async def test_a_lost_command_is_published_again_under_the_same_id(running: Running) -> None:
    task = await start_task(running)
    message_ids: list[str | None] = []

    async def drop(message: IncomingMessage) -> None:
        message_ids.append(message.message_id)
        await message.ack()

    await running.bus.consume("treadle.optimize", drop, prefetch=10)

    async def received_twice() -> bool:
        return len(message_ids) >= 2

    await eventually(received_twice, "the command to be sent again")
    assert len(set(message_ids)) == 1
    assert await running.status(task) == "OPTIMIZING"


async def test_an_event_of_another_claim_is_recorded_as_stale_and_changes_nothing(running: Running) -> None:
    worker = await start_worker(running)
    task = await start_task(running)
    command, claim_id = await worker.command(), uuid4()
    await worker.claim(command, claim_id)
    await worker.report(optimized(command, uuid4()))

    async def recorded() -> bool:
        return any(row.outcome == "stale" for row in await running.store.history(task))

    await eventually(recorded, "the stale event in the history")
    assert await running.status(task) == "OPTIMIZING"


async def test_the_same_event_twice_is_applied_once(running: Running) -> None:
    worker = await start_worker(running)
    task = await start_task(running)
    command, claim_id = await worker.command(), uuid4()
    await worker.claim(command, claim_id)
    for _ in range(3):
        await worker.report(optimized(command, claim_id))
    await running.until(task, "TRAINING")

    async def queue_is_empty() -> bool:
        return await running.bus.depth(CONTROL_QUEUE.name) == 0

    await eventually(queue_is_empty, "the repetitions to be consumed")
    kinds = [row.kind for row in await running.store.history(task)]
    assert kinds.count("data_optimized") == 1


async def test_a_cancel_is_fanned_out_to_the_workers(running: Running) -> None:
    worker = await start_worker(running)
    signals: list[AttemptSignal] = []

    async def record(message: IncomingMessage) -> None:
        signals.append(decode(message.body, AttemptSignal))

    await running.bus.listen(SIGNALS.name, "", record)
    task = await start_task(running)
    command, claim_id = await worker.command(), uuid4()
    await worker.claim(command, claim_id)
    await running.control.submissions.request(CancelTask(task_id=task))

    async def received() -> bool:
        return bool(signals)

    await eventually(received, "the signal")
    assert (signals[0].key, signals[0].verdict) == (command.key, LeaseVerdict.CANCELLED)
    assert (await worker.heartbeat(command, claim_id)).verdict is LeaseVerdict.CANCELLED


@pytest.mark.parametrize(("exchange", "routing_key"), [(EVENTS.name, "x"), (TASKS.name, "x")])
async def test_a_message_of_an_unknown_kind_becomes_a_dead_letter_with_its_reason(
    running: Running, exchange: str, routing_key: str
) -> None:
    dead = await dead_letters(running)
    await running.bus.publish(OutgoingMessage(exchange, routing_key, b'{"kind": "explode", "version": 9}', "m-1"))

    async def dead_lettered() -> bool:
        return bool(dead)

    await eventually(dead_lettered, "the dead letter")
    assert "kind 'explode' version 9 is not known here" in dead[0].headers[REASON]
    assert dead[0].body == b'{"kind": "explode", "version": 9}'


async def test_an_event_about_an_unknown_task_becomes_a_dead_letter(running: Running) -> None:
    dead = await dead_letters(running)
    worker = await start_worker(running)
    await start_task(running)
    command = await worker.command()
    event = optimized(command, uuid4())
    unknown = event.model_copy(update={"key": event.key.model_copy(update={"task_id": uuid4()})})
    await publish(running.bus, EVENTS.name, unknown)

    async def dead_lettered() -> bool:
        return bool(dead)

    await eventually(dead_lettered, "the dead letter")
    assert "there is no task" in dead[0].headers[REASON]


async def test_an_event_that_was_not_ordered_is_dead_lettered_and_the_true_one_is_still_applied(
    running: Running,
) -> None:
    worker, letters = await start_worker(running), await dead_letters(running)
    task = await start_task(running)
    command, claim_id = await worker.command(), uuid4()
    await worker.claim(command, claim_id)
    true = optimized(command, claim_id)
    await worker.report(true.model_copy(update={"splits": "optimized/forged"}))

    async def refused() -> bool:
        return bool(letters)

    await eventually(refused, "the forged event in the dead letters")
    assert "splits is optimized/forged" in letters[0].headers[REASON]
    await worker.report(true)
    await running.until(task, "TRAINING")
    assert b'treadle_events_total{outcome="refused"} 1.0' in (await running.http.get("/metrics")).content


async def test_a_lost_attempt_whose_manifest_states_what_was_not_ordered_has_a_bad_result(
    running: Running, tmp_path: Path
) -> None:
    worker = await start_worker(running)
    task = await start_task(running)
    command, claim_id = await worker.command(), uuid4()
    await worker.claim(command, claim_id)
    (tmp_path / "train.jsonl").write_text("{}\n")
    forged = optimized(command, claim_id).model_copy(update={"splits": "optimized/forged"})
    await upload(running.objects, command.output, tmp_path, forged)

    async def failed() -> bool:
        attempts = await running.store.attempts(task)
        return (attempts[0].event or {}).get("failure") == FailureKind.BAD_RESULT

    await eventually(failed, "the attempt to fail with a bad result")


async def test_a_heartbeat_with_a_checkpoint_of_no_attempt_does_not_change_the_next_command(running: Running) -> None:
    optimizer, trainer = await start_worker(running), await start_worker(running, Phase.TRAIN)
    await start_task(running)
    first, claim_id = await optimizer.command(), uuid4()
    await optimizer.claim(first, claim_id)
    await optimizer.report(optimized(first, claim_id))
    training, claim_id = await trainer.command(), uuid4()
    await trainer.claim(training, claim_id)
    await trainer.heartbeat(training, claim_id, "models/../../etc")
    again = await trainer.command(2)
    assert isinstance(again, TrainModel)
    assert (again.key.attempt, again.resume_from) == (2, None)


async def test_a_lost_attempt_whose_event_counts_as_handled_is_followed_by_another(
    running: Running, tmp_path: Path
) -> None:
    worker = await start_worker(running)
    task_id = await start_task(running)
    command, claim_id = await worker.command(), uuid4()
    await worker.claim(command, claim_id)
    event = optimized(command, claim_id)
    task = (await running.store.task(task_id)).task
    handled = change_of(task, event, stale=True, after=task, messages=(), ended_as=None)
    await running.store.apply([handled])
    (tmp_path / "train.jsonl").write_text("{}\n")
    await upload(running.objects, command.output, tmp_path, event)
    assert (await worker.command(2)).key.attempt == 2
