"""Replies to claims and heartbeats with verdicts."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence
from typing import Any
from uuid import UUID

import structlog

from contracts.errors import UndecodableMessage
from contracts.leases import Claim, ClaimsProbe, Heartbeat, LeaseAnswer, LeaseRefused, LeaseReply, LeaseRequest
from contracts.topology import CLAIMS_QUEUE, QUEUES_BY_NAME
from contracts.wire import decode, encode
from control.store.port import Store, StoreUnavailable
from infra.bus.port import Bus, IncomingMessage, OutgoingMessage, PublishFailed, Subscription

PREFETCH = 64
TIMEOUT = 10.0
"""Seconds for one request; its worker has sent a new one by then."""
REQUESTS: tuple[type[Any], ...] = (LeaseRequest, ClaimsProbe)

log = structlog.get_logger(__name__)


class LeaseServer:
    """Replies to lease requests, and records how long it has done so without a gap."""

    def __init__(self, bus: Bus, store: Store) -> None:
        self._bus = bus
        self._store = store
        self._subscription: Subscription | None = None
        self._serving_since = self._last_check = _now()

    async def start(self) -> Subscription:
        """Start consuming."""
        self._subscription = await self._bus.consume(CLAIMS_QUEUE.name, self._handle, prefetch=PREFETCH)
        self._restart_serving_time()
        return self._subscription

    def _restart_serving_time(self) -> None:
        """Measure `serving_for` from now on, because heartbeats may have been missed."""
        self._serving_since = self._last_check = _now()

    def serving_for(self, longest_gap: float) -> float:
        """Seconds of service without a gap; more than `longest_gap` seconds between two calls also count as a gap."""
        now = _now()
        attached = self._subscription is not None and self._subscription.attached
        if not attached or now - self._last_check > longest_gap:
            self._serving_since = now
        self._last_check = now
        return now - self._serving_since

    async def _handle(self, message: IncomingMessage) -> None:
        try:
            request: LeaseRequest | ClaimsProbe = decode(message.body, *REQUESTS)
        except UndecodableMessage as error:
            await self._reply(message, LeaseRefused(request_id=_request_id(message.body), reason=str(error)))
            raise
        await self._answer(request, message)
        await message.ack()

    async def _answer(self, request: LeaseRequest | ClaimsProbe, message: IncomingMessage) -> None:
        """Decide and reply; if the store is unavailable, no reply is sent and the worker retries the same request."""
        try:
            async with asyncio.timeout(TIMEOUT):
                answers = await self._answers(request) if isinstance(request, LeaseRequest) else []
        except (StoreUnavailable, TimeoutError) as error:
            self._restart_serving_time()
            self._bus.poison.waiting(CLAIMS_QUEUE.name, error)
            return
        await self._reply(message, LeaseReply(request_id=request.request_id, answers=tuple(answers)))

    async def _answers(self, request: LeaseRequest) -> list[LeaseAnswer]:
        """The answers to all claims and heartbeats, but to those that the store cannot take if others are with them."""
        asked: list[Claim | Heartbeat] = [*request.claims, *request.heartbeats]
        try:
            return await self._store.lease(request.worker, request.claims, request.heartbeats)
        except StoreUnavailable:
            raise
        except Exception as error:  # one claim must not fail the others
            if len(asked) < 2:
                raise
            self._bus.poison.failed(CLAIMS_QUEUE.name, None, error)
        await self._store.lease(request.worker, (), ())  # raises if the error is about the worker
        return await self._answers_of_halves(request, asked)

    async def _answers_of_halves(self, request: LeaseRequest, asked: Sequence[Claim | Heartbeat]) -> list[LeaseAnswer]:
        """Halve what the store cannot take until each cause is alone; it gets no answer."""
        answers: list[LeaseAnswer] = []
        middle = len(asked) // 2
        for half in (asked[:middle], asked[middle:]):
            claims = tuple(one for one in half if isinstance(one, Claim))
            heartbeats = tuple(one for one in half if isinstance(one, Heartbeat))
            try:
                answers += await self._store.lease(request.worker, claims, heartbeats)
            except StoreUnavailable:
                raise
            except Exception as error:  # noqa: BLE001  # as in `_answers`
                if len(half) > 1:
                    answers += await self._answers_of_halves(request, half)
                else:
                    self._bus.poison.record(CLAIMS_QUEUE.name, type(error).__name__, str(error), None, kept=False)
        return answers

    async def _reply(self, message: IncomingMessage, reply: LeaseReply | LeaseRefused) -> None:
        """Reply if the request names a queue for the reply, which may not be one of Treadle's own."""
        to = message.reply_to
        if not to or to in QUEUES_BY_NAME:
            return
        outgoing = OutgoingMessage(
            "",
            to,
            encode(reply),
            str(reply.message_id),
            correlation_id=message.correlation_id,
            persistent=False,
            mandatory=False,
        )
        try:
            await self._bus.publish(outgoing)
        except PublishFailed as error:
            log.warning("reply_failed", error=str(error))


def _request_id(body: bytes) -> UUID | None:
    """The `request_id` in a body that cannot be decoded, or None if it cannot be read."""
    try:
        return UUID(json.loads(body)["request_id"])
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def _now() -> float:
    """Seconds of a clock that also runs while the machine is suspended, like the database's: a suspension is a gap."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))
