"""FastStream consumes submissions on a real broker: it settles every delivery, and its consumer is restored."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID, uuid4

import aio_pika
import pika
import pytest
import pytest_asyncio

from contracts.submissions import CreateTask
from contracts.topology import CONTROL_QUEUE, DEAD_QUEUE, EVENTS, SUBMISSIONS_QUEUE, TASKS
from control.consumers.submissions import settling
from control.consumers.submissions.app import QUEUE as SUBMISSIONS
from control.machine.task import Task
from control.store.port import StoreUnavailable
from infra.bus.dead_letter import QUEUE, REASON
from infra.bus.port import OutgoingMessage, PublishFailed, RequestTimedOut
from infra.settings import Settings
from infra.stack.rabbitmq import RabbitMQNode
from tests import servers
from tests.eventually import eventually
from tests.integration.control_parts import BODY, Running, add_dataset, control_running, send

NOT_READY = "consumer:submissions"


@pytest.fixture
def node(rabbitmq: servers.Broker) -> RabbitMQNode:
    if rabbitmq.node is None:
        pytest.skip("the test stops the broker, which needs rabbitmq-server on this machine")
    return rabbitmq.node


@pytest_asyncio.fixture
async def running(settings: Settings) -> AsyncIterator[Running]:
    """Control with one dataset."""
    async with control_running(settings) as running:
        await add_dataset(running.store)
        yield running


def create(submission: UUID | None = None) -> dict[str, Any]:
    task = {"mode": "CONTINUOUS", **BODY}
    return {"kind": "create_task", "version": 1, "submission_id": str(submission or uuid4()), "task": task}


async def publish(bus_url: str, body: bytes, routing_key: str | bytes = "create_task", **properties: Any) -> None:
    """Publish a submission with pika, which sends any properties."""

    def send_one() -> None:
        with pika.BlockingConnection(pika.URLParameters(bus_url)) as connection:
            channel = connection.channel()
            channel.confirm_delivery()
            channel.basic_publish(TASKS.name, routing_key, body, pika.BasicProperties(**properties))

    await asyncio.to_thread(send_one)


async def until_settled(running: Running) -> None:
    """Wait until no submission is ready or unsettled."""

    async def settled() -> bool:
        return await unsettled(running) == 0

    await eventually(settled, "every submission to be settled")


async def unsettled(running: Running) -> int:
    """The number of submissions in the queue while control has closed its connection, which requeues unsettled ones."""
    await running.control._submission_consumer.stop()  # type: ignore[union-attr]
    try:
        return await running.bus.depth(SUBMISSIONS_QUEUE.name)
    finally:
        await running.control._submission_consumer.start()  # type: ignore[union-attr]


async def created(running: Running, submission: UUID) -> None:
    """Wait until the task of a submission exists."""
    task_id = CreateTask.model_validate(create(submission)).task_id

    async def exists() -> bool:
        return (await running.http.get(f"/api/tasks/{task_id}")).is_success

    await eventually(exists, "the task")


async def dead_letters(running: Running, count: int) -> list[str]:
    """Wait for `count` dead letters, all from the submissions, and return their reasons."""

    async def reached() -> bool:
        return await running.bus.depth(DEAD_QUEUE.name) == count

    await eventually(reached, f"{count} dead letters")
    async with running.bus.browse(DEAD_QUEUE.name, count) as letters:
        assert {letter.headers[QUEUE] for letter in letters} == {SUBMISSIONS_QUEUE.name}
        return [letter.headers[REASON] for letter in letters]


async def test_all_submissions_that_were_queued_before_control_started_are_handled(
    settings: Settings, bus_url: str
) -> None:
    async with control_running(settings) as running:  # declares the topology
        await add_dataset(running.store)
    async with await aio_pika.connect(bus_url) as connection:
        channel = await connection.channel()
        exchange = await channel.get_exchange(TASKS.name)
        for _ in range(300):
            await exchange.publish(aio_pika.Message(json.dumps(create()).encode()), routing_key="create_task")
    async with control_running(settings) as running:

        async def all_created() -> bool:
            return (await running.http.get("/api/tasks")).json()["total"] == 300

        await eventually(all_created, "300 tasks")
        assert await unsettled(running) == 0


async def test_a_body_that_fails_validation_is_a_dead_letter_if_no_answer_was_requested(
    running: Running, bus_url: str
) -> None:
    await publish(bus_url, json.dumps({**create(), "task": {"mode": "STANDARD"}}).encode())
    (reason,) = await dead_letters(running, 1)
    assert "task.STANDARD.taskName" in reason
    assert await unsettled(running) == 0


async def test_a_refusal_whose_reply_to_is_a_queue_of_treadle_is_a_dead_letter(running: Running, bus_url: str) -> None:
    await publish(bus_url, b"{}", reply_to=CONTROL_QUEUE.name)
    assert len(await dead_letters(running, 1)) == 1


@pytest.mark.parametrize("reply_to", ["treadle.control|treadle.events", "|treadle.events"])
async def test_an_answer_is_never_published_to_an_exchange_that_reply_to_names(
    running: Running, bus_url: str, reply_to: str
) -> None:
    events: asyncio.Queue[bytes] = asyncio.Queue()

    async def record(message: Any) -> None:
        await events.put(message.body)

    await running.bus.listen(EVENTS.name, "#", record)
    await publish(bus_url, b"{}", reply_to=reply_to)
    await until_settled(running)
    assert events.empty()


@pytest.mark.parametrize(
    "properties",
    [
        {"timestamp": 2**63},
        {"message_id": b"\xff\xfe"},
        {"content_type": "text/plain"},
        {"content_encoding": "gzip"},
        {"headers": {"a": None, "b": [1]}},
        {"headers": {"traceparent": b"\xff"}, "priority": 255},
    ],
    ids=lambda properties: next(iter(properties)),
)
async def test_a_submission_with_odd_properties_is_done_and_answered(
    running: Running, bus_url: str, properties: dict[str, Any]
) -> None:
    async with await aio_pika.connect(bus_url) as connection:
        replies = await (await connection.channel()).declare_queue(exclusive=True)
        await publish(bus_url, json.dumps(create()).encode(), reply_to=replies.name, **properties)
        answer = await eventually(lambda: replies.get(fail=False), "an answer")
    assert json.loads(answer.body)["kind"] == "submission_accepted"
    assert answer.correlation_id is None


async def test_a_submission_whose_routing_key_is_not_utf_8_is_done(running: Running, bus_url: str) -> None:
    submission = uuid4()
    await publish(bus_url, json.dumps(create(submission)).encode(), routing_key=b"\xff\xfe")
    await created(running, submission)


async def test_a_broker_that_blocks_publishers_still_takes_acknowledgements(
    running: Running, bus_url: str, node: RabbitMQNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    create_original, started, blocked = running.control.submissions.create, asyncio.Event(), asyncio.Event()

    async def slow(request: CreateTask) -> Task:
        started.set()
        await blocked.wait()
        return await create_original(request)

    async def unacknowledged() -> int:
        listed = await node.control("list_channels", "messages_unacknowledged", "--no-table-headers")
        return sum(map(int, listed.split()))

    async def settled() -> bool:
        return await unacknowledged() == 0

    monkeypatch.setattr(running.control.submissions, "create", slow)
    submission = uuid4()
    await publish(bus_url, json.dumps(create(submission)).encode(), reply_to="nowhere")
    await asyncio.wait_for(started.wait(), 15)
    assert await unacknowledged() == 1
    await node.control("set_vm_memory_high_watermark", "0.0000001")
    try:
        blocked.set()
        await created(running, submission)
        await eventually(settled, "the submission to be settled while nothing can be published", within=30)
    finally:
        await node.control("set_vm_memory_high_watermark", "0.6")


async def test_an_unforeseen_error_is_answered_and_the_delivery_settled(
    running: Running, bus_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(_: CreateTask) -> Task:
        raise ZeroDivisionError("a detail that only the log may contain")

    monkeypatch.setattr(running.control.submissions, "create", broken)
    answer = await send(bus_url, create())
    assert answer["problem"]["status"] == 500
    assert "detail that" not in json.dumps(answer)
    assert await unsettled(running) == 0


async def test_a_submission_is_retried_until_the_store_is_back(
    running: Running, bus_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    create_original, calls = running.control.submissions.create, 0

    async def away_twice(request: CreateTask) -> Task:
        nonlocal calls
        calls += 1
        if calls < 3:
            raise StoreUnavailable("away")
        return await create_original(request)

    monkeypatch.setattr(running.control.submissions, "create", away_twice)
    assert (await send(bus_url, create()))["kind"] == "submission_accepted"


async def test_a_delivery_that_cannot_be_settled_for_an_unforeseen_reason_is_redelivered(
    running: Running, bus_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settling, "REQUEUE_DELAY", 0.0)
    original, calls = settling.dead_letter, 0

    async def broken_once(*arguments: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise ZeroDivisionError
        await original(*arguments)

    monkeypatch.setattr(settling, "dead_letter", broken_once)
    await publish(bus_url, b"not JSON")
    await dead_letters(running, 1)
    assert calls == 2


async def ready(running: Running) -> bool:
    """Whether control reports that its consumer of submissions is ready."""
    return NOT_READY not in await running.control.readiness()


async def wait_for_recovery(running: Running) -> None:
    """Send a submission until it is answered, and check that the consumer is ready."""
    body = json.dumps(create()).encode()

    async def answered() -> bool:
        request = OutgoingMessage(TASKS.name, "create_task", body, str(uuid4()))
        try:
            return b"submission_accepted" in await running.bus.request(request, timeout=2)
        except (PublishFailed, RequestTimedOut):
            return False

    await eventually(answered, "a submission to be answered")
    assert await ready(running)


async def test_the_consumer_is_back_after_a_restart_of_the_broker(running: Running, node: RabbitMQNode) -> None:
    await node.stop_app()

    async def not_ready() -> bool:
        return not await ready(running)

    await eventually(not_ready, "control to report that its consumer is not ready")
    await node.start_app()
    await wait_for_recovery(running)


async def test_a_submission_in_progress_when_the_broker_stops_is_redelivered_without_an_error_in_the_log(
    running: Running,
    bus_url: str,
    node: RabbitMQNode,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    create_original, submission, started = running.control.submissions.create, uuid4(), asyncio.Event()

    async def slow_at_first(request: CreateTask) -> Task:
        if started.is_set():
            return await create_original(request)
        started.set()
        return await asyncio.Future()

    monkeypatch.setattr(running.control.submissions, "create", slow_at_first)
    await publish(bus_url, json.dumps(create(submission)).encode())
    await asyncio.wait_for(started.wait(), 15)
    await node.stop_app()
    await node.start_app()
    await created(running, submission)
    assert [line.getMessage() for line in caplog.records if line.name.startswith("control")] == []


async def test_the_consumer_is_back_after_its_queue_was_deleted(running: Running, bus_url: str) -> None:
    async with await aio_pika.connect(bus_url) as connection:
        await (await connection.channel()).queue_delete(SUBMISSIONS_QUEUE.name)
    await wait_for_recovery(running)


async def test_the_consumer_is_back_on_a_broker_that_was_reset(running: Running, node: RabbitMQNode) -> None:
    await node.stop_app()
    await node.control("force_reset")
    await node.start_app()
    await wait_for_recovery(running)


async def test_the_consumer_is_back_after_the_broker_closed_its_channel(running: Running) -> None:
    queue = await running.control._submission_consumer._broker.declare_queue(SUBMISSIONS)  # type: ignore[union-attr]
    with pytest.raises(aio_pika.exceptions.ChannelClosed):
        await queue.channel.get_exchange("there.is.none")
    await wait_for_recovery(running)


async def test_a_submission_is_done_whatever_its_routing_key(running: Running) -> None:
    submission = uuid4()
    await running.bus.publish(
        OutgoingMessage(
            TASKS.name, "any.key", json.dumps(create(submission)).encode(), str(uuid4()), reply_to="nowhere"
        )
    )
    await created(running, submission)
