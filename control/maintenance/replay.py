"""Lists, replays and deletes dead letters for an operator."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from contracts.permissions import queue_of_dead_letter
from contracts.topology import DEAD_QUEUE
from control.maintenance.dead_letters import (
    DeadLetter,
    Refusal,
    Replayable,
    content,
    headers_of_replay,
    read,
    refusal,
    subject,
)
from control.store.port import Store
from infra.bus.port import Bus, IncomingMessage, OutgoingMessage, PublishFailed

MAX_DEAD_LETTERS = DEAD_QUEUE.max_length or 10_000
"""Dead letters read in one call, at most; the oldest are read first."""

Chosen = Callable[[DeadLetter], bool]


@dataclass(frozen=True, slots=True)
class Replayed:
    """The result for one dead letter: replayed, or refused and then kept or dropped."""

    letter: DeadLetter
    refusal: Refusal | None = None
    dropped: bool = False


async def dead_letters(bus: Bus) -> list[DeadLetter]:
    """At most MAX_DEAD_LETTERS dead letters, oldest first. Raises BusUnavailable."""
    async with bus.browse(DEAD_QUEUE.name, MAX_DEAD_LETTERS) as messages:
        return [read(message) for message in messages]


async def purge(bus: Bus, chosen: Chosen) -> list[DeadLetter]:
    """Permanently delete the chosen dead letters and return them. Raises BusUnavailable."""
    deleted = []
    async with bus.browse(DEAD_QUEUE.name, MAX_DEAD_LETTERS) as messages:
        for message in messages:
            letter = read(message)
            if chosen(letter):
                await message.ack()
                deleted.append(letter)
    return deleted


async def replay(bus: Bus, store: Store, chosen: Chosen, *, drop_final: bool = False) -> list[Replayed]:
    """Publish the chosen dead letters to their queues again, each only if the present state of its task allows it.

    Each is acknowledged after the publisher confirm: a crash in between leaves a duplicate, which the claim or the
    inbox detects. Refused ones are kept; with `drop_final`, those that can never be replayed are deleted.
    Raises BusUnavailable, StoreUnavailable.
    """
    async with bus.browse(DEAD_QUEUE.name, MAX_DEAD_LETTERS) as messages:
        selected = [(message, letter) for message in messages if chosen(letter := read(message))]
        refusals = await _refusals(store, [letter for _, letter in selected])
        return [
            await _replay_one(bus, message, letter, refused, drop_final)
            for (message, letter), refused in zip(selected, refusals, strict=True)
        ]


async def _refusals(store: Store, letters: Sequence[DeadLetter]) -> list[Refusal | None]:
    """Why each cannot be replayed, or None; the store is queried once."""
    contents = [_of_another_queue(letter) or content(letter) for letter in letters]
    readable = [message for message in contents if not isinstance(message, Refusal)]
    loaded = iter(await store.load([subject(message) for message in readable]) if readable else ())

    def refused(message: Replayable | Refusal) -> Refusal | None:
        return message if isinstance(message, Refusal) else refusal(message, next(loaded))

    return [refused(message) for message in contents]


def _of_another_queue(letter: DeadLetter) -> Refusal | None:
    """Refuse a letter with a worker's routing key and the name of a queue that this worker does not consume."""
    queue = queue_of_dead_letter(letter.routing_key)
    if queue is None or queue == letter.queue:
        return None
    return Refusal(f"it cannot come from {letter.queue}: its routing key is that of {queue}", final=True)


async def _replay_one(
    bus: Bus, message: IncomingMessage, letter: DeadLetter, refused: Refusal | None, drop_final: bool
) -> Replayed:
    if refused is None:
        refused = await _publish_again(bus, message, letter)
    if refused is None or (refused.final and drop_final):
        await message.ack()
    return Replayed(letter, refused, dropped=refused is not None and refused.final and drop_final)


async def _publish_again(bus: Bus, message: IncomingMessage, letter: DeadLetter) -> Refusal | None:
    """Publish it directly to its queue; return a refusal if that failed."""
    again = OutgoingMessage(
        exchange="",
        routing_key=letter.queue or "",
        body=message.body,
        message_id=message.message_id or "",
        headers=headers_of_replay(message.headers),
        correlation_id=message.correlation_id,
        reply_to=message.reply_to,
    )
    try:
        await bus.publish(again)
    except PublishFailed as error:
        return Refusal(str(error))
    return None
