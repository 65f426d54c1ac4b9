"""The relay: publish outbox rows, await the broker's confirms, then delete the rows."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import structlog

from contracts.leases import AttemptSignal
from contracts.topology import SIGNALS
from contracts.wire import encode
from control.loops import Periodic, Supervised
from control.store.effects import OUTBOX_LOCK
from control.store.port import Store, StoreUnavailable
from control.store.values import OutboxRow
from infra.asyncio_tasks import cancel_and_wait, log_failure
from infra.bus.port import Bus, OutgoingMessage, PublishFailed

POLL_INTERVAL = 0.5
"""Seconds between two searches for unlocked rows; confirmed rows are deleted after this time at the latest."""
BATCH_SIZE = 256
RETRY_DELAY = 0.2
"""Seconds before rows that could not be published are published again."""

log = structlog.get_logger(__name__)


class Relay(Periodic):
    """Publishes committed rows at once, and the rows of a crashed relay when their lock expires."""

    def __init__(self, store: Store, bus: Bus) -> None:
        super().__init__("relay", POLL_INTERVAL)
        self._store = store
        self._bus = bus
        self._pending: list[OutboxRow] = []
        self._confirmed: list[int] = []
        self._wake = asyncio.Event()
        self._signals: set[asyncio.Task[None]] = set()
        self.tasks = (*self.tasks, Supervised("relay publisher", self._publish_pending))

    async def stop(self) -> None:
        """Stop; unconfirmed rows stay in the outbox."""
        await super().stop()
        await cancel_and_wait(*self._signals)

    def publish_soon(self, rows: Sequence[OutboxRow]) -> None:
        """Publish these rows soon; the caller must have committed them."""
        if rows:
            self._pending.extend(rows)
            self._wake.set()

    def signal(self, signal: AttemptSignal) -> None:
        """Send a signal to all workers, best effort: the answer to the next heartbeat carries the same verdict."""
        message = OutgoingMessage(
            SIGNALS.name, signal.kind, encode(signal), str(signal.message_id), persistent=False, mandatory=False
        )
        sending = asyncio.create_task(self._send(message), name="signal")
        self._signals.add(sending)
        sending.add_done_callback(self._signals.discard)
        log_failure(sending)

    def take_confirmed(self) -> list[int]:
        """Take the ids of confirmed rows; the caller deletes these rows in its next transaction."""
        confirmed, self._confirmed = self._confirmed, []
        return confirmed

    def restore_confirmed(self, ids: Sequence[int]) -> None:
        """Put ids from `take_confirmed` back, because the transaction that should delete the rows failed."""
        self._confirmed.extend(ids)

    async def _publish_pending(self) -> None:
        while True:
            await self._wake.wait()
            batch = self._pending[:BATCH_SIZE]
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
                await asyncio.sleep(RETRY_DELAY)

    async def tick(self) -> None:
        """Delete confirmed rows, and publish due rows that no process has locked."""
        confirmed = self.take_confirmed()
        if confirmed:
            await self._delete(confirmed)
        rows = await self._store.lock_outbox(BATCH_SIZE, OUTBOX_LOCK)
        known = {row.id for row in self._pending} | set(self._confirmed)
        self.publish_soon([row for row in rows if row.id not in known])

    async def _delete(self, confirmed: list[int]) -> None:
        try:
            await self._store.delete_outbox(confirmed)
        except StoreUnavailable:
            self.restore_confirmed(confirmed)
            raise

    async def _send(self, message: OutgoingMessage) -> None:
        try:
            await self._bus.publish(message)
        except PublishFailed as error:
            log.warning("signal_failed", error=str(error))


def _outgoing(row: OutboxRow) -> OutgoingMessage:
    return OutgoingMessage(row.exchange, row.routing_key, row.body, str(row.message_id), row.headers)
