"""Replies to claims and heartbeats with verdicts."""

from __future__ import annotations

import time

import structlog

from contracts.errors import UndecodableMessage
from contracts.leases import LeaseReply, LeaseRequest
from contracts.topology import CLAIMS_QUEUE
from contracts.wire import decode, encode
from control.store.port import Store, StoreUnavailable
from infra.bus.dead_letter import dead_letter
from infra.bus.port import Bus, IncomingMessage, OutgoingMessage, PublishFailed, Subscription

PREFETCH = 64

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
            request = decode(message.body, LeaseRequest)
        except UndecodableMessage as error:
            await dead_letter(self._bus, message, CLAIMS_QUEUE.name, str(error))
            return
        await self._answer(request, message)
        await message.ack()

    async def _answer(self, request: LeaseRequest, message: IncomingMessage) -> None:
        """Decide and reply; if the store is unavailable, no reply is sent and the worker retries the same request."""
        try:
            answers = await self._store.lease(request.worker, request.claims, request.heartbeats)
        except StoreUnavailable as error:
            self._restart_serving_time()
            log.warning("claims_unanswered", error=str(error))
            return
        if message.reply_to is None:
            return
        reply = LeaseReply(request_id=request.request_id, answers=tuple(answers))
        try:
            await self._bus.publish(_reply(reply, message.reply_to, message.correlation_id))
        except PublishFailed as error:
            log.warning("reply_failed", worker=request.worker.worker_id, error=str(error))


def _now() -> float:
    """Seconds of a clock that also runs while the machine is suspended, like the database's: a suspension is a gap."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


def _reply(reply: LeaseReply, to: str, correlation_id: str | None) -> OutgoingMessage:
    return OutgoingMessage(
        "",
        to,
        encode(reply),
        str(reply.message_id),
        correlation_id=correlation_id,
        persistent=False,
        mandatory=False,
    )
