"""A dead letter is the message as it came, with the reason why it is there."""

import asyncio

from contracts.tasks import Phase
from contracts.topology import COMMANDS, DEAD_QUEUE, PHASE_QUEUES
from infra.bus.dead import QUEUE, REASON, dead_letter
from infra.bus.inprocess import InProcessBus
from infra.bus.port import Incoming, Outgoing


async def test_a_dead_letter_can_be_answered_when_it_is_replayed() -> None:
    bus = InProcessBus()
    await bus.start()
    found: asyncio.Queue[Incoming] = asyncio.Queue()
    sent = Outgoing(COMMANDS.name, "train", b"?", "m", {"a": "b"}, correlation_id="c", reply_to="asker")
    await bus.consume(PHASE_QUEUES[Phase.TRAIN].name, found.put, prefetch=1)
    await bus.consume(DEAD_QUEUE.name, found.put, prefetch=1)
    await bus.publish(sent)
    await dead_letter(bus, await found.get(), "treadle.train", "no reader")
    letter = await found.get()
    assert (letter.body, letter.message_id, letter.correlation_id, letter.reply_to) == (b"?", "m", "c", "asker")
    assert letter.headers == {"a": "b", REASON: "no reader", QUEUE: "treadle.train"}
    await bus.close()
