"""An async iterator of bytes as a file that a thread can read."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Self


class ByteStream(io.RawIOBase):
    """A file that a thread reads while the event loop runs `chunks`; it buffers the bytes of one read and one chunk."""

    def __init__(self, chunks: AsyncIterator[bytes], loop: asyncio.AbstractEventLoop) -> None:
        self._chunks = chunks
        self._loop = loop
        self._buffer = bytearray()
        self._ended = False
        self.size = 0
        """Bytes read so far."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the file; a thread that still reads it gets an error at its next read and aborts the upload."""
        self.close()

    def read(self, size: int = -1) -> bytes:
        """Exactly `size` bytes, or fewer at the end. Raises the error of the iterator."""
        while not self._ended and (size < 0 or len(self._buffer) < size):
            self._buffer += self._next()
        taken = bytes(self._buffer if size < 0 else self._buffer[:size])
        del self._buffer[: len(taken)]
        self.size += len(taken)
        return taken

    def _next(self) -> bytes:
        if self.closed:
            raise ValueError("the upload was aborted")
        chunk = asyncio.run_coroutine_threadsafe(self._pull(), self._loop).result()
        self._ended = chunk is None
        return chunk or b""

    async def _pull(self) -> bytes | None:
        return await anext(self._chunks, None)
