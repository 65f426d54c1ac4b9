"""Settings of aio-pika's own libraries, for every connection of this process."""

from __future__ import annotations

from functools import partialmethod

import structlog
from aiormq.connection import Connection
from pamqp.commands import Basic
from pamqp.header import ContentHeader

FRAMES = 1000
"""Frames that may wait to be written on a connection, and to be read on a channel. aiormq's 10 split every burst."""

log = structlog.get_logger(__name__)


def configure_libraries() -> None:
    """Let FRAMES frames wait, and ignore message properties that cannot be decoded.

    An undecodable property (a timestamp in microseconds, a message id that is not UTF-8) would close the connection of
    its consumer, at every delivery again.
    """
    Connection.FRAME_BUFFER_SIZE = FRAMES
    Connection.channel = partialmethod(_channel, frame_buffer_size=FRAMES)  # type: ignore[method-assign, assignment]
    ContentHeader.unmarshal = _unmarshal  # type: ignore[method-assign]


_channel = Connection.channel
_strict_unmarshal = ContentHeader.unmarshal


def _unmarshal(self: ContentHeader, data: bytes) -> None:
    try:
        _strict_unmarshal(self, data)
    except (ValueError, OverflowError, OSError) as error:
        log.warning("properties_ignored", error=str(error))
        self.properties = Basic.Properties()
