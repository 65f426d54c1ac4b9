"""Five accounts, each with the permissions of its role, run the loop; a submission names its account."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any
from uuid import uuid4

import aio_pika
import pytest
import pytest_asyncio
from pydantic import SecretStr

from contracts.events import PhaseFailed
from contracts.message import Message
from contracts.roles import Role
from contracts.tasks import AttemptKey, FailureKind, Phase
from contracts.topology import CONTROL_QUEUE, DEAD, DEAD_QUEUE, EVENTS, PHASE_QUEUES, SUBMISSIONS_QUEUE, TASKS
from contracts.wire import encode
from control.maintenance.replay import replay
from infra.bus.dead_letter import QUEUE, REASON
from infra.bus.port import BusUnavailable, IncomingMessage, OutgoingMessage, PublishFailed
from infra.bus.rabbitmq import RabbitMQBus
from infra.objects import ObjectStore
from infra.settings import Settings
from infra.stack.rabbitmq import RabbitMQNode
from tests import servers
from tests.chaos.in_process import host_with
from tests.chaos.program import coroutine
from tests.chaos.script import Script
from tests.chaos.worker import COROUTINE, WORKERS
from tests.eventually import eventually
from tests.integration.control_parts import BODY, Running, add_dataset, control_running

QUICK_SEED = next(
    seed
    for seed in range(1000)
    if (script := Script.of(seed)).child is False
    and script.bad_input_phase is script.crash_phase is None
    and sum(
        script.seconds(AttemptKey(task_id=uuid4(), iteration=i, phase=phase, attempt=1))
        for i in (1, 2)
        for phase in Phase
    )
    == 0
)
"""The seed of a task whose programs succeed at once in two iterations."""


@pytest.fixture
def node(rabbitmq: servers.Broker) -> RabbitMQNode:
    if rabbitmq.node is None:
        pytest.skip("the test needs accounts, so it needs rabbitmq-server on this machine")
    return rabbitmq.node


def settings_of(settings: Settings, node: RabbitMQNode, role: Role) -> Settings:
    update = {"bus_url": SecretStr(node.url_of(role)), "bus_accounts": True, "work_dir": settings.work_dir / role}
    return settings.model_copy(update=update)


@pytest_asyncio.fixture
async def running(settings: Settings, node: RabbitMQNode) -> AsyncIterator[Running]:
    """Control with its own account, which requires accounts; it has one dataset."""
    async with control_running(settings_of(settings, node, Role.CONTROL)) as running:
        await add_dataset(running.store)
        yield running


@pytest_asyncio.fixture
async def client(node: RabbitMQNode, running: Running) -> AsyncIterator[RabbitMQBus]:
    """The bus with the account of a client; control has declared the topology."""
    bus = RabbitMQBus(node.url_of(Role.CLIENT))
    await bus.start()
    yield bus
    await bus.close()


def create(**task: object) -> dict[str, Any]:
    body = {"mode": "CONTINUOUS", **BODY, **task}
    return {"kind": "create_task", "version": 1, "submission_id": str(uuid4()), "actor": "the boss", "task": body}


async def submit(client: RabbitMQBus, submission: dict[str, Any]) -> dict[str, Any]:
    message = OutgoingMessage(TASKS.name, "create_task", json.dumps(submission).encode(), str(uuid4()))
    answer: dict[str, Any] = json.loads(await client.request(message, timeout=15))
    return answer


async def submit_without_account(url: str, body: bytes) -> dict[str, Any]:
    """Publish without `user_id`, and return the answer by direct reply-to."""
    answers: asyncio.Queue[Any] = asyncio.Queue()
    async with await aio_pika.connect(url) as connection:
        channel = await connection.channel()
        replies = await channel.get_queue("amq.rabbitmq.reply-to", ensure=False)
        await replies.consume(answers.put, no_ack=True)
        message = aio_pika.Message(body, reply_to="amq.rabbitmq.reply-to", correlation_id="c")
        await (await channel.get_exchange(TASKS.name, ensure=False)).publish(message, "create_task")
        async with asyncio.timeout(15):
            return dict(json.loads((await answers.get()).body))


async def test_five_restricted_accounts_run_the_whole_loop(
    settings: Settings, node: RabbitMQNode, running: Running, client: RabbitMQBus
) -> None:
    async with AsyncExitStack() as stack:
        for phase, worker in WORKERS.items():
            own = settings_of(settings, node, Role(phase.worker))
            bus, objects = RabbitMQBus(own.bus_url.get_secret_value()), ObjectStore(own)
            stack.push_async_callback(bus.close)
            await bus.start()
            stack.push_async_callback(objects.close)
            await objects.start()
            host = host_with({COROUTINE: coroutine}, worker, bus, objects, own)
            stack.push_async_callback(host.stop)
            await host.start()
        accepted = await submit(client, create(maxIterations=2, seed=QUICK_SEED))

        async def ended() -> bool:
            task = (await running.http.get(f"/api/tasks/{accepted['task_id']}")).json()
            return task["status"] not in {"PENDING", "OPTIMIZING", "TRAINING", "EVALUATING", "LOOPING"}

        await eventually(ended, "the task to end", 60)
        task = (await running.http.get(f"/api/tasks/{accepted['task_id']}")).json()
        letters = await running.bus.depth(DEAD_QUEUE.name)

    assert (task["status"], task["reason"], letters) == ("COMPLETED", "max_iterations", 0)


async def test_the_actor_of_a_submission_is_the_account_that_sent_it(running: Running, client: RabbitMQBus) -> None:
    accepted = await submit(client, create(autoStart=False))
    history = (await running.http.get(f"/api/tasks/{accepted['task_id']}/events")).json()

    assert {row["actor"] for row in history} == {Role.CLIENT.value}


async def test_a_submission_without_an_account_is_refused(node: RabbitMQNode, running: Running) -> None:
    submission = create()
    answer = await submit_without_account(node.url_of(Role.CLIENT), json.dumps(submission).encode())

    assert (answer["kind"], answer["submission_id"]) == ("submission_refused", submission["submission_id"])
    assert (answer["problem"]["status"], answer["problem"]["title"]) == (403, "Account required")
    assert [error["field"] for error in answer["problem"]["errors"]] == ["user_id"]
    assert (await running.http.get("/api/tasks")).json()["total"] == 0


async def test_a_submission_without_an_account_and_without_reply_to_is_a_dead_letter(
    node: RabbitMQNode, running: Running
) -> None:
    async with await aio_pika.connect(node.url_of(Role.CLIENT)) as connection:
        exchange = await (await connection.channel()).get_exchange(TASKS.name, ensure=False)
        await exchange.publish(aio_pika.Message(json.dumps(create()).encode()), "create_task")

    async def dead() -> bool:
        return await running.bus.depth(DEAD_QUEUE.name) == 1

    await eventually(dead, "a dead letter")
    async with running.bus.browse(DEAD_QUEUE.name, 1) as (letter,):
        assert (letter.headers[QUEUE], letter.headers[REASON][:8]) == (SUBMISSIONS_QUEUE.name, "user_id:")


async def test_an_event_with_the_routing_key_of_another_kind_is_not_applied(
    node: RabbitMQNode, running: Running
) -> None:
    """A trainer may publish with the key `model_trained`, whatever the body is."""
    key = AttemptKey(task_id=uuid4(), iteration=1, phase=Phase.EVALUATE, attempt=1)
    failed = PhaseFailed(key=key, claim_id=uuid4(), worker_id="w", failure=FailureKind.PROGRAM_CRASHED, message="")
    async with trainer(node) as bus:
        await bus.publish(outgoing(failed, "model_trained"))
    reason = await first_dead_letter(running)

    assert reason.startswith("routing key: expected phase_failed.evaluate")


async def test_a_dead_letter_that_a_worker_made_up_is_not_replayed_to_the_queue_of_control(
    node: RabbitMQNode, running: Running
) -> None:
    """The replay would publish it with the account of control."""
    key = AttemptKey(task_id=uuid4(), iteration=1, phase=Phase.EVALUATE, attempt=1)
    failed = PhaseFailed(key=key, claim_id=uuid4(), worker_id="w", failure=FailureKind.PROGRAM_CRASHED, message="")
    headers = {QUEUE: CONTROL_QUEUE.name, REASON: "made up"}
    async with trainer(node) as bus:
        await bus.publish(OutgoingMessage(DEAD.name, "train", encode(failed), "m", headers))
    (replayed,) = await replay(running.bus, running.store, lambda _: True, drop_final=True)

    assert replayed.refusal is not None
    assert replayed.refusal.reason.startswith("it cannot come from treadle.control")
    assert replayed.dropped


def trainer(node: RabbitMQNode) -> Started:
    return Started(RabbitMQBus(node.url_of(Role.TRAINER)))


class Started:
    """A bus that runs during a block."""

    def __init__(self, bus: RabbitMQBus) -> None:
        self._bus = bus

    async def __aenter__(self) -> RabbitMQBus:
        await self._bus.start()
        return self._bus

    async def __aexit__(self, *_: object) -> None:
        await self._bus.close()


def outgoing(message: Message, routing_key: str) -> OutgoingMessage:
    return OutgoingMessage(EVENTS.name, routing_key, encode(message), str(message.message_id))


async def first_dead_letter(running: Running) -> str:
    async def reason() -> str | None:
        async with running.bus.browse(DEAD_QUEUE.name, 1) as letters:
            return letters[0].headers[REASON] if letters else None

    return str(await eventually(reason, "a dead letter"))


async def test_a_refused_publication_is_an_error_that_names_it_and_the_next_one_succeeds(
    node: RabbitMQNode, running: Running
) -> None:
    async with trainer(node) as bus:
        with pytest.raises(PublishFailed, match=r"treadle\.events/model_evaluated: ACCESS_REFUSED"):
            await bus.publish(OutgoingMessage(EVENTS.name, "model_evaluated", b"{}", "m"))

        async def published() -> bool:
            return await bus.publish_all([OutgoingMessage(EVENTS.name, "model_trained", b"{}", "m")]) == [None]

        await eventually(published, "the channel to be open again")


async def test_an_account_that_may_not_declare_names_the_missing_queue(node: RabbitMQNode, bus_url: str) -> None:
    async with Started(RabbitMQBus(bus_url)), await aio_pika.connect(bus_url) as connection:
        await (await connection.channel()).queue_delete("treadle.claims")
    try:
        with pytest.raises(BusUnavailable, match=r"the queue treadle\.claims .*treadle topology apply"):
            await RabbitMQBus(node.url_of(Role.TRAINER)).start()
    finally:
        async with Started(RabbitMQBus(bus_url)):
            pass


async def acknowledge(message: IncomingMessage) -> None:
    await message.ack()


async def test_a_worker_consumes_again_when_control_has_restored_its_queue(node: RabbitMQNode, bus_url: str) -> None:
    queue = PHASE_QUEUES[Phase.TRAIN].name
    async with Started(RabbitMQBus(bus_url)), trainer(node) as bus:
        subscription = await bus.consume(queue, acknowledge, prefetch=1)

        async def attached() -> bool:
            return subscription.attached

        async def lost() -> bool:
            return not subscription.attached

        async with await aio_pika.connect(bus_url) as connection:
            await (await connection.channel()).queue_delete(queue)
        await eventually(lost, "the consumer to be lost")
        async with Started(RabbitMQBus(bus_url)):  # declares the queue again
            await eventually(attached, "the consumer to be attached again")
