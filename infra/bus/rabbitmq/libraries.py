"""Settings of the libraries below aio-pika, for every connection of this process."""

from __future__ import annotations

import struct
from collections.abc import Callable
from functools import partialmethod
from typing import Any

import structlog
from aiormq.base import Base
from aiormq.connection import Connection
from pamqp import decode

from infra.log_limit import LogLimit

FRAME_BUFFER_SIZE = 1000
"""Frames that a connection buffers for writing, and a channel for reading; aiormq's default of 10 splits bursts."""

Decoder = Callable[[bytes], tuple[int, Any]]
"""Decodes the value at the start of some bytes; returns its length in bytes, and the value."""

LOG_LIMIT = LogLimit()

log = structlog.get_logger(__name__)


def configure_libraries() -> None:
    """Enlarge the frame buffers, decode messages with invalid properties, and release closed channels.

    Without this, text that is not UTF-8 or an impossible timestamp closes the connection of the consumer at each
    delivery, and aiormq keeps every closed channel in memory until the connection is closed
    (https://github.com/mosquito/aio-pika/issues/490).
    """
    Connection.FRAME_BUFFER_SIZE = FRAME_BUFFER_SIZE
    Connection.channel = partialmethod(  # type: ignore[method-assign, assignment]
        _channel, frame_buffer_size=FRAME_BUFFER_SIZE
    )
    Base.closing = property(lambda self: self._closing)  # type: ignore[method-assign, assignment]
    decode.METHODS["shortstr"] = _short_string
    decode.METHODS["timestamp"] = decode.TABLE_MAPPING[b"T"] = _or_none(decode.timestamp, lambda _: 8)
    decode.METHODS["table"] = _or_none(decode.field_table, lambda data: 4 + struct.unpack_from(">I", data)[0])


_channel = Connection.channel


def _short_string(data: bytes) -> tuple[int, str]:
    """Decode text without the bytes that are not UTF-8; replacements could make it too long to be published again."""
    end = data[0] + 1
    return end, data[1:end].decode(errors="ignore")


def _or_none(decoder: Decoder, size: Callable[[bytes], int]) -> Decoder:
    """Wrap `decoder` to return None for a value that it cannot decode; `size` gives the length of such a value."""

    def decoded(data: bytes) -> tuple[int, Any]:
        try:
            return decoder(data)
        except (ValueError, OverflowError, OSError) as error:
            if LOG_LIMIT.skipped(type(error).__name__) is not None:
                log.warning("property_ignored", error=str(error))
            return size(data), None

    return decoded
