"""pika's stream on the loop's transport: what is written when."""

from __future__ import annotations

import asyncio
from typing import cast

import pytest
from pika.adapters.utils.nbio_interface import AbstractStreamProtocol

from infra.bus.rabbitmq_stream import Stream


class Wire(asyncio.Transport):
    """Keeps each piece that is sent."""

    def __init__(self) -> None:
        super().__init__()
        self.pieces: list[bytes] = []
        self.aborted_after: int | None = None
        self.lost = False

    def is_closing(self) -> bool:
        return self.lost

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self.lost:
            raise RuntimeError("the handler is closed")  # as uvloop does
        self.pieces.append(bytes(data))

    def abort(self) -> None:
        self.aborted_after = len(self.pieces)

    def get_write_buffer_size(self) -> int:
        return 0


class Nothing:
    """pika's end, which hears and says nothing."""

    def connection_made(self, _: object) -> None:
        """Nothing."""


@pytest.fixture
def wire() -> Wire:
    return Wire()


@pytest.fixture
def stream(wire: Wire) -> Stream:
    made = Stream(cast("AbstractStreamProtocol", Nothing()), lambda _: None)
    made.connection_made(wire)
    return made


async def test_what_one_turn_writes_leaves_in_one_piece(stream: Stream, wire: Wire) -> None:
    for frame in (b"method", b"header", b"body"):
        stream.write(frame)
    assert (wire.pieces, stream.get_write_buffer_size()) == ([], 16)
    await asyncio.sleep(0)
    assert (wire.pieces, stream.get_write_buffer_size()) == ([b"methodheaderbody"], 0)


async def test_what_the_next_turn_writes_leaves_by_itself(stream: Stream, wire: Wire) -> None:
    for frame in (b"1", b"2"):
        stream.write(frame)
        await asyncio.sleep(0)
    assert wire.pieces == [b"1", b"2"]


async def test_a_farewell_leaves_before_the_stream_is_aborted(stream: Stream, wire: Wire) -> None:
    stream.write(b"close ok")
    stream.abort()
    assert (wire.pieces, wire.aborted_after) == ([b"close ok"], 1)


async def test_what_was_not_sent_when_the_stream_was_lost_is_dropped(stream: Stream, wire: Wire) -> None:
    stream.write(b"frame")
    wire.lost = True
    broken: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: broken.append(context))
    await asyncio.sleep(0)
    assert (wire.pieces, broken) == ([], [])
