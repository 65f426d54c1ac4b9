"""Messages that no part of the stack sends."""

from __future__ import annotations

import asyncio
import json
import random
from uuid import uuid4

from contracts.topology import CLAIMS, EXCHANGES, QUEUES
from tests.attack.fuzz import send
from tests.attack.target import Target


async def hostile_messages_to_every_exchange(target: Target) -> int:
    """Every contract with hostile values, raw bytes and odd properties, drawn by Hypothesis."""
    taken = await asyncio.to_thread(send, target.servers.rabbitmq.url, target.hostile)
    return sum(taken.values())


async def lease_requests_with_a_long_worker_id(target: Target) -> int:
    """More of them than the prefetch of the consumer, each too long for the index of a database."""
    return await target.publish(CLAIMS.name, "claim", [_lease_request(worker_id="A9" * 20_000)] * 200)


async def a_lease_request_with_ten_thousand_claims(target: Target) -> int:
    """A request with more claims than a contract allows."""
    key = {"task_id": str(uuid4()), "iteration": 1, "phase": "train", "attempt": 1}
    claims = [{"key": key, "claim_id": str(uuid4())} for _ in range(10_000)]
    return await target.publish(CLAIMS.name, "claim", [_lease_request(claims=claims)])


async def raw_bytes_to_every_exchange(target: Target) -> int:
    """Random bytes, nested JSON, huge numbers and huge texts, with every routing key."""
    rng = random.Random(target.seed)
    bodies = [rng.randbytes(rng.randrange(200)) for _ in range(50)]
    bodies += [b"[" * 100_000, b'{"a":' * 10_000, b"9" * 1_000_000, json.dumps("x" * 5_000_000).encode()]
    sent = 0
    for exchange in EXCHANGES:
        for key in {queue.binding for queue in QUEUES if queue.exchange == exchange.name} | {"other"}:
            sent += await target.publish(exchange.name, key.replace("#", "anything"), bodies)
    return sent


async def replies_to_the_queues_of_the_stack(target: Target) -> int:
    """Lease requests and submissions that ask for their answers in queues of the stack."""
    sent = 0
    for queue in QUEUES:
        more = {"reply_to": queue.name, "correlation_id": "x"}
        sent += await target.publish(CLAIMS.name, "claim", [_lease_request()] * 20, **more)
        sent += await target.publish("treadle.tasks", "create_task", [b"{}"] * 20, **more)
    return sent


def _lease_request(**more: object) -> bytes:
    worker = {"worker_id": more.pop("worker_id", "w"), "phase": "train", "host": "h", "slots": 1, "busy": 0}
    body = {"kind": "lease_request", "version": 1, "request_id": str(uuid4()), "worker": worker, **more}
    return json.dumps(body).encode()
