"""Settling on one channel: acknowledgements are gathered, and the broker hears of many in one frame.

For each it would otherwise write an entry of its own into the log of a quorum queue, the dearest thing it does here,
and sync it to disk before whatever is published meanwhile.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress

import structlog

from infra.bus.rabbitmq_channel import AWAY, Channel
from infra.bus.rabbitmq_delivery import Settle

SOON = 0.05
"""Seconds for which an acknowledgement may wait for others."""

log = structlog.get_logger(__name__)


class Settling:
    """Which deliveries of a channel are unsettled. Each is settled once; if the channel is gone the broker has it."""

    def __init__(self, channel: Channel, most: int, settled: Callable[[], None] = lambda: None) -> None:
        self._channel = channel
        self._most = most
        """Deliveries that may wait to be acknowledged, so that the broker does not wait for us."""
        self._settled = settled
        self._timer: asyncio.TimerHandle | None = None
        self._unsettled: dict[int, None] = {}
        self._acked: set[int] = set()

    def add(self, tag: int) -> None:
        """A delivery has come; tags only grow."""
        self._unsettled[tag] = None

    def for_one(self, tag: int) -> tuple[Settle, Settle]:
        """How a delivery is acknowledged, and how it is given back."""

        async def ack() -> None:
            self.ack(tag)

        async def requeue() -> None:
            self.give_back(tag)

        return ack, requeue

    @property
    def idle(self) -> bool:
        """Whether all are settled, and the broker was told."""
        return not self._unsettled

    def ack(self, tag: int) -> None:
        """Handled, for good: told with others, soon."""
        if tag not in self._unsettled or tag in self._acked:
            return
        self._acked.add(tag)
        if len(self._acked) >= self._most:
            self.flush()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(SOON, self.flush)

    def give_back(self, tag: int, *, harmful: bool = False) -> None:
        """Back into the queue. A reject counts towards the delivery limit on every version, a nack not from 4.3 on."""
        if tag not in self._unsettled or tag in self._acked:
            return
        del self._unsettled[tag]
        with suppress(*AWAY):
            if harmful:
                self._channel.raw.basic_reject(tag, requeue=True)
            else:
                self._channel.raw.basic_nack(tag, requeue=True)
        self._settled()

    def flush(self) -> None:
        """Tell: one frame for all below the first that is not settled, one each for the others."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        acked, self._acked = self._acked, set()
        if not acked:
            return
        floor = next((tag for tag in self._unsettled if tag not in acked), None)
        below = [tag for tag in acked if floor is None or tag < floor]
        for tag in acked:
            del self._unsettled[tag]
        try:
            if below:
                self._channel.raw.basic_ack(max(below), multiple=True)
            for tag in sorted(acked.difference(below)):
                self._channel.raw.basic_ack(tag)
        except AWAY as error:
            log.info("deliveries_lost_before_settling", deliveries=len(acked), error=str(error))
        self._settled()
