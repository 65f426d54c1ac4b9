"""Claims that control cannot handle stop no consumer; control sees if its consumer of claims stands."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any
from uuid import uuid4

import asyncpg
import pytest
import pytest_asyncio

from contracts.leases import Claim, Heartbeat, LeaseAnswer, LeaseRefused, LeaseReply, LeaseRequest, WorkerState
from contracts.tasks import AttemptKey, Phase
from contracts.topology import CLAIMS, CLAIMS_QUEUE, CONTROL_QUEUE, DEAD_QUEUE
from contracts.wire import decode, encode
from control.consumers import claims_probe, lease_server
from infra.bus.port import OutgoingMessage
from infra.settings import Settings
from tests.eventually import eventually
from tests.integration.control_parts import Running, control_running

WORKER = WorkerState(worker_id="w", phase=Phase.TRAIN, host="h", slots=1, busy=0)
POISON = WORKER.model_copy(update={"worker_id": "poison"})


@pytest_asyncio.fixture
async def running(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Running]:
    """Control whose database refuses a worker "poison" and a claim of an iteration 666."""
    async with control_running(settings) as running:
        lease = running.store.lease

        async def refusing(
            worker: WorkerState, claims: Sequence[Claim], heartbeats: Sequence[Heartbeat]
        ) -> list[LeaseAnswer]:
            if worker.worker_id == "poison" or any(one.key.iteration == 666 for one in (*claims, *heartbeats)):
                raise asyncpg.ProgramLimitExceededError("index row size exceeds maximum")
            return await lease(worker, claims, heartbeats)

        monkeypatch.setattr(running.store, "lease", refusing)
        yield running


def message(body: bytes, **more: Any) -> OutgoingMessage:
    return OutgoingMessage(CLAIMS.name, "claim", body, str(uuid4()), persistent=False, **more)


def request(worker: WorkerState = WORKER, *claims: Claim) -> OutgoingMessage:
    return message(encode(LeaseRequest(request_id=uuid4(), worker=worker, claims=claims)))


def claim(iteration: int = 1) -> Claim:
    key = AttemptKey(task_id=uuid4(), iteration=iteration, phase=Phase.TRAIN, attempt=1)
    return Claim(key=key, claim_id=uuid4())


async def ask(running: Running, asked: OutgoingMessage) -> LeaseReply | LeaseRefused:
    replies: tuple[type[Any], ...] = (LeaseReply, LeaseRefused)
    reply: LeaseReply | LeaseRefused = decode(await running.bus.request(asked, timeout=10), *replies)
    return reply


async def test_more_requests_that_the_database_refuses_than_the_prefetch_leave_the_others_answered(
    running: Running,
) -> None:
    await running.bus.publish_all([request(POISON) for _ in range(80)])
    assert (await ask(running, request(WORKER, claim()))).kind == "lease_reply"
    poison = running.bus.poison.counts

    async def all_given_up() -> bool:
        return poison[CLAIMS_QUEUE.name, "ProgramLimitExceededError"] == 80

    await eventually(all_given_up, "80 requests to be given up")
    assert await running.bus.depth(CLAIMS_QUEUE.name) == 0
    assert await running.bus.depth(DEAD_QUEUE.name) == 0
    assert b'treadle_poison_messages_total{queue="treadle.claims",reason="ProgramLimitExceededError"} 80' in (
        await running.control.gauges.scrape()
    )


async def test_a_claim_that_the_database_refuses_leaves_the_others_of_its_request_answered(running: Running) -> None:
    claims = [claim(), claim(666), claim(), claim(), claim(666), claim()]
    reply = await ask(running, request(WORKER, *claims))
    assert isinstance(reply, LeaseReply)
    expected = [one.claim_id for one in claims if one.key.iteration != 666]
    assert [answer.claim_id for answer in reply.answers] == expected


async def test_a_request_that_cannot_be_decoded_is_answered_with_the_reason(running: Running) -> None:
    body = encode(LeaseRequest(request_id=(request_id := uuid4()), worker=WORKER)).replace(b'"slots":1', b'"slots":0')
    reply = await ask(running, message(body))
    assert isinstance(reply, LeaseRefused)
    assert (reply.request_id, "worker.slots" in reply.reason) == (request_id, True)


async def test_no_reply_is_sent_to_a_queue_of_treadle(running: Running) -> None:
    await running.bus.publish(message(b"not JSON", reply_to=CONTROL_QUEUE.name))
    await ask(running, request())
    assert running.bus.poison.counts == {(CLAIMS_QUEUE.name, "UndecodableMessage"): 1}


async def test_control_answers_its_own_claim_and_registers_no_worker(running: Running) -> None:
    assert await running.control.readiness() == {}
    assert await running.store.workers(60) == []


async def test_control_is_not_ready_while_its_consumer_of_claims_stands(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claims_probe, "TIMEOUT", 0.3)

    async def stands(*_: Any) -> list[LeaseAnswer]:
        return await asyncio.Future()

    with monkeypatch.context() as standing:
        standing.setattr(running.store, "lease", stands)
        standing.setattr(lease_server, "TIMEOUT", 1.0)
        await running.bus.publish_all([request() for _ in range(lease_server.PREFETCH)])
        assert "not answered" in (await running.control.readiness())["claims"]

    async def ready() -> bool:
        return await running.control.readiness() == {}

    await eventually(ready, "the consumer to go on once the requests have timed out")


async def test_readyz_names_what_was_deleted(running: Running) -> None:
    async with running.bus._channel() as channel:  # type: ignore[attr-defined]
        await channel.exchange_delete("treadle.commands")
    assert list(await running.control.readiness()) == ["exchange:treadle.commands"]
