"""The relay: publish what was decided, await the confirm, then forget the outbox row."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import structlog

from contracts.leases import AttemptSignal
from contracts.topology import SIGNALS
from contracts.wire import encode
from control.loops import Periodic, Supervised
from control.store.effects import HOLD
from control.store.port import OutboxRow, Store, StoreUnavailable
from infra.bus.port import Bus, Outgoing, PublishFailed
from infra.tasks import end, say_if_broken

TICK = 0.5
"""Seconds between two looks for rows that nobody holds, and the longest that a confirmed row is remembered."""
BATCH = 256
RETRY = 0.2

log = structlog.get_logger(__name__)


class Relay(Periodic):
    """Publishes rows handed over after their commit at once, and those of crashed relays when their hold ends."""

    def __init__(self, store: Store, bus: Bus) -> None:
        super().__init__("relay", TICK)
        self._store = store
        self._bus = bus
        self._pending: list[OutboxRow] = []
        self._confirmed: list[int] = []
        self._wake = asyncio.Event()
        self._signals: set[asyncio.Task[None]] = set()
        self.tasks = (*self.tasks, Supervised("relay publisher", self._publishing))

    async def stop(self) -> None:
        """Stop; rows not confirmed stay in the outbox."""
        await super().stop()
        await end(*self._signals)

    def offer(self, rows: Sequence[OutboxRow]) -> None:
        """Publish these soon; the caller has committed them."""
        if rows:
            self._pending.extend(rows)
            self._wake.set()

    def signal(self, signal: AttemptSignal) -> None:
        """Fan a signal out, best effort: a heartbeat's answer says the same later."""
        message = Outgoing(
            SIGNALS.name, signal.kind, encode(signal), str(signal.message_id), persistent=False, mandatory=False
        )
        sending = asyncio.create_task(self._send(message), name="signal")
        self._signals.add(sending)
        sending.add_done_callback(self._signals.discard)
        say_if_broken(sending)

    def take_confirmed(self) -> list[int]:
        """Ids of rows that were confirmed; the caller forgets them in the transaction it is about to make."""
        confirmed, self._confirmed = self._confirmed, []
        return confirmed

    def give_back(self, ids: Sequence[int]) -> None:
        """The caller's transaction did not happen: remember these confirmed rows again."""
        self._confirmed.extend(ids)

    async def _publishing(self) -> None:
        while True:
            await self._wake.wait()
            batch = self._pending[:BATCH]
            if not batch:
                self._wake.clear()
                continue
            answers = await self._bus.publish_all([_outgoing(row) for row in batch])
            del self._pending[: len(batch)]
            failed = [row for row, answer in zip(batch, answers, strict=True) if answer is not None]
            done = [row.id for row, answer in zip(batch, answers, strict=True) if answer is None]
            self._confirmed.extend(done)
            if failed:
                log.warning("publish_failed", rows=len(failed), error=str(next(a for a in answers if a)))
                self._pending.extend(failed)
                await asyncio.sleep(RETRY)

    async def tick(self) -> None:
        """Forget what was confirmed, and take over what nobody publishes."""
        confirmed = self.take_confirmed()
        if confirmed:
            await self._forget(confirmed)
        rows = await self._store.take_outbox(BATCH, HOLD)
        held = {row.id for row in self._pending} | set(self._confirmed)
        self.offer([row for row in rows if row.id not in held])

    async def _forget(self, confirmed: list[int]) -> None:
        try:
            await self._store.forget_outbox(confirmed)
        except StoreUnavailable:
            self.give_back(confirmed)
            raise

    async def _send(self, message: Outgoing) -> None:
        try:
            await self._bus.publish(message)
        except PublishFailed as error:
            log.warning("signal_not_sent", error=str(error))


def _outgoing(row: OutboxRow) -> Outgoing:
    return Outgoing(row.exchange, row.routing_key, row.body, str(row.message_id), row.headers)
