"""Acknowledgements are gathered: few frames, soon, and never so late that the broker waits for them."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

from infra.bus.rabbitmq_settling import Settling
from tests.eventually import eventually


class Recorder:
    """A channel that writes down what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[int, bool]] = []
        self.raw = SimpleNamespace(basic_ack=lambda tag, multiple=False: self.told.append((tag, multiple)))


def settling(channel: Recorder, deliveries: int, most: int = 100) -> Settling:
    """With so many deliveries, tagged from 1."""
    found = Settling(cast("Any", channel), most)
    for tag in range(1, deliveries + 1):
        found.add(tag)
    return found


async def until_told(channel: Recorder) -> list[tuple[int, bool]]:
    async def told() -> bool:
        return bool(channel.told)

    await eventually(told, "an acknowledgement")
    return channel.told


async def test_acknowledgements_that_come_one_after_another_travel_in_one_frame() -> None:
    channel = Recorder()
    ours = settling(channel, 3)
    for tag in (1, 2, 3):
        ours.ack(tag)
        await asyncio.sleep(0)
    assert await until_told(channel) == [(3, True)]


async def test_one_that_overtook_another_is_told_by_itself() -> None:
    channel = Recorder()
    ours = settling(channel, 3)
    for tag in (1, 3):
        ours.ack(tag)
    assert await until_told(channel) == [(1, True), (3, False)]


async def test_a_consumer_that_may_hold_one_tells_at_once() -> None:
    channel = Recorder()
    settling(channel, 1, most=1).ack(1)
    assert channel.told == [(1, True)]


async def test_what_waits_is_told_when_the_consumer_ends() -> None:
    channel = Recorder()
    ours = settling(channel, 2)
    ours.ack(1)
    ours.flush()
    assert channel.told == [(1, True)]
