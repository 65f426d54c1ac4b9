"""Claims and heartbeats: requests in, verdicts out."""

from __future__ import annotations

import time

import structlog

from contracts.errors import UndecodableMessage
from contracts.leases import LeaseReply, LeaseRequest
from contracts.topology import CLAIMS_QUEUE
from contracts.wire import decode, encode
from control.store.port import Store, StoreUnavailable
from infra.bus.dead_letter import dead_letter
from infra.bus.port import Bus, Incoming, Outgoing, PublishFailed, Subscription

PREFETCH = 64

log = structlog.get_logger(__name__)


class LeaseDesk:
    """Answers lease requests, and knows since when it has done so without a gap."""

    def __init__(self, bus: Bus, store: Store) -> None:
        self._bus = bus
        self._store = store
        self._subscription: Subscription | None = None
        self._since = self._checked = _now()

    async def start(self) -> Subscription:
        """Begin to consume."""
        self._subscription = await self._bus.consume(CLAIMS_QUEUE.name, self._handle, prefetch=PREFETCH)
        self.interrupted()
        return self._subscription

    def interrupted(self) -> None:
        """Heartbeats may have gone unheard until now."""
        self._since = self._checked = _now()

    def serving_for(self, longest_gap: float) -> float:
        """Seconds for which heartbeats have been heard; asked more rarely than `longest_gap`, they start anew."""
        now = _now()
        attached = self._subscription is not None and self._subscription.attached
        if not attached or now - self._checked > longest_gap:
            self._since = now
        self._checked = now
        return now - self._since

    async def _handle(self, message: Incoming) -> None:
        try:
            request = decode(message.body, LeaseRequest)
        except UndecodableMessage as error:
            await dead_letter(self._bus, message, CLAIMS_QUEUE.name, str(error))
            return
        await self._answer(request, message)
        await message.ack()

    async def _answer(self, request: LeaseRequest, message: Incoming) -> None:
        """Decide and reply. Where the store is away there is no reply: the worker asks the same again."""
        try:
            answers = await self._store.lease(request.worker, request.claims, request.heartbeats)
        except StoreUnavailable as error:
            self.interrupted()
            log.warning("claims_unanswered", error=str(error))
            return
        if message.reply_to is None:
            return
        reply = LeaseReply(request_id=request.request_id, answers=tuple(answers))
        try:
            await self._bus.publish(_reply(reply, message.reply_to, message.correlation_id))
        except PublishFailed as error:
            log.warning("reply_not_sent", worker=request.worker.worker_id, error=str(error))


def _now() -> float:
    """Seconds that go on while the machine is suspended, as the database's clock does: a nap is a gap."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


def _reply(reply: LeaseReply, to: str, correlation_id: str | None) -> Outgoing:
    return Outgoing(
        "",
        to,
        encode(reply),
        str(reply.message_id),
        correlation_id=correlation_id,
        persistent=False,
        mandatory=False,
    )
