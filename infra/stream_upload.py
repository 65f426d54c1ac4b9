"""Uploads a stream of bytes of unknown size as one object, part by part."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import suppress
from functools import partial
from typing import Any

from minio import Minio
from minio.datatypes import Part

from contracts.errors import TreadleError

PART = 16 * 1024 * 1024
"""Bytes of one part of a multipart upload. An upload keeps only a few parts in memory, whatever its size."""
PART_CALLS = 5
"""A call that sends a part, or joins all parts, may take this many times as long as another call."""
ABORT_TIMEOUT = 5.0
"""Seconds for the request that deletes the parts of an upload that failed."""


class StreamUpload:
    """The upload of one object; `call` runs a method of the client in a thread, and may be given another `limit`.

    A thread is busy only while it sends a part that has arrived completely, so slow chunks hold none.
    """

    def __init__(
        self, client: Minio, bucket: str, key: str, call: Callable[..., Coroutine[Any, Any, Any]], limit: float | None
    ) -> None:
        self._client = client
        self._key = key
        self._place = bucket, key
        self._call = call
        self._part_limit = limit and limit * PART_CALLS

    async def send(self, chunks: AsyncIterator[bytes]) -> int:
        """Upload the bytes of `chunks`, up to 150 GB, and return the size. An error in `chunks` aborts the upload."""
        parts = _parts(chunks)
        part = [await anext(parts, b"")]
        if (size := len(part[0])) < PART:
            await self._call(self._client.put_object, *self._place, io.BytesIO(part.pop()), size, key=self._key)
            return size
        upload_id = await self._call(self._client._create_multipart_upload, *self._place, {}, key=self._key)
        try:
            return await self._send_parts(upload_id, part, parts)
        except BaseException:
            with suppress(TreadleError):
                abort = self._client._abort_multipart_upload
                await self._call(abort, *self._place, upload_id, limit=ABORT_TIMEOUT)
            raise

    async def _send_parts(self, upload_id: str, part: list[bytes], parts: AsyncIterator[bytes]) -> int:
        """Send the one part in `part` and the others, then join them; return their size.

        A part is taken out of the list when it is sent, so that its memory is free while the next one arrives.
        """
        send = partial(self._call, self._client._upload_part, *self._place, limit=self._part_limit)
        sent, size = list[Part](), 0
        while part[0]:
            size += len(part[0])
            sent.append(Part(len(sent) + 1, await send(part.pop(), None, upload_id, len(sent) + 1)))
            part.append(await anext(parts, b""))
        join = self._client._complete_multipart_upload
        await self._call(join, *self._place, upload_id, sent, limit=self._part_limit)
        return size


async def _parts(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The bytes of `chunks` in blocks of PART bytes; only the last one is shorter."""
    buffer = bytearray()
    async for chunk in chunks:
        buffer += chunk
        while len(buffer) >= PART:
            yield _take(buffer, PART)
    if buffer:
        yield bytes(buffer)


def _take(buffer: bytearray, size: int) -> bytes:
    """Remove the first `size` bytes and return them."""
    with memoryview(buffer) as view:
        taken = bytes(view[:size])
    del buffer[:size]
    return taken
