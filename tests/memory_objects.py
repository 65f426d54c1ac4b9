"""An object store in memory, with the methods that the gateway uses."""

from __future__ import annotations

from collections.abc import AsyncIterator

from infra.objects import ObjectNotFound


class MemoryObjects:
    """The methods of `infra.objects.ObjectStore`; it never fails."""

    def __init__(self) -> None:
        self.blobs: dict[str, bytes] = {}

    async def ping(self) -> None:
        """It is always ready."""

    async def put(self, key: str, data: bytes) -> None:
        """Write an object."""
        self.blobs[key] = data

    async def get(self, key: str) -> bytes:
        """Read an object. Raises ObjectNotFound."""
        if key not in self.blobs:
            raise ObjectNotFound(key)
        return self.blobs[key]

    async def put_stream(self, key: str, chunks: AsyncIterator[bytes]) -> int:
        """Write the bytes of `chunks`."""
        data = b"".join([chunk async for chunk in chunks])
        await self.put(key, data)
        return len(data)

    async def open_stream(self, key: str, start: int = 0) -> AsyncIterator[bytes]:
        """The bytes of an object from `start` on."""
        return _once((await self.get(key))[start:])


async def _once(data: bytes) -> AsyncIterator[bytes]:
    yield data
