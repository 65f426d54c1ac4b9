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

import urllib3
from minio.deleteobjects import DeleteObject
from minio.error import InvalidResponseError, MinioException, S3Error, ServerError

from contracts.artifacts import is_safe_name
from contracts.errors import PartUnavailable, TreadleError
from infra.asyncio_tasks import shield_until_done
from infra.s3_client import s3_client
from infra.settings import Settings
from infra.stream_upload import PART, StreamUpload

T = TypeVar("T")
MAX_PARTS = 9_000
"""Parts of one upload, of which S3 allows 10,000; a larger file gets larger parts."""
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
        self._client = s3_client(settings, CALL_THREADS + STREAM_THREADS)
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
        """Upload the bytes of `chunks`, up to 150 GB, and return the size. An error in `chunks` aborts the upload."""
        return await StreamUpload(self._client, self._bucket, key, self._stream_call, self._limit).send(chunks)

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


class _BucketExists(Exception):
    """Another service has just created the bucket."""


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
