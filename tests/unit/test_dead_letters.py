"""A dead letter is the message as it came, with the reason why it is there; a replay is held against the fence."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
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
from control.store.port import Loaded, NewTask
from infra.bus.dead_letter import QUEUE, REASON, REPLAYS, dead_letter
from infra.bus.inprocess import InProcessBus
from infra.bus.port import Incoming, Outgoing, PublishFailed
from tests.build import CLAIM, TASK, completed, failed, key_of, new_task, start, started, through
from tests.conformance.stores import WORKER, change_of
from tests.memory_store import MemoryStore


async def test_a_dead_letter_can_be_answered_when_it_is_replayed() -> None:
    bus = InProcessBus()
    await bus.start()
    found: asyncio.Queue[Incoming] = asyncio.Queue()
    sent = Outgoing(COMMANDS.name, "train", b"?", "m", {"a": "b"}, correlation_id="c", reply_to="asker")
    await bus.consume(PHASE_QUEUES[Phase.TRAIN].name, found.put, prefetch=1)
    await bus.consume(DEAD_QUEUE.name, found.put, prefetch=1)
    await bus.publish(sent)
    await dead_letter(bus, await found.get(), "treadle.train", "no reader")
    letter = await found.get()
    assert (letter.body, letter.message_id, letter.correlation_id, letter.reply_to) == (b"?", "m", "c", "asker")
    assert letter.headers == {"a": "b", REASON: "no reader", QUEUE: "treadle.train"}
    await bus.close()


def letter(body: bytes, **headers: str) -> DeadLetter:
    return read(arrived(body, headers))


def arrived(body: bytes, headers: dict[str, str], message_id: str | None = "m") -> Incoming:
    async def settle() -> None: ...

    return Incoming(body, message_id, "train", headers, None, None, redelivered=False, ack=settle, requeue=settle)


def from_queue(message: Message, queue: str = CONTROL_QUEUE.name) -> DeadLetter:
    return letter(encode(message), **{QUEUE: queue})


def loaded(task: Task, *, seen: bool = False) -> Loaded:
    return Loaded(task, CLAIM if task.live else None, seen)


def test_a_letter_that_the_broker_gave_up_says_so() -> None:
    found = letter(b"?", **{"x-first-death-queue": "treadle.train", "x-first-death-reason": "delivery_limit"})
    assert (found.queue, found.reason, found.died) == ("treadle.train", "the broker gave it up: delivery_limit", 1)


def test_a_letter_tells_the_attempt_that_it_is_about() -> None:
    task = started()
    found = from_queue(command_for(task), "treadle.optimize")
    assert (found.kind, found.task_id, found.attempt) == ("optimize_data", str(task.task_id), "1/optimize/a1")


@pytest.mark.parametrize("body", [b"", b"[]", b'{"key": 3, "kind": 4, "task_id": {}}', b"\xff", b"[" * 100_000])
def test_a_letter_that_cannot_be_read_is_listed_all_the_same(body: bytes) -> None:
    found = letter(body)
    assert (found.kind, found.task_id, found.attempt, found.body) == (None, None, None, body)


def test_a_letter_without_a_message_id_has_the_same_id_every_time() -> None:
    assert read(arrived(b"a", {}, None)).id == read(arrived(b"a", {}, None)).id != read(arrived(b"b", {}, None)).id


def test_a_replay_is_counted_and_loses_the_headers_of_its_death() -> None:
    headers = {"traceparent": "t", REASON: "r", QUEUE: "q", "x-first-death-queue": "q", REPLAYS: "1"}
    again = headers_of_replay(headers)
    assert again == {"traceparent": "t", REPLAYS: "2"}
    assert letter(b"", **again).died == 3


@pytest.mark.parametrize("queue", [CLAIMS_QUEUE.name, "elsewhere", CONTROL_QUEUE.name])
def test_a_letter_that_its_reader_would_not_understand_is_refused(queue: str) -> None:
    assert isinstance(content(from_queue(command_for(started()), queue)), Refusal)


def test_a_request_without_an_id_of_its_own_is_refused() -> None:
    body = b'{"kind": "cancel_task", "version": 1, "task_id": "%s"}' % str(TASK).encode()
    refused = content(letter(body, **{QUEUE: "treadle.submissions"}))
    assert isinstance(refused, Refusal)
    assert refused.reason.startswith("submission_id")


RUNNING = started()
GONE_ON = through(RUNNING, completed(RUNNING))
CREATE = CreateTask(task=StandardTaskRequest(task_name="t", model_name="/m", dataset_id="d", user_id=1))
STARTING = CreateTask(task=CREATE.task.model_copy(update={"auto_start": True}))
OTHERS = completed(RUNNING).model_copy(update={"claim_id": TASK})


@pytest.mark.parametrize(
    ("message", "found", "expected"),
    [
        (command_for(RUNNING), loaded(RUNNING), None),
        (command_for(RUNNING), loaded(GONE_ON), "spent"),
        (command_for(RUNNING), loaded(through(RUNNING, failed(RUNNING))), "spent"),
        (command_for(RUNNING), None, "kept"),
        (completed(RUNNING), loaded(RUNNING), None),
        (completed(RUNNING), loaded(RUNNING, seen=True), "spent"),
        (completed(RUNNING), loaded(GONE_ON), "spent"),
        (OTHERS, loaded(RUNNING), "spent"),
        (completed(RUNNING), None, "kept"),
        (PauseTask(task_id=TASK), loaded(RUNNING), None),
        (start(RUNNING), loaded(RUNNING), "kept"),
        (CREATE, None, None),
        (CREATE, loaded(new_task()), "spent"),
        (STARTING, loaded(new_task()), None),
        (STARTING, loaded(RUNNING), "spent"),
    ],
)
def test_a_replay_is_held_against_the_fence(message: Replayable, found: Loaded | None, expected: str | None) -> None:
    refused = refusal(message, found)
    assert (None if refused is None else "spent" if refused.spent else "kept") == expected


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


async def bury(bus: InProcessBus, *messages: Message, queue: str = CONTROL_QUEUE.name) -> None:
    for message in messages:
        headers = {QUEUE: queue, REASON: "tested"}
        await bus.publish(Outgoing(DEAD.name, "x", encode(message), str(message.message_id), headers))


async def test_what_passes_is_sent_back_and_what_does_not_stays(bus: InProcessBus) -> None:
    store, late = await store_with(RUNNING), OTHERS
    await bury(bus, late, completed(RUNNING))
    refused, sent = await replay(bus, store, lambda _: True)
    assert refused.refusal is not None and refused.refusal.spent
    assert sent.refusal is None
    assert [letter.id for letter in await dead_letters(bus)] == [str(late.message_id)]
    async with bus.browse(CONTROL_QUEUE.name, 9) as (again,):
        assert (again.body, again.headers) == (encode(completed(RUNNING)), {REPLAYS: "1"})


async def test_what_is_stale_is_deleted_where_that_is_asked_for(bus: InProcessBus) -> None:
    stranger = OTHERS.model_copy(update={"key": key_of(started(task_id=UUID(int=5)))})
    await bury(bus, OTHERS, stranger)
    dropped, kept = await replay(bus, await store_with(RUNNING), lambda _: True, drop_spent=True)
    assert (dropped.dropped, kept.dropped) == (True, False)
    assert [letter.id for letter in await dead_letters(bus)] == [str(stranger.message_id)]


async def test_a_letter_that_the_bus_does_not_take_stays(bus: InProcessBus, monkeypatch: pytest.MonkeyPatch) -> None:
    async def full(_: Outgoing) -> None:
        raise PublishFailed("the queue is full")

    await bury(bus, completed(RUNNING))
    monkeypatch.setattr(bus, "publish", full)
    (refused,) = await replay(bus, await store_with(RUNNING), lambda _: True, drop_spent=True)
    assert refused.refusal == Refusal("the queue is full")
    assert len(await dead_letters(bus)) == 1


async def test_a_purge_takes_what_is_chosen_alone(bus: InProcessBus) -> None:
    await bury(bus, OTHERS, completed(RUNNING))
    gone = await purge(bus, lambda letter: letter.id == str(OTHERS.message_id))
    assert [letter.id for letter in gone] == [str(OTHERS.message_id)]
    assert [letter.id for letter in await dead_letters(bus)] == [str(completed(RUNNING).message_id)]
