"""The messages between a worker and its fork server: one JSON object in one packet."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

MAX_PACKET = 64 * 1024
"""Bytes of one message."""


@dataclass(frozen=True, slots=True)
class Order:
    """Start a program. The packet carries the file descriptors of its standard input, output and error."""

    number: int
    module: str
    temporary: str
    """Folder for temporary files."""

    def encode(self) -> bytes:
        """The packet."""
        return json.dumps(asdict(self)).encode()

    @classmethod
    def decode(cls, packet: bytes) -> Order:
        """The order in a packet."""
        return cls(**json.loads(packet))


@dataclass(frozen=True, slots=True)
class Answer:
    """What happened to an order: one of the fields with a default is set. Number 0: the imports are done."""

    number: int
    pid: int | None = None
    """The program has started; the packet carries a pidfd, a file descriptor of the process."""
    status: int | None = None
    """The program has ended with this exit status, or was killed by the signal with this number, if it is negative."""
    errno: int | None = None
    """No process could be started, because of this error of the system."""

    def encode(self) -> bytes:
        """The packet."""
        return json.dumps(asdict(self)).encode()

    @classmethod
    def decode(cls, packet: bytes) -> Answer:
        """The answer in a packet."""
        values: dict[str, Any] = json.loads(packet)
        return cls(**values)
