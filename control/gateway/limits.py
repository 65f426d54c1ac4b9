"""How much the gateway takes on at a time, and for how long it waits."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus

from fastapi import Request

from control.gateway.errors import RequestRejected

RETRY_AFTER = 5
"""Seconds after which a client may retry if the gateway serves as many requests of a kind as it can."""


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of one gateway. Times are in seconds."""

    uploads: int = 32
    """Uploads at a time; each keeps up to two parts of the object store (16 MiB) in memory."""
    downloads: int = 64
    streams: int = 400
    """Streams of progress at a time."""
    body_wait: float = 30.0
    """Time for the next bytes of a body; it grows again with the bytes that arrive, see `body_rate`."""
    body_rate: int = 4096
    """Bytes per second at which a body must arrive in the long run."""
    answer: float = 15.0
    """Time for database, object store and broker to serve a request; uploads and checks of rows have their own."""
    upload: int = 100 * 2**30
    """Bytes of one uploaded file."""


class Slots:
    """Admits a number of requests of one kind at a time, and refuses a further one at once."""

    def __init__(self, name: str, number: int) -> None:
        self._name = name
        self._number = number
        self._taken = 0

    @contextmanager
    def take(self) -> Iterator[None]:
        """Hold one slot. Raises RequestRejected with status 503 if none is free."""
        if self._taken >= self._number:
            message = f"this server handles {self._number} {self._name} at a time; retry in {RETRY_AFTER} seconds"
            raise RequestRejected(HTTPStatus.SERVICE_UNAVAILABLE, self._name, message, retry_after=RETRY_AFTER)
        self._taken += 1
        try:
            yield
        finally:
            self._taken -= 1


class Capacity:
    """The limits of one gateway, and its slots for each kind of request that takes long."""

    def __init__(self, limits: Limits | None = None) -> None:
        self.limits = limits = limits or Limits()
        self.uploads = Slots("uploads", limits.uploads)
        self.downloads = Slots("downloads", limits.downloads)
        self.streams = Slots("streams", limits.streams)


async def download_slot(request: Request) -> AsyncIterator[None]:
    """A dependency that holds a slot until the answer has been sent."""
    capacity: Capacity = request.app.state.parts.capacity
    with capacity.downloads.take():
        yield


async def stream_slot(request: Request) -> AsyncIterator[None]:
    """A dependency that holds a slot until the stream ends."""
    capacity: Capacity = request.app.state.parts.capacity
    with capacity.streams.take():
        yield
