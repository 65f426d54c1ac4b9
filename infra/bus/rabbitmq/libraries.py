"""Settings of aio-pika's own libraries, for every connection of this process."""

from __future__ import annotations

import struct
from collections.abc import Callable
from functools import partialmethod
from typing import Any

import structlog
from aiormq.base import Base
from aiormq.connection import Connection
from pamqp import decode

FRAMES = 1000
"""Frames that may wait to be written on a connection, and to be read on a channel. aiormq's 10 split every burst."""

Decoder = Callable[[bytes], tuple[int, Any]]
"""Decodes the value that some bytes begin with; gives the bytes that it takes, and the value."""

log = structlog.get_logger(__name__)


def configure_libraries() -> None:
    """Let FRAMES frames wait, decode every message, and let closed channels go.

    Text that is not UTF-8, and a timestamp that no calendar has, would close the connection of the message's consumer,
    at every delivery again. aiormq's observers of a connection's end would keep each closed channel until then
    (https://github.com/mosquito/aio-pika/issues/490).
    """
    Connection.FRAME_BUFFER_SIZE = FRAMES
    Connection.channel = partialmethod(_channel, frame_buffer_size=FRAMES)  # type: ignore[method-assign, assignment]
    Base.closing = property(lambda self: self._closing)  # type: ignore[method-assign, assignment]
    decode.METHODS["shortstr"] = _short_string
    decode.METHODS["timestamp"] = decode.TABLE_MAPPING[b"T"] = _or_none(decode.timestamp, lambda _: 8)
    decode.METHODS["table"] = _or_none(decode.field_table, lambda data: 4 + struct.unpack_from(">I", data)[0])


_channel = Connection.channel


def _short_string(data: bytes) -> tuple[int, str]:
    """Text without the bytes that are not UTF-8: with anything in their place it might be too long to be sent on."""
    end = data[0] + 1
    return end, data[1:end].decode(errors="ignore")


def _or_none(decoder: Decoder, size: Callable[[bytes], int]) -> Decoder:
    """The same decoder, that gives None for a value which it cannot decode."""

    def decoded(data: bytes) -> tuple[int, Any]:
        try:
            return decoder(data)
        except (ValueError, OverflowError, OSError) as error:
            log.warning("property_ignored", error=str(error))
            return size(data), None

    return decoded
