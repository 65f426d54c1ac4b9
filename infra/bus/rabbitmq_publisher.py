"""Publishing with confirms on RabbitMQ. What is not confirmed in time has failed, and may be published again."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pika.spec import Basic, BasicProperties

from infra.bus.port import Outgoing, PublishFailed, Unroutable
from infra.bus.rabbitmq_channel import Channel, restoring
from infra.bus.rabbitmq_link import Link
from infra.bus.rabbitmq_sending import send, where
from infra.bus.rabbitmq_sharing import Together
from infra.ending import end

PUBLISH_TIMEOUT = 10.0

Answer = PublishFailed | None


@dataclass(frozen=True, slots=True)
class Pending:
    """A message that was sent and is not confirmed yet."""

    message: Outgoing
    answer: asyncio.Future[Answer]
    since: float
    """By the loop's clock."""

    async def answered(self) -> Answer:
        """The answer. Whoever is cancelled meanwhile leaves it to the others whose messages travel in this one."""
        return self.answer.result() if self.answer.done() else await asyncio.shield(self.answer)

    def settle(self, answer: Answer) -> None:
        """Confirmed, or why not. A message that came back is confirmed too: its first answer stands."""
        if not self.answer.done():
            self.answer.set_result(answer)


class Confirms:
    """A channel in confirm mode, with what awaits its confirm by delivery tag, oldest first."""

    def __init__(self, link: Link, channel: Channel) -> None:
        self._link = link
        self._channel = channel
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._last = 0
        self._pending: dict[int, Pending] = {}
        channel.on_end(self._lost)
        channel.raw.add_on_return_callback(self._returned)

    async def select(self) -> None:
        """Begin to confirm."""
        await self._channel.ask(lambda done: self._channel.raw.confirm_delivery(self._confirmed, callback=done))

    def send(self, message: Outgoing) -> Pending:
        """Hand a message to the connection. Raises PublishFailed."""
        send(self._link, self._channel, message)
        self._last += 1
        pending = self._pending[self._last] = Pending(message, self._loop.create_future(), self._loop.time())
        if self._timer is None:
            self._timer = self._loop.call_later(PUBLISH_TIMEOUT, self._give_up)
        return pending

    def _confirmed(self, frame: Any) -> None:  # noqa: ANN401 - pika's frame around Basic.Ack or Basic.Nack
        method: Basic.Ack | Basic.Nack = frame.method
        tags = self._up_to(method.delivery_tag) if method.multiple else [method.delivery_tag]
        for tag in tags:
            if (pending := self._pending.pop(tag, None)) is None:
                continue
            pending.settle(_refused(pending.message) if isinstance(method, Basic.Nack) else None)

    def _up_to(self, last: int) -> list[int]:
        tags = []
        for tag in self._pending:
            if tag > last:
                break
            tags.append(tag)
        return tags

    def _returned(self, _: object, __: object, properties: BasicProperties, ___: bytes) -> None:
        """The broker returns a message before it confirms it, and names it by its own id only."""
        for pending in self._pending.values():
            if pending.message.message_id == (properties.message_id or "") and not pending.answer.done():
                pending.settle(Unroutable(f"{where(pending.message)}: no queue takes it"))
                return

    def _give_up(self) -> None:
        """One timer for all: fail what has waited for too long, and look again when the next will have."""
        self._timer = None
        now = self._loop.time()
        for tag, pending in list(self._pending.items()):
            if (left := pending.since + PUBLISH_TIMEOUT - now) > 0:
                self._timer = self._loop.call_later(left, self._give_up)
                return
            del self._pending[tag]
            pending.settle(PublishFailed(f"{where(pending.message)}: not confirmed within {PUBLISH_TIMEOUT:g} s"))

    def _lost(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        for pending in self._pending.values():
            pending.settle(PublishFailed(f"{where(pending.message)}: the connection was lost before the confirm"))
        self._pending.clear()


class Publisher:
    """The publishing end of a connection. While the broker is away it fails at once, rather than wait unseen."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._confirms: Confirms | None = None
        self._together = Together(self._send)
        self._restoring: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Open the channel, and again after every loss. Raises what the broker says."""
        channel = await self._attach()
        self._restoring = restoring(self._attach, channel, "publisher")

    async def stop(self) -> None:
        """Publish no more."""
        self._confirms = None
        if self._restoring is not None:
            await end(self._restoring)

    async def publish(self, message: Outgoing) -> None:
        """Publish and await the confirm."""
        (answer,) = await self.publish_all([message])
        if answer is not None:
            raise answer

    async def publish_all(self, messages: Sequence[Outgoing]) -> list[Answer]:
        """Publish all and await the confirms together, many times faster than one by one."""
        handed = [self._together.add(each) if each.shared else self._send(each) for each in messages]
        sent = [await each if isinstance(each, asyncio.Future) else each for each in handed]
        return [await each.answered() if isinstance(each, Pending) else each for each in sent]

    def _send(self, message: Outgoing) -> Pending | PublishFailed:
        if self._confirms is None:
            return PublishFailed(f"{where(message)}: not connected")
        try:
            return self._confirms.send(message)
        except PublishFailed as error:
            return error

    async def _attach(self) -> Channel:
        channel = await self._link.channel()
        confirms = Confirms(self._link, channel)
        try:
            await confirms.select()
        except BaseException:
            channel.close()
            raise
        self._confirms = confirms
        return channel


def _refused(message: Outgoing) -> PublishFailed:
    return PublishFailed(f"{where(message)}: the broker refused it; its queue is full or has no leader")
