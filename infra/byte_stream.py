"""An async iterator of bytes, read from a thread as a file."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Self


class ByteStream(io.RawIOBase):
    """What the SDK's thread reads from while the event loop feeds it; at most one read's bytes are held."""

    def __init__(self, chunks: AsyncIterator[bytes], loop: asyncio.AbstractEventLoop) -> None:
        self._chunks = chunks
        self._loop = loop
        self._rest = bytearray()
        self._ended = False
        self.size = 0
        """Bytes read so far."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """A reader still in its thread gets an error at its next read, and abandons the upload."""
        self.close()

    def read(self, size: int = -1) -> bytes:
        """Exactly `size` bytes, fewer only at the end. Raises what the iterator raised."""
        while not self._ended and (size < 0 or len(self._rest) < size):
            self._rest += self._next()
        taken = bytes(self._rest if size < 0 else self._rest[:size])
        del self._rest[: len(taken)]
        self.size += len(taken)
        return taken

    def _next(self) -> bytes:
        if self.closed:
            raise ValueError("the upload was given up")
        chunk = asyncio.run_coroutine_threadsafe(self._pull(), self._loop).result()
        self._ended = chunk is None
        return chunk or b""

    async def _pull(self) -> bytes | None:
        return await anext(self._chunks, None)
