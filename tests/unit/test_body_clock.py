"""The time that a client may take to send a body."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from starlette.exceptions import HTTPException
from starlette.types import Message

from control.gateway.body_clock import BodyClock

WAIT = 0.2
END: Message = {"type": "http.request", "body": b"", "more_body": False}


def part(body: bytes) -> Message:
    return {"type": "http.request", "body": body, "more_body": True}


def clock_over(messages: AsyncIterator[Message], rate: int = 1000) -> BodyClock:
    async def send(_: Message) -> None:
        return

    return BodyClock(messages.__anext__, send, wait=WAIT, rate=rate)


async def after(*steps: tuple[float, Message]) -> AsyncIterator[Message]:
    """Each message after so many seconds; then nothing ever."""
    for seconds, message in steps:
        await asyncio.sleep(seconds)
        yield message
    await asyncio.Event().wait()


async def bytes_until_refused(clock: BodyClock) -> int:
    """The bytes that arrive before the clock refuses the body."""
    received = list[bytes]()

    async def receive_all() -> None:
        while True:
            received.append((await clock.receive())["body"])

    with pytest.raises(HTTPException) as refused:
        await receive_all()
    assert refused.value.status_code == 408
    return len(b"".join(received))


async def test_a_body_that_stops_is_refused() -> None:
    assert await asyncio.wait_for(bytes_until_refused(clock_over(after((0, part(b"abc"))))), 5) == 3


async def test_a_body_that_drips_is_refused_after_the_same_time() -> None:
    drips = ((0.02, part(b"x")),) * 1000
    assert await asyncio.wait_for(bytes_until_refused(clock_over(after(*drips))), 5) < 50


async def test_a_body_that_arrives_fast_enough_takes_as_long_as_it_takes() -> None:
    clock = clock_over(after(*((0.05, part(b"x" * 100)),) * 10, (0, END)))
    size = 0
    while (message := await clock.receive())["more_body"]:
        size += len(message["body"])
    assert size == 1000  # in more than two waits


async def test_the_time_of_the_server_does_not_count() -> None:
    clock = clock_over(after((0, part(b"a")), (0, END)))
    await clock.receive()
    await asyncio.sleep(WAIT * 2)
    assert await clock.receive() == END


async def test_much_at_once_does_not_buy_a_longer_wait() -> None:
    clock = clock_over(after((0, part(b"x" * 100_000))))
    began = asyncio.get_running_loop().time()
    await bytes_until_refused(clock)
    assert asyncio.get_running_loop().time() - began < WAIT * 3


async def test_waiting_for_the_end_of_the_connection_has_no_limit() -> None:
    clock = clock_over(after((0, END), (WAIT * 2, {"type": "http.disconnect"})))
    await clock.receive()
    assert (await clock.receive())["type"] == "http.disconnect"


async def test_once_the_answer_has_begun_a_body_that_stops_counts_as_a_disconnect() -> None:
    clock = clock_over(after())
    await clock.send({"type": "http.response.start", "status": 200, "headers": []})
    assert (await clock.receive())["type"] == "http.disconnect"
