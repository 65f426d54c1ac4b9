"""The queue of dead letters as a person works on it: look, send back to where they died, delete."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

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
from infra.bus.port import Bus, Incoming, Outgoing, PublishFailed

MOST = 10_000
"""Dead letters that are looked at in one go, the oldest ones."""

Chosen = Callable[[DeadLetter], bool]


@dataclass(frozen=True, slots=True)
class Replayed:
    """What became of a dead letter: sent back; or refused, and then kept or dropped."""

    letter: DeadLetter
    refusal: Refusal | None = None
    dropped: bool = False


async def dead_letters(bus: Bus) -> list[DeadLetter]:
    """All dead letters, the oldest first. Raises BusUnavailable."""
    async with bus.browse(DEAD_QUEUE.name, MOST) as messages:
        return [read(message) for message in messages]


async def purge(bus: Bus, chosen: Chosen) -> list[DeadLetter]:
    """Delete those that are chosen, for good; which they were. Raises BusUnavailable."""
    gone = []
    async with bus.browse(DEAD_QUEUE.name, MOST) as messages:
        for message in messages:
            letter = read(message)
            if chosen(letter):
                await message.ack()
                gone.append(letter)
    return gone


async def replay(bus: Bus, store: Store, chosen: Chosen, *, drop_spent: bool = False) -> list[Replayed]:
    """Send those that are chosen back to where they died, each only if the fence still lets it through.

    Published and confirmed, then acked: a crash in between leaves a duplicate, which the claim or the inbox finds.
    Refused ones stay, or are deleted where nothing will come of them any more and `drop_spent` is given.
    Raises BusUnavailable, StoreUnavailable.
    """
    async with bus.browse(DEAD_QUEUE.name, MOST) as messages:
        taken = [(message, letter) for message in messages if chosen(letter := read(message))]
        refusals = await _refusals(store, [letter for _, letter in taken])
        return [
            await _settled(bus, message, letter, against, drop_spent)
            for (message, letter), against in zip(taken, refusals, strict=True)
        ]


async def _refusals(store: Store, letters: Sequence[DeadLetter]) -> list[Refusal | None]:
    """What stands against each; the store is asked once."""
    contents = [content(letter) for letter in letters]
    readable = [found for found in contents if not isinstance(found, Refusal)]
    known = iter(await store.load([subject(message) for message in readable]) if readable else ())

    def against(found: Replayable | Refusal) -> Refusal | None:
        return found if isinstance(found, Refusal) else refusal(found, next(known))

    return [against(found) for found in contents]


async def _settled(
    bus: Bus, message: Incoming, letter: DeadLetter, against: Refusal | None, drop_spent: bool
) -> Replayed:
    if against is None:
        against = await _sent_back(bus, message, letter)
    if against is None or (against.spent and drop_spent):
        await message.ack()
    return Replayed(letter, against, dropped=against is not None and against.spent and drop_spent)


async def _sent_back(bus: Bus, message: Incoming, letter: DeadLetter) -> Refusal | None:
    """Publish it straight to its queue; why that failed."""
    again = Outgoing(
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
