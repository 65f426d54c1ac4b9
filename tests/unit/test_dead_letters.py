"""A dead letter is the original message and the reason of its failure; a replay is checked against the fence."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from uuid import UUID

import pytest
import pytest_asyncio

from contracts.http import StandardTaskRequest
from contracts.leases import Claim
from contracts.message import Message
from contracts.submissions import CreateTask, PauseTask
from contracts.tasks import Phase
from contracts.topology import CLAIMS_QUEUE, COMMANDS, CONTROL_QUEUE, DEAD, DEAD_QUEUE, PHASE_QUEUES
from contracts.wire import encode
from control.machine.commands import command_for
from control.machine.task import Task
from control.maintenance.dead_letters import DeadLetter, Refusal, Replayable, content, headers_of_replay, read, refusal
from control.maintenance.replay import dead_letters, purge, replay
from control.store.values import Loaded, NewTask, StoredTask
from infra.bus.dead_letter import QUEUE, REASON, REPLAYS, dead_letter
from infra.bus.inprocess import InProcessBus
from infra.bus.port import IncomingMessage, OutgoingMessage, PublishFailed
from tests.build import CLAIM, TASK, after_events, completed, failed, key_of, new_task, start, started
from tests.conformance.stores import WORKER, change_of
from tests.memory_store import MemoryStore


async def test_a_dead_letter_can_be_answered_when_it_is_replayed() -> None:
    bus = InProcessBus()
    await bus.start()
    received: asyncio.Queue[IncomingMessage] = asyncio.Queue()
    sent = OutgoingMessage(COMMANDS.name, "train", b"?", "m", {"a": "b"}, correlation_id="c", reply_to="asker")
    await bus.consume(PHASE_QUEUES[Phase.TRAIN].name, received.put, prefetch=1)
    await bus.consume(DEAD_QUEUE.name, received.put, prefetch=1)
    await bus.publish(sent)
    await dead_letter(bus, await received.get(), "treadle.train", "no reader", "ACause")
    letter = await received.get()
    assert (letter.body, letter.message_id, letter.correlation_id, letter.reply_to) == (b"?", "m", "c", "asker")
    assert letter.headers == {"a": "b", REASON: "no reader", QUEUE: "treadle.train"}
    await bus.close()


def letter(body: bytes, **headers: str) -> DeadLetter:
    return read(incoming(body, headers))


def incoming(body: bytes, headers: dict[str, str], message_id: str | None = "m") -> IncomingMessage:
    async def settle() -> None: ...

    return IncomingMessage(
        body, message_id, "train", headers, None, None, redelivered=False, ack=settle, requeue=settle
    )


def from_queue(message: Message, queue: str = CONTROL_QUEUE.name) -> DeadLetter:
    return letter(encode(message), **{QUEUE: queue})


NOW = datetime(2026, 1, 1, tzinfo=UTC)


def loaded(task: Task, *, duplicate: bool = False) -> Loaded:
    return Loaded(StoredTask(task, NOW, NOW), CLAIM if task.attempt_active else None, duplicate)


def test_a_letter_that_the_broker_dead_lettered_has_its_reason() -> None:
    parsed = letter(b"?", **{"x-first-death-queue": "treadle.train", "x-first-death-reason": "delivery_limit"})
    assert (parsed.queue, parsed.reason, parsed.failures) == (
        "treadle.train",
        "dead-lettered by the broker: delivery_limit",
        1,
    )


def test_a_letter_names_its_attempt() -> None:
    task = started()
    parsed = from_queue(command_for(task), "treadle.optimize")
    assert (parsed.kind, parsed.task_id, parsed.attempt) == ("optimize_data", str(task.task_id), "1/optimize/a1")


@pytest.mark.parametrize("body", [b"", b"[]", b'{"key": 3, "kind": 4, "task_id": {}}', b"\xff", b"[" * 100_000])
def test_a_letter_that_cannot_be_read_is_listed_all_the_same(body: bytes) -> None:
    parsed = letter(body)
    assert (parsed.kind, parsed.task_id, parsed.attempt, parsed.body) == (None, None, None, body)


def test_a_letter_without_a_message_id_has_the_same_id_every_time() -> None:
    assert read(incoming(b"a", {}, None)).id == read(incoming(b"a", {}, None)).id != read(incoming(b"b", {}, None)).id


def test_a_replay_is_counted_and_loses_the_headers_of_its_death() -> None:
    headers = {"traceparent": "t", REASON: "r", QUEUE: "q", "x-first-death-queue": "q", REPLAYS: "1"}
    replayed = headers_of_replay(headers)
    assert replayed == {"traceparent": "t", REPLAYS: "2"}
    assert letter(b"", **replayed).failures == 3


@pytest.mark.parametrize("queue", [CLAIMS_QUEUE.name, "elsewhere", CONTROL_QUEUE.name])
def test_a_letter_that_the_consumer_of_its_queue_cannot_decode_is_refused(queue: str) -> None:
    assert isinstance(content(from_queue(command_for(started()), queue)), Refusal)


def test_a_request_without_an_id_of_its_own_is_refused() -> None:
    body = b'{"kind": "cancel_task", "version": 1, "task_id": "%s"}' % str(TASK).encode()
    refused = content(letter(body, **{QUEUE: "treadle.submissions"}))
    assert isinstance(refused, Refusal)
    assert refused.reason.startswith("submission_id")


RUNNING = started()
NEXT_PHASE = after_events(RUNNING, completed(RUNNING))
CREATE = CreateTask(task=StandardTaskRequest(task_name="t", model_name="/m", dataset_id="d", user_id=1))
STARTING = CreateTask(task=CREATE.task.model_copy(update={"auto_start": True}))
OTHER_CLAIM = completed(RUNNING).model_copy(update={"claim_id": TASK})


@pytest.mark.parametrize(
    ("message", "context", "expected"),
    [
        (command_for(RUNNING), loaded(RUNNING), None),
        (command_for(RUNNING), loaded(NEXT_PHASE), "final"),
        (command_for(RUNNING), loaded(after_events(RUNNING, failed(RUNNING))), "final"),
        (command_for(RUNNING), None, "kept"),
        (completed(RUNNING), loaded(RUNNING), None),
        (completed(RUNNING), loaded(RUNNING, duplicate=True), "final"),
        (completed(RUNNING), loaded(NEXT_PHASE), "final"),
        (OTHER_CLAIM, loaded(RUNNING), "final"),
        (completed(RUNNING), None, "kept"),
        (PauseTask(task_id=TASK), loaded(RUNNING), None),
        (start(RUNNING), loaded(RUNNING), "kept"),
        (CREATE, None, None),
        (CREATE, loaded(new_task()), "final"),
        (STARTING, loaded(new_task()), None),
        (STARTING, loaded(RUNNING), "final"),
    ],
)
def test_a_replay_is_checked_against_the_fence(
    message: Replayable, context: Loaded | None, expected: str | None
) -> None:
    refused = refusal(message, context)
    assert (None if refused is None else "final" if refused.final else "kept") == expected


@pytest_asyncio.fixture
async def bus() -> AsyncIterator[InProcessBus]:
    bus = InProcessBus()
    await bus.start()
    yield bus
    await bus.close()


async def store_with(task: Task) -> MemoryStore:
    store = MemoryStore(lambda _: 15.0)
    await store.create([NewTask(new_task(task_id=task.task_id), "digest", "user")])
    await store.apply([change_of(new_task(task_id=task.task_id), start(task))])
    await store.lease(WORKER, [Claim(key=key_of(task), claim_id=CLAIM)], [])
    return store


async def publish_dead(bus: InProcessBus, *messages: Message, queue: str = CONTROL_QUEUE.name) -> None:
    for message in messages:
        headers = {QUEUE: queue, REASON: "tested"}
        await bus.publish(OutgoingMessage(DEAD.name, "x", encode(message), str(message.message_id), headers))


async def test_what_passes_is_sent_back_and_what_does_not_stays(bus: InProcessBus) -> None:
    store, stale = await store_with(RUNNING), OTHER_CLAIM
    await publish_dead(bus, stale, completed(RUNNING))
    refused, sent = await replay(bus, store, lambda _: True)
    assert refused.refusal is not None and refused.refusal.final
    assert sent.refusal is None
    assert [letter.id for letter in await dead_letters(bus)] == [str(stale.message_id)]
    async with bus.browse(CONTROL_QUEUE.name, 9) as (replayed,):
        assert (replayed.body, replayed.headers) == (encode(completed(RUNNING)), {REPLAYS: "1"})


async def test_a_stale_letter_is_deleted_if_drop_final_is_set(bus: InProcessBus) -> None:
    other_task = OTHER_CLAIM.model_copy(update={"key": key_of(started(task_id=UUID(int=5)))})
    await publish_dead(bus, OTHER_CLAIM, other_task)
    dropped, kept = await replay(bus, await store_with(RUNNING), lambda _: True, drop_final=True)
    assert (dropped.dropped, kept.dropped) == (True, False)
    assert [letter.id for letter in await dead_letters(bus)] == [str(other_task.message_id)]


async def test_a_letter_that_the_bus_does_not_take_stays(bus: InProcessBus, monkeypatch: pytest.MonkeyPatch) -> None:
    async def refuse(_: OutgoingMessage) -> None:
        raise PublishFailed("the queue is full")

    await publish_dead(bus, completed(RUNNING))
    monkeypatch.setattr(bus, "publish", refuse)
    (refused,) = await replay(bus, await store_with(RUNNING), lambda _: True, drop_final=True)
    assert refused.refusal == Refusal("the queue is full")
    assert len(await dead_letters(bus)) == 1


async def test_a_purge_deletes_only_the_chosen_letters(bus: InProcessBus) -> None:
    await publish_dead(bus, OTHER_CLAIM, completed(RUNNING))
    purged = await purge(bus, lambda letter: letter.id == str(OTHER_CLAIM.message_id))
    assert [letter.id for letter in purged] == [str(OTHER_CLAIM.message_id)]
    assert [letter.id for letter in await dead_letters(bus)] == [str(completed(RUNNING).message_id)]
