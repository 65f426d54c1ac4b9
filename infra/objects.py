"""The S3 object store, on the minio SDK. Each error of the SDK becomes one of Treadle's, by its HTTP status."""

from __future__ import annotations

import asyncio
import io
import os
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from contextvars import ContextVar
from functools import partial
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import urllib3
from minio import Minio
from minio.datatypes import Part
from minio.deleteobjects import DeleteObject
from minio.error import InvalidResponseError, MinioException, S3Error, ServerError

from contracts.artifacts import is_safe_name
from contracts.errors import PartUnavailable, TreadleError
from infra.asyncio_tasks import shield_until_done
from infra.errors import BadConfiguration
from infra.settings import Settings

T = TypeVar("T")
PART = 16 * 1024 * 1024
"""Bytes of one part of a multipart upload. An upload keeps only a few parts in memory, whatever its size."""
MAX_PARTS = 9_000
"""Parts of one upload, of which S3 allows 10,000; a larger file gets larger parts."""
PART_CALLS = 5
"""A call that sends a part, or joins all parts, may take this many times as long as another call."""
ABORT_TIMEOUT = 5.0
"""Seconds for the request that deletes the parts of an upload that failed."""
DOWNLOAD_BLOCK = 1024 * 1024
"""Bytes that a download reads at a time."""
DELETE_BATCH = 1_000
"""Keys that S3 accepts in one delete request."""
CALL_THREADS, STREAM_THREADS = 8, 16
"""Threads for calls, and threads for uploads and downloads of clients."""
NOT_FOUND, CONFLICT = 404, 409
DENIED_STATUSES = frozenset({401, 403})
REFUSED_STATUSES = frozenset({400, 405, 411, 412, 413, 414, 416, 501})
"""Statuses that a retry does not change."""


def _ignore(_: int) -> None:
    """Do nothing with the number of bytes."""


ON_BYTES: ContextVar[Callable[[int], None]] = ContextVar("on_bytes", default=_ignore)
"""Called, in any thread, with the number of bytes of each block of a file that is transferred, to watch for progress.

A context variable, so that it reaches the transfer through every layer between."""


class CountedFile(io.FileIO):
    """A file that reports each block that is read from it."""

    def __init__(self, path: Path, on_bytes: Callable[[int], None]) -> None:
        super().__init__(path)
        self._on_bytes = on_bytes

    def read(self, size: int | None = -1, /) -> bytes:
        """Read up to `size` bytes."""
        block = super().read(size) or b""
        self._on_bytes(len(block))
        return block


class ObjectNotFound(TreadleError):
    """The store has no object with this key."""

    def __init__(self, key: str) -> None:
        self.key = key
        super().__init__(f"there is no object {key}")


class ObjectStoreUnavailable(PartUnavailable):
    """The store is unreachable or denies access; the same call may succeed later."""


class ObjectStoreDenied(ObjectStoreUnavailable):
    """The store denies access: a user must correct the keys or the permissions."""


class ObjectRefused(TreadleError):
    """The store refuses this call; retrying does not help."""


class ObjectStore:
    """One bucket. The SDK blocks, so every call runs in a thread; memory use does not depend on the size of a file.

    `call_timeout` limits the calls that serve a request over HTTP, in seconds; None: only the sockets have timeouts.
    """

    def __init__(self, settings: Settings, *, call_timeout: float | None = None) -> None:
        self._limit = call_timeout
        self._endpoint = settings.s3_endpoint
        self._bucket = settings.s3_bucket
        self._client = _client(settings)
        self._calls = ThreadPoolExecutor(CALL_THREADS, "objects")
        self._streams = ThreadPoolExecutor(STREAM_THREADS, "object-streams")

    async def start(self) -> None:
        """Create the bucket if it is missing. Raises ObjectStoreUnavailable."""
        if not await self._call(self._client.bucket_exists, self._bucket):
            await self._call(self._create_bucket)

    async def ping(self) -> None:
        """Raise ObjectStoreUnavailable if the store is unavailable or the bucket is missing."""
        if not await self._call(self._client.bucket_exists, self._bucket, limit=self._limit):
            raise self._no_bucket()

    async def put(self, key: str, data: bytes) -> None:
        """Write a small object. If cancelled, it returns after the request has ended."""
        source = io.BytesIO(data)
        call = self._call(self._client.put_object, self._bucket, key, source, len(data), key=key, limit=self._limit)
        await shield_until_done(call, source.close)

    async def get(self, key: str) -> bytes:
        """Read a small object. Raises ObjectNotFound."""
        return await self._call(self._read, key, key=key, limit=self._limit)

    async def put_file(self, key: str, path: Path) -> None:
        """Upload a file of any size. If cancelled, it stops at the next part and returns after the call has ended."""
        file = CountedFile(path, ON_BYTES.get())
        await shield_until_done(self._call(self._upload, key, file, key=key), file.close)

    async def get_file(self, key: str, path: Path) -> None:
        """Download to `path`, through a temporary file beside it that is renamed at the end. Raises ObjectNotFound.

        If cancelled, it stops at the next block and returns after the last write; if the store does not answer, this
        takes until the read timeout.
        """
        cancelled = threading.Event()
        call = self._call(self._download, key, path, cancelled, ON_BYTES.get(), key=key)
        await shield_until_done(call, cancelled.set)

    async def put_stream(self, key: str, chunks: AsyncIterator[bytes]) -> int:
        """Upload the bytes of `chunks`, up to 150 GB, and return the size. An error in `chunks` aborts the upload.

        A thread is busy only while it sends a part that has arrived completely, so slow chunks hold none.
        """
        parts = _parts(chunks)
        part = [await anext(parts, b"")]
        if (size := len(part[0])) < PART:
            await self._stream_call(self._client.put_object, self._bucket, key, io.BytesIO(part.pop()), size, key=key)
            return size
        upload_id = await self._stream_call(self._client._create_multipart_upload, self._bucket, key, {}, key=key)
        try:
            return await self._put_parts(key, upload_id, part, parts)
        except BaseException:
            with suppress(TreadleError):
                await self._stream_call(
                    self._client._abort_multipart_upload, self._bucket, key, upload_id, limit=ABORT_TIMEOUT
                )
            raise

    async def open_stream(self, key: str, start: int = 0) -> AsyncIterator[bytes]:
        """Open an object and return its bytes from `start` on, in blocks of any size. Raises ObjectNotFound."""
        read = partial(self._client.get_object, offset=start)
        return self._blocks(key, await self._stream_call(read, self._bucket, key, key=key))

    async def names(self, prefix: str) -> list[str]:
        """Keys that begin with `prefix`, sorted."""
        return list(await self.sizes(prefix))

    async def sizes(self, prefix: str) -> dict[str, int]:
        """Keys that begin with `prefix`, sorted, and the size of each object in bytes."""
        return await self._call(self._sizes, prefix)

    async def delete(self, keys: Sequence[str]) -> None:
        """Delete these objects, up to 1,000 per request; a missing object is no error."""
        for first in range(0, len(keys), DELETE_BATCH):
            await self._call(self._delete, keys[first : first + DELETE_BATCH])

    async def close(self) -> None:
        """Shut down the threads; a running call ends by itself."""
        self._calls.shutdown(wait=False, cancel_futures=True)
        self._streams.shutdown(wait=False, cancel_futures=True)

    async def _put_parts(self, key: str, upload_id: str, part: list[bytes], parts: AsyncIterator[bytes]) -> int:
        """Send the one part in `part` and the others, then join them; return their size.

        A part is taken out of the list when it is sent, so that its memory is free while the next one arrives.
        """
        limit = self._limit and self._limit * PART_CALLS
        send = partial(self._stream_call, self._client._upload_part, self._bucket, key, limit=limit)
        sent, size = list[Part](), 0
        while part[0]:
            size += len(part[0])
            sent.append(Part(len(sent) + 1, await send(part.pop(), None, upload_id, len(sent) + 1)))
            part.append(await anext(parts, b""))
        join = self._client._complete_multipart_upload
        await self._stream_call(join, self._bucket, key, upload_id, sent, limit=limit)
        return size

    async def _blocks(self, key: str, response: urllib3.BaseHTTPResponse) -> AsyncIterator[bytes]:
        try:
            while block := await self._stream_call(response.read, DOWNLOAD_BLOCK, key=key):
                yield block
        finally:
            response.close()
            response.release_conn()

    def _read(self, key: str) -> bytes:
        response = self._client.get_object(self._bucket, key)
        try:
            return bytes(response.read())
        finally:
            response.close()
            response.release_conn()

    def _upload(self, key: str, file: CountedFile) -> None:
        size = os.fstat(file.fileno()).st_size
        part = max(PART, -(-size // MAX_PARTS))
        self._client.put_object(self._bucket, key, file, size, part_size=part)

    def _download(self, key: str, path: Path, cancelled: threading.Event, on_bytes: Callable[[int], None]) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial_file = path.with_name(path.name + ".part")
        response = self._client.get_object(self._bucket, key)
        try:
            with partial_file.open("wb") as file:
                for block in response.stream(DOWNLOAD_BLOCK):
                    if cancelled.is_set():
                        break
                    file.write(block)
                    on_bytes(len(block))
        finally:
            response.close()
            response.release_conn()
        if cancelled.is_set():
            partial_file.unlink()
        else:
            partial_file.replace(path)

    def _sizes(self, prefix: str) -> dict[str, int]:
        listed = self._client.list_objects(self._bucket, prefix=prefix, recursive=True)
        objects = [item for item in listed if item.object_name and not item.is_dir]
        return {item.object_name: item.size or 0 for item in sorted(objects, key=lambda item: item.object_name)}

    def _delete(self, keys: Sequence[str]) -> None:
        for error in self._client.remove_objects(self._bucket, [DeleteObject(key) for key in keys]):
            raise ObjectStoreUnavailable(f"the object store at {self._endpoint} did not delete {error.name}: {error}")

    def _create_bucket(self) -> None:
        with suppress(_BucketExists):
            try:
                self._client.make_bucket(self._bucket)
            except MinioException as error:
                raise (_BucketExists if _status(error) == CONFLICT else error) from error

    async def _stream_call(self, call: Callable[..., T], *arguments: object, **named: Any) -> T:  # noqa: ANN401  # of _call
        """A call on the threads for streams, with the limit of this client unless `named` has another."""
        return await self._call(call, *arguments, **{"pool": self._streams, "limit": self._limit, **named})

    async def _call(
        self,
        call: Callable[..., T],
        *arguments: object,
        key: str | None = None,
        pool: ThreadPoolExecutor | None = None,
        limit: float | None = None,
    ) -> T:
        """Run `call` in a thread. After `limit` seconds it raises ObjectStoreUnavailable, and the thread goes on."""
        if key is not None and not is_safe_name(key):
            raise ObjectRefused(f"the object name {key!r} is not allowed; expected no empty part, '.' or '..'")
        running = asyncio.get_running_loop().run_in_executor(pool or self._calls, partial(call, *arguments))
        try:
            async with asyncio.timeout(limit):
                return await running
        except (MinioException, urllib3.exceptions.HTTPError) as error:
            raise self._translated(error, key) from error
        except TimeoutError as error:
            reason = f"the object store at {self._endpoint} did not answer within {limit:g} seconds"
            raise ObjectStoreUnavailable(f"{reason}; check TREADLE_S3_ENDPOINT, and whether the store runs") from error

    def _translated(self, error: Exception, key: str | None) -> TreadleError:
        status = _status(error)
        if status == NOT_FOUND and "NoSuchBucket" in str(error):
            return self._no_bucket()
        if status == NOT_FOUND and key is not None:
            return ObjectNotFound(key)
        if status in REFUSED_STATUSES:
            return ObjectRefused(f"the object store at {self._endpoint} refused {key or self._bucket}: {error}")
        reason = f"HTTP status {status}" if status else str(error)
        sentence = f"the object store at {self._endpoint} is not available ({reason}); check"
        if status in DENIED_STATUSES:
            return ObjectStoreDenied(f"{sentence} TREADLE_S3_ACCESS_KEY and TREADLE_S3_SECRET_KEY")
        return ObjectStoreUnavailable(f"{sentence} TREADLE_S3_ENDPOINT, and whether the store runs")

    def _no_bucket(self) -> ObjectStoreUnavailable:
        reason = f"the object store at {self._endpoint} has no bucket {self._bucket}"
        return ObjectStoreUnavailable(
            f"{reason}; check TREADLE_S3_BUCKET, or start a service, which creates the bucket"
        )


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


class _BucketExists(Exception):
    """Another service has just created the bucket."""


def _client(settings: Settings) -> Minio:
    address = urlsplit(settings.s3_endpoint)
    if address.scheme not in {"http", "https"} or not address.netloc or address.path.strip("/"):
        raise BadConfiguration(
            f"expected http://host:port or https://host:port, got {settings.s3_endpoint!r}", field="TREADLE_S3_ENDPOINT"
        )
    return Minio(
        address.netloc,
        access_key=settings.s3_access_key.get_secret_value(),
        secret_key=settings.s3_secret_key.get_secret_value(),
        secure=address.scheme == "https",
        region=settings.s3_region,
        http_client=_connections(),
    )


def _connections() -> urllib3.PoolManager:
    """Few and short retries, because callers that can wait longer retry themselves."""
    return urllib3.PoolManager(
        maxsize=CALL_THREADS + STREAM_THREADS,
        timeout=urllib3.Timeout(connect=3.0, read=60.0),
        retries=urllib3.Retry(total=2, connect=1, backoff_factor=0.1, status_forcelist=(500, 502, 503, 504)),
    )


def _status(error: Exception) -> int | None:
    """The HTTP status, if any. `rclone serve s3` sends text/xml, which the SDK reports as InvalidResponseError."""
    match error:
        case InvalidResponseError():
            return int(error._code)
        case ServerError():
            return int(error.status_code)
        case S3Error():
            return int(error.response.status)
        case _:
            return None
